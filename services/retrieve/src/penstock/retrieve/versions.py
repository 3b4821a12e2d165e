"""What becomes of a batch, by its version: docs/architecture.md, rules 1 and 4. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

from penstock.common.envelope import Publication, Record, follow
from penstock.common.events import DocumentEmbedded, DocumentIndexed, ProgressState, Stage
from penstock.common.progress import progressed
from penstock.common.topics import DOCUMENT_INDEXED


class DocumentKey(NamedTuple):
    """Sorts in the order in which documents are locked."""

    tenant: str
    document: str


class Target(NamedTuple):
    """A document's place in one generation."""

    tenant: str
    document: str
    generation: int

    @property
    def key(self) -> DocumentKey:
        return DocumentKey(self.tenant, self.document)


class CutKey(NamedTuple):
    """One chunking of one version. Batches of different cuts never mix."""

    target: Target
    version: int
    cut: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a document is in one generation. Version 0: never."""

    indexed: int = 0
    chunks: int = 0
    at: datetime | None = None
    removed: int = 0


class Fate(Enum):
    ACCEPTED = "accepted"
    REPEATED = "repeated"
    """It is what is searchable: nothing to write, the outcome is announced again."""
    SUPERSEDED = "superseded"


def fate(version: int, standing: Standing) -> Fate:
    """Compared with what was indexed or removed, never with what merely waits in staging."""
    if version <= standing.removed or version < standing.indexed:
        return Fate.SUPERSEDED
    return Fate.REPEATED if version == standing.indexed else Fate.ACCEPTED


def target_of(record: Record[DocumentEmbedded]) -> Target:
    return Target(record.envelope.tenant, record.value.document, record.value.generation)


def cut_of(record: Record[DocumentEmbedded]) -> CutKey:
    return CutKey(target_of(record), record.value.version, record.value.cut)


def newest(complete: Iterable[CutKey]) -> dict[Target, CutKey]:
    """Of each document's complete cuts the one of the highest version; of equals, the first."""
    best: dict[Target, CutKey] = {}
    for key in complete:
        held = best.get(key.target)
        if held is None or key.version > held.version:
            best[key.target] = key
    return best


def announcements(
    records: Iterable[Record[DocumentEmbedded]], standings: Mapping[Target, Standing]
) -> list[Publication[Any]]:
    """
    What follows from batches, given how their documents stand after the transaction.

    Each batch reports progress; a version that is searchable now is announced, once a call,
    whether this call made it so or an earlier one whose announcement may have been lost.
    """
    publications: list[Publication[Any]] = []
    searchable: dict[CutKey, Publication[DocumentIndexed]] = {}
    for record in records:
        batch, standing = record.value, standings[target_of(record)]
        outcome = fate(batch.version, standing)
        state = ProgressState.DONE
        if outcome is Fate.SUPERSEDED:
            state = ProgressState.SUPERSEDED
        elif outcome is Fate.REPEATED:
            searchable[cut_of(record)] = indexed(record, standing)
        publications.append(progressed(record, Stage.INDEX, state, k=batch.k, n=batch.n))
    return [*publications, *searchable.values()]


def indexed(record: Record[DocumentEmbedded], standing: Standing) -> Publication[DocumentIndexed]:
    batch = record.value
    assert standing.at is not None
    return follow(
        record,
        DOCUMENT_INDEXED,
        DocumentIndexed(
            document=batch.document,
            collection=batch.collection,
            submission=batch.submission,
            position=batch.position,
            version=batch.version,
            at=standing.at,
            generation=batch.generation,
            chunks=standing.chunks,
        ),
    )
