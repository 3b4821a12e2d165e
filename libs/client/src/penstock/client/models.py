"""What the API returns, with the API's own names. Unknown fields are kept, so old clients go on."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Problem(Model):
    type: str
    message: str


class Progress(Model):
    done: int = 0
    total: int = 0


class Job(Model):
    id: str
    kind: str
    state: str
    attempt: int = 1
    progress: Progress = Progress()
    result: dict[str, Any] | None = None
    error: Problem | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")


class Source(Model):
    """Where the submission behind a document lies in the log."""

    topic: str
    partition: int
    offset: int


class Citation(Model):
    marker: int
    document_id: str
    version: int
    chunk_id: str
    quote: str
    start: int
    end: int
    title: str | None = None
    source: Source | None = None


class Passage(Model):
    chunk_id: str
    document_id: str
    version: int
    text: str
    score: float
    rank: int
    title: str | None = None
    dense_rank: int | None = None
    lexical_rank: int | None = None
    metadata: dict[str, Any] = {}
    findings: tuple[dict[str, Any], ...] = ()
    """What the guard saw in it."""


class Answer(Model):
    text: str
    abstained: bool
    citations: tuple[Citation, ...] = ()
    passages: tuple[dict[str, Any], ...] = ()
    model: str = ""
    timings_ms: dict[str, float] = {}


class SearchResult(Model):
    passages: tuple[Passage, ...]
    took_ms: float


class Document(Model):
    id: str
    state: str
    searchable_version: int | None = None
    latest: dict[str, Any] | None = None
    title: str | None = None
    chunks: int | None = None
    source: Source | None = None


class Event(Model):
    """One server-sent event of a job."""

    id: str | None
    event: str
    data: dict[str, Any]
