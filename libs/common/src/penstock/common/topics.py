"""The topics: who owns, writes and reads each, how it is keyed, partitioned and kept.

`deploy/topics.yaml` is generated from this table (`make contracts`), so an operator can read it
without the code and the two cannot disagree.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from penstock.common import events as e

Body = TypeVar("Body", bound=e.Event)

DAY_MS = 24 * 3600 * 1000

RETRY = ".retry"
"""How the name of every topic of redriven records ends."""


@dataclass(frozen=True, slots=True)
class Topic(Generic[Body]):
    """A topic and the body its records carry."""

    name: str
    body: type[Body]
    owner: str
    producers: tuple[str, ...]
    groups: tuple[str, ...]
    """Consumer groups, each with its own `.dlq` and `.retry`."""
    key: str
    partitions: int = 8
    retention_ms: int = 7 * DAY_MS
    compacted: bool = False
    tombstones: bool = False
    """A null value has a meaning here (delete)."""
    readers: tuple[str, ...] = ()
    """Who reads it whole, without a group: every instance sees every record."""

    def dead_letters(self, group: str) -> str:
        return f"{self.name}.{group}.dlq"

    def retries(self, group: str) -> str:
        return f"{self.name}.{group}{RETRY}"


_DOCUMENT = "tenant/document"
_QUESTION = "tenant/question"

SIDE_BY_SIDE = 4
"""Partitions of a question's topics, so processes of a stage at most. Every one is named in each
fetch, and costs broker and consumer some 10 us in all of the few fetches that a question waits for."""

DOCUMENT_SUBMITTED = Topic(
    "document.submitted.v1", e.DocumentSubmitted, "api", ("api", "anyone"), ("ingest",), _DOCUMENT,
    retention_ms=30 * DAY_MS, tombstones=True,
)  # fmt: skip
REMOVAL_REQUESTED = Topic(
    "removal.requested.v1", e.RemovalRequested, "api", ("api",), ("ingest",), _DOCUMENT
)
DOCUMENT_RESUBMITTED = Topic(
    "document.resubmitted.v1", e.DocumentResubmitted, "ingest", ("ingest",), ("ingest",), _DOCUMENT
)
DOCUMENT_CHUNKED = Topic(
    "document.chunked.v1", e.DocumentChunked, "ingest", ("ingest",), ("guard-documents",), _DOCUMENT
)
DOCUMENT_CLEARED = Topic(
    "document.cleared.v1", e.DocumentCleared, "guard", ("guard-documents",), ("embed",), _DOCUMENT
)
DOCUMENT_EMBEDDED = Topic(
    "document.embedded.v1", e.DocumentEmbedded, "embed", ("embed",), ("indexer",), _DOCUMENT
)
DOCUMENT_RETIRED = Topic(
    "document.retired.v1", e.DocumentRetired, "ingest", ("ingest",),
    ("guard-documents", "indexer"), _DOCUMENT,
)  # fmt: skip
DOCUMENT_INDEXED = Topic(
    "document.indexed.v1", e.DocumentIndexed, "retrieve", ("indexer",),
    ("ingest", "answerer", "api"), _DOCUMENT,
)  # fmt: skip
DOCUMENT_REMOVED = Topic(
    "document.removed.v1", e.DocumentRemoved, "retrieve", ("indexer",),
    ("ingest", "answerer", "api"), _DOCUMENT,
)  # fmt: skip
DOCUMENT_FAILED = Topic(
    "document.failed.v1", e.DocumentFailed, "ingest", ("ingest",), ("api",), _DOCUMENT,
)  # fmt: skip
DOCUMENT_QUARANTINED = Topic(
    "document.quarantined.v1", e.DocumentQuarantined, "guard", ("guard-documents",), ("api",),
    _DOCUMENT,
)  # fmt: skip
DOCUMENT_REJECTED = Topic(
    "document.rejected.v1", e.DocumentRejected, "guard", ("guard-documents",),
    ("indexer", "api"), _DOCUMENT,
)  # fmt: skip
DOCUMENT_PURGED = Topic(
    "document.purged.v1", e.DocumentPurged, "api",
    ("ingest", "guard-documents", "indexer", "answerer"), ("api",), _DOCUMENT,
)  # fmt: skip

QUESTION_ASKED = Topic(
    "question.asked.v1", e.QuestionAsked, "api", ("api", "anyone"), ("guard-dialogue",),
    _QUESTION, partitions=SIDE_BY_SIDE,
)  # fmt: skip
QUESTION_ADMITTED = Topic(
    "question.admitted.v1", e.QuestionAdmitted, "guard", ("guard-dialogue",), ("answerer",),
    _QUESTION, partitions=SIDE_BY_SIDE,
)  # fmt: skip
QUESTION_REFUSED = Topic(
    "question.refused.v1", e.QuestionRefused, "guard", ("guard-dialogue",), ("api",),
    _QUESTION, partitions=SIDE_BY_SIDE,
)  # fmt: skip
QUESTION_PLANNED = Topic(
    "question.planned.v1", e.QuestionPlanned, "generate", ("answerer", "guard-dialogue"), ("searcher",),
    _QUESTION, partitions=SIDE_BY_SIDE,
)  # fmt: skip
PASSAGE_RETRIEVED = Topic(
    "passage.retrieved.v1", e.PassageRetrieved, "retrieve", ("searcher",), ("answerer",),
    _QUESTION, partitions=SIDE_BY_SIDE,
)  # fmt: skip
ANSWER_DRAFTED = Topic(
    "answer.drafted.v1", e.AnswerDrafted, "generate", ("answerer",), ("guard-dialogue",),
    _QUESTION, partitions=SIDE_BY_SIDE,
)  # fmt: skip
ANSWER_RELEASED = Topic(
    "answer.released.v1", e.AnswerReleased, "guard", ("guard-dialogue",), ("api",),
    _QUESTION, partitions=SIDE_BY_SIDE,
)  # fmt: skip
ANSWER_WITHHELD = Topic(
    "answer.withheld.v1", e.AnswerWithheld, "guard", ("guard-dialogue",), ("api",),
    _QUESTION, partitions=SIDE_BY_SIDE,
)  # fmt: skip

USAGE_RECORDED = Topic(
    "usage.recorded.v1", e.UsageRecorded, "generate", ("answerer",), (), "tenant",
    retention_ms=90 * DAY_MS,
)  # fmt: skip
JOB_PROGRESSED = Topic(
    "job.progressed.v1", e.JobProgressed, "api",
    ("ingest", "guard-documents", "guard-dialogue", "embed", "indexer", "searcher", "answerer"),
    ("api",), "job",
)  # fmt: skip
_EVERY_PROCESS = (
    "api", "ingest", "guard-documents", "guard-dialogue", "embed", "indexer", "searcher",
    "answerer",
)  # fmt: skip
"""Of the two tables: a stage keeps both, whether or not it asks them."""

JOB_CANCELLED = Topic(
    "job.cancelled.v1", e.JobCancelled, "api", ("api",), (), "tenant/job", partitions=1,
    retention_ms=DAY_MS, readers=_EVERY_PROCESS,
)  # fmt: skip
COLLECTION_CONFIGURED = Topic(
    "collection.configured.v1", e.CollectionConfigured, "api", ("api",), (), "tenant/collection",
    partitions=1, compacted=True, readers=_EVERY_PROCESS,
)  # fmt: skip

TOPICS: tuple[Topic[e.Event], ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Topic)
)
BY_NAME = {topic.name: topic for topic in TOPICS}
