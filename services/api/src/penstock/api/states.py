"""The one place that decides what state a job is in.

A job has parts: its documents, or its question. What is reported about a part (outcomes, dead
letters, redrives) is gathered in any order and any number of times; the job's state follows from
what is gathered, and `move` says which steps are allowed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from penstock.common.events import Failure


class JobState(StrEnum):
    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Outcome(StrEnum):
    """How a part ended, weakest first; of two reported, the stronger holds."""

    FAILED = "failed"
    REFUSED = "refused"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantined"
    UNCHANGED = "unchanged"
    SEARCHABLE = "searchable"
    ANSWERED = "answered"
    REMOVED = "removed"

    @property
    def good(self) -> bool:
        return self not in (
            Outcome.FAILED,
            Outcome.REFUSED,
            Outcome.REJECTED,
            Outcome.SUPERSEDED,
        )

    @property
    def rank(self) -> int:
        return list(Outcome).index(self)


class Cause(StrEnum):
    """Why a job's state is looked at again."""

    REPORT = "report"
    REDRIVE = "redrive"
    CANCEL = "cancel"
    EXPIRE = "expire"


@dataclass(frozen=True, slots=True)
class Ended:
    """A part's outcome, and the attempt that reported it."""

    outcome: Outcome
    attempt: int = 1
    error: Failure | None = None

    @property
    def strength(self) -> tuple[bool, int, int]:
        return (self.outcome.good, self.attempt, self.outcome.rank)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter of a part. `stage` is None while only its redrive is known."""

    topic: str
    partition: int
    offset: int
    attempt: int
    stage: str | None = None
    k: int = 0
    redriven: bool = False
    error: Failure | None = None

    @property
    def place(self) -> tuple[str, int, int]:
        return (self.topic, self.partition, self.offset)

    @property
    def of(self) -> tuple[str, int]:
        """What was to be done: a record dead-lettered twice, by a crash, is one thing to do."""
        return (self.topic, self.k)

    def merged(self, other: "Letter") -> "Letter":
        """Both reports of one dead letter together."""
        known, more = (self, other) if self.stage is not None else (other, self)
        return replace(
            known,
            attempt=max(self.attempt, other.attempt),
            redriven=self.redriven or other.redriven,
            error=known.error or more.error,
        )

    def as_failure(self) -> Failure:
        why = f": {self.error.message}" if self.error else ""
        return Failure(
            type="dead_lettered",
            message=f"stage {self.stage or 'unknown'} could not handle it{why}; it lies at "
            f"{self.topic}/{self.partition}/{self.offset}",
        )


@dataclass(frozen=True, slots=True)
class Part:
    """What is known of one document of a job, or of its question."""

    document: str
    ordinal: int = 0
    reported: Ended | None = None
    letters: tuple[Letter, ...] = ()

    def with_outcome(self, ended: Ended) -> "Part":
        if self.reported is not None and self.reported.strength >= ended.strength:
            return self
        return replace(self, reported=ended)

    def with_letter(self, letter: Letter) -> "Part":
        by_place = {known.place: known for known in self.letters}
        known = by_place.get(letter.place)
        by_place[letter.place] = known.merged(letter) if known else letter
        return replace(self, letters=tuple(by_place[place] for place in sorted(by_place)))

    @property
    def attempt(self) -> int:
        """1, and one more for every time that it was driven again."""
        return max([1, *(letter.attempt + 1 for letter in self.letters if letter.redriven)])

    @property
    def ended(self) -> Ended | None:
        """The outcome that holds: a failure of an attempt before the latest redrive does not."""
        if self.reported is None:
            return None
        if self.reported.outcome.good or self.reported.attempt >= self.attempt:
            return self.reported
        return None

    @property
    def failure(self) -> Failure | None:
        """Why it ended badly, when it did."""
        if self.ended is None or self.ended.outcome.good:
            return None
        outcome = self.ended.outcome
        return self.ended.error or Failure(type=outcome.value, message=f"it was {outcome.value}")

    @property
    def blocking(self) -> Letter | None:
        """The first open dead letter: not redriven, and not of an attempt that was overtaken."""
        if self.ended is not None and self.ended.outcome.good:
            return None
        taken_up: dict[tuple[str, int], int] = {}
        for letter in self.letters:
            if letter.redriven:
                taken_up[letter.of] = max(taken_up.get(letter.of, 0), letter.attempt + 1)
        for letter in self.letters:
            if not letter.redriven and letter.attempt >= taken_up.get(letter.of, 0):
                return letter
        return None


@dataclass(frozen=True, slots=True)
class Summary:
    """All parts of a job together; `expected` is None where nobody announced how many."""

    expected: int | None
    seen: int = 0
    ended: int = 0
    attempt: int = 1
    first_failure: Failure | None = None
    first_blocked: Failure | None = None


def summarise(expected: int | None, parts: Iterable[Part]) -> Summary:
    """The summary of a whole job; a store may compute the same in SQL."""
    ordered = sorted(parts, key=lambda part: (part.ordinal, part.document))
    failures = [part.failure for part in ordered if part.failure]
    blocked = [part.blocking for part in ordered if part.blocking]
    return Summary(
        expected=expected,
        seen=len(ordered),
        ended=sum(part.ended is not None for part in ordered),
        attempt=max([1, *(part.attempt for part in ordered)]),
        first_failure=failures[0] if failures else None,
        first_blocked=blocked[0].as_failure() if blocked else None,
    )


@dataclass(frozen=True, slots=True)
class Status:
    """A job's state, its attempt, and why it failed."""

    state: JobState = JobState.ACCEPTED
    attempt: int = 1
    error: Failure | None = None


EXPIRED = Failure(type="expired", message="it was not finished by its deadline")


class NotAllowedError(Exception):
    """A step that no job may take; the message says why."""


def derive(summary: Summary) -> Status:
    """The state that follows from the parts alone."""
    if summary.first_blocked is not None:
        return Status(JobState.FAILED, summary.attempt, summary.first_blocked)
    everyone = summary.seen if summary.expected is None else summary.expected
    if everyone == 0 or summary.ended < everyone:
        return Status(JobState.RUNNING, summary.attempt)
    if summary.first_failure is not None:
        return Status(JobState.FAILED, summary.attempt, summary.first_failure)
    return Status(JobState.SUCCEEDED, summary.attempt)


def move(current: Status, summary: Summary, cause: Cause = Cause.REPORT) -> Status:
    """
    The next status. Final states stay, but for a redrive, which takes a failed job up again.

    Raises:
        NotAllowedError: a redrive of a cancelled job.
    """
    if cause is Cause.CANCEL:
        return current if current.state.final else replace(current, state=JobState.CANCELLED)
    if cause is Cause.EXPIRE:
        expired = replace(current, state=JobState.FAILED, error=EXPIRED)
        return current if current.state.final else expired
    derived = derive(summary)
    if cause is Cause.REDRIVE:
        if current.state is JobState.CANCELLED:
            raise NotAllowedError("the job was cancelled; submit it again instead")
        return current if current.state is JobState.SUCCEEDED else derived
    if not current.state.final or _same_kind_of_failure(current, derived):
        return derived
    return current


def _same_kind_of_failure(current: Status, derived: Status) -> bool:
    """A job that failed by a dead letter may name another one that was reported meanwhile."""
    return (
        current.state is JobState.FAILED
        and derived.state is JobState.FAILED
        and current.error is not None
        and derived.error is not None
        and current.error.type == derived.error.type == "dead_lettered"
    )
