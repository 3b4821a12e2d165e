"""A document's state: the same events in any order, the same state."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.documents import Document, view
from penstock.common import events as e

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def common(version: int) -> dict[str, Any]:
    position = e.Position(cluster="c", partition=0, offset=version, at=version)
    return {
        "document": "d", "collection": "default", "submission": str(version),
        "position": position, "version": version,
    }  # fmt: skip


def taken_in(version: int) -> tuple[str, int]:
    return ("taken_in", version)


def happens(document: Document, what: tuple[str, int]) -> Document:
    kind, version = what
    body = common(version)
    if kind == "indexed":
        return document.indexed(e.DocumentIndexed(**body, at=NOW, generation=1, chunks=version))
    if kind == "removed":
        return document.removed(e.DocumentRemoved(**body, at=NOW, elapsed_ms=1))
    if kind == "failed":
        error = e.Failure(type="encrypted", message=str(version))
        return document.at(version, "failed", position=body["position"], error=error)
    state = "pending" if kind == "taken_in" else kind
    return document.at(version, state, position=body["position"])


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int]]:
    """What happens to the versions of a document: each is taken in and comes to one end."""
    ends = draw(
        st.lists(st.sampled_from(["indexed", "removed", "failed", "quarantined"]), max_size=4)
    )
    return [
        what
        for version, end in enumerate(ends, start=1)
        for what in (taken_in(version), (end, version), (end, version))
    ]


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_any_order_of_events_gives_the_same_state(data: st.DataObject) -> None:
    """Topics overtake each other; the document's state does not depend on it."""
    history = data.draw(histories())
    states = []
    for _ in range(2):
        document = Document("t", "d")
        for what in data.draw(st.permutations(history)):
            document = happens(document, what)
        states.append(document)
    assert states[0] == states[1]


def test_a_failed_new_version_leaves_the_old_one_searchable() -> None:
    """A retry that fails does not take away what worked."""
    document = happens(happens(Document("t", "d"), ("indexed", 1)), ("failed", 2))
    shown = view(document, {})
    assert shown["state"] == "searchable"
    assert shown["searchable_version"] == 1
    assert shown["latest"] == {
        "version": 2, "state": "failed", "error": {"type": "encrypted", "message": "2"},
    }  # fmt: skip
    assert shown["source"] == {"topic": "document.submitted.v1", "partition": 0, "offset": 1}


def test_a_deleted_version_is_gone_even_when_its_index_event_comes_late() -> None:
    """Never an answer that cites it."""
    document = happens(happens(Document("t", "d"), ("removed", 2)), ("indexed", 1))
    assert document.gone(1)
    assert document.gone(2)
    assert not document.gone(3)
    assert view(document, {})["state"] == "removed"
    assert view(happens(document, ("indexed", 3)), {})["state"] == "searchable"


def test_a_dead_letter_is_shown_and_a_redrive_clears_it() -> None:
    """Never stuck as pending without a word."""
    error = e.Failure(type="dead_lettered", message="stage embed …")
    stopped = happens(Document("t", "d"), taken_in(1)).stopped(None, error)
    assert view(stopped, {})["latest"]["error"]["type"] == "dead_lettered"
    assert stopped.resumed().latest_state == "pending"
    assert happens(stopped, ("indexed", 1)).latest_state == "searchable"
    failed = happens(Document("t", "d"), ("failed", 1))
    assert failed.resumed() == failed


def test_the_source_is_that_of_the_cited_version() -> None:
    """A citation points at the record that it was taken from, or says that it is not known."""
    document = happens(happens(Document("t", "d"), ("indexed", 1)), taken_in(2))
    assert document.source(1) == {"topic": "document.submitted.v1", "partition": 0, "offset": 1}
    assert document.source(2) == {"topic": "document.submitted.v1", "partition": 0, "offset": 2}
    assert document.source(9) is None
