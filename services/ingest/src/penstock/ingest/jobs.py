"""What goes to a parse worker and what comes back."""

from dataclasses import dataclass

from penstock.common.events import Chunk
from penstock.common.failures import PermanentError, TransientError
from penstock.ingest.failures import Unreadable


@dataclass(frozen=True, slots=True)
class Job:
    """A document to be read and cut for its collection."""

    data: bytes
    filename: str | None
    model: str
    """Whose tokens are counted, and whose vectors the batches leave room for."""
    chunk_tokens: int
    max_chunks: int


@dataclass(frozen=True, slots=True)
class Started:
    """The worker has all that it needs and begins to read: from here on its time counts."""


@dataclass(frozen=True, slots=True)
class Chunked:
    """A document's chunks in batches that fit an event."""

    title: str | None
    converter: str
    cut: str
    batches: tuple[tuple[Chunk, ...], ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is none; `trace` when it was nothing that the parsers foresaw."""

    error: Unreadable | PermanentError | TransientError
    trace: str | None = None
