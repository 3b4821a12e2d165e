"""The state machine: whatever the order in which things are reported, a job ends the same way."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.states import (
    Cause,
    Ended,
    JobState,
    Letter,
    NotAllowedError,
    Outcome,
    Part,
    Status,
    Summary,
    derive,
    move,
    summarise,
)
from penstock.common.events import Failure

WHY = Failure(type="invalid", message="no")


@dataclass(frozen=True)
class Happening:
    """Something that reaches the ledger; `after`: what must have happened before it."""

    name: str
    document: str
    ended: Ended | None = None
    letter: Letter | None = None
    cause: Cause = Cause.REPORT
    after: tuple[str, ...] = ()


@dataclass
class Ledger:
    """As the database does it, in memory."""

    expected: int | None
    status: Status = field(default_factory=Status)
    parts: dict[str, Part] = field(default_factory=dict)

    def take(self, happening: Happening) -> None:
        part = self.parts.get(happening.document) or Part(happening.document)
        if happening.ended:
            part = part.with_outcome(happening.ended)
        if happening.letter:
            part = part.with_letter(happening.letter)
        self.parts[happening.document] = part
        summary = summarise(self.expected, self.parts.values())
        self.status = move(self.status, summary, happening.cause)


@st.composite
def a_document(draw: st.DrawFn, document: str) -> list[Happening]:
    """Dead-lettered and driven again so many times, with ghosts and repeats, then its outcome."""
    redrives = draw(st.integers(0, 3))
    happenings: list[Happening] = []
    driven: tuple[str, ...] = ()
    for attempt in range(1, redrives + 1):
        letter = Letter("t.dlq", 0, 10 * attempt, attempt, "embed", 3, error=WHY)
        ghost = replace(letter, offset=10 * attempt + 1)
        name = f"{document}/{attempt}"
        happenings += [
            Happening(f"{name}/letter", document, letter=letter, after=driven),
            Happening(f"{name}/letter again", document, letter=letter, after=driven),
        ]
        if draw(st.booleans()):
            # The same record dead-lettered twice, by a crash before its offset was committed.
            happenings.append(Happening(f"{name}/ghost", document, letter=ghost, after=driven))
        again = Letter("t.dlq", 0, 10 * attempt, attempt, k=3, redriven=True)
        redrive = f"{name}/redrive"
        happenings.append(
            Happening(redrive, document, letter=again, cause=Cause.REDRIVE, after=driven)
        )
        driven = (redrive,)
    outcome = draw(st.sampled_from([Outcome.SEARCHABLE, Outcome.QUARANTINED, Outcome.FAILED]))
    error = None if outcome.good else Failure(type="encrypted", message=document)
    ended = Ended(outcome, redrives + 1, error)
    happenings += [
        Happening(f"{document}/ended", document, ended=ended, after=driven),
        Happening(f"{document}/ended again", document, ended=ended, after=driven),
    ]
    return happenings


@st.composite
def a_job(draw: st.DrawFn) -> list[Happening]:
    names = [f"d{n}" for n in range(draw(st.integers(1, 3)))]
    return [happening for name in names for happening in draw(a_document(name))]


def in_some_order(data: st.DataObject, happenings: Sequence[Happening]) -> list[Happening]:
    """Any order in which nothing comes before what caused it."""
    left = list(happenings)
    order: list[Happening] = []
    seen: set[str] = set()
    while left:
        ready = [h for h in left if set(h.after) <= seen]
        chosen = data.draw(st.sampled_from(ready))
        left.remove(chosen)
        order.append(chosen)
        seen.add(chosen.name)
    return order


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_every_interleaving_ends_in_the_same_state(data: st.DataObject) -> None:
    """Topics overtake each other, records come twice; the client still reads one truth."""
    happenings = data.draw(a_job())
    documents = {happening.document for happening in happenings}
    ends = []
    for _ in range(2):
        ledger = Ledger(expected=len(documents))
        for happening in in_some_order(data, happenings):
            ledger.take(happening)
        ends.append(ledger.status)
    assert ends[0] == ends[1]
    bad = any(h.ended and not h.ended.outcome.good for h in happenings)
    assert ends[0].state is (JobState.FAILED if bad else JobState.SUCCEEDED)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_final_stays_final_but_for_a_redrive(data: st.DataObject) -> None:
    """A client that has seen the end of a job is not contradicted later."""
    happenings = data.draw(a_job())
    ledger = Ledger(expected=len({h.document for h in happenings}))
    for happening in data.draw(st.permutations(happenings)):
        before = ledger.status.state
        ledger.take(happening)
        if before.final and happening.cause is not Cause.REDRIVE:
            assert ledger.status.state is before


def failing(letter: Letter) -> Status:
    return derive(summarise(1, [Part("d").with_letter(letter)]))


def test_a_dead_letter_names_its_stage_and_where_it_lies() -> None:
    """The operator knows at once where to look."""
    status = failing(Letter("document.cleared.v1.embed.dlq", 0, 7, 1, "embed", error=WHY))
    assert status.state is JobState.FAILED
    assert status.error == Failure(
        type="dead_lettered",
        message="stage embed could not handle it: no; it lies at document.cleared.v1.embed.dlq/0/7",
    )


def test_a_job_with_two_dead_letters_runs_again_when_both_are_driven_again() -> None:
    """Redriving one of two does not hide the other."""
    first = Letter("t", 0, 1, 1, "embed", k=0)
    second = Letter("t", 0, 2, 1, "embed", k=1)
    part = Part("d").with_letter(first).with_letter(second)
    assert derive(summarise(1, [part])).state is JobState.FAILED
    part = part.with_letter(replace(first, redriven=True))
    assert derive(summarise(1, [part])).state is JobState.FAILED
    part = part.with_letter(replace(second, redriven=True))
    assert derive(summarise(1, [part])) == Status(JobState.RUNNING, attempt=2)


def test_a_failure_of_a_lower_attempt_is_ignored() -> None:
    """A redriven document is judged by what its new attempt comes to."""
    part = Part("d").with_letter(Letter("t", 0, 1, 1, "ingest", redriven=True))
    late = part.with_outcome(Ended(Outcome.FAILED, attempt=1, error=WHY))
    assert derive(summarise(1, [late])).state is JobState.RUNNING
    assert derive(summarise(1, [part.with_outcome(Ended(Outcome.FAILED, 2, WHY))])).error == WHY


def test_the_first_failure_by_order_in_the_request_is_the_jobs() -> None:
    """Not the one that happened to be reported first."""
    parts = [
        Part("z", 0, Ended(Outcome.FAILED, error=Failure(type="a", message="first"))),
        Part("a", 1, Ended(Outcome.FAILED, error=Failure(type="b", message="second"))),
    ]
    status = derive(summarise(2, reversed(parts)))
    assert status.error is not None
    assert status.error.message == "first"


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_neither_cancel_nor_time_touches_what_has_ended(state: JobState) -> None:
    """A cancel that comes late changes nothing."""
    ended = Status(state)
    assert move(ended, Summary(1), Cause.CANCEL) == ended
    assert move(ended, Summary(1), Cause.EXPIRE) == ended


def test_time_and_cancel_end_what_runs() -> None:
    """Every job ends."""
    running = Status(JobState.RUNNING)
    assert move(running, Summary(1), Cause.CANCEL).state is JobState.CANCELLED
    expired = move(running, Summary(1), Cause.EXPIRE)
    assert expired.state is JobState.FAILED
    assert expired.error is not None
    assert expired.error.type == "expired"


def test_a_cancelled_job_is_not_driven_again() -> None:
    """Its records would be skipped; the operator is told."""
    with pytest.raises(NotAllowedError, match="cancelled"):
        move(Status(JobState.CANCELLED), Summary(1), Cause.REDRIVE)


def test_a_job_that_nobody_announced_ends_with_what_was_seen() -> None:
    """Published straight to Kafka: one document unless more is heard of."""
    part = Part("d", reported=Ended(Outcome.SEARCHABLE))
    assert derive(summarise(None, [part])).state is JobState.SUCCEEDED
    assert derive(summarise(None, [])).state is JobState.RUNNING
