"""CloudEvents 1.0 in Kafka's binary mode: headers around a JSON body.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
A record without headers is accepted: what is missing is filled in from where it lies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import uuid4

from aiokafka import ConsumerRecord
from pydantic import ValidationError

from penstock.common.batches import UNREADABLE
from penstock.common.events import Event, Position
from penstock.common.failures import PermanentError
from penstock.common.telemetry import current_traceparent, traceparent_of
from penstock.common.topics import RETRY, Topic

Body = TypeVar("Body", bound=Event)

MOST_ID_BYTES = 512
"""Longest id of an event or a job, and longest name of a tenant, in UTF-8."""

MOST_SUBJECT_BYTES = 1536
"""Longest document or question id: with the others it fits one key of a Postgres index."""

_MOST_ATTEMPTS = 1_000_000
_MOST_WHOLE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Envelope:
    """What travels with an event; tenant, job, deadline and trace are handed on to what follows."""

    id: str
    tenant: str
    job: str
    subject: str = ""
    source: str = ""
    time: datetime | None = None
    deadline: datetime | None = None
    attempt: int = 1
    traceparent: str | None = None

    def next(self, *, id: str | None = None, subject: str | None = None) -> "Envelope":  # noqa: A002
        """The envelope of an event that follows from this one."""
        return replace(
            self,
            id=id or uuid4().hex,
            subject=self.subject if subject is None else subject,
            time=None,
            traceparent=current_traceparent() or self.traceparent,
        )

    def expired(self, now: datetime) -> bool:
        return self.deadline is not None and now >= self.deadline


@dataclass(frozen=True, slots=True)
class Record(Generic[Body]):
    """One record as a handler sees it. `body` is None for a null value (a delete)."""

    topic: str
    partition: int
    offset: int
    position: Position
    """Of this record; after a redrive, of the original."""
    key: str
    envelope: Envelope
    body: Body | None

    @property
    def value(self) -> Body:
        """The body of a record that cannot be a delete."""
        if self.body is None:
            raise PermanentError(f"{self.topic} does not accept a null value")
        return self.body


@dataclass(frozen=True, slots=True)
class Publication(Generic[Body]):
    """An event to publish: topic, key, envelope and body (None: a tombstone)."""

    topic: Topic[Body]
    key: str
    envelope: Envelope
    body: Body | None


def document_key(tenant: str, document: str) -> str:
    return f"{tenant}/{document}"


def split_key(key: str) -> tuple[str | None, str]:
    """`tenant/document` at the first slash; no slash: no tenant."""
    tenant, slash, name = key.partition("/")
    return (tenant, name) if slash else (None, key)


def headers(publication: Publication[Body], source: str) -> list[tuple[str, bytes]]:
    """The CloudEvents headers of an event about to be sent."""
    env = publication.envelope
    fields = {
        "ce_specversion": "1.0",
        "ce_id": env.id,
        "ce_type": publication.topic.name,
        "ce_source": source,
        "ce_time": (env.time or datetime.now(UTC)).isoformat(),
        "ce_subject": env.subject,
        "ce_tenant": env.tenant,
        "ce_job": env.job,
        "content-type": "application/json",
    }
    if env.deadline is not None:
        fields["ce_deadline"] = env.deadline.isoformat()
    if env.attempt != 1:
        fields["ce_attempt"] = str(env.attempt)
    if env.traceparent:
        fields["traceparent"] = env.traceparent
    return [(name, value.encode()) for name, value in fields.items() if value]


def follow(
    record: "Record[Any]", topic: Topic[Body], body: Body | None, *, key: str | None = None
) -> Publication[Body]:
    """The next event of the same tenant, job, deadline and trace; same key unless another is given."""
    return Publication(topic, key or record.key, record.envelope.next(), body)


def read(
    raw: ConsumerRecord, topic: Topic[Body], *, cluster: str, default_tenant: str
) -> Record[Body]:
    """Read a raw record; `PermanentError` says what is wrong with one that cannot be read."""
    texts = {_utf8(name): _decode(value or b"", f"header {name}") for name, value in raw.headers}
    if UNREADABLE in texts:
        raise PermanentError(texts[UNREADABLE], type="unreadable")
    key = _decode(raw.key or b"", "the key")
    names = _names(texts, key, raw, cluster, default_tenant)
    for what, name, most in names.bounded():
        if not _usable(name, most):
            raise PermanentError(
                f"{what} has NUL characters or more than {most} bytes: {name[:100]!r}"
            )
    envelope = Envelope(
        id=names.id,
        tenant=names.tenant,
        job=names.job,
        subject=names.subject,
        source=texts.get("ce_source", ""),
        time=_time(texts, "ce_time"),
        deadline=_time(texts, "ce_deadline"),
        attempt=_whole(texts.get("ce_attempt", "1"), "ce_attempt", _MOST_ATTEMPTS),
        traceparent=traceparent_of(texts.get("traceparent")),
    )
    return Record(
        topic=topic.name,
        partition=raw.partition,
        offset=raw.offset,
        position=position_of(texts, raw, cluster),
        key=key or document_key(envelope.tenant, envelope.subject),
        envelope=envelope,
        body=_body(raw.value, topic),
    )


def read_leniently(raw: ConsumerRecord, *, cluster: str, default_tenant: str) -> Envelope:
    """Whose record this is, as far as it can be told of one that cannot be read.

    A name that nobody could keep gives way to the place where the record lies.
    """
    texts = {name: (value or b"").decode(errors="replace") for name, value in raw.headers}
    key = (raw.key or b"").decode(errors="replace")
    place = _place(raw, cluster)
    _id, tenant, job, subject = (
        name if _usable(name, most) else place
        for _, name, most in _names(texts, key, raw, cluster, default_tenant).bounded()
    )
    try:
        attempt = _whole(texts.get("ce_attempt", "1"), "ce_attempt", _MOST_ATTEMPTS)
    except PermanentError:
        attempt = 1
    return Envelope(
        id=_id, tenant=tenant, job=job, subject=subject, attempt=attempt,
        traceparent=traceparent_of(texts.get("traceparent")),
    )  # fmt: skip


def position_of(texts: Mapping[str, str], raw: ConsumerRecord, cluster: str) -> Position:
    """Where the record lies, or, in a retry topic, where the original lies.

    Elsewhere nobody may say so: a publisher could put itself before or after everything.
    """
    if raw.topic.endswith(RETRY) and "dlq-offset" in texts:
        return Position(
            cluster=texts.get("dlq-cluster", cluster),
            partition=_whole(texts.get("dlq-partition", ""), "dlq-partition", 2**31 - 1),
            offset=_whole(texts["dlq-offset"], "dlq-offset"),
            at=_whole(texts.get("dlq-timestamp", "0"), "dlq-timestamp"),
        )
    return Position(cluster=cluster, partition=raw.partition, offset=raw.offset, at=raw.timestamp)


@dataclass(frozen=True, slots=True)
class _Names:
    id: str
    tenant: str
    job: str
    subject: str

    def bounded(self) -> tuple[tuple[str, str, int], ...]:
        """Each with what it is called in a sentence, and the most bytes it may have."""
        return (
            ("the id (ce_id)", self.id, MOST_ID_BYTES),
            ("the tenant", self.tenant, MOST_ID_BYTES),
            ("the job (ce_job)", self.job, MOST_ID_BYTES),
            ("the document or question id", self.subject, MOST_SUBJECT_BYTES),
        )


def _usable(name: str, most: int) -> bool:
    return "\0" not in name and len(name.encode()) <= most


def _place(raw: ConsumerRecord, cluster: str) -> str:
    return f"{cluster}/{raw.topic}/{raw.partition}/{raw.offset}"


def _names(
    texts: Mapping[str, str], key: str, raw: ConsumerRecord, cluster: str, default_tenant: str
) -> _Names:
    event_id = texts.get("ce_id") or _place(raw, cluster)
    tenant, subject = split_key(key) if key else (None, event_id)
    return _Names(
        id=event_id,
        tenant=texts.get("ce_tenant") or tenant or default_tenant,
        job=texts.get("ce_job") or event_id,
        subject=texts.get("ce_subject") or subject,
    )


def _body(value: bytes | None, topic: Topic[Body]) -> Body | None:
    if value is None:
        if topic.tombstones:
            return None
        raise PermanentError(f"{topic.name} does not accept a null value")
    try:
        return topic.body.model_validate_json(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the value"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise PermanentError(f"{topic.name}: {where}: {first['msg']}{more}") from error


def _utf8(name: str) -> str:
    """Odd bytes in a header's name come as surrogates, see `batches`."""
    odd = name.encode(errors="surrogateescape")
    _decode(odd, f"the name of a header, {odd!r},")
    return name


def _decode(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise PermanentError(f"{what} is not UTF-8: {error.reason}") from error


def _time(texts: Mapping[str, str], name: str) -> datetime | None:
    text = texts.get(name)
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise PermanentError(f"header {name} is not an ISO 8601 time: {text[:100]!r}") from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _whole(text: str, name: str, most: int = _MOST_WHOLE) -> int:
    """What is larger, no store keeps; -1 is Kafka's word for a time that it does not know."""
    digits = text.removeprefix("-")
    if not (
        digits.isascii() and digits.isdecimal() and len(digits) <= 19 and -1 <= int(text) <= most
    ):
        raise PermanentError(f"header {name} is not a whole number up to {most}: {text[:100]!r}")
    return int(text)
