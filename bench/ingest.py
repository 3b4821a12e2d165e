"""From a published document to a searchable one: how much of the machine goes into embedding?

    python bench/ingest.py [--model NAME] [--documents N]   # a quarter of an hour, peers included
    QUICK=1 python bench/ingest.py     # three rounds of 60 documents, no peers

A whole stack is started as a user starts it, and its index is filled with 60,000 chunks, so that
every insertion meets a real HNSW graph. Then, in three rounds of a third of the documents each:

pipeline   the documents are published to document.submitted, all at once; over when the last of
           them is announced as searchable
ceiling    the very texts that the pipeline embedded, through the same embedder with the same
           settings, with nothing around it
peers      of 500 other documents a third a round: the pipeline, then the very chunks that it made
           through LlamaIndex, LangChain and Haystack, in-process, on the same Postgres
           (bench/peers; the first time they are installed, 6 GB)

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
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from filling import fill
from frameworks import NAMES, PeerChunk, prepare, run_peer, write_chunks
from penstock.common import topics
from penstock.common.envelope import Envelope, Publication
from penstock.common.events import (
    DocumentSubmitted,
)
from penstock.common.kafka import Publisher
from penstock.common.settings import KafkaSettings
from penstock.local.postgres import Postgres
from penstock.models import DEFAULT_MODEL, Embedder, embedded_text, open_embedder, tokenizer
from reporting import QUICK, begin, finish, rows
from whole import Stack, Watch, whole_stack

CORPUS = "corpus/windows_driver_ddi/corpus.jsonl.gz"
SEED = 7
ROUNDS = 3
DOCUMENTS = 180 if QUICK else 3000
FILLING = 6_000 if QUICK else 60_000
PEER_DOCUMENTS = 500
FLOORS = {"llamaindex": 3.0, "langchain": 2.5, "haystack": 2.5}
SEEDS = 400 if QUICK else 2_000
"""Chunks that are really embedded for the filling."""
COLLECTION = "bench"
AT_ONCE = 500


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
        for at in range(0, len(documents), AT_ONCE):  # the client gives up on more than it can send
            await self._publisher.publish(
                *(_submission(document, run) for document in documents[at : at + AT_ONCE])
            )
        while waiting:
            for records in (await self._outcomes.getmany(timeout_ms=1000)).values():
                for record in records:
                    if record.topic == topics.DOCUMENT_FAILED.name:
                        raise RuntimeError(f"a document failed: {record.value.decode()[:300]}")
                    waiting.discard(record.key.decode())
        return time.perf_counter() - started

    async def chunks(self, run: str) -> list[PeerChunk]:
        """What was embedded of a load, in no particular order."""
        connection = await asyncpg.connect(self._stack.dsn("retrieve"))
        try:
            found = await connection.fetch(
                "SELECT chunk_id, document, title, heading_path, text FROM retrieve.chunk "
                "WHERE tenant = 'default' AND generation = 1 AND document LIKE $1 || '/%' "
                "ORDER BY chunk_id",
                run,
            )
        finally:
            await connection.close()
        return [
            PeerChunk(
                id=str(row["chunk_id"]),
                document=row["document"],
                text=embedded_text(row["title"], row["heading_path"], row["text"]),
                title=row["title"] or "",
                metadata={"document": row["document"]},
            )
            for row in found
        ]


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


class Bench:
    """A stack that is up and filled, and what was measured on it."""

    def __init__(self, stack: Stack, pipeline: Pipeline, embedder: Embedder, folder: Path) -> None:
        self._stack = stack
        self._pipeline = pipeline
        self._embedder = embedder
        self._folder = folder
        self._tokenizer = tokenizer(embedder.model)
        self.rounds: list[Round] = []
        self.watches: list[Watch] = []
        self.times_faster: dict[str, list[float]] = {name: [] for name in NAMES}

    async def round(self, documents: Sequence[Document]) -> None:
        run = f"round-{len(self.rounds)}"
        watch = Watch(self._stack)
        async with watch():
            took = await self._pipeline.load(documents, run)
        texts = [chunk.text for chunk in await self._pipeline.chunks(run)]
        tokens = sum(self._tokenizer.count(texts))
        least = await ceiling(self._embedder, texts)
        self.rounds.append(Round(len(documents), len(texts), tokens, took, least))
        self.watches.append(watch)
        print(f"round {len(self.rounds)}: ratio {self.rounds[-1].ratio:.3f}", flush=True)

    async def peers(self, documents: Sequence[Document], model: Path) -> None:
        """One round of every peer on the chunks of `documents`, after our own."""
        run = f"peers-{len(self.times_faster[NAMES[0]])}"
        ours = len(documents) / await self._pipeline.load(documents, run)
        file = self._folder / f"{run}.jsonl"
        write_chunks(file, await self._pipeline.chunks(run))
        port = int(str(self._stack.state.postgres).rpartition(":")[2])
        dsn = Postgres(self._stack.folder / "postgres", port).admin_dsn
        print(f"penstock {ours:.1f} docs/s", flush=True)
        for name in NAMES:
            theirs = await run_peer(name, file, dsn, model)
            self.times_faster[name].append(ours / theirs.docs_per_s)
            print(
                f"{name} {theirs.docs_per_s:.1f} docs/s ({self.times_faster[name][-1]:.2f}x), "
                f"{theirs.cpu_s:.0f} s of CPU, {theirs.max_rss_mb:.0f} MB {theirs.versions}",
                flush=True,
            )

    def figures(self) -> dict[str, float | str]:
        """Medians over the rounds."""
        rounds = self.rounds
        ratios = [r.ratio for r in rounds]
        found: dict[str, float | str] = {
            "ingest.model": self._embedder.model,
            "ingest.documents": sum(r.documents for r in rounds),
            "ingest.chunks": sum(r.chunks for r in rounds),
            "ingest.tokens": sum(r.tokens for r in rounds),
            "ingest.docs_per_s": _median(r.documents / r.pipeline_s for r in rounds),
            "ingest.ceiling_docs_per_s": _median(r.documents / r.ceiling_s for r in rounds),
            "ingest.ratio": _median(ratios),
            "ingest.ratio_spread": round(max(ratios) - min(ratios), 3),
        }
        for name, times in self.times_faster.items():
            if times:
                found[f"ingest.vs_{name}"] = _median(times)
                found[f"ingest.vs_{name}_spread"] = round(max(times) - min(times), 3)
        return found


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


async def bench(arguments: argparse.Namespace, folder: Path) -> dict[str, float | str]:
    with_peers = not QUICK and arguments.model == DEFAULT_MODEL and not arguments.no_peers
    documents, others = drawn(arguments.documents + PEER_DOCUMENTS)
    load, for_peers = documents[: arguments.documents], documents[arguments.documents :]
    checkpoint = await prepare() if with_peers else folder
    async with (
        open_embedder(arguments.model) as embedder,
        whole_stack(folder / "penstock", PENSTOCK_EMBED_MODEL=arguments.model) as stack,
        Pipeline.open(stack) as pipeline,
    ):
        await _create_collection(stack, arguments.model)
        rate = await fill(stack, embedder, others, FILLING)
        print(f"index filled with {FILLING} chunks, {rate:.0f} a second", flush=True)
        await pipeline.load([Document("warm-up", "", others[0])], "warm")
        measured = Bench(stack, pipeline, embedder, folder)
        for number in range(ROUNDS):
            await measured.round(_share(load, number))
            if with_peers:
                await measured.peers(_share(for_peers, number), checkpoint)
    report(measured.rounds, measured.watches)
    if arguments.samples:
        arguments.samples.write_text(
            json.dumps([[asdict(sample) for sample in watch.samples] for watch in measured.watches])
        )
    return measured.figures()


def _share(documents: Sequence[Document], number: int) -> Sequence[Document]:
    """A round's part."""
    size = len(documents) // ROUNDS
    return documents[number * size : (number + 1) * size]


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
    parser.add_argument("--no-peers", action="store_true", help="our own pipeline alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        figures = asyncio.run(bench(arguments, Path(folder)))
    floors = {"ingest.ratio": 0.5} if arguments.model == DEFAULT_MODEL else {}
    floors |= {
        f"ingest.vs_{n}": least for n, least in FLOORS.items() if f"ingest.vs_{n}" in figures
    }
    finish(figures, at_least=floors)


if __name__ == "__main__":
    main()
