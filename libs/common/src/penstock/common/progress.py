"""The word a stage gives on a job."""

from typing import Any

from penstock.common.envelope import Publication, Record
from penstock.common.events import (
    DocumentEvent,
    Failure,
    JobProgressed,
    Position,
    ProgressState,
    Stage,
)
from penstock.common.topics import JOB_PROGRESSED


def progressed(
    record: Record[Any],
    stage: Stage,
    state: ProgressState = ProgressState.DONE,
    *,
    document: str | None = None,
    version: int | None = None,
    position: Position | None = None,
    k: int = 0,
    n: int = 1,
    error: Failure | None = None,
) -> Publication[JobProgressed]:
    """`job.progressed` for this record's job; document, version and position come from its body."""
    body = record.body
    if isinstance(body, DocumentEvent):
        document = document or body.document
        version = version or body.version
        position = position or body.position
    return Publication(
        JOB_PROGRESSED,
        record.envelope.job,
        record.envelope.next(),
        JobProgressed(
            document=document,
            version=version,
            position=position,
            stage=stage,
            state=state,
            k=k,
            n=n,
            attempt=record.envelope.attempt,
            error=error,
        ),
    )
