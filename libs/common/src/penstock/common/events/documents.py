"""The bodies of the document topics."""

from datetime import datetime

from pydantic import Field

from penstock.common.events.values import (
    Base64Bytes,
    Chunk,
    Event,
    Failure,
    Finding,
    JsonObject,
    Position,
)
from penstock.common.metadata import Metadata


class DocumentSubmitted(Event):
    """A document to take in. Exactly one of `text`, `uri` and `blob` is set."""

    text: str | None = None
    uri: str | None = None
    blob: str | None = None
    title: str | None = None
    filename: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    access: tuple[str, ...] | None = None
    """Groups that may read it; absent: everyone in the tenant."""
    collection: str = "default"


class RemovalRequested(Event):
    """A delete that must overtake the backlog: where its null record lies."""

    document: str
    submission: str
    position: Position


class DocumentEvent(Event):
    """What every document event after take-in carries."""

    document: str
    collection: str
    submission: str
    position: Position
    version: int = Field(ge=1)


class DocumentResubmitted(DocumentEvent):
    """A document to be worked through again at its original version (a rebuild)."""

    generation: int


class ChunkBatch(DocumentEvent):
    """Batch `k` of `n` (k from 0) of one version's chunks.

    `cut` is the hash of the document's whole list of chunks: batches of different cuts never mix.
    """

    generation: int
    cut: str
    k: int = Field(ge=0)
    n: int = Field(ge=1)
    title: str | None = None
    metadata: JsonObject = Field(default_factory=dict)
    access: tuple[str, ...] | None = None
    chunks: tuple[Chunk, ...]


class DocumentChunked(ChunkBatch):
    """Straight from ingest."""


class DocumentCleared(ChunkBatch):
    """Passed by guard, findings noted on the chunks, redactions applied."""


class DocumentEmbedded(ChunkBatch):
    """With vectors: little-endian float16, row-major, one row of `dim` per chunk."""

    model: str
    dim: int
    vectors: Base64Bytes


class DocumentRetired(DocumentEvent):
    """A delete taken in: nothing at or below `version` may be seen again."""

    at: datetime


class DocumentIndexed(DocumentEvent):
    at: datetime
    generation: int
    chunks: int


class DocumentRemoved(DocumentEvent):
    at: datetime
    elapsed_ms: int
    """From the append of the delete to unretrievable, milliseconds."""


class DocumentFailed(DocumentEvent):
    error: Failure


class DocumentQuarantined(DocumentEvent):
    findings: tuple[Finding, ...]
    n: int


class DocumentRejected(DocumentEvent):
    findings: tuple[Finding, ...] = ()
    actor: str


class DocumentPurged(DocumentEvent):
    """The owner of `store` keeps nothing of the document up to `version`."""

    store: str
    at: datetime
    note: str | None = None
