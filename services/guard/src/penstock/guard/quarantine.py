"""Quarantine per document and version: what becomes of a batch. Pure decisions.

From the first finding that quarantines, a version's later batches are held. What has passed
before stays passed, and a batch that comes again meets the fate it had.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from penstock.common.events import ChunkBatch, GuardAction


class State(StrEnum):
    """Of a quarantined version."""

    READING = "reading"
    """Not every batch has been screened yet."""
    WAITING = "waiting"
    """For a person."""
    RELEASED = "released"
    REJECTED = "rejected"


class Fate(StrEnum):
    """Of a batch."""

    PASS = "pass"  # noqa: S105  (no password)
    HOLD = "hold"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"


DocumentKey = tuple[str, str]
"""Tenant and document."""
VersionKey = tuple[str, str, int]
BatchKey = tuple[str, str, int, int, str, int]
"""Tenant, document, version, generation, cut, k."""


@dataclass(slots=True)
class Known:
    """What the database says about the documents of some batches, read under their locks."""

    retired: dict[DocumentKey, int] = field(default_factory=dict)
    states: dict[VersionKey, State] = field(default_factory=dict)
    actors: dict[VersionKey, str] = field(default_factory=dict)
    """Who decided about a version."""
    held: dict[BatchKey, bool] = field(default_factory=dict)
    """Batches screened before, and whether they were held."""


def batch_key(tenant: str, batch: ChunkBatch) -> BatchKey:
    return (tenant, batch.document, batch.version, batch.generation, batch.cut, batch.k)


def fate(key: BatchKey, action: GuardAction, known: Known) -> Fate:
    """What becomes of a batch, given everything known before it."""
    tenant, document, version, *_ = key
    if version <= known.retired.get((tenant, document), 0):
        return Fate.SUPERSEDED
    match known.states.get((tenant, document, version)):
        case State.RELEASED:
            return Fate.PASS
        case State.REJECTED:
            return Fate.REJECTED
        case None if action is not GuardAction.QUARANTINE:
            return Fate.PASS
        case _:
            return Fate.PASS if known.held.get(key) is False else Fate.HOLD


def complete(screened: Mapping[tuple[int, str], int], generation: int, cut: str, n: int) -> bool:
    """Whether every batch of a cut has its verdict; `screened` counts them by (generation, cut)."""
    return screened.get((generation, cut), 0) >= n


class Decision(StrEnum):
    RELEASE = "release"
    REJECT = "reject"
