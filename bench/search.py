"""What search and questions cost beyond embedding, SQL and the model.

    python bench/search.py             # about ten minutes, the first time ten more for embedding
    QUICK=1 python bench/search.py     # three minutes
    python bench/search.py --instances 2    # two processes of every service

A whole stack is started as a user starts it; its index is filled with the documents of public
retrieval sets, by the indexer's own code, and asked their queries. Its model answers at once
(bench/instant.py). In three rounds, every query by both arms in turn:

search     the searcher's HTTP door over the same embedder and the same two legs written by hand:
           open connections, one statement a leg, numpy, one statement for the texts (bench/raw.py)
question   question.asked published, the whole answer.released read, over the raw search and one
           request to the same model; one after the other, then one every 0 to 5 seconds, then from
           8 clients at once
http       the same question asked of the API over HTTP, waiting for its end

The quick form fills fewer documents and asks fewer questions. Vectors are kept in
~/.cache/penstock/bench. Ends with status 1 when a bound is missed.
"""

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from beir import TestSet, load
from penstock.common import topics
from penstock.common.db import Database
from penstock.common.envelope import Envelope, Publication, document_key
from penstock.common.events import QuestionAsked
from penstock.common.kafka import Publisher
from penstock.common.settings import KafkaSettings
from penstock.common.tokens import Identity, issue
from penstock.local.ports import free_port
from penstock.local.process import Command, Process
from penstock.local.stack import until_ready
from penstock.models import Embedder, embedded_text, open_embedder
from penstock.retrieve import writing
from penstock.retrieve.indexer import Index
from penstock.retrieve.requests import LEAST_PASSAGES
from raw import Caller, RawQuestion, RawSearch
from reporting import QUICK, begin, finish
from retrieval import MIGRATIONS, SETS, WHOLE, embedded, record
from whole import Stack, whole_stack

TENANT = "default"
SEED = 7
ROUNDS = 3
CLIENTS = 8
TOP_K = 10
SEARCHES = 60 if QUICK else 200
"""In a round, by each arm; the same for what follows."""
QUESTIONS = 30 if QUICK else 80
IDLE = 3 if QUICK else 12
MOST_IDLE_S = 5.0
AT_ONCE = 120 if QUICK else 320

AT_MOST = {
    "search.p50_over_raw_ms": 3.0,
    "search.p95_over_raw_ms": 8.0,
    "question.p50_over_raw_ms": 15.0,
    "question.idle_p50_over_raw_ms": 25.0,
}
AT_LEAST = {"question.rate_ratio_8": 0.5}

Ask = Callable[[str], Awaitable[object]]


# ---------------------------------------------------------------- the stack


async def fill(stack: Stack, embedder: Embedder, sets: Sequence[TestSet]) -> int:
    """Every document of the sets as one chunk, under one tenant; how many there are."""
    count = 0
    async with Database.open(
        stack.dsn("retrieve"), schema="retrieve", migrations=MIGRATIONS, setup=writing.setup
    ) as database:
        index = Index(database)
        for test in sets:
            vectors = await embedded(
                embedder, [embedded_text(d.title, (), d.text) for d in test.documents]
            )
            for start in range(0, len(vectors), 512):
                part = slice(start, start + 512)
                await index.write(
                    [
                        record(TENANT, document, vector)
                        for document, vector in zip(
                            test.documents[part], vectors[part], strict=True
                        )
                    ]
                )
            count += len(vectors)
        async with database.pool.acquire() as connection:
            await connection.execute("ANALYZE")
    return count


@asynccontextmanager
async def instant_model(log: Path) -> AsyncIterator[str]:
    """The address of a model that answers at once, in a process of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = str(Path(__file__).with_name("instant.py"))
    command = Command(argv=(sys.executable, program, str(port)), env=dict(os.environ))
    process = await Process.start("the instant model", command, log)
    try:
        await until_ready(process, lambda: why_silent(url))
        yield url
    finally:
        await process.stop(5)


async def why_silent(url: str) -> str | None:
    async with httpx.AsyncClient() as http:
        try:
            await http.get(url)
        except httpx.TransportError as error:
            return repr(error)
    return None


# ---------------------------------------------------------------- arms


class Door:
    """The searcher's own door."""

    def __init__(self, stack: Stack, http: Caller) -> None:
        self._http = http
        identity = Identity(TENANT, "bench", frozenset({"reader"}))
        token = issue(identity, stack.service_secret, ttl_s=3600)
        self._headers = {"authorization": f"Bearer {token}"}

    async def search(self, text: str) -> None:
        body = orjson.dumps({"query": text, "top_k": TOP_K})
        found = orjson.loads(await self._http.post("/v1/search", body, self._headers))
        if len(found["passages"]) != TOP_K:
            raise RuntimeError(f"{len(found['passages'])} passages for {text!r}")


async def ask_over_http(http: Caller, text: str) -> None:
    body = orjson.dumps({"question": text, "top_k": LEAST_PASSAGES})
    job = orjson.loads(await http.post("/v1/questions", body, {"prefer": "wait=30"}))
    if job["state"] != "succeeded":
        raise RuntimeError(f"a question is {job['state']}: {job['error']}")


class Questions:
    """Publishes questions and waits for their whole answers."""

    def __init__(self, publisher: Publisher, answers: AIOKafkaConsumer) -> None:
        self._publisher = publisher
        self._answers = answers
        self._waiting: dict[str, asyncio.Future[None]] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, kafka: str) -> AsyncIterator["Questions"]:
        publisher = Publisher("bench", KafkaSettings(kafka=kafka))
        answers = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
        await publisher.start()
        await answers.start()
        ends = (topics.ANSWER_RELEASED, topics.ANSWER_WITHHELD, topics.QUESTION_REFUSED)
        partitions = [TopicPartition(t.name, n) for t in ends for n in range(t.partitions)]
        answers.assign(partitions)
        await answers.seek_to_end(*partitions)
        for partition in partitions:
            await answers.position(partition)
        made = cls(publisher, answers)
        reading = asyncio.create_task(made._read())
        try:
            yield made
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await answers.stop()
            await publisher.stop()

    async def ask(self, text: str) -> None:
        job = uuid4().hex
        answered = self._waiting[job] = asyncio.get_running_loop().create_future()
        envelope = Envelope(id=job, tenant=TENANT, job=job)
        asked = QuestionAsked(question=text, top_k=LEAST_PASSAGES)
        key = document_key(TENANT, job)
        await self._publisher.publish(Publication(topics.QUESTION_ASKED, key, envelope, asked))
        async with asyncio.timeout(30):
            await answered

    async def _read(self) -> None:
        while True:
            for records in (await self._answers.getmany(timeout_ms=1000)).values():
                for raw in records:
                    self._heard(raw.topic, raw.key.decode().partition("/")[2], raw.value)

    def _heard(self, topic: str, job: str, value: bytes) -> None:
        answered = self._waiting.get(job)
        body = orjson.loads(value)
        if answered is None or not body.get("final", True):
            return
        del self._waiting[job]
        if topic == topics.ANSWER_RELEASED.name and not body["abstained"]:
            answered.set_result(None)
        else:
            answered.set_exception(RuntimeError(f"no answer on {topic}: {body}"))


# ---------------------------------------------------------------- measuring


async def timed(ask: Ask, text: str) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    await ask(text)
    return (time.perf_counter() - started) * 1e3


async def in_turn(arms: dict[str, Ask], texts: Sequence[str]) -> dict[str, list[float]]:
    """Every text by every arm; who goes first alternates, as the second finds caches warm."""
    took: dict[str, list[float]] = {name: [] for name in arms}
    order = list(arms)
    for text in texts:
        for name in order:
            took[name].append(await timed(arms[name], text))
        order.reverse()
    return took


async def with_pauses(
    arms: dict[str, Ask], texts: Sequence[str], chance: random.Random
) -> dict[str, list[float]]:
    """One at a time, each after a pause of its own: everything has gone to sleep by then."""
    took: dict[str, list[float]] = {name: [] for name in arms}
    for text in texts:
        for name, ask in arms.items():
            await asyncio.sleep(chance.uniform(0, MOST_IDLE_S))
            took[name].append(await timed(ask, text))
    return took


async def rate(ask: Ask, texts: Sequence[str]) -> float:
    """Answers per second with `CLIENTS` clients, each with one question at a time."""
    waiting = list(texts)

    async def client() -> None:
        while waiting:
            await ask(waiting.pop())

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return len(texts) / (time.perf_counter() - started)


@dataclass(slots=True)
class Results:
    """One value a round."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    def times(self, name: str, took: dict[str, list[float]], *, p95: bool = True) -> None:
        """Percentiles of the arms `raw` and others, and what these are over raw."""
        for share in (50, 95) if p95 else (50,):
            raw = float(np.percentile(took["raw"], share))
            self.add(f"{name}raw_p{share}_ms", raw)
            for arm, values in took.items():
                if arm != "raw":
                    prefix = f"{name}{'' if arm == 'ours' else arm + '_'}p{share}"
                    ours = float(np.percentile(values, share))
                    self.add(f"{prefix}_ms", ours)
                    self.add(f"{prefix}_over_raw_ms", ours - raw)

    def medians(self) -> dict[str, float]:
        return {name: round(statistics.median(v), 3) for name, v in self.values.items()}

    def report(self) -> None:
        print(f"\n{'median of the rounds':38} {'':9}  rounds")
        for name, values in self.values.items():
            each = "  ".join(f"{value:8.2f}" for value in values)
            print(f"{name:38} {statistics.median(values):9.2f}  {each}")


@dataclass(frozen=True, slots=True)
class Bench:
    raw_search: RawSearch
    raw_question: RawQuestion
    door: Door
    api: Caller
    questions: Questions
    texts: list[str]
    chance: random.Random

    def some(self, count: int) -> list[str]:
        return self.chance.choices(self.texts, k=count)

    @property
    def question_arms(self) -> dict[str, Ask]:
        return {
            "raw": lambda text: self.raw_question.ask(text, LEAST_PASSAGES),
            "ours": self.questions.ask,
        }

    async def warm_up(self) -> None:
        for text in self.some(20):
            await self.raw_search.search(text, TOP_K)
            await self.door.search(text)
            for ask in self.question_arms.values():
                await ask(text)
            await ask_over_http(self.api, text)
        for ask in self.question_arms.values():
            await rate(ask, self.some(4 * CLIENTS))

    async def round(self, results: Results) -> None:
        search: dict[str, Ask] = {
            "raw": lambda text: self.raw_search.search(text, TOP_K),
            "ours": self.door.search,
        }
        results.times("search.", await in_turn(search, self.some(SEARCHES)))
        arms = self.question_arms
        over_http: dict[str, Ask] = {"http": lambda text: ask_over_http(self.api, text)}
        results.times("question.", await in_turn(arms | over_http, self.some(QUESTIONS)))
        idle = await with_pauses(arms, self.some(IDLE), self.chance)
        results.times("question.idle_", idle, p95=False)
        rates = {name: await rate(ask, self.some(AT_ONCE)) for name, ask in arms.items()}
        results.add("question.raw_rate_8_per_s", rates["raw"])
        results.add("question.rate_8_per_s", rates["ours"])
        results.add("question.rate_ratio_8", rates["ours"] / rates["raw"])


@asynccontextmanager
async def opened(folder: Path, sets: Sequence[TestSet], instances: int = 1) -> AsyncIterator[Bench]:
    """Stack, model and index are there, and every arm is connected."""
    async with AsyncExitStack() as opening:
        embedder = await opening.enter_async_context(open_embedder())
        url = await opening.enter_async_context(instant_model(folder.with_name("instant.log")))
        model = {"PENSTOCK_CHAT_URL": f"{url}/v1", "PENSTOCK_CHAT_MODEL": "instant"}
        stack = await opening.enter_async_context(whole_stack(folder, instances=instances, **model))
        count = await fill(stack, embedder, sets)
        print(f"{count} chunks are searchable", flush=True)

        def caller(address: str) -> Caller:
            made = Caller(address, clients=CLIENTS)
            opening.callback(made.close)
            return made

        raw_search = await opening.enter_async_context(
            RawSearch.open(stack.dsn("retrieve"), embedder, TENANT, clients=CLIENTS)
        )
        yield Bench(
            raw_search,
            RawQuestion(raw_search, caller(url)),
            Door(stack, caller(f"http://127.0.0.1:{stack.processes['searcher'].port}")),
            caller(stack.api),
            await opening.enter_async_context(Questions.open(stack.kafka)),
            [text for test in sets for text in test.queries.values() if len(text) < 1000],
            random.Random(SEED),
        )


async def run(folder: Path, instances: int) -> dict[str, float]:
    sets = [load(name) for name in (WHOLE if QUICK else SETS)]
    results = Results()
    async with opened(folder, sets, instances) as bench:
        await bench.warm_up()
        for number in range(1, ROUNDS + 1):
            await bench.round(results)
            print(f"round {number} of {ROUNDS} is over", flush=True)
    results.report()
    return results.medians()


def main() -> None:
    parser = begin(__doc__, "retrieval")
    parser.add_argument("--instances", type=int, default=1, help="processes of every service")
    instances: int = parser.parse_args().instances
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        figures = uvloop.run(run(Path(folder) / "penstock", instances))
    finish(figures, at_least=AT_LEAST, at_most=AT_MOST)


if __name__ == "__main__":
    main()
