"""Taking a submission in: which version it gets, if any. Pure; docs/architecture.md, rule 1.

The versions of a document are 1, 2, 3 … in the order of positions, deletes included. A number is
kept with the submission's id: a replay, a redelivery or a redrive gets the one it had.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from penstock.common.events import DocumentSubmitted, JsonObject, Position


class Outcome(StrEnum):
    NEW = "new"
    """Takes the next version: to be worked on (or, a delete, announced)."""
    AGAIN = "again"
    """Has its version already: worked on, or announced, again at that version."""
    UNCHANGED = "unchanged"
    """Equal to what is indexed: takes its version, nothing more happens."""
    SUPERSEDED = "superseded"
    """Overtaken: nothing happens."""
    REUSED = "reused"
    """The id belongs to other content: refused."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """What arrived."""

    submission: str
    position: Position
    fingerprint: str | None
    """Hash of all that the sender said; None for a delete."""
    generation: int = 0
    by_reference: bool = False
    """The bytes lie at a `uri` and may have changed behind it: never taken for unchanged."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What was taken in earlier under an id."""

    version: int
    fingerprint: str | None
    generation: int = 0
    confirmed: bool = False
    """`document.indexed` has been seen at its version and generation."""
    unchanged: bool = False
    """It took the version of an equal one."""


@dataclass(frozen=True, slots=True)
class DocumentState:
    """Highest number given, and where the last record taken in lies (None: none yet)."""

    version: int = 0
    position: Position | None = None
    last: Submission | None = None
    """The submission that the highest number was given to."""


@dataclass(frozen=True, slots=True)
class Decision:
    outcome: Outcome
    version: int | None = None
    """None: it has no number and never gets one."""


def decide(state: DocumentState, known: Submission | None, incoming: Incoming) -> Decision:
    """What becomes of a record, given its document and what its id is known for."""
    if known is not None:
        return _decide_known(state, known, incoming)
    if state.position is not None and incoming.position.precedes(state.position):
        return Decision(Outcome.SUPERSEDED)
    if state.last is not None and _is_unchanged(state.last, incoming):
        return Decision(Outcome.UNCHANGED, state.version)
    return Decision(Outcome.NEW, state.version + 1)


def _decide_known(state: DocumentState, known: Submission, incoming: Incoming) -> Decision:
    if known.fingerprint != incoming.fingerprint:
        return Decision(Outcome.REUSED, known.version)
    if known.unchanged:
        return Decision(Outcome.UNCHANGED, known.version)
    is_delete = incoming.fingerprint is None
    if known.version < state.version and not is_delete:
        return Decision(Outcome.SUPERSEDED, known.version)
    return Decision(Outcome.AGAIN, known.version)  # an overtaken delete still announces itself


def _is_unchanged(last: Submission, incoming: Incoming) -> bool:
    return (
        last.confirmed
        and incoming.fingerprint is not None
        and not incoming.by_reference
        and (last.fingerprint, last.generation) == (incoming.fingerprint, incoming.generation)
    )


def fingerprint(body: DocumentSubmitted, content: str) -> str:
    """Hash of all that a submission says; `content` names the bytes (a SHA-256 or the uri).

    The file name counts: it may decide how the bytes are read.
    """
    parts: JsonObject = {
        "content": content,
        "title": body.title,
        "filename": body.filename,
        "metadata": body.metadata,
        "access": sorted(body.access) if body.access is not None else None,
        "collection": body.collection,
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
