"""The bodies of every event: frozen models, one class per topic.

What is true of every event (id, type, time, tenant, job, deadline, trace) is not here but in the
headers, see `envelope`. A field may be added with a default; anything else is a new topic.
"""

import base64
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from penstock.common.metadata import Metadata

MAX_INLINE_TEXT_BYTES = 128 * 1024
"""Longest text a submission may carry itself, in UTF-8 bytes; longer ones go by blob."""

MAX_EVENT_BYTES = 256 * 1024
"""No event is larger than this, headers aside."""

MAX_BATCH_BYTES = 200 * 1024
"""Bound on a batch of chunks: text plus the vectors it will carry."""

MAX_BATCH_CHUNKS = 64

JsonObject = dict[str, Any]


def _bytes_from_base64(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return base64.b64decode(value, validate=True)
    raise ValueError("expected base64 text")


Base64Bytes = Annotated[
    bytes,
    PlainValidator(_bytes_from_base64, json_schema_input_type=str),
    PlainSerializer(lambda b: base64.b64encode(b).decode("ascii"), return_type=str),
]
"""Bytes that travel as base64 text in JSON and stay bytes in Python."""


class Event(BaseModel):
    """What every body and every value inside one shares: immutable, tolerant of new fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TextSpan(Event):
    """Half-open range of characters (Unicode code points) in a document's extracted text."""

    start: int = Field(ge=0)
    end: int = Field(ge=0)


class Position(Event):
    """Where a submission lies in the log; the order of a document's versions follows it.

    Within one partition the offset decides, across partitions (or clusters) the append time.
    """

    cluster: str
    partition: int
    offset: int
    at: int
    """Append time by the broker, milliseconds since the epoch."""

    def precedes(self, other: "Position") -> bool:
        if (self.cluster, self.partition) == (other.cluster, other.partition):
            return self.offset < other.offset
        return (self.at, self.partition, self.offset) < (other.at, other.partition, other.offset)


class ElementKind(StrEnum):
    TITLE = "title"
    PARAGRAPH = "paragraph"
    LIST = "list"
    TABLE = "table"
    CODE = "code"


class GuardAction(StrEnum):
    """What a finding does, mildest first."""

    ALLOW = "allow"
    ANNOTATE = "annotate"
    REDACT = "redact"
    QUARANTINE = "quarantine"
    REFUSE = "refuse"


class Finding(Event):
    """One thing a detector saw, and what the policy does about it."""

    detector: str
    version: str
    category: str
    score: float
    action: GuardAction
    span: TextSpan | None = None


class Verdict(Event):
    """What a gate decided about one text."""

    gate: Literal["document", "question", "answer"]
    policy: str
    action: GuardAction
    findings: tuple[Finding, ...] = ()


class Failure(Event):
    """Why something ended badly: `type` for programs, `message` for people."""

    type: str
    message: str


class Chunk(Event):
    """An indexed slice of a document. `text` equals the extracted text at `span`."""

    ordinal: int
    text: str
    kind: ElementKind
    span: TextSpan
    page: int | None = None
    heading_path: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


# ---------------------------------------------------------------- documents


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


# ---------------------------------------------------------------- questions


class Turn(Event):
    role: Literal["user", "assistant"]
    content: str


class QuestionEvent(Event):
    """What every event of a question carries; the question's id is the envelope's job."""

    question: str
    conversation: tuple[Turn, ...] = ()
    groups: tuple[str, ...] = ()
    filter: JsonObject = Field(default_factory=dict)
    collection: str = "default"
    top_k: int = Field(default=6, ge=1, le=50)
    strategy: str = "direct"
    ask: int = 1
    """Counts whole attempts: asked again when an answer cited what was removed meanwhile."""
    round: int = 0
    """Counts plans within one ask: evidence too thin, plan again, at most twice."""
    timings_ms: dict[str, float] = Field(default_factory=dict)


class QuestionAsked(QuestionEvent):
    """As submitted, by the API or straight to the topic."""


class QuestionAdmitted(QuestionEvent):
    verdict: Verdict | None = None


class QuestionRefused(QuestionEvent):
    verdict: Verdict
    reason: str


class QuestionPlanned(QuestionEvent):
    searches: tuple[str, ...]


class Passage(Event):
    """A chunk as retrieved evidence. Ranks count from 1; a leg that missed it has none."""

    chunk_id: str
    document_id: str
    version: int
    title: str | None = None
    text: str
    span: TextSpan
    page: int | None = None
    heading_path: tuple[str, ...] = ()
    metadata: JsonObject = Field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    score: float
    rank: int
    dense_rank: int | None = None
    lexical_rank: int | None = None
    dense_score: float | None = None
    """Cosine similarity to the query."""


class PassageRetrieved(QuestionEvent):
    passages: tuple[Passage, ...]


class Citation(Event):
    """What a marker in the answer points to; `quote` is the document's text at start..end."""

    marker: int
    document_id: str
    version: int
    chunk_id: str
    quote: str
    start: int
    end: int
    title: str | None = None


class Usage(Event):
    model: str
    input_tokens: int = 0
    output_tokens: int = 0


class AnswerEvent(Event):
    """One sentence of an answer, or (`final`) the whole of it.

    Sentences of one (ask, round) are numbered from 0; the final one carries the complete text,
    all citations, and the passages the answer was written from.
    """

    question: str
    ask: int
    round: int
    sentence: int
    final: bool
    text: str
    citations: tuple[Citation, ...] = ()
    passages: tuple[Passage, ...] = ()
    """A sentence carries the passages it cites, the final event all that were considered."""
    abstained: bool = False
    model: str = ""
    prompt: str | None = None
    usage: Usage | None = None
    verdicts: tuple[Verdict, ...] = ()
    timings_ms: dict[str, float] = Field(default_factory=dict)


class AnswerDrafted(AnswerEvent):
    """From the answerer, not yet seen by guard."""


class AnswerReleased(AnswerEvent):
    """Passed by guard."""


class AnswerWithheld(AnswerEvent):
    """Stopped by guard; `text` is the sentence a person gets instead."""


class UsageRecorded(Event):
    usage: Usage
    purpose: str
    at: datetime


# ---------------------------------------------------------------- jobs and settings


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
