"""What the events say about jobs: records in, reports out. Nothing here knows of a database."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from penstock.api.states import Ended, Letter, Outcome
from penstock.common import events as e
from penstock.common.envelope import Record

QUESTION_STAGES = (e.Stage.ADMIT, e.Stage.PLAN, e.Stage.SEARCH, e.Stage.ANSWER, e.Stage.RELEASE)
DOCUMENT_STAGES = (e.Stage.INGEST, e.Stage.GUARD, e.Stage.EMBED, e.Stage.INDEX)

THE_QUESTION = ""
"""The name of the only part of a question's job."""


class Kind(StrEnum):
    DOCUMENT = "document"
    REMOVAL = "removal"
    QUESTION = "question"


@dataclass(frozen=True, slots=True)
class Step:
    """A stage is done with batch `k` of `n`."""

    stage: str
    k: int
    n: int


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that an event says about one part of a job."""

    tenant: str
    job: str
    kind: Kind
    document: str = THE_QUESTION
    version: int | None = None
    step: Step | None = None
    ended: Ended | None = None
    letter: Letter | None = None
    deadline: datetime | None = None

    @property
    def of(self) -> tuple[str, str]:
        return (self.tenant, self.job)

    @property
    def name(self) -> tuple[str, str, str]:
        """Of the part that it is about."""
        return (self.tenant, self.job, self.document)


def from_progress(record: Record[e.JobProgressed]) -> Report:
    """A stage's word on one batch, or on a question."""
    body = record.value
    question = body.stage in QUESTION_STAGES
    return Report(
        tenant=record.envelope.tenant,
        job=record.envelope.job,
        kind=Kind.QUESTION if question else Kind.DOCUMENT,
        document=THE_QUESTION if question else body.document or record.envelope.subject,
        version=body.version,
        step=_step(body),
        ended=_ended(body),
        letter=_letter(body),
        deadline=record.envelope.deadline,
    )


def _step(body: e.JobProgressed) -> Step | None:
    if body.state is not e.ProgressState.DONE:
        return None
    return Step(body.stage.value, body.k, body.n)


_OUTCOMES = {
    e.ProgressState.UNCHANGED: Outcome.UNCHANGED,
    e.ProgressState.SUPERSEDED: Outcome.SUPERSEDED,
    e.ProgressState.FAILED: Outcome.FAILED,
}


def _ended(body: e.JobProgressed) -> Ended | None:
    outcome = _OUTCOMES.get(body.state)
    if outcome is None:
        return None
    error = body.error
    if outcome is Outcome.SUPERSEDED and error is None:
        error = e.Failure(type="superseded", message="a newer version has overtaken it")
    return Ended(outcome, body.attempt, error)


def _letter(body: e.JobProgressed) -> Letter | None:
    where = body.dead_letter
    if body.state is not e.ProgressState.DEAD_LETTERED or where is None:
        return None
    return Letter(
        topic=where.topic,
        partition=where.partition,
        offset=where.offset,
        attempt=body.attempt,
        stage=body.stage.value,
        k=body.k,
        error=body.error,
    )


def about_document(
    record: Record[Any], outcome: Outcome | None, error: e.Failure | None = None
) -> Report:
    """A document event as a report on its job; no outcome: the job is only made known."""
    envelope = record.envelope
    return Report(
        tenant=envelope.tenant,
        job=envelope.job,
        kind=Kind.DOCUMENT,
        document=record.value.document,
        version=record.value.version,
        ended=Ended(outcome, envelope.attempt, error) if outcome else None,
    )


def about_removal(record: Record[Any]) -> Report:
    """A delete has been seen to; it has ended only when its receipt is complete."""
    envelope = record.envelope
    return Report(
        tenant=envelope.tenant,
        job=envelope.job,
        kind=Kind.REMOVAL,
        document=record.value.document,
        version=record.value.version,
    )


def about_question(record: Record[Any], ended: Ended | None = None) -> Report:
    envelope = record.envelope
    return Report(
        envelope.tenant, envelope.job, Kind.QUESTION, ended=ended, deadline=envelope.deadline
    )


def indexed(record: Record[e.DocumentIndexed]) -> Report:
    return about_document(record, Outcome.SEARCHABLE)


def failed(record: Record[e.DocumentFailed]) -> Report:
    return about_document(record, Outcome.FAILED, record.value.error)


def quarantined(record: Record[e.DocumentQuarantined]) -> Report:
    return about_document(record, Outcome.QUARANTINED)


def rejected(record: Record[e.DocumentRejected]) -> Report:
    error = e.Failure(type="rejected", message=f"rejected by {record.value.actor}")
    return about_document(record, Outcome.REJECTED, error)


Reader = Callable[[Record[Any]], Report]
