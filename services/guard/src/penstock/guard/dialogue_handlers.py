"""The dialogue gates: questions are admitted or refused, answers released or withheld."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from penstock.common.envelope import Publication, Record, follow
from penstock.common.events import (
    NO_PLAN,
    AnswerDrafted,
    AnswerEvent,
    AnswerReleased,
    AnswerWithheld,
    Failure,
    ProgressState,
    QuestionAdmitted,
    QuestionAsked,
    QuestionEvent,
    QuestionPlanned,
    QuestionRefused,
    Stage,
    Verdict,
)
from penstock.common.progress import progressed
from penstock.common.topics import (
    ANSWER_RELEASED,
    ANSWER_WITHHELD,
    QUESTION_ADMITTED,
    QUESTION_PLANNED,
    QUESTION_REFUSED,
)
from penstock.common.waits import Waits
from penstock.guard.dialogue import Admission, Release, admit, release
from penstock.guard.engine import Engine, Engines
from penstock.guard.handlers import ConfigurationOf
from penstock.guard.postgres import Dialogues

ON_LOOP = 16_000
"""Characters that are judged on the event loop: a millisecond, and 16 for a text that was made to be
slow (measured)."""

Body = TypeVar("Body", QuestionAsked, AnswerDrafted)
Judged = TypeVar("Judged", Admission, Release)


def _now() -> datetime:
    return datetime.now(UTC)


class DialogueGate:
    """Every verdict is kept under its question, ask, round and sentence: a repeat adds none.

    Nobody waits for that: it is written while what was judged is on its way, and the record counts
    as done when both are.
    """

    def __init__(
        self,
        verdicts: Dialogues,
        engines: Engines,
        configured: ConfigurationOf,
        publish: Callable[..., Awaitable[object]],
        waits: Waits,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._verdicts = verdicts
        self._engines = engines
        self._configured = configured
        self._publish = publish
        self._waits = waits
        self._now = now

    async def admit(self, records: Sequence[Record[QuestionAsked]]) -> Sequence[Publication[Any]]:
        """Admit or refuse one question. Safe to repeat: the same question, the same verdict."""
        began = perf_counter()
        (record,) = records
        asked = record.value
        if record.envelope.expired(self._now()):
            return [_expired(record, Stage.ADMIT)]
        engine = self._engine(record, asked.collection)
        admission = await _off_the_loop(_length(asked), admit, asked, engine)
        carried = {
            **_fields(asked, QuestionEvent),
            "question": admission.question,
            "conversation": admission.conversation,
            "timings_ms": _timed(asked.timings_ms, "admit", began),
        }
        await self._pass_on(
            record,
            _passed_on(record, admission, carried),
            admission.verdict,
            ask=asked.ask,
            round=asked.round,
            collection=asked.collection,
        )
        return []

    async def release(self, records: Sequence[Record[AnswerDrafted]]) -> Sequence[Publication[Any]]:
        """Release or withhold one sentence or answer. Safe to repeat: the same verdict again."""
        began = perf_counter()
        (record,) = records
        drafted = record.value
        if record.envelope.expired(self._now()):
            return [_expired(record, Stage.RELEASE)]
        collection = await self._collection(record)
        engine = self._engine(record, collection)
        released = await _off_the_loop(_length(drafted), release, drafted, engine)
        carried = {
            **_fields(drafted, AnswerEvent),
            "collection": collection,
            "text": released.text,
            "verdicts": (*drafted.verdicts, released.verdict),
            "timings_ms": _timed(drafted.timings_ms, "release", began),
        }
        passed_on: Publication[Any]
        if released.withheld:
            passed_on = follow(record, ANSWER_WITHHELD, AnswerWithheld(**carried))
        else:
            passed_on = follow(record, ANSWER_RELEASED, AnswerReleased(**carried))
        await self._pass_on(
            record,
            [passed_on],
            released.verdict,
            ask=drafted.ask,
            round=drafted.round,
            sentence=drafted.sentence,
            final=drafted.final,
        )
        return []

    async def _pass_on(
        self,
        record: Record[Any],
        publications: Sequence[Publication[Any]],
        verdict: Verdict,
        **place: Any,
    ) -> None:
        """Publish what was judged and keep the verdict under its place, both at once."""
        keep = partial(self._verdicts.add, record.envelope, verdict, **place)
        await self._waits.written_beside(record.topic, self._publish(*publications), keep)

    async def _collection(self, record: Record[AnswerDrafted]) -> str:
        """An answerer of an older release does not name it; the verdict on the question does."""
        if "collection" in record.value.model_fields_set:
            return record.value.collection
        return await self._verdicts.collection(record.envelope)

    def _engine(self, record: Record[Any], collection: str) -> Engine:
        configured = self._configured(record.envelope.tenant, collection)
        return self._engines.get(configured.guard_policy)


def _passed_on(
    record: Record[QuestionAsked], admission: Admission, carried: dict[str, Any]
) -> list[Publication[Any]]:
    """What needs no plan goes from its gate to its search (docs/adr/0006)."""
    if admission.reason is not None:
        refused = QuestionRefused(**carried, verdict=admission.verdict, reason=admission.reason)
        return [follow(record, QUESTION_REFUSED, refused), progressed(record, Stage.ADMIT)]
    if record.value.strategy == NO_PLAN:
        planned = QuestionPlanned(**carried)
        return [follow(record, QUESTION_PLANNED, planned), progressed(record, Stage.PLAN)]
    admitted = QuestionAdmitted(**carried, verdict=admission.verdict)
    return [follow(record, QUESTION_ADMITTED, admitted), progressed(record, Stage.ADMIT)]


async def _off_the_loop(
    length: int, judge: Callable[[Body, Engine], Judged], body: Body, engine: Engine
) -> Judged:
    """A short text is judged in less time than a thread takes to be woken."""
    if length <= ON_LOOP:
        return judge(body, engine)
    return await asyncio.to_thread(judge, body, engine)


def _length(body: QuestionAsked | AnswerDrafted) -> int:
    """Characters that are read to judge it."""
    if isinstance(body, QuestionAsked):
        return len(body.question) + sum(len(turn.content) for turn in body.conversation)
    return len(body.text) + sum(len(passage.text) for passage in body.passages)


def _expired(record: Record[Any], stage: Stage) -> Publication[Any]:
    return progressed(
        record,
        stage,
        ProgressState.FAILED,
        error=Failure(type="expired", message="the deadline passed before the answer was ready"),
    )


def _fields(body: QuestionEvent | AnswerEvent, base: type[Any]) -> dict[str, Any]:
    return {name: getattr(body, name) for name in base.model_fields}


def _timed(timings: dict[str, float], name: str, began: float) -> dict[str, float]:
    return {**timings, name: round((perf_counter() - began) * 1000, 3)}
