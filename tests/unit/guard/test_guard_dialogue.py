"""A question goes on only when what its answer's gate will need of it is kept."""

from datetime import UTC, datetime
from typing import Any

import pytest

from penstock.common.envelope import Envelope, Publication, Record
from penstock.common.events import CollectionConfigured, Position, QuestionAsked
from penstock.common.failures import TransientError
from penstock.guard.dialogue_handlers import DialogueGate
from penstock.guard.engine import Engines
from penstock.guard.pii import PiiDetector
from penstock.guard.policy import load_all


class AwayVerdicts:
    """The table of verdicts while Postgres is away."""

    async def add(self, *_: object, **__: object) -> None:
        raise TransientError("Postgres is away")


async def test_a_question_whose_verdict_cannot_be_kept_waits() -> None:
    """Its answer would be judged by the default policy, whatever its collection asks for."""
    sent: list[Publication[Any]] = []

    async def publish(*publications: Publication[Any]) -> None:
        sent.extend(publications)

    gate = DialogueGate(
        AwayVerdicts(),  # type: ignore[arg-type]
        Engines(load_all(None), PiiDetector(())),
        lambda *_: CollectionConfigured(),
        publish,
    )
    asked = Record(
        topic="t", partition=0, offset=0, position=Position(cluster="c", partition=0, offset=0, at=0),
        key="acme/q", envelope=Envelope(id="i", tenant="acme", job="q", time=datetime.now(UTC)),
        body=QuestionAsked(question="How high is the weir?"),
    )  # fmt: skip
    with pytest.raises(TransientError):
        await gate.admit([asked])
    assert sent == []
