"""From a published document to a searchable one: how much of the machine goes into embedding?

    python bench/ingest.py [--model NAME] [--documents N]
    QUICK=1 python bench/ingest.py     # three rounds of 60 documents

A whole stack is started as a user starts it, and its index is filled with 60,000 chunks, so that
every insertion meets a real HNSW graph. Then, in three rounds of a third of the documents each:

pipeline   the documents are published to document.submitted, all at once; over when the last of
           them is announced as searchable
ceiling    the very texts that the pipeline embedded, through the same embedder with the same
           settings, with nothing around it

Documents are drawn from the Windows driver documentation by a fixed seed. The filling's vectors are
mixtures of two real ones: embedding 60,000 chunks would take longer than the bench. Ends with
where the processor's time went and the memory of every process; with --samples FILE they are kept
second by second, for bench/plot.py.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

import penstock.retrieve
from penstock.common import topics
from penstock.common.db import Database
from penstock.common.envelope import Envelope, Publication, Record
from penstock.common.events import (
    Chunk,
    DocumentEmbedded,
    DocumentSubmitted,
    ElementKind,
    Position,
    TextSpan,
)
from penstock.common.kafka import Publisher
from penstock.common.settings import KafkaSettings
from penstock.models import DEFAULT_MODEL, Embedder, embedded_text, open_embedder
from penstock.retrieve import writing
from penstock.retrieve.indexer import Index
from reporting import QUICK, begin, finish, rows
from whole import Stack, Watch, whole_stack

CORPUS = "corpus/windows_driver_ddi/corpus.jsonl.gz"
SEED = 7
ROUNDS = 3
DOCUMENTS = 180 if QUICK else 3000
FILLING = 6_000 if QUICK else 60_000
SEEDS = 400 if QUICK else 2_000
"""Chunks that are really embedded for the filling."""
COLLECTION = "bench"
MIGRATIONS = Path(next(iter(penstock.retrieve.__path__))) / "migrations"


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    title: str
    text: str


def drawn(count: int) -> tuple[list[Document], list[str]]:
    """The documents of the load, and texts of others for the filling."""
    documents = [
        Document(row["_id"], row["title"], row["text"])
        for row in rows(CORPUS)
        if 0 < len(row["text"].encode()) <= 100_000
    ]
    random.Random(SEED).shuffle(documents)
    rest = (document.text for document in documents[count:])
    pieces = [text[at : at + 900] for text in rest for at in range(0, len(text) - 600, 900)]
    return documents[:count], pieces[:SEEDS]


# ---------------------------------------------------------------- filling


async def fill(stack: Stack, embedder: Embedder, texts: Sequence[str]) -> float:
    """`FILLING` chunks into the index, by the indexer's own code; chunks per second."""
    vectors = await embedder.embed_documents(texts)
    chance = np.random.default_rng(SEED)
    async with Database.open(
        stack.dsn("retrieve"), schema="retrieve", migrations=MIGRATIONS, setup=writing.setup
    ) as database:
        index = Index(database)
        started = time.perf_counter()
        for first in range(0, FILLING, 1024):
            await index.write(_filling(chance, texts, vectors, first, min(1024, FILLING - first)))
        return FILLING / (time.perf_counter() - started)


def _filling(
    chance: np.random.Generator, texts: Sequence[str], vectors: Any, first: int, count: int
) -> list[Record[DocumentEmbedded]]:
    """Documents of 16 chunks, each a mixture of two of the embedded texts."""
    one, other = chance.integers(0, len(texts), (2, count))
    share = chance.uniform(0.5, 1.0, (count, 1)).astype(np.float32)
    mixed = share * vectors[one] + (1 - share) * vectors[other]
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    position = Position(cluster="bench", partition=0, offset=0, at=0)
    made = []
    for at in range(0, count, 16):
        chunks = tuple(
            Chunk(
                ordinal=i,
                text=f"{texts[n]} {first + at + i}",
                kind=ElementKind.PARAGRAPH,
                span=TextSpan(start=0, end=len(texts[n])),
            )
            for i, n in enumerate(one[at : at + 16].tolist())
        )
        name = f"filling/{first + at}"
        body = DocumentEmbedded(
            document=name, collection=COLLECTION, submission=name, position=position, version=1,
            generation=1, cut="filling", k=0, n=1, chunks=chunks, model="bench",
            dim=mixed.shape[1], vectors=mixed[at : at + 16].astype("<f2").tobytes(),
        )  # fmt: skip
        envelope = Envelope(id=name, tenant="default", job=name)
        made.append(Record("bench", 0, 0, position, f"default/{name}", envelope, body))
    return made


# ---------------------------------------------------------------- arms


class Pipeline:
    """Publishes to the topic and waits for what the indexer announces."""

    def __init__(self, stack: Stack, publisher: Publisher, outcomes: AIOKafkaConsumer) -> None:
        self._stack = stack
        self._publisher = publisher
        self._outcomes = outcomes

    @classmethod
    @asynccontextmanager
    async def open(cls, stack: Stack) -> AsyncIterator["Pipeline"]:
        settings = KafkaSettings(kafka=stack.kafka)
        publisher = Publisher("bench", settings)
        outcomes = AIOKafkaConsumer(bootstrap_servers=stack.kafka, enable_auto_commit=False)
        await publisher.start()
        await outcomes.start()
        try:
            partitions = [
                TopicPartition(topic.name, n)
                for topic in (topics.DOCUMENT_INDEXED, topics.DOCUMENT_FAILED)
                for n in range(topic.partitions)
            ]
            outcomes.assign(partitions)
            await outcomes.seek_to_end(*partitions)
            for partition in partitions:
                await outcomes.position(partition)
            yield cls(stack, publisher, outcomes)
        finally:
            await outcomes.stop()
            await publisher.stop()

    async def load(self, documents: Sequence[Document], run: str) -> float:
        """Seconds from the first publication to the last announcement."""
        waiting = {f"default/{run}/{document.id}" for document in documents}
        started = time.perf_counter()
        await self._publisher.publish(*(_submission(document, run) for document in documents))
        while waiting:
            for records in (await self._outcomes.getmany(timeout_ms=1000)).values():
                for record in records:
                    if record.topic == topics.DOCUMENT_FAILED.name:
                        raise RuntimeError(f"a document failed: {record.value.decode()[:300]}")
                    waiting.discard(record.key.decode())
        return time.perf_counter() - started

    async def texts(self, run: str) -> list[str]:
        """What was embedded of a load, in no particular order."""
        connection = await asyncpg.connect(self._stack.dsn("retrieve"))
        try:
            found = await connection.fetch(
                "SELECT title, heading_path, text FROM retrieve.chunk WHERE tenant = 'default' "
                "AND generation = 1 AND document LIKE $1 || '/%' ORDER BY chunk_id",
                run,
            )
        finally:
            await connection.close()
        return [embedded_text(row["title"], row["heading_path"], row["text"]) for row in found]


def _submission(document: Document, run: str) -> Publication[DocumentSubmitted]:
    name = f"{run}/{document.id}"
    return Publication(
        topics.DOCUMENT_SUBMITTED,
        f"default/{name}",
        Envelope(id=name, tenant="default", job=name, subject=name),
        DocumentSubmitted(
            text=document.text,
            title=document.title or None,
            filename=document.id.rpartition("/")[2],
            collection=COLLECTION,
        ),
    )


async def ceiling(embedder: Embedder, texts: Sequence[str]) -> float:
    """Seconds to embed the texts with nothing around it."""
    started = time.perf_counter()
    for at in range(0, len(texts), 1024):
        await embedder.embed_documents(texts[at : at + 1024])
    return time.perf_counter() - started


# ---------------------------------------------------------------- the bench


@dataclass(slots=True)
class Round:
    documents: int
    chunks: int
    tokens: int
    pipeline_s: float
    ceiling_s: float

    @property
    def ratio(self) -> float:
        return self.ceiling_s / self.pipeline_s


def report(rounds: Sequence[Round], watches: Sequence[Watch]) -> None:
    print("\nround  documents  chunks  tokens  docs/s  ceiling docs/s  ratio")
    for number, r in enumerate(rounds, 1):
        print(
            f"{number:5} {r.documents:10} {r.chunks:7} {r.tokens:7} {r.documents / r.pipeline_s:7.1f}"
            f" {r.documents / r.ceiling_s:15.1f} {r.ratio:6.3f}"
        )
    spent = {name: sum(watch.cpu_s()[name] for watch in watches) for name in watches[0].cpu_s()}
    whole = sum(spent.values())
    wall = sum(r.pipeline_s for r in rounds)
    chunks = sum(r.chunks for r in rounds)
    print(
        f"\nprocess          share of CPU   ms per chunk   most memory, MiB   ({whole / wall:.2f} cores)"
    )
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        most = max(watch.peak_rss()[name] for watch in watches) / 2**20
        print(f"{name:16} {seconds / whole:12.1%} {seconds / chunks * 1e3:14.2f} {most:18.0f}")


async def bench(arguments: argparse.Namespace, folder: Path) -> dict[str, float | str]:
    documents, others = drawn(arguments.documents)
    rounds: list[Round] = []
    watches: list[Watch] = []
    async with (
        open_embedder(arguments.model) as embedder,
        whole_stack(folder, PENSTOCK_EMBED_MODEL=arguments.model) as stack,
        Pipeline.open(stack) as pipeline,
    ):
        await _create_collection(stack, arguments.model)
        rate = await fill(stack, embedder, others)
        print(f"index filled with {FILLING} chunks, {rate:.0f} a second", flush=True)
        await pipeline.load([Document("warm-up", "", others[0])], "warm")
        share = len(documents) // ROUNDS
        for number in range(ROUNDS):
            mine = documents[number * share : (number + 1) * share]
            run = f"round-{number}"
            watch = Watch(stack)
            async with watch():
                took = await pipeline.load(mine, run)
            texts = await pipeline.texts(run)
            tokens = sum(len(text) for text in texts) // 4
            rounds.append(
                Round(len(mine), len(texts), tokens, took, await ceiling(embedder, texts))
            )
            watches.append(watch)
            print(f"round {number + 1}: ratio {rounds[-1].ratio:.3f}", flush=True)
    report(rounds, watches)
    if arguments.samples:
        arguments.samples.write_text(
            json.dumps([[asdict(sample) for sample in watch.samples] for watch in watches])
        )
    return {
        "ingest.model": arguments.model,
        "ingest.documents": sum(r.documents for r in rounds),
        "ingest.chunks": sum(r.chunks for r in rounds),
        "ingest.docs_per_s": round(
            statistics.median(r.documents / r.pipeline_s for r in rounds), 2
        ),
        "ingest.ceiling_docs_per_s": round(
            statistics.median(r.documents / r.ceiling_s for r in rounds), 2
        ),
        "ingest.ratio": round(statistics.median(r.ratio for r in rounds), 3),
        "ingest.ratio_spread": round(
            max(r.ratio for r in rounds) - min(r.ratio for r in rounds), 3
        ),
    }


async def _create_collection(stack: Stack, model: str) -> None:
    async with httpx.AsyncClient(base_url=stack.api) as http:
        answer = await http.post(
            "/v1/collections",
            json={"name": COLLECTION, "model": model},
            headers={"Authorization": f"Bearer {stack.operator_key}"},
        )
        answer.raise_for_status()


def main() -> None:
    parser = begin(__doc__, CORPUS)
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"default: {DEFAULT_MODEL}")
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help=f"default: {DOCUMENTS}")
    parser.add_argument("--samples", type=Path, help="write what was sampled each second here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        figures = asyncio.run(bench(arguments, Path(folder) / "penstock"))
    finish(figures, at_least={"ingest.ratio": 0.5})


if __name__ == "__main__":
    main()
