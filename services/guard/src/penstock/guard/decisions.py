"""A person's decision about a quarantined version."""

from typing import Any

from penstock.common.envelope import Publication
from penstock.common.events import DocumentEvent, DocumentRejected
from penstock.common.kafka import Publisher
from penstock.common.topics import DOCUMENT_CLEARED, DOCUMENT_REJECTED
from penstock.guard.postgres import Held, Quarantined, Quarantines
from penstock.guard.quarantine import Decision, State


class DecisionError(Exception):
    """There is nothing to decide any more, or not yet; `type` is the problem's."""

    def __init__(self, type: str, message: str) -> None:  # noqa: A002
        super().__init__(message)
        self.type = type


async def decide(
    quarantines: Quarantines,
    publisher: Publisher,
    item: Quarantined,
    decision: Decision,
    by: str,
    comment: str,
) -> None:
    """
    Publish what the decision means, then write it down; the caller holds the row's lock.

    Safe to repeat: a decision lost between the two is taken again, and the same batches of a
    version have no further effect downstream.
    """
    if item.state is State.READING:
        raise DecisionError("not_ready", "not every part of the document has been screened yet")
    if item.state is not State.WAITING:
        when = f"{item.decided_at:%Y-%m-%d %H:%M} UTC" if item.decided_at else "before"
        raise DecisionError("already_decided", f"{item.state} by {item.decided_by} at {when}")
    if decision is Decision.RELEASE:
        async for held in quarantines.held(item):
            await publisher.publish(*(released(one) for one in held))
    else:
        findings = await quarantines.findings(item)
        identity = {name: getattr(item.event, name) for name in DocumentEvent.model_fields}
        body = DocumentRejected(**identity, findings=findings, actor=by)
        rejected: Publication[Any] = Publication(
            DOCUMENT_REJECTED, item.key, item.envelope.next(), body
        )
        await publisher.publish(rejected)
    await quarantines.decide(item, decision, by, comment)


def released(held: Held) -> Publication[Any]:
    return Publication(DOCUMENT_CLEARED, held.key, held.envelope.next(), held.batch)
