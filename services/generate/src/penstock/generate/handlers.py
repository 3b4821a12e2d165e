"""Plan a question, answer it from its passages, and keep no draft of what was deleted."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog

from penstock.common.envelope import Publication, Record, follow
from penstock.common.events import (
    NO_PLAN,
    AnswerDrafted,
    Failure,
    Passage,
    PassageRetrieved,
    ProgressState,
    QuestionAdmitted,
    QuestionPlanned,
    Stage,
    UsageRecorded,
)
from penstock.common.failures import PermanentError, RetryPolicy
from penstock.common.progress import progressed
from penstock.common.topics import ANSWER_DRAFTED, QUESTION_PLANNED, USAGE_RECORDED
from penstock.common.waits import Waits
from penstock.generate.ahead import Ahead
from penstock.generate.answering import final_event, sentence_event
from penstock.generate.ports import Drafts, ModelAwayError, Writer

log = structlog.get_logger()

Publications = list[Publication[Any]]
RETRY = RetryPolicy(first=0.5, longest=10.0)
STRATEGIES = (NO_PLAN,)


class QuestionCancelledError(Exception):
    """The question was cancelled while its answer was being written."""


class ModelUnavailableError(Exception):
    """The time is up and the model has not answered; says why."""

    def failure(self) -> Failure:
        return Failure(type="model_unavailable", message=f"The model gave no answer: {self}.")


async def plan(records: Sequence[Record[QuestionAdmitted]]) -> Publications:
    """What to search for. What needs no plan comes here from older records alone: its gate sends it
    to the searcher. Safe to repeat: it keeps nothing."""
    (record,) = records
    question = record.value
    if record.envelope.expired(datetime.now(UTC)):
        return [_failed(record, Stage.PLAN, EXPIRED)]
    if question.strategy not in STRATEGIES:
        raise PermanentError(
            f"strategy {question.strategy!r} is not available, use {' or '.join(STRATEGIES)}",
            type="unknown_strategy",
        )
    planned = QuestionPlanned(
        **question.model_dump(exclude={"verdict"}), searches=(question.question,)
    )
    return [follow(record, QUESTION_PLANNED, planned), progressed(record, Stage.PLAN)]


EXPIRED = Failure(type="expired", message="The deadline passed before the answer was written.")


class Answering:
    """Answers questions from their passages.

    Args:
        publish: for sentences, which go out while the rest is still being written.
        waits: for Postgres, where the answer is on its way already.
        cancelled: whether (tenant, job) has been cancelled.
        patience: how long a model is waited for when the question brings no deadline.
        moment: an answer that is whole so soon after its first sentence goes out as a whole alone.
    """

    def __init__(
        self,
        drafts: Drafts,
        writer: Writer,
        publish: Callable[..., Awaitable[object]],
        waits: Waits,
        cancelled: Callable[[tuple[str, str]], bool],
        patience: timedelta,
        moment: timedelta,
    ) -> None:
        self._drafts = drafts
        self._writer = writer
        self._publish = publish
        self._waits = waits
        self._cancelled = cancelled
        self._patience = patience
        self._moment = moment

    async def answer(self, records: Sequence[Record[PassageRetrieved]]) -> Publications:
        """
        Draft an answer, sentence by sentence.

        Safe to repeat: a draft that is complete is published again as it is stored; one that was
        cut off is written anew under the same sentence numbers, and the final event has the word.
        """
        (record,) = records
        env, question = record.envelope, record.value
        now = datetime.now(UTC)
        if env.expired(now):
            return [_failed(record, Stage.ANSWER, EXPIRED)]
        found = await self._drafts.find(env.tenant, question, env.job)
        if found.drafted:
            again = [follow(record, ANSWER_DRAFTED, sentence) for sentence in found.drafted]
            return [*again, progressed(record, Stage.ANSWER)]
        deadline = env.deadline or now + self._patience
        try:
            drafted = await self._draft_until(record, found.live, deadline)
        except ModelUnavailableError as away:
            return [_failed(record, Stage.ANSWER, away.failure())]
        except QuestionCancelledError:
            return []
        await self._announce(record, drafted)
        return []

    async def _announce(
        self, record: Record[PassageRetrieved], drafted: Sequence[AnswerDrafted]
    ) -> None:
        """What is kept of a draft saves paying for it twice; whoever asked does not wait for that."""
        final = drafted[-1]
        news: Publications = [
            follow(record, ANSWER_DRAFTED, final),
            progressed(record, Stage.ANSWER),
        ]
        if final.usage is not None:
            recorded = UsageRecorded(usage=final.usage, purpose="answer", at=datetime.now(UTC))
            news.append(follow(record, USAGE_RECORDED, recorded, key=record.envelope.tenant))
        kept = await self._waits.written_beside(
            record.topic,
            self._publish(*news),
            partial(self._drafts.store, record.envelope.tenant, record.envelope.job, drafted),
        )
        if not kept:
            log.info("draft_not_kept", reason="a document behind it was removed meanwhile")
        log.info("answer_drafted", abstained=final.abstained, citations=len(final.citations))

    async def _draft_until(
        self, record: Record[PassageRetrieved], passages: Sequence[Passage], deadline: datetime
    ) -> list[AnswerDrafted]:
        """Try again while the model is away, as long as the question may take."""
        attempt = 0
        while True:
            attempt += 1
            left = (deadline - datetime.now(UTC)).total_seconds()
            try:
                async with asyncio.timeout(left):
                    return await self._draft(record, passages)
            except TimeoutError as error:
                raise ModelUnavailableError("it did not finish before the deadline") from error
            except ModelAwayError as error:
                pause = max(RETRY.pause(attempt), error.retry_after_s)
                log.warning("model_away", attempt=attempt, pause_s=pause, error=str(error))
                if datetime.now(UTC) + timedelta(seconds=pause) >= deadline:
                    raise ModelUnavailableError(str(error)) from error
            await asyncio.sleep(pause)
            passages = await self._drafts.live(record.envelope.tenant, passages)

    async def _draft(
        self, record: Record[PassageRetrieved], passages: Sequence[Passage]
    ) -> list[AnswerDrafted]:
        env, question = record.envelope, record.value
        started = time.monotonic()
        drafted: list[AnswerDrafted] = []

        def publish(sentence: AnswerDrafted) -> Awaitable[object]:
            return self._publish(follow(record, ANSWER_DRAFTED, sentence))

        async with Ahead(publish, self._moment) as ahead:
            async for piece in self._writer.write(env.tenant, question, passages):
                if self._cancelled((env.tenant, env.job)):
                    raise QuestionCancelledError
                if piece.final:
                    if not ahead.went:
                        drafted.clear()  # the whole is the first that is heard of it
                    elapsed = (time.monotonic() - started) * 1000
                    drafted.append(final_event(question, len(drafted), piece, passages, elapsed))
                else:
                    drafted.append(sentence_event(question, len(drafted), piece, passages))
                    ahead.send(drafted[-1])
            await ahead.sent()
        return drafted


def _failed(record: Record[Any], stage: Stage, error: Failure) -> Publication[Any]:
    return progressed(record, stage, ProgressState.FAILED, error=error)
