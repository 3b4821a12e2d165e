"""What bodies are made of, and how large they may be."""

import base64
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

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
