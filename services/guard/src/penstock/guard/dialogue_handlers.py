"""The dialogue gates: questions are admitted or refused, answers released or withheld."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from penstock.common.envelope import Publication, Record, follow
from penstock.common.events import (
    AnswerDrafted,
    AnswerEvent,
    AnswerReleased,
    AnswerWithheld,
    Failure,
    ProgressState,
    QuestionAdmitted,
    QuestionAsked,
    QuestionEvent,
    QuestionRefused,
    Stage,
)
from penstock.common.progress import progressed
from penstock.common.topics import (
    ANSWER_RELEASED,
    ANSWER_WITHHELD,
    QUESTION_ADMITTED,
    QUESTION_REFUSED,
)
from penstock.guard.dialogue import admit, release
from penstock.guard.engine import Engine, Engines
from penstock.guard.handlers import ConfigurationOf
from penstock.guard.postgres import Dialogues


def _now() -> datetime:
    return datetime.now(UTC)


class DialogueGate:
    """Every verdict is kept under its question, ask, round and sentence: a repeat adds none.

    That on a question is kept before the question goes on: the answer's gate finds its policy by
    it. Nobody waits for that on an answer: it is written while the answer is on its way, and the
    record counts as done when both are.
    """

    def __init__(
        self,
        verdicts: Dialogues,
        engines: Engines,
        configured: ConfigurationOf,
        publish: Callable[[Publication[Any]], Awaitable[object]],
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._verdicts = verdicts
        self._engines = engines
        self._configured = configured
        self._publish = publish
        self._now = now

    async def admit(self, records: Sequence[Record[QuestionAsked]]) -> Sequence[Publication[Any]]:
        """Admit or refuse one question. Safe to repeat: the same question, the same verdict."""
        began = perf_counter()
        (record,) = records
        asked = record.value
        if record.envelope.expired(self._now()):
            return [_expired(record, Stage.ADMIT)]
        engine = self._engine(record, asked.collection)
        admission = await asyncio.to_thread(admit, asked, engine)
        await self._verdicts.add(
            record.envelope,
            admission.verdict,
            ask=asked.ask,
            round=asked.round,
            collection=asked.collection,
        )
        carried = {
            **_fields(asked, QuestionEvent),
            "question": admission.question,
            "conversation": admission.conversation,
            "timings_ms": _timed(asked.timings_ms, "admit", began),
            "verdict": admission.verdict,
        }
        if admission.reason is not None:
            refused = QuestionRefused(**carried, reason=admission.reason)
            return [follow(record, QUESTION_REFUSED, refused), progressed(record, Stage.ADMIT)]
        admitted = QuestionAdmitted(**carried)
        return [follow(record, QUESTION_ADMITTED, admitted), progressed(record, Stage.ADMIT)]

    async def release(self, records: Sequence[Record[AnswerDrafted]]) -> Sequence[Publication[Any]]:
        """Release or withhold one sentence or answer. Safe to repeat: the same verdict again."""
        began = perf_counter()
        (record,) = records
        drafted = record.value
        if record.envelope.expired(self._now()):
            return [_expired(record, Stage.RELEASE)]
        engine = self._engine(record, await self._collection(record))
        released = await asyncio.to_thread(release, drafted, engine)
        carried = {
            **_fields(drafted, AnswerEvent),
            "text": released.text,
            "verdicts": (*drafted.verdicts, released.verdict),
            "timings_ms": _timed(drafted.timings_ms, "release", began),
        }
        passed_on: Publication[Any]
        if released.withheld:
            passed_on = follow(record, ANSWER_WITHHELD, AnswerWithheld(**carried))
        else:
            passed_on = follow(record, ANSWER_RELEASED, AnswerReleased(**carried))
        await asyncio.gather(
            self._publish(passed_on),
            self._verdicts.add(
                record.envelope,
                released.verdict,
                ask=drafted.ask,
                round=drafted.round,
                sentence=drafted.sentence,
                final=drafted.final,
            ),
        )
        return [progressed(record, Stage.RELEASE)] if drafted.final else []

    def _engine(self, record: Record[Any], collection: str) -> Engine:
        configured = self._configured(record.envelope.tenant, collection)
        return self._engines.get(configured.guard_policy)

    async def _collection(self, record: Record[AnswerDrafted]) -> str:
        """An answer does not name its collection; it matters only where there are policies."""
        if len(self._engines) == 1:
            return "default"
        return await self._verdicts.collection(record.envelope)


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
