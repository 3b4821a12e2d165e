"""What a search and a question cost by hand: embed, two legs in asyncpg and numpy, ask the model.

No tenant's rights, filters, versions, events or guard: connections that stay open, one statement
for each leg, one for the texts, and one request to the model.
"""

import asyncio
import http.client
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import orjson
from pgvector.asyncpg import register_vector

from penstock.common.events import Passage, PassageRetrieved, TextSpan
from penstock.generate.prompting import prompt
from penstock.models import Embedder
from penstock.retrieve import bm25
from penstock.retrieve.bm25 import Block, Corpus
from penstock.retrieve.dense import SERVER_SETTINGS
from penstock.retrieve.fusion import fuse
from penstock.retrieve.lexical import query_terms

DEPTH = 50

NEAREST = "SELECT chunk FROM embedding_1 WHERE tenant = $1 ORDER BY vector <#> $2 LIMIT $3"
CORPUS = "SELECT chunks, total_length FROM corpus WHERE tenant = $1 AND generation = 1"
BLOCKS = """
    SELECT b.term, s.base, b.chunks, b.tfs, b.lengths
    FROM posting_block b JOIN segment s ON s.id = b.segment
    WHERE b.tenant = $1 AND b.generation = 1 AND b.term = ANY ($2::text[])
"""
TEXTS = """
    SELECT id, chunk_id::text, document, version, title, text, span_start, span_end
    FROM chunk WHERE id = ANY ($1::bigint[])
"""


class RawSearch:
    def __init__(self, pool: asyncpg.Pool, embedder: Embedder, tenant: str, corpus: Corpus) -> None:
        self._pool = pool
        self._embedder = embedder
        self._tenant = tenant
        self._corpus = corpus

    @classmethod
    @asynccontextmanager
    async def open(
        cls, dsn: str, embedder: Embedder, tenant: str, *, clients: int
    ) -> AsyncIterator["RawSearch"]:
        """Two connections for each client."""
        settings = {"search_path": "retrieve, public", **SERVER_SETTINGS}
        async with asyncpg.create_pool(
            dsn, min_size=2 * clients, max_size=2 * clients, init=register_vector,
            reset=_nothing, server_settings=settings,
        ) as pool:  # fmt: skip
            row = await pool.fetchrow(CORPUS, tenant)
            yield cls(
                pool, embedder, tenant, Corpus(row["chunks"], row["total_length"] / row["chunks"])
            )

    async def search(self, text: str, top_k: int) -> list[Passage]:
        async with self._pool.acquire() as first, self._pool.acquire() as second:
            lexical = asyncio.create_task(self._lexical(second, text))
            vector = await self._embedder.embed_query(text)
            rows = await first.fetch(NEAREST, self._tenant, vector, DEPTH)
            ranked = fuse([("dense", [row[0] for row in rows]), ("lexical", await lexical)])[:top_k]
            texts = await first.fetch(TEXTS, [candidate.chunk for candidate in ranked])
        bodies = {row["id"]: row for row in texts}
        return [
            _passage(bodies[candidate.chunk], rank, candidate.score)
            for rank, candidate in enumerate(ranked, 1)
        ]

    async def _lexical(self, connection: asyncpg.Connection, text: str) -> list[int]:
        query = query_terms(text)
        rows = await connection.fetch(BLOCKS, self._tenant, list(dict.fromkeys(query)))
        ranking = bm25.rank([Block(*row) for row in rows], query, self._corpus)
        best: list[int] = next(ranking.pages())[:DEPTH].tolist()
        return best


async def _nothing(_: asyncpg.Connection) -> None:
    """Connections are handed on as they are."""


def _passage(row: asyncpg.Record, rank: int, score: float) -> Passage:
    return Passage(
        chunk_id=row["chunk_id"], document_id=row["document"], version=row["version"],
        title=row["title"], text=row["text"], score=score, rank=rank,
        span=TextSpan(start=row["span_start"], end=row["span_end"]),
    )  # fmt: skip


class Caller:
    """Requests over connections that stay open, each on a thread: nearly nothing of its own."""

    def __init__(self, url: str, *, clients: int) -> None:
        self._address = urlsplit(url).netloc
        self._threads = ThreadPoolExecutor(clients, "caller")
        self._own = threading.local()

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        """The body of an answer that is a success."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._post, path, body, headers)

    def close(self) -> None:
        self._threads.shutdown()

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection(self._address)
        connection: http.client.HTTPConnection = self._own.connection
        headers = {"content-type": "application/json", **headers}
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            connection.close()  # the server has tired of a quiet connection
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{path} answered {answer.status}: {text[:300]!r}")
        return text


class RawQuestion:
    """Search, show the passages to the model, take its answer."""

    def __init__(self, search: RawSearch, model: Caller) -> None:
        self._search = search
        self._model = model

    async def ask(self, text: str, top_k: int) -> str:
        passages = await self._search.search(text, top_k)
        return await self._complete(text, passages)

    async def _complete(self, text: str, passages: Sequence[Passage]) -> str:
        messages = [
            {"role": message.role, "content": message.content}
            for message in prompt(
                PassageRetrieved(question=text, passages=tuple(passages)), passages
            )
        ]
        body = orjson.dumps({"model": "instant", "messages": messages, "stream": True})
        answered = await self._model.post("/v1/chat/completions", body, {})
        event = orjson.loads(answered.split(b"\n", 1)[0].removeprefix(b"data: "))
        return str(event["choices"][0]["delta"]["content"])
