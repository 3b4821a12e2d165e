"""Which version a record gets: what keeps an old document from coming back over a newer one."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.common.events import DocumentSubmitted, Position
from penstock.ingest.takein import (
    Decision,
    DocumentState,
    Incoming,
    Outcome,
    Submission,
    decide,
    fingerprint,
)


def at(offset: int, *, partition: int = 0, time: int | None = None) -> Position:
    when = offset if time is None else time
    return Position(cluster="c", partition=partition, offset=offset, at=when)


def document(offset: int, content: str = "a", *, submission: str | None = None) -> Incoming:
    return Incoming(submission or f"s{offset}", at(offset), content, generation=1)


def delete(offset: int, *, submission: str | None = None) -> Incoming:
    return Incoming(submission or f"s{offset}", at(offset), None)


FIRST = Submission(1, "a", generation=1)
INDEXED = replace(FIRST, confirmed=True)
TAKEN = DocumentState(1, at(10), FIRST)
SEARCHABLE = DocumentState(1, at(10), INDEXED)
DELETED = DocumentState(2, at(20), Submission(2, None))


@pytest.mark.parametrize(
    ("state", "known", "incoming", "expected"),
    [
        pytest.param(DocumentState(), None, document(1), Decision(Outcome.NEW, 1), id="first"),
        pytest.param(DocumentState(), None, delete(1), Decision(Outcome.NEW, 1), id="delete-first"),
        pytest.param(TAKEN, None, document(11, "b"), Decision(Outcome.NEW, 2), id="changed"),
        pytest.param(TAKEN, None, document(11), Decision(Outcome.NEW, 2), id="equal-not-indexed"),
        pytest.param(SEARCHABLE, None, document(11), Decision(Outcome.UNCHANGED, 1), id="equal"),
        pytest.param(SEARCHABLE, None, delete(11), Decision(Outcome.NEW, 2), id="delete"),
        pytest.param(DELETED, None, document(21), Decision(Outcome.NEW, 3), id="same-after-delete"),
        pytest.param(DELETED, None, delete(21), Decision(Outcome.NEW, 3), id="deleted-twice"),
        pytest.param(TAKEN, None, document(9, "b"), Decision(Outcome.SUPERSEDED), id="late"),
        pytest.param(SEARCHABLE, None, document(9), Decision(Outcome.SUPERSEDED), id="late-equal"),
        pytest.param(DELETED, None, delete(9), Decision(Outcome.SUPERSEDED), id="late-delete"),
        pytest.param(
            SEARCHABLE, None, replace(document(11), generation=2), Decision(Outcome.NEW, 2),
            id="equal-in-a-new-generation",
        ),
        pytest.param(
            SEARCHABLE, None, replace(document(11), by_reference=True), Decision(Outcome.NEW, 2),
            id="a-uri-may-have-changed-behind-its-name",
        ),
        pytest.param(TAKEN, FIRST, document(10), Decision(Outcome.AGAIN, 1), id="redelivered"),
        pytest.param(
            SEARCHABLE, INDEXED, document(10), Decision(Outcome.AGAIN, 1), id="replayed",
        ),
        pytest.param(
            DELETED, FIRST, document(10), Decision(Outcome.SUPERSEDED, 1), id="redriven-too-late"
        ),
        pytest.param(
            DocumentState(3, at(30), Submission(3, "c")), Submission(2, None), delete(20),
            Decision(Outcome.AGAIN, 2), id="an-overtaken-delete-announces-itself-again",
        ),
        pytest.param(
            SEARCHABLE, replace(FIRST, unchanged=True), document(11),
            Decision(Outcome.UNCHANGED, 1), id="unchanged-redelivered",
        ),
        pytest.param(
            TAKEN, FIRST, document(10, "b"), Decision(Outcome.REUSED, 1), id="id-reused"
        ),
        pytest.param(TAKEN, FIRST, delete(10), Decision(Outcome.REUSED, 1), id="id-reused-to-delete"),
        pytest.param(
            TAKEN, FIRST, replace(document(10), generation=2), Decision(Outcome.AGAIN, 1),
            id="redelivered-after-the-collection-moved-on",
        ),
    ],
)  # fmt: skip
def test_a_record_gets_the_version_its_place_in_the_log_gives_it(
    state: DocumentState, known: Submission | None, incoming: Incoming, expected: Decision
) -> None:
    assert decide(state, known, incoming) == expected


@dataclass
class Book:
    """The state that the database keeps, kept in memory by the same rules."""

    state: DocumentState = field(default_factory=DocumentState)
    known: dict[str, Submission] = field(default_factory=dict)
    announced: list[tuple[int, str | None]] = field(default_factory=list)

    def take_in(self, incoming: Incoming) -> Decision:
        known = self.known.get(incoming.submission)
        decision = decide(self.state, known, incoming)
        if decision.version is not None and known is None:
            unchanged = decision.outcome is Outcome.UNCHANGED
            taken = Submission(
                decision.version, incoming.fingerprint, incoming.generation, unchanged=unchanged
            )
            self.known[incoming.submission] = taken
            last = self.state.last if unchanged else taken
            self.state = DocumentState(decision.version, incoming.position, last)
        if decision.outcome in (Outcome.NEW, Outcome.AGAIN):
            assert decision.version is not None
            self.announced.append((decision.version, incoming.fingerprint))
        return decision

    def index(self) -> None:
        if self.state.last is not None and self.state.last.fingerprint is not None:
            self.state = replace(self.state, last=replace(self.state.last, confirmed=True))


LOG = st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(log=LOG, data=st.data())
def test_whatever_the_order_and_however_often_the_end_of_the_log_wins(
    log: list[str | None], data: st.DataObject
) -> None:
    """Two orders of the same records end with the same content; numbers are never given twice."""
    records = [Incoming(f"s{n}", at(n), content, 1) for n, content in enumerate(log)]
    arrivals = data.draw(st.lists(st.sampled_from(records), max_size=12)) + data.draw(
        st.permutations(records)
    )
    book = Book()
    for incoming in arrivals:
        first = book.take_in(incoming)
        if data.draw(st.booleans()):
            book.index()
        again = book.take_in(incoming)
        assert again.version == first.version
    assert book.state.last is not None
    assert book.state.last.fingerprint == log[-1]
    given_to = [(s.version, i) for i, s in book.known.items() if not s.unchanged]
    versions = sorted(version for version, _ in given_to)
    assert versions == list(range(1, len(versions) + 1))
    by_version = [records[int(i[1:])].position.offset for _, i in sorted(given_to)]
    assert by_version == sorted(by_version), "numbers follow positions"


def test_a_removal_ahead_of_the_backlog_keeps_the_backlog_out() -> None:
    book = Book()
    book.take_in(document(1))
    removal = delete(500, submission="null-record")
    assert book.take_in(removal) == Decision(Outcome.NEW, 2)
    assert all(
        book.take_in(document(n, f"v{n}")).outcome is Outcome.SUPERSEDED for n in range(2, 500)
    )
    assert book.take_in(removal) == Decision(Outcome.AGAIN, 2)
    assert book.take_in(document(501)) == Decision(Outcome.NEW, 3)


def test_across_partitions_the_append_time_decides() -> None:
    book = Book()
    book.take_in(Incoming("s1", at(100, partition=0, time=50), "a"))
    late = Incoming("s2", at(7, partition=1, time=40), "b")
    newer = Incoming("s3", at(8, partition=1, time=60), "c")
    assert book.take_in(late) == Decision(Outcome.SUPERSEDED)
    assert book.take_in(newer) == Decision(Outcome.NEW, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"title": "other"},
        {"metadata": {"year": 2}},
        {"access": ("b",)},
        {"access": None},
        {"collection": "other"},
        {"filename": "a.csv"},
    ],
)
def test_a_change_beside_the_text_is_a_change(change: dict[str, object]) -> None:
    body = DocumentSubmitted(text="x", title="t", metadata={"year": 1}, access=("a",))
    assert fingerprint(body, "sha") != fingerprint(body.model_copy(update=change), "sha")


def test_the_order_of_metadata_and_groups_is_no_change() -> None:
    one = DocumentSubmitted(text="x", metadata={"a": 1, "b": 2}, access=("a", "b"))
    two = DocumentSubmitted(text="x", metadata={"b": 2, "a": 1}, access=("b", "a"))
    assert fingerprint(one, "sha") == fingerprint(two, "sha")
    assert fingerprint(one, "sha") != fingerprint(one, "other bytes")
