"""Ranking quality and latency of search, through the real index on a real Postgres.

    PENSTOCK_DATA=… python bench/retrieval.py        # all sets; about ten minutes the first time
    QUICK=1 python bench/retrieval.py                # the small sets; under three minutes

Every document of a set goes in as one chunk, through the indexer's own code; every query goes
through the searcher's own code. nDCG@10 uses the judgements' grades as gains. Vectors are kept in
~/.cache/penstock/bench, so a second run embeds nothing. The last line is one JSON object. Ends
with an error when a floor is not reached.
"""

import asyncio
import gzip
import hashlib
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from uuid import uuid4

import numpy as np
import structlog
from numpy.typing import NDArray
from pgvector.asyncpg import register_vector

import penstock.retrieve
from penstock.common.db import Database
from penstock.common.envelope import Envelope, Record, document_key
from penstock.common.events import Chunk, DocumentEmbedded, ElementKind, Position, TextSpan
from penstock.local.ports import free_port
from penstock.local.postgres import Postgres, dsn
from penstock.local.process import Process
from penstock.local.roles import DATABASE, SCHEMAS, bootstrap, role
from penstock.local.stack import until_ready
from penstock.models import DEFAULT_MODEL, Embedder, embedded_text, open_embedder
from penstock.retrieve import dense, lexical, search, writing
from penstock.retrieve.indexer import Index
from penstock.retrieve.scope import Scope, narrowed
from penstock.retrieve.search import Mode, Searcher

QUICK = os.environ.get("QUICK", "") not in ("", "0")
DATA = Path(os.environ.get("PENSTOCK_DATA", "../shared/data")) / "retrieval"
CACHE = Path("~/.cache/penstock/bench").expanduser()
SMALL = ("cranfield", "cisi", "hotpotqa_mini", "musique_mini")
SETS: tuple[str, ...] = SMALL if QUICK else (*SMALL, "scifact", "wiki_mixed")
ONLY = os.environ.get("SETS")
"""Sets to run instead, comma-separated."""
if ONLY:
    SETS = tuple(ONLY.split(","))
MIGRATIONS = Path(next(iter(penstock.retrieve.__path__))) / "migrations"
NAMES: dict[Mode, str] = {"lexical": "bm25", "dense": "dense", "hybrid": "hybrid"}
POSITION = Position(cluster="bench", partition=0, offset=0, at=0)
TIMED = 150
"""Queries whose latency is taken."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class TestSet:
    name: str
    documents: list[Document]
    queries: dict[str, str]
    judged: dict[str, dict[str, int]]
    """Grades by query and document; higher is better."""


def load(name: str) -> TestSet:
    folder = DATA / name
    packed = folder / "corpus.jsonl.gz"
    raw = (
        gzip.decompress(packed.read_bytes())
        if packed.exists()
        else (folder / "corpus.jsonl").read_bytes()
    )
    documents = [
        Document(d["_id"], d.get("title", ""), d["text"]) for d in map(json.loads, raw.splitlines())
    ]
    judged: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        judged.setdefault(query, {})[document] = int(grade)
    lines = (folder / "queries.jsonl").read_text().splitlines()
    queries = {q["_id"]: q["text"] for q in map(json.loads, lines) if q["_id"] in judged}
    return TestSet(name, documents, queries, judged)


def ndcg(ranking: Sequence[str], grades: dict[str, int], k: int = 10) -> float:
    gained = sum(grades.get(d, 0) / math.log2(i + 2) for i, d in enumerate(ranking[:k]))
    best = sorted(grades.values(), reverse=True)[:k]
    return gained / sum(grade / math.log2(i + 2) for i, grade in enumerate(best))


def recall(ranking: Sequence[str], grades: dict[str, int], k: int = 50) -> float:
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant & set(ranking[:k])) / len(relevant)


# ---------------------------------------------------------------- index


async def embedded(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Vectors of documents, from the cache where these very texts were embedded before."""
    name = hashlib.sha256("\0".join([embedder.model, *texts]).encode()).hexdigest()[:32]
    file = CACHE / f"{name}.npy"
    if not file.exists():
        vectors = await embedder.embed_documents(texts)
        CACHE.mkdir(parents=True, exist_ok=True)
        scratch = file.with_suffix(".tmp.npy")
        np.save(scratch, vectors)
        scratch.rename(file)
    found: Vectors = np.load(file)
    return found


def record(tenant: str, document: Document, vector: Vectors) -> Record[DocumentEmbedded]:
    """The event that embed publishes, for a document of one chunk."""
    span = TextSpan(start=0, end=len(document.text))
    body = DocumentEmbedded(
        document=document.id, collection="default", submission="bench", position=POSITION,
        version=1, generation=1, cut="bench", k=0, n=1, title=document.title or None,
        chunks=(Chunk(ordinal=0, text=document.text, kind=ElementKind.PARAGRAPH, span=span),),
        model=DEFAULT_MODEL, dim=len(vector), vectors=vector.astype("<f2").tobytes(),
    )  # fmt: skip
    envelope = Envelope(id=uuid4().hex, tenant=tenant, job="bench")
    key = document_key(tenant, document.id)
    return Record("bench", 0, 0, POSITION, key, envelope, body)


async def fill(index: Index, embedder: Embedder, test: TestSet) -> float:
    """Index a set under a tenant of its own name; chunks per second."""
    texts = [embedded_text(d.title, (), d.text) for d in test.documents]
    vectors = await embedded(embedder, texts)
    records = [record(test.name, d, v) for d, v in zip(test.documents, vectors, strict=True)]
    started = time.perf_counter()
    for start in range(0, len(records), 512):
        await index.write(records[start : start + 512])
    return len(records) / (time.perf_counter() - started)


@asynccontextmanager
async def postgres(folder: Path) -> AsyncIterator[str]:
    """The DSN of schema `retrieve` on a fresh server."""
    server = Postgres(folder / "postgres", free_port())
    await asyncio.to_thread(server.prepare)
    process = await Process.start("postgres", server.command(), folder / "postgres.log")
    try:
        await until_ready(process, server.ready)
        password = uuid4().hex
        await bootstrap(server.admin_dsn, dict.fromkeys(SCHEMAS, password))
        yield dsn(role("retrieve"), password, server.port, DATABASE)
    finally:
        await process.stop(20)
        server.close()


# ---------------------------------------------------------------- measure


class Remembered:
    """The embedder, asked once for each query: three modes search by the same vectors."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, Vectors] = {}

    async def embed_query(self, text: str) -> Vectors:
        if text not in self._known:
            self._known[text] = await self._embedder.embed_query(text)
        return self._known[text]


async def quality(
    searcher: Searcher, embedder: Remembered, test: TestSet
) -> dict[Mode, tuple[float, float]]:
    """nDCG@10 and recall@50 of each mode, averaged over the queries."""
    scope = Scope(test.name, 1, "default")
    found: dict[Mode, tuple[float, float]] = {}
    for mode in get_args(Mode):
        scores = []
        for query, text in test.queries.items():
            result = await searcher.search(embedder, [text[:4000]], scope, top_k=50, mode=mode)
            ranking = [passage.document_id for passage in result.passages]
            scores.append((ndcg(ranking, test.judged[query]), recall(ranking, test.judged[query])))
        mean = np.mean(scores, axis=0)
        found[mode] = (float(mean[0]), float(mean[1]))
    return found


async def latency(
    database: Database, searcher: Searcher, embedder: Embedder, test: TestSet
) -> dict[str, float]:
    """Search against its own raw parts, query by query in turn, milliseconds.

    raw: embed and rank densely beside the lexical leg, then fetch ten bodies, on open connections.
    What search adds is connections, transactions, the plan, fusion and passages.
    """
    scope = Scope(test.name, 1, "default")
    raw, whole = [], []
    for text in list(test.queries.values())[:TIMED]:
        async with (
            database.request(scope.tenant) as first,
            database.request(scope.tenant) as second,
        ):
            among = await narrowed(first, scope)
            started = time.perf_counter()
            lexical_leg = asyncio.create_task(lexical.best_matching(second, text, scope, among))
            vector = await embedder.embed_query(text)
            nearest = await dense.nearest(first, vector, scope, among)
            await lexical_leg
            await search._bodies(first, nearest[:10], scope)
            raw.append((time.perf_counter() - started) * 1e3)
        started = time.perf_counter()
        await searcher.search(embedder, [text], scope, top_k=10)
        whole.append((time.perf_counter() - started) * 1e3)
    over = np.array(whole) - np.array(raw)
    return {
        "raw.p50_ms": float(np.percentile(raw, 50)),
        "search.p50_ms": float(np.percentile(whole, 50)),
        "search.p95_ms": float(np.percentile(whole, 95)),
        "over.p50_ms": float(np.percentile(over, 50)),
    }


def floors(results: dict[str, float]) -> list[str]:
    """What is below its floor (issue 3, section 3), in words."""
    missed = []

    def at_least(name: str, floor: float) -> None:
        if results[name] < floor:
            missed.append(f"{name} is {results[name]:.4f}, the floor is {floor:.4f}")

    for name in SETS:
        better = max(results[f"{name}.bm25.ndcg@10"], results[f"{name}.dense.ndcg@10"])
        if name == "scifact":
            at_least("scifact.bm25.ndcg@10", 0.66)
            at_least("scifact.hybrid.ndcg@10", max(0.715, better + 0.01))
        if name == "cranfield":
            at_least("cranfield.hybrid.ndcg@10", better)
    return missed


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[tuple[Database, Database]]:
    """The index as its writer and as its searcher open it."""
    async with (
        Database.open(
            address, schema="retrieve", migrations=MIGRATIONS, setup=writing.setup
        ) as written,
        Database.open(
            address,
            schema="retrieve",
            migrations=MIGRATIONS,
            pool_size=8,
            setup=register_vector,
            server_settings=dense.SERVER_SETTINGS,
        ) as searched,
    ):
        yield written, searched


HEAD = """\
                                     nDCG@10                recall@50          index  search, ms
set              docs queries     bm25   dense  hybrid    bm25   dense  hybrid  chunks/s    p50    p95  over raw"""


def row(test: TestSet, results: dict[str, float]) -> str:
    def cells(measure: str) -> str:
        return " ".join(
            f"{results[f'{test.name}.{short}.{measure}']:7.4f}" for short in NAMES.values()
        )

    def of(key: str) -> float:
        return results[f"{test.name}.{key}"]

    return (
        f"{test.name:14} {len(test.documents):6} {len(test.queries):7}  {cells('ndcg@10')} {cells('recall@50')}"
        f"  {of('index.chunks_per_s'):8.0f}  {of('search.p50_ms'):5.1f}  {of('search.p95_ms'):5.1f}  {of('over.p50_ms'):8.1f}"
    )


async def measure(folder: Path) -> dict[str, float]:
    results: dict[str, float] = {}
    print(HEAD)
    async with (
        postgres(folder) as address,
        open_embedder() as embedder,
        opened(address) as (written, searched),
    ):
        searcher = Searcher(searched, pool_size=8)
        for name in SETS:
            test = await asyncio.to_thread(load, name)
            rate = await fill(Index(written), embedder, test)
            async with written.pool.acquire() as connection:
                await connection.execute("ANALYZE")
            scores = await quality(searcher, Remembered(embedder), test)
            for mode, short in NAMES.items():
                results[f"{name}.{short}.ndcg@10"] = round(scores[mode][0], 4)
                results[f"{name}.{short}.recall@50"] = round(scores[mode][1], 4)
            results[f"{name}.index.chunks_per_s"] = round(rate)
            times = await latency(searched, searcher, embedder, test)
            results |= {f"{name}.{key}": round(ms, 2) for key, ms in times.items()}
            print(row(test, results), flush=True)
    return results


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    if not DATA.is_dir():
        raise SystemExit(
            f"no data sets at {DATA}: set PENSTOCK_DATA to the folder that holds retrieval/"
        )
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        results = asyncio.run(measure(Path(folder)))
    missed = floors(results)
    for line in missed:
        print(line, file=sys.stderr)
    print(json.dumps(results))
    if missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
