"""What the gates of questions and answers do with their verdicts."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from penstock.common.envelope import Envelope, Publication, Record
from penstock.common.events import (
    AnswerDrafted,
    CollectionConfigured,
    Event,
    Position,
    ProgressState,
    QuestionAsked,
    Stage,
)
from penstock.common.failures import TransientError
from penstock.common.topics import (
    ANSWER_RELEASED,
    ANSWER_WITHHELD,
    JOB_PROGRESSED,
    QUESTION_PLANNED,
)
from penstock.common.waits import Waits
from penstock.guard.dialogue_handlers import ON_LOOP, DialogueGate
from penstock.guard.engine import Engines
from penstock.guard.pii import PiiDetector
from penstock.guard.policy import load_all

STRICT = """
name: strict
version: "1"
gates:
  answer:
    topics:
      - {categories: [weather], action: refuse}
topics:
  weather: "\\\\brain\\\\b"
"""


class Verdicts:
    """The table of verdicts; Postgres is not there for the first `away` of them."""

    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.kept = 0
        self.refused = asyncio.Event()

    async def add(self, *_: object, **__: object) -> None:
        if self.away:
            self.away -= 1
            self.refused.set()
            raise TransientError("Postgres is away")
        self.kept += 1

    async def collection(self, _: Envelope) -> str:
        return "strict"


class Gate:
    """The gate with an outbox; each collection has the policy of its name."""

    def __init__(self, verdicts: Verdicts, policies: Path | None = None) -> None:
        self.sent: list[Any] = []
        self.gate = DialogueGate(
            verdicts,  # type: ignore[arg-type]
            Engines(load_all(policies), PiiDetector(())),
            lambda _, collection: CollectionConfigured(guard_policy=collection),
            self._publish,
            Waits("guard-dialogue"),
        )

    async def _publish(self, *publications: Publication[Any]) -> None:
        self.sent.extend(publications)


def record(body: Event) -> Record[Any]:
    return Record(
        topic="t", partition=0, offset=0, position=Position(cluster="c", partition=0, offset=0, at=0),
        key="acme/q", envelope=Envelope(id="i", tenant="acme", job="q", time=datetime.now(UTC)),
        body=body,
    )  # fmt: skip


async def test_a_question_that_needs_no_plan_goes_straight_to_its_search() -> None:
    """One topic, and one process, less on the way; its followers read that it is planned."""
    verdicts = Verdicts()
    gate = Gate(verdicts)
    assert await gate.gate.admit([record(QuestionAsked(question="How high is the weir?"))]) == []
    planned, progress = gate.sent
    assert (planned.topic, planned.key) == (QUESTION_PLANNED, "acme/q")
    assert planned.body.question == "How high is the weir?"
    assert progress.topic is JOB_PROGRESSED
    assert (progress.body.stage, progress.body.state) == (Stage.PLAN, ProgressState.DONE)
    assert verdicts.kept == 1


async def test_a_question_is_not_done_before_its_verdict_is_kept() -> None:
    """It is on its way meanwhile, once: an outage of Postgres does not ask it again and again."""
    verdicts = Verdicts(away=2)
    gate = Gate(verdicts)
    asked = record(QuestionAsked(question="How high is the weir?"))
    admitting = asyncio.create_task(gate.gate.admit([asked]))
    await verdicts.refused.wait()
    assert not admitting.done()
    await admitting
    assert verdicts.kept == 1
    assert [sent.topic for sent in gate.sent] == [QUESTION_PLANNED, JOB_PROGRESSED]


@pytest.mark.parametrize("length", [1, ON_LOOP], ids=["short", "long"])
async def test_an_answer_is_judged_by_the_policy_of_its_collection(
    tmp_path: Path, length: int
) -> None:
    """It says itself where it comes from: nothing that could be lost has to be looked up."""
    (tmp_path / "strict.yaml").write_text(STRICT)
    gate = Gate(Verdicts(), tmp_path)
    text = "It will rain. " * length
    for collection in ("default", "strict"):
        drafted = AnswerDrafted(
            question="Will it rain?", collection=collection, ask=1, round=0, sentence=0,
            final=True, text=text, abstained=True,
        )  # fmt: skip
        await gate.gate.release([record(drafted)])
    assert [(sent.topic, sent.body.collection) for sent in gate.sent] == [
        (ANSWER_RELEASED, "default"),
        (ANSWER_WITHHELD, "strict"),
    ]


async def test_an_answer_of_an_older_release_gets_no_weaker_policy(tmp_path: Path) -> None:
    """While old and new run side by side: that of the collection its question was asked of."""
    (tmp_path / "strict.yaml").write_text(STRICT)
    gate = Gate(Verdicts(), tmp_path)
    drafted = AnswerDrafted(
        question="Will it rain?", ask=1, round=0, sentence=0, final=True, text="It will rain.",
        abstained=True,
    )  # fmt: skip
    await gate.gate.release([record(drafted)])
    (withheld,) = gate.sent
    assert (withheld.topic, withheld.body.collection) == (ANSWER_WITHHELD, "strict")
