"""Dead letters: the raw record, with headers that say what happened and where it lay."""

import time

import structlog
from aiokafka import ConsumerRecord
from aiokafka.structs import RecordMetadata
from pydantic import BaseModel, Field, ValidationError

from penstock.common.envelope import Envelope, Publication, position_of, read_leniently
from penstock.common.events import (
    DeadLetter,
    DocumentEvent,
    Event,
    Failure,
    JobProgressed,
    Position,
    ProgressState,
    Stage,
)
from penstock.common.failures import PermanentError
from penstock.common.kafka import Publisher
from penstock.common.topics import JOB_PROGRESSED, Topic

log = structlog.get_logger()

PREFIX = "dlq-"
"""Of every header that dead-lettering adds; all of them stay on a redriven record."""

OMITTED = "dlq-omitted"
"""Header of a letter whose record was too large to be sent again: it lies where it lay."""

_LONGEST_MESSAGE = 2000
"""Characters; a message may quote what a sender wrote."""


class DeadLetters:
    """Puts records into `<topic>.<group>.dlq` and says so on the job."""

    def __init__(self, group: str, cluster: str, default_tenant: str, publisher: Publisher) -> None:
        self._group = group
        self._cluster = cluster
        self._default_tenant = default_tenant
        self._publisher = publisher

    async def put(
        self,
        topic: Topic[Event],
        stage: Stage | None,
        raw: ConsumerRecord,
        error: Exception,
        attempts: int,
    ) -> None:
        """
        Raises:
            TransientError: the brokers are away; call again.
        """
        envelope = read_leniently(raw, cluster=self._cluster, default_tenant=self._default_tenant)
        reason = error.type if isinstance(error, PermanentError) else "unclassified"
        message = str(error) if isinstance(error, PermanentError) else repr(error)
        message = message[:_LONGEST_MESSAGE]
        headers = letter_headers(
            raw, topic.name, self._group, self._cluster, envelope, reason, message, attempts
        )
        name = topic.dead_letters(self._group)
        metadata = await self._send(name, raw, headers, envelope)
        log.error(
            "dead_lettered", topic=topic.name, dlq=name, offset=metadata.offset, reason=reason,
            error=message, tenant=envelope.tenant, job=envelope.job, subject=envelope.subject,
        )  # fmt: skip
        if stage is None:
            return
        part = part_of(topic, raw.value)
        await self._publisher.publish(
            Publication(
                JOB_PROGRESSED,
                envelope.job,
                envelope.next(),
                JobProgressed(
                    document=envelope.subject if topic.key.endswith("/document") else None,
                    stage=stage,
                    state=ProgressState.DEAD_LETTERED,
                    version=part.version,
                    k=part.k,
                    n=part.n,
                    attempt=envelope.attempt,
                    error=Failure(type=reason, message=message),
                    dead_letter=DeadLetter(
                        topic=name, partition=metadata.partition, offset=metadata.offset
                    ),
                ),
            )
        )

    async def _send(
        self, name: str, raw: ConsumerRecord, headers: list[tuple[str, bytes]], envelope: Envelope
    ) -> RecordMetadata:
        """The record as it is or, where it was compressed and is larger than we may send, without."""
        key = b"" if raw.key is None and raw.value is None else raw.key  # no client sends nothing
        try:
            return await self._publisher.send(name, key, raw.value, headers)
        except PermanentError:
            size = len(raw.value or b"")
            happened = [(name, value) for name, value in headers if name.startswith(PREFIX)]
            identity = {**_identity(envelope), "ce_subject": envelope.subject}
            named = [(name, value.encode()) for name, value in identity.items()]
            omitted = [*named, *happened, (OMITTED, str(size).encode())]
            return await self._publisher.send(name, None, b"", omitted)


def letter_headers(
    raw: ConsumerRecord,
    topic: str,
    group: str,
    cluster: str,
    envelope: Envelope,
    reason: str,
    message: str,
    attempts: int,
) -> list[tuple[str, bytes]]:
    """The record's own headers, who it belongs to where they did not say, and what happened."""
    own = [(_sendable(name), value) for name, value in raw.headers if not name.startswith(PREFIX)]
    texts = {name: (value or b"").decode(errors="replace") for name, value in raw.headers}
    try:
        position = position_of(texts, raw, cluster)
    except PermanentError:
        position = Position(
            cluster=cluster, partition=raw.partition, offset=raw.offset, at=raw.timestamp
        )
    identity = _identity(envelope)
    happened = {
        "reason": reason,
        "exception": message[:_LONGEST_MESSAGE],
        "topic": topic,
        "group": group,
        "cluster": position.cluster,
        "partition": str(position.partition),
        "offset": str(position.offset),
        "timestamp": str(position.at),
        "attempts": str(attempts),
        "first-seen": texts.get("dlq-first-seen", str(int(time.time() * 1000))),
    }
    return (
        own
        + [(name, value.encode()) for name, value in identity.items() if name not in texts]
        + [(PREFIX + name, value.encode(errors="replace")) for name, value in happened.items()]
    )


def _sendable(name: str) -> str:
    """No client of Python sends a header whose name is no text: its odd bytes are written out."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _identity(envelope: Envelope) -> dict[str, str]:
    return {"ce_id": envelope.id, "ce_tenant": envelope.tenant, "ce_job": envelope.job}


class Part(BaseModel):
    """Which batch of which version a record is, as far as its value can be read at all."""

    version: int | None = Field(default=None, ge=1, lt=2**31)
    k: int = Field(default=0, ge=0, lt=2**31)
    n: int = Field(default=1, ge=1, lt=2**31)


def part_of(topic: Topic[Event], value: bytes | None) -> Part:
    """Asked only of what comes behind take-in: what a publisher says of versions is not so."""
    if not issubclass(topic.body, DocumentEvent):
        return Part()
    try:
        return Part.model_validate_json(value or b"{}")
    except ValidationError:
        return Part()
