"""Any Kafka client can publish: what headers do not say is filled in, what is wrong is named."""

import dataclasses
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from penstock.common import topics
from penstock.common.deadletters import letter_headers
from penstock.common.envelope import follow, headers, read, read_leniently
from penstock.common.events import DocumentSubmitted, Position
from penstock.common.failures import PermanentError


def record(value: bytes | None, **more: Any) -> ConsumerRecord:
    fields: dict[str, Any] = {
        "topic": "document.submitted.v1",
        "partition": 3,
        "offset": 42,
        "timestamp": 1_700_000_000_000,
        "timestamp_type": 1,
        "key": None,
        "value": value,
        "checksum": None,
        "serialized_key_size": 0,
        "serialized_value_size": 0,
        "headers": (),
    }
    return ConsumerRecord(**(fields | more))


def read_submission(raw: ConsumerRecord) -> Any:
    return read(raw, topics.DOCUMENT_SUBMITTED, cluster="c1", default_tenant="default")


def test_a_bare_record_gets_an_identity_from_where_it_lies() -> None:
    got = read_submission(record(b'{"text": "hello"}'))
    assert got.envelope.id == "c1/document.submitted.v1/3/42"
    assert got.envelope.job == got.envelope.id
    assert got.envelope.tenant == "default"
    assert got.envelope.subject == got.envelope.id
    assert got.value == DocumentSubmitted(text="hello")


def test_the_key_names_tenant_and_document_split_at_the_first_slash() -> None:
    got = read_submission(record(b'{"text": "x"}', key=b"acme/handbook/2024.md"))
    assert (got.envelope.tenant, got.envelope.subject) == ("acme", "handbook/2024.md")


def test_headers_win_over_what_would_be_filled_in() -> None:
    sent = (("ce_id", b"s1"), ("ce_tenant", b"acme"), ("ce_job", b"j1"), ("ce_attempt", b"2"))
    got = read_submission(record(b'{"text": "x"}', headers=sent))
    assert (got.envelope.id, got.envelope.tenant, got.envelope.job) == ("s1", "acme", "j1")
    assert got.envelope.attempt == 2


def test_a_null_value_is_a_delete_where_the_topic_says_so_and_an_error_elsewhere() -> None:
    assert read_submission(record(None, key=b"acme/a")).body is None
    with pytest.raises(PermanentError, match="does not accept a null value"):
        read(record(None), topics.DOCUMENT_CHUNKED, cluster="c", default_tenant="default")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (record(b"{no json"), "the value"),
        (record(b'{"metadata": 3}'), "metadata"),
        (record(b"{}", headers=(("ce_id", b"\xff\xfe"),)), "header ce_id is not UTF-8"),
        (record(b"{}", headers=(("ce_deadline", b"soon"),)), "ce_deadline is not an ISO 8601"),
        (record(b"{}", headers=(("ce_attempt", b"two"),)), "ce_attempt is not a whole number"),
        (record(b"{}", headers=(("ce_attempt", b"9" * 5000),)), "ce_attempt is not a whole"),
        (record(b"{}", headers=(("ce_id", b"a\0b"),)), "the id .ce_id. has NUL characters"),
        (record(b"{}", headers=(("ce_job", b"j" * 513),)), "the job .ce_job. has NUL"),
        (record(b"{}", headers=(("ce_tenant", b"t" * 300_000),)), "the tenant has NUL"),
        (record(b"{}", key=b"acme/" + b"d" * 1537), "question id has NUL .* than 1536 bytes"),
        (record(b"{}", key=b"\xff"), "the key is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_record_is_named(raw: ConsumerRecord, words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        read_submission(raw)


def test_an_event_that_follows_keeps_tenant_job_deadline_and_trace() -> None:
    sent = (
        ("ce_tenant", b"acme"),
        ("ce_job", b"j1"),
        ("ce_deadline", b"2030-01-01T00:00:00+00:00"),
        ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
    )
    first = read_submission(record(b'{"text": "x"}', headers=sent, key=b"acme/a"))
    after = follow(first, topics.DOCUMENT_SUBMITTED, first.body)
    again = read_submission(
        record(b'{"text": "x"}', headers=tuple(headers(after, "test")), key=after.key.encode())
    )
    kept = dataclasses.replace(again.envelope, id=first.envelope.id, source="", time=None)
    assert kept == first.envelope
    assert again.envelope.id != first.envelope.id


def test_a_dead_letter_read_again_has_its_first_position_and_identity() -> None:
    raw = record(b"{broken", key=b"acme/a", headers=(("ce_id", b"s1"),))
    envelope = read_leniently(raw, cluster="c1", default_tenant="default")
    kept = letter_headers(raw, raw.topic, "ingest", "c1", envelope, "invalid", "it is broken", 1)
    redriven = record(
        b'{"text": "mended"}',
        topic="document.submitted.v1.ingest.retry",
        partition=0,
        offset=7,
        key=raw.key,
        headers=(*kept, ("ce_attempt", b"2")),
    )
    got = read_submission(redriven)
    assert got.position == Position(cluster="c1", partition=3, offset=42, at=1_700_000_000_000)
    assert (got.envelope.id, got.envelope.attempt) == ("s1", 2)


def test_a_record_nobody_can_read_still_tells_whose_it_is() -> None:
    raw = record(b"\xff", key=b"acme/a", headers=(("ce_time", b"\xff"), ("ce_job", b"j1")))
    envelope = read_leniently(raw, cluster="c1", default_tenant="default")
    assert (envelope.tenant, envelope.job, envelope.subject) == ("acme", "j1", "a")


@pytest.mark.parametrize("name", [b"a\0b", b"x" * 300_000])
def test_a_name_that_no_store_keeps_gives_way_so_that_the_dead_letter_can_be_told_of(
    name: bytes,
) -> None:
    sent = [(h, name) for h in ("ce_id", "ce_tenant", "ce_job", "ce_subject", "ce_attempt")]
    envelope = read_leniently(
        record(b"{}", headers=tuple(sent)), cluster="c1", default_tenant="default"
    )
    place = "c1/document.submitted.v1/3/42"
    assert (envelope.id, envelope.tenant, envelope.job, envelope.subject) == (place,) * 4
    assert envelope.attempt == 1


def test_nobody_claims_another_position_but_in_a_topic_of_redriven_records() -> None:
    claimed = (("dlq-partition", b"0"), ("dlq-offset", b"1"), ("dlq-timestamp", b"9" * 18))
    got = read_submission(record(b'{"text": "x"}', headers=claimed))
    assert got.position == Position(cluster="c1", partition=3, offset=42, at=1_700_000_000_000)
