"""A document's state as the events tell it. Pure: the same events in any order, the same state."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from penstock.common import events as e
from penstock.common.topics import DOCUMENT_SUBMITTED

_RANK = {"pending": 0, "quarantined": 1, "failed": 2, "searchable": 3, "removed": 4}
"""Of two states reported of one version, the later on its way holds."""


@dataclass(frozen=True, slots=True)
class Document:
    """One row of table `document`; the field names are its columns."""

    tenant: str
    id: str
    collection: str = "default"
    latest_version: int | None = None
    latest_state: str = "pending"
    latest_error: dict[str, Any] | None = None
    searchable_version: int | None = None
    removed_version: int | None = None
    chunks: int | None = None
    position: dict[str, Any] | None = None
    searchable_position: dict[str, Any] | None = None
    searchable_at: datetime | None = None
    removed_at: datetime | None = None

    def at(
        self,
        version: int,
        state: str,
        *,
        collection: str | None = None,
        position: e.Position | None = None,
        error: e.Failure | None = None,
    ) -> "Document":
        """`version` has reached `state`."""
        latest = self.latest_version or 0
        if version < latest:
            return self
        same = version == latest
        if same and _RANK[state] < _RANK[self.latest_state]:
            return replace(self, position=self.position or _place(position))
        return replace(
            self,
            collection=collection or self.collection,
            latest_version=version,
            latest_state=state,
            latest_error=error.model_dump() if error else None,
            position=_place(position) or (self.position if same else None),
        )

    def indexed(self, body: e.DocumentIndexed) -> "Document":
        """Searchable, unless a newer version is, or a delete has gone over it."""
        known = max(self.searchable_version or 0, self.removed_version or 0)
        updated = self.at(
            body.version, "searchable", collection=body.collection, position=body.position
        )
        if body.version <= known:
            return updated
        return replace(
            updated,
            searchable_version=body.version,
            searchable_position=_place(body.position),
            searchable_at=_utc(body.at),
            chunks=body.chunks,
        )

    def removed(self, body: e.DocumentRemoved) -> "Document":
        """Nothing at or below this version may be seen again."""
        updated = self.at(
            body.version, "removed", collection=body.collection, position=body.position
        )
        if body.version > (updated.removed_version or 0):
            updated = replace(updated, removed_version=body.version, removed_at=_utc(body.at))
        if (updated.searchable_version or 0) > body.version:
            return updated
        return replace(
            updated,
            searchable_version=None,
            searchable_position=None,
            searchable_at=None,
            chunks=None,
        )

    def stopped(self, version: int | None, error: e.Failure) -> "Document":
        """A dead letter stops it until it is driven again."""
        if version is not None:
            return self.at(version, "failed", error=error)
        if self.latest_state != "pending":
            return self
        return replace(self, latest_state="failed", latest_error=error.model_dump())

    def resumed(self) -> "Document":
        """Its dead letter was driven again."""
        if (self.latest_error or {}).get("type") != "dead_lettered":
            return self
        return replace(self, latest_state="pending", latest_error=None)

    def gone(self, version: int) -> bool:
        """A delete has gone over this version."""
        return version <= (self.removed_version or 0)

    def source(self, version: int) -> dict[str, Any] | None:
        """Where a version lies in the log, as far as it is still known."""
        if version == self.searchable_version:
            return _source(self.searchable_position)
        return _source(self.position) if version == self.latest_version else None


def _place(position: e.Position | None) -> dict[str, Any] | None:
    return position.model_dump() if position else None


def _utc(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _source(position: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if position is None:
        return None
    return {
        "topic": DOCUMENT_SUBMITTED.name,
        "partition": position["partition"],
        "offset": position["offset"],
    }


def view(document: Document, times: Mapping[str, Any]) -> dict[str, Any]:
    """As `GET /v1/documents/{id}` shows it."""
    searchable = document.searchable_version is not None
    return {
        "id": document.id,
        "collection": document.collection,
        "state": "searchable" if searchable else document.latest_state,
        "searchable_version": document.searchable_version,
        "latest": {
            "version": document.latest_version,
            "state": document.latest_state,
            "error": document.latest_error,
        },
        "chunks": document.chunks,
        "source": _source(document.searchable_position or document.position),
        "searchable_at": document.searchable_at,
        "removed_at": document.removed_at,
        **times,
    }


def columns(document: Document) -> dict[str, Any]:
    return asdict(document)
