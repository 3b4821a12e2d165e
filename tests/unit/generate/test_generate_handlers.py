"""A question on its way: planned, answered once, ended in time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.common.envelope import Envelope, Publication, Record
from penstock.common.events import (
    AnswerDrafted,
    Passage,
    PassageRetrieved,
    Position,
    ProgressState,
    QuestionAdmitted,
    TextSpan,
    Usage,
)
from penstock.common.failures import PermanentError, TransientError
from penstock.common.topics import ANSWER_DRAFTED, JOB_PROGRESSED, QUESTION_PLANNED, USAGE_RECORDED
from penstock.common.waits import Waits
from penstock.generate.answering import MAX_ANSWER_BYTES, final_event
from penstock.generate.handlers import Answering, plan
from penstock.generate.ports import Found, ModelAwayError, Written

QUESTION = PassageRetrieved(
    question="How deep?", timings_ms={"search": 4.0},
    passages=(
        Passage(
            chunk_id="c", document_id="d", version=2, text="Six metres.", score=1.0, rank=1,
            span=TextSpan(start=0, end=11),
        ),
    ),
)  # fmt: skip


def record(body: Any, *, ends_in: float | None = None) -> Record[Any]:
    deadline = None if ends_in is None else datetime.now(UTC) + timedelta(seconds=ends_in)
    return Record(
        topic="t", partition=0, offset=0, position=Position(cluster="c", partition=0, offset=0, at=0),
        key="acme/q", body=body,
        envelope=Envelope(id="i", tenant="acme", job="q", deadline=deadline),
    )  # fmt: skip


class MemoryDrafts:
    """Drafts in a dict; `removed` names documents nothing is kept of, and the first `away` drafts
    find no Postgres."""

    away = 0

    def __init__(self, *removed: str) -> None:
        self.stored: dict[tuple[str, str, int, int], list[AnswerDrafted]] = {}
        self.removed = removed

    async def find(self, tenant: str, question: PassageRetrieved, job: str) -> Found:
        drafted = self.stored.get((tenant, job, question.ask, question.round), [])
        return Found(drafted, await self.live(tenant, question.passages))

    async def live(self, tenant: str, passages: Sequence[Passage]) -> list[Passage]:
        return [p for p in passages if p.document_id not in self.removed]

    async def store(self, tenant: str, job: str, sentences: Sequence[AnswerDrafted]) -> bool:
        if self.away:
            self.away -= 1
            raise TransientError("Postgres is away")
        final = sentences[-1]
        self.stored[tenant, job, final.ask, final.round] = list(sentences)
        return True


class CountingWriter:
    """Writes two sentences, and counts what it would have cost; away as often as it is told."""

    def __init__(self, away: int = 0, retry_after_s: float = 0.0) -> None:
        self.calls = 0
        self.seen: list[Passage] = []
        self.away = away
        self.retry_after_s = retry_after_s

    async def write(
        self, tenant: str, question: PassageRetrieved, passages: Sequence[Passage]
    ) -> AsyncIterator[Written]:
        self.calls += 1
        self.seen = list(passages)
        if self.calls <= self.away:
            raise ModelAwayError("it answered 503", self.retry_after_s)
        yield Written("One.")
        yield Written("Two.")
        yield Written("One. Two.", final=True, usage=Usage(model="m", output_tokens=2))


class Outbox:
    def __init__(self) -> None:
        self.sent: list[Publication[Any]] = []

    async def publish(self, *publications: Publication[Any]) -> None:
        self.sent.extend(publications)

    @property
    def drafted(self) -> list[Any]:
        """The sentences and answers, in order."""
        return [one.body for one in self.sent if one.topic is ANSWER_DRAFTED]


def bodies(publications: Sequence[Publication[Any]]) -> list[Any]:
    return [publication.body for publication in publications]


def answering(
    writer: CountingWriter,
    drafts: MemoryDrafts,
    outbox: Outbox,
    *cancelled: str,
    moment: timedelta = timedelta(0),
) -> Answering:
    jobs = {("acme", job) for job in cancelled}
    patience = timedelta(seconds=5)
    return Answering(
        drafts, writer, outbox.publish, Waits("answerer"), jobs.__contains__, patience, moment
    )


async def test_direct_searches_for_the_question_itself() -> None:
    """The plan is the question, and the job hears of it."""
    planned, progress = await plan([record(QuestionAdmitted(question="How deep?", top_k=3))])
    (body, _) = bodies([planned, progress])
    assert (planned.topic, planned.key) == (QUESTION_PLANNED, "acme/q")
    assert (body.searches, body.top_k) == (("How deep?",), 3)
    assert progress.topic is JOB_PROGRESSED


async def test_a_strategy_that_is_not_there_is_refused_by_name() -> None:
    """Nobody gets a plain answer in place of the one they asked for."""
    with pytest.raises(PermanentError, match="'hyde' is not available, use direct"):
        await plan([record(QuestionAdmitted(question="q", strategy="hyde"))])


async def test_sentences_come_first_and_the_whole_at_the_end() -> None:
    """Sentences are numbered and published while writing goes on; usage is recorded once."""
    outbox = Outbox()
    await answering(CountingWriter(), MemoryDrafts(), outbox).answer([record(QUESTION)])
    assert [(b.sentence, b.final, b.text) for b in outbox.drafted] == [
        (0, False, "One."), (1, False, "Two."), (2, True, "One. Two."),
    ]  # fmt: skip
    final = outbox.drafted[-1]
    assert final.passages == QUESTION.passages
    assert set(final.timings_ms) == {"search", "answer"}
    *_, progress, usage = outbox.sent
    assert (progress.topic, usage.topic, usage.key) == (JOB_PROGRESSED, USAGE_RECORDED, "acme")
    assert len(outbox.sent) == 5


async def test_an_answer_that_is_there_at_once_goes_out_once() -> None:
    """Nobody reads the sentences before the whole: one draft passes the guard, not three."""
    outbox = Outbox()
    slow = answering(CountingWriter(), MemoryDrafts(), outbox, moment=timedelta(minutes=1))
    await slow.answer([record(QUESTION)])
    (final,) = outbox.drafted
    assert (final.sentence, final.final, final.text) == (0, True, "One. Two.")


class HeldWriter(CountingWriter):
    """Does not end before its sentences are on their way."""

    def __init__(self, outbox: "Outbox") -> None:
        super().__init__()
        self.outbox = outbox

    async def write(
        self, tenant: str, question: PassageRetrieved, passages: Sequence[Passage]
    ) -> AsyncIterator[Written]:
        async for piece in super().write(tenant, question, passages):
            if piece.final:
                async with asyncio.timeout(5):
                    while len(self.outbox.sent) < 2:
                        await asyncio.sleep(0)
            yield piece


async def test_the_sentences_of_a_slow_answer_do_not_wait_for_its_end() -> None:
    outbox = Outbox()
    slow = answering(HeldWriter(outbox), MemoryDrafts(), outbox, moment=timedelta(milliseconds=1))
    await slow.answer([record(QUESTION)])
    assert [(b.sentence, b.text) for b in outbox.drafted] == [
        (0, "One."), (1, "Two."), (2, "One. Two."),
    ]  # fmt: skip


async def test_a_redelivered_question_does_not_pay_twice() -> None:
    """The stored draft is published again, word for word, without a second call."""
    writer, drafts = CountingWriter(), MemoryDrafts()
    outbox = Outbox()
    answerer = answering(writer, drafts, outbox)
    await answerer.answer([record(QUESTION)])
    second = await answerer.answer([record(QUESTION)])
    assert writer.calls == 1
    assert [b.text for b in bodies(second[:-1])] == ["One.", "Two.", "One. Two."]
    assert second[-2].body == outbox.drafted[-1]


async def test_an_outage_of_postgres_costs_no_second_answer() -> None:
    """The answer is out; what is tried again is to keep it."""
    writer, drafts, outbox = CountingWriter(), MemoryDrafts(), Outbox()
    drafts.away = 1
    await answering(writer, drafts, outbox).answer([record(QUESTION)])
    assert writer.calls == 1
    assert len(outbox.sent) == 5
    assert drafts.stored


async def test_an_expired_question_costs_nothing() -> None:
    """The job fails as expired and the model is not asked."""
    writer = CountingWriter()
    (word,) = bodies(
        await answering(writer, MemoryDrafts(), Outbox()).answer([record(QUESTION, ends_in=-1)])
    )
    assert (word.state, word.error.type) == (ProgressState.FAILED, "expired")
    assert writer.calls == 0


async def test_a_model_that_stays_away_fails_the_job_before_its_deadline() -> None:
    """The person hears why, instead of waiting for ever."""
    writer = CountingWriter(away=9, retry_after_s=60)
    (word,) = bodies(
        await answering(writer, MemoryDrafts(), Outbox()).answer([record(QUESTION, ends_in=3)])
    )
    assert word.error.type == "model_unavailable"
    assert "503" in word.error.message


async def test_a_cancelled_question_stops_in_the_middle() -> None:
    """Nothing more is published and no draft is kept."""
    drafts, outbox = MemoryDrafts(), Outbox()
    assert await answering(CountingWriter(), drafts, outbox, "q").answer([record(QUESTION)]) == []
    assert (outbox.sent, drafts.stored) == ([], {})


async def test_a_removed_passage_is_not_read() -> None:
    """What was deleted between search and answer does not reach the writer."""
    writer = CountingWriter()
    await answering(writer, MemoryDrafts("d"), Outbox()).answer([record(QUESTION)])
    assert writer.seen == []


def test_an_answer_with_huge_passages_fits_into_an_event() -> None:
    """The last uncited passages go; the best one stays."""
    big = [
        QUESTION.passages[0].model_copy(update={"chunk_id": str(n), "text": "ä" * 30_000})
        for n in range(6)
    ]
    event = final_event(QUESTION, 0, Written("x", final=True), big, 1.0)
    assert [p.chunk_id for p in event.passages] == ["0", "1", "2"]
    assert len(event.model_dump_json().encode()) <= MAX_ANSWER_BYTES
