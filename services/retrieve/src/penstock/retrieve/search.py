"""Hybrid search: both legs at once, their ranks fused, the winners' bodies last."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, get_args

import asyncpg
import numpy as np
import orjson

from penstock.common.db import Reads
from penstock.common.events import Passage, TextSpan
from penstock.retrieve import lexical
from penstock.retrieve.dense import Vector, nearest
from penstock.retrieve.filters import Parameters
from penstock.retrieve.fusion import Candidate, Leg, fuse
from penstock.retrieve.scope import Narrowing, Scope

Mode = Literal["hybrid", "dense", "lexical"]
MODES: tuple[Mode, ...] = get_args(Mode)

T = TypeVar("T")


class QueryEmbedder(Protocol):
    """Turns a search text into a unit vector."""

    async def embed_query(self, text: str) -> Vector: ...


@dataclass(frozen=True, slots=True)
class Found:
    """Passages, best first, and where the time went, milliseconds."""

    passages: tuple[Passage, ...]
    embed_ms: float
    """Until the vectors were there; the lexical leg ran meanwhile."""
    search_ms: float
    """From then on, or all of it where nothing was embedded."""


class Searcher:
    """Searches on connections of `reads`, each under row-level security.

    A search holds two connections; `at_once` keeps searches from waiting for each other's second.
    """

    def __init__(self, reads: Reads, *, pool_size: int) -> None:
        self._reads = reads
        self._narrowing = Narrowing()
        self._at_once = asyncio.Semaphore(max(pool_size // 2, 1))

    async def search(
        self,
        embedder: QueryEmbedder,
        texts: Sequence[str],
        scope: Scope,
        *,
        top_k: int,
        mode: Mode = "hybrid",
    ) -> Found:
        """
        The `top_k` best passages inside the scope; several texts are fused into one ranking.

        Raises:
            TransientError: Postgres or the model is away.
        """
        async with self._at_once:
            started = time.perf_counter()
            embedding = _embedded(embedder, texts if mode != "lexical" else ())
            async with (
                _together(embedding) as vectors,
                self._reads.of(scope.tenant) as connection,
                _together(self._narrowing.narrowed(connection, scope)) as narrowing,
                _together(
                    self._lexical(texts if mode != "dense" else (), scope, narrowing)
                ) as matching,
            ):
                queries = await vectors
                embedded = time.perf_counter() if queries else started
                among = await narrowing
                rankings: list[tuple[Leg, list[int]]] = [
                    ("dense", await nearest(connection, query, scope, among)) for query in queries
                ]
                rankings += [("lexical", chunks) for chunks in await matching]
                passages = await _passages(connection, fuse(rankings), scope, queries, top_k)
        done = time.perf_counter()
        return Found(passages, (embedded - started) * 1e3, (done - embedded) * 1e3)

    async def _lexical(
        self, texts: Sequence[str], scope: Scope, narrowing: Awaitable[Sequence[int] | None]
    ) -> list[list[int]]:
        """Ranks while the scope is still being narrowed: only who passes depends on it."""
        if not texts:
            return []
        async with self._reads.of(scope.tenant) as connection:
            rankings = [await lexical.ranked(connection, text, scope) for text in texts]
            among = await narrowing
            return [await lexical.inside(connection, r, scope, among) for r in rankings]


async def _embedded(embedder: QueryEmbedder, texts: Sequence[str]) -> list[Vector]:
    return list(await asyncio.gather(*map(embedder.embed_query, texts)))


@asynccontextmanager
async def _together(work: Coroutine[Any, Any, T]) -> AsyncIterator["asyncio.Task[T]"]:
    """Runs `work` beside the block; if the block fails, so does the work, and nothing is left."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _passages(
    connection: asyncpg.Connection,
    candidates: Sequence[Candidate],
    scope: Scope,
    queries: Sequence[Vector],
    top_k: int,
) -> tuple[Passage, ...]:
    """The best `top_k` that are still there; whoever has gone meanwhile gives way to the next."""
    passages: list[Passage] = []
    start = 0
    while start < len(candidates) and len(passages) < top_k:
        wanted = candidates[start : start + top_k - len(passages)]
        start += len(wanted)
        rows = await _bodies(connection, [candidate.chunk for candidate in wanted], scope)
        for candidate in wanted:
            if (row := rows.get(candidate.chunk)) is not None:
                passages.append(_passage(row, candidate, len(passages) + 1, queries))
    return tuple(passages)


async def _bodies(
    connection: asyncpg.Connection, chunks: list[int], scope: Scope
) -> dict[int, asyncpg.Record]:
    parameters = Parameters(chunks)
    rows = await connection.fetch(
        f"""
        SELECT c.id, c.chunk_id::text, c.document, c.version, c.title, c.text, c.span_start,
               c.span_end, c.page, c.heading_path, c.metadata, c.findings, e.vector
        FROM chunk c JOIN embedding_{scope.generation:d} e ON e.chunk = c.id
        WHERE c.id = ANY ($1::bigint[]) AND {scope.where(parameters)}
        """,  # noqa: S608  (conditions hold placeholders only)
        *parameters.values,
    )
    return {row["id"]: row for row in rows}


def _passage(
    row: asyncpg.Record, candidate: Candidate, rank: int, queries: Sequence[Vector]
) -> Passage:
    vector = row["vector"].to_numpy().astype(np.float32)
    return Passage(
        chunk_id=row["chunk_id"],
        document_id=row["document"],
        version=row["version"],
        title=row["title"],
        text=row["text"],
        span=TextSpan(start=row["span_start"], end=row["span_end"]),
        page=row["page"],
        heading_path=row["heading_path"],
        metadata=orjson.loads(row["metadata"]),
        findings=orjson.loads(row["findings"]),
        score=candidate.score,
        rank=rank,
        dense_rank=candidate.dense_rank,
        lexical_rank=candidate.lexical_rank,
        dense_score=max((float(query @ vector) for query in queries), default=None),
    )
