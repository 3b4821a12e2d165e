"""The load that failures are tried on: documents and questions whose outcome is known from a clean
run, and everything that must be true of them at the end of a run that was anything but."""

import asyncio
import json
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from e2e_stack import Running, until

from penstock.client import ApiError, Job, Penstock
from penstock.common import topics
from penstock.common.envelope import Envelope, Publication
from penstock.common.events import DocumentSubmitted
from penstock.common.kafka import Publisher
from penstock.common.settings import KafkaSettings

DOCUMENTS = 300
LARGE = 100
"""Every so many documents one comes in several batches, which meet again in the staging table."""
_SECTIONS = 70
_AT_ONCE = 8
_CONSONANTS, _VOWELS = "bdgklmnprst", "aeiou"

T = TypeVar("T")
Chunk = tuple[int, int, str, str, tuple[str, ...], int, int, int]
"""Version, ordinal, text, kind, heading path, span; how many vectors it has."""


def word_of(number: int) -> str:
    """A word that no other document has, and that reads like a place's name."""
    syllables = [
        _CONSONANTS[number // step % 11] + _VOWELS[number // step % 5] for step in (1, 5, 55)
    ]
    return "".join(syllables[::-1]).capitalize() + "rn"


def text_of(number: int) -> str:
    """Two chunks, or more than go in one batch; each names the document's word."""
    word = word_of(number)
    filling = (
        "Every gauge was read by hand, written down in the book and compared with its neighbours. "
        "What did not fit was read again by somebody else on the next day, before the gates were "
        "moved, and the book was signed by both."
    )
    sections = [
        f"## Reading {n} at {word}\n\nReading {n} at {word} is the work of one day. {filling}"
        for n in range(1, _SECTIONS if number % LARGE == 0 else 2)
    ]
    opened = f"The {word} dam was opened in {1500 + number} by the mayor Elsa Dorn. {filling}"
    return "\n\n".join([f"# The {word} dam\n\n{opened}", *sections])


def questions() -> dict[str, str | None]:
    """With what the answer must say; None: no document says it."""
    numbers = range(7, DOCUMENTS, 25)
    unknown = ("When was the Quellmoor lighthouse opened?", "Who wrote the Harzen treaty?")
    return {
        **{f"When was the {word_of(n)} dam opened?": str(1500 + n) for n in numbers},
        **dict.fromkeys(unknown),
    }


@dataclass(frozen=True)
class Outcome:
    """What a load came to: equal to that of a clean run, whatever happened meanwhile."""

    chunks: dict[int, list[Chunk]]
    found: dict[int, list[str]]
    """By document: all that a search for its word finds, but for the large ones."""


@dataclass(frozen=True)
class CleanRun:
    load: "Load"
    outcome: Outcome
    answers: dict[str, tuple[Any, ...]]


class Load:
    """One run: the documents of a collection of its own."""

    def __init__(self, stack: Running, penstock: Penstock, name: str, portions: int) -> None:
        self.stack = stack
        self.penstock = penstock
        self.collection = f"{name}-{uuid4().hex[:6]}"
        self.documents = [f"{self.collection}-{n:03}" for n in range(DOCUMENTS)]
        self._size = -(-DOCUMENTS // portions)
        self._published = 0

    @classmethod
    async def begin(
        cls, stack: Running, penstock: Penstock, name: str, portions: int = 1
    ) -> "Load":
        """Publish the first portion; the jobs are called as their documents."""
        load = cls(stack, penstock, name, portions)
        await penstock.create_collection(name=load.collection)
        await load._publish()
        return load

    async def go_on(self) -> None:
        """Publish the next portion while the one before it is on its way: documents are in every
        stage when this returns."""
        before = self._published - self._size

        async def arrives() -> bool:
            return await self.searchable() > before

        await until(arrives, 120)
        await self._publish()
        assert await self.searchable() < self._published

    async def _publish(self) -> None:
        portion = range(self._published, min(self._published + self._size, DOCUMENTS))
        publisher = Publisher("test", KafkaSettings(kafka=self.stack.kafka))
        await publisher.start()
        try:
            await publisher.publish(*map(self._submission, portion))
        finally:
            await publisher.stop()
        self._published = portion.stop

    def _submission(self, number: int) -> Publication[DocumentSubmitted]:
        name = self.documents[number]
        return Publication(
            topics.DOCUMENT_SUBMITTED,
            f"default/{name}",
            Envelope(id=name, tenant="default", job=name, subject=name),
            DocumentSubmitted(text=text_of(number), collection=self.collection),
        )

    async def searchable(self) -> int:
        """Documents in the index."""
        async with self.stack.database() as db:
            return int(
                await db.fetchval(
                    "SELECT count(*) FROM retrieve.indexed WHERE starts_with(document, $1)",
                    self.collection,
                )
            )

    async def outcome(self) -> Outcome:
        """When all have ended: they are asserted to have succeeded, once, and nothing is left."""
        assert self._published == DOCUMENTS
        jobs = await until(self._ended, 180)
        assert {(job.state, job.attempt) for job in jobs} == {("succeeded", 1)}
        await until(self._no_lag, 60)
        letters = [str(letter) async for letter in self.penstock.dead_letters()]
        assert [letter for letter in letters if self.collection in letter] == []
        return Outcome(await self._chunks(), await self._found())

    async def _ended(self) -> list[Job] | None:
        if await self.searchable() < DOCUMENTS:
            return None
        try:
            jobs = await at_once(self.penstock.job(name) for name in self.documents)
        except ApiError as error:
            if error.status != 404:
                raise
            return None  # the API has not heard of it yet
        return jobs if all(job.ended for job in jobs) else None

    async def _no_lag(self) -> bool:
        """And every process ready, which is what the exit status says."""
        done = await asyncio.to_thread(self.stack.command, "status", "--json")
        lags = json.loads(done.stdout)["lag"]
        return done.returncode == 0 and bool(lags) and not any(lags.values())

    async def _chunks(self) -> dict[int, list[Chunk]]:
        async with self.stack.database() as db:
            rows = await db.fetch(
                "SELECT document, version, ordinal, text, kind, heading_path, span_start, span_end,"
                " (SELECT count(*) FROM retrieve.embedding_1 WHERE chunk = c.id) AS vectors"
                " FROM retrieve.chunk AS c WHERE collection = $1 ORDER BY document, ordinal, id",
                self.collection,
            )
        found: dict[int, list[Chunk]] = {n: [] for n in range(DOCUMENTS)}
        for document, version, ordinal, text, kind, path, *more in rows:
            number = int(document.rpartition("-")[2])
            found[number].append((version, ordinal, text, kind, tuple(path), *more))
        return found

    async def _found(self) -> dict[int, list[str]]:
        """Every document by its word, as a user finds it: postings and rows agree."""
        small = [n for n in range(DOCUMENTS) if n % LARGE]
        results = await at_once(
            self.penstock.search(word_of(n), mode="lexical", collection=self.collection)
            for n in small
        )
        return {
            n: sorted(passage.text for passage in result.passages)
            for n, result in zip(small, results, strict=True)
        }

    async def answers(self, door: Penstock) -> dict[str, tuple[Any, ...]]:
        """The questions, asked all at once, with what was answered and what was cited for it."""
        found = await asyncio.gather(
            *(door.ask(question, collection=self.collection) for question in questions())
        )
        return {
            question: (
                answer.abstained,
                answer.text,
                [
                    (citation.document_id.rpartition("-")[2], citation.quote)
                    for citation in answer.citations
                ],
            )
            for question, answer in zip(questions(), found, strict=True)
        }


async def at_once(work: Iterable[Awaitable[T]]) -> list[T]:
    """All of it, some at a time."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(each: Awaitable[T]) -> T:
        async with free:
            return await each

    return await asyncio.gather(*map(one, work))
