"""Dead letters: the raw record, with headers that say what happened and where it lay."""

import time

import structlog
from aiokafka import ConsumerRecord

from penstock.common.envelope import Envelope, Publication, position_of, read_leniently, split_key
from penstock.common.events import (
    DeadLetter,
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
        headers = letter_headers(
            raw, topic.name, self._group, self._cluster, envelope, reason, message, attempts
        )
        name = topic.dead_letters(self._group)
        metadata = await self._publisher.send(name, raw.key, raw.value, headers)
        log.error(
            "dead_lettered", topic=topic.name, dlq=name, offset=metadata.offset,
            reason=reason, error=message, tenant=envelope.tenant, job=envelope.job,
        )  # fmt: skip
        if stage is None:
            return
        await self._publisher.publish(
            Publication(
                JOB_PROGRESSED,
                envelope.job,
                envelope.next(),
                JobProgressed(
                    document=_document(topic, raw, envelope),
                    stage=stage,
                    state=ProgressState.DEAD_LETTERED,
                    attempt=envelope.attempt,
                    error=Failure(type=reason, message=message),
                    dead_letter=DeadLetter(
                        topic=name, partition=metadata.partition, offset=metadata.offset
                    ),
                ),
            )
        )


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
    own = [(name, value) for name, value in raw.headers if not name.startswith(PREFIX)]
    texts = {name: (value or b"").decode(errors="replace") for name, value in raw.headers}
    try:
        position = position_of(texts, raw, cluster)
    except PermanentError:
        position = Position(
            cluster=cluster, partition=raw.partition, offset=raw.offset, at=raw.timestamp
        )
    identity = {"ce_id": envelope.id, "ce_tenant": envelope.tenant, "ce_job": envelope.job}
    happened = {
        "reason": reason,
        "exception": message[:2000],
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


def _document(topic: Topic[Event], raw: ConsumerRecord, envelope: Envelope) -> str | None:
    if not topic.key.endswith("/document"):
        return None
    if raw.key is None:
        return envelope.subject
    return split_key(raw.key.decode(errors="replace"))[1]
