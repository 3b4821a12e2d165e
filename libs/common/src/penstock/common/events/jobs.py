"""The bodies of the topics about jobs and collections."""

from enum import StrEnum

from pydantic import Field

from penstock.common.events.values import Event, Failure, Position


class Stage(StrEnum):
    """Where on its way something is. Documents: ingest to index; questions: admit to release."""

    INGEST = "ingest"
    GUARD = "guard"
    EMBED = "embed"
    INDEX = "index"
    ADMIT = "admit"
    PLAN = "plan"
    SEARCH = "search"
    ANSWER = "answer"
    RELEASE = "release"


class ProgressState(StrEnum):
    TAKEN_IN = "taken_in"
    """Ingest has assigned the version."""
    DONE = "done"
    """This stage is done with batch k of n."""
    UNCHANGED = "unchanged"
    """Equal to what is searchable already: the job has succeeded."""
    SUPERSEDED = "superseded"
    """A newer version of the document has overtaken it."""
    DEAD_LETTERED = "dead_lettered"
    FAILED = "failed"


class DeadLetter(Event):
    """Where a record that could not be handled lies."""

    topic: str
    partition: int
    offset: int


class JobProgressed(Event):
    """One stage's word on one batch of a job's document, or on its question."""

    document: str | None = None
    version: int | None = None
    position: Position | None = None
    """Of the submission; the API shows where a document lies in the log."""
    stage: Stage
    state: ProgressState
    k: int = 0
    n: int = 1
    attempt: int = 1
    error: Failure | None = None
    dead_letter: DeadLetter | None = None


class JobCancelled(Event):
    """Every stage honours it before it starts work."""

    reason: str = ""


EMBEDDING_MODELS = ("bge-small-en-v1.5", "all-minilm-l6-v2")
"""What a collection may name: the models that `penstock.models` knows."""


class CollectionConfigured(Event):
    """A named set of documents: one embedding model, one way of chunking, one guard policy.

    A tenant is known to the system by having at least one.
    """

    name: str = "default"
    model: str = "bge-small-en-v1.5"
    generation: int = 1
    chunk_tokens: int = Field(default=220, ge=32, le=512)
    max_chunks: int = Field(default=20_000, ge=1)
    guard_policy: str = "default"
