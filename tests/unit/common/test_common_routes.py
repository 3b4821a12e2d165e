"""Records of one document are worked on in order; others do not wait for them."""

from collections.abc import Sequence
from typing import Any

from aiokafka import ConsumerRecord

from penstock.common import topics
from penstock.common.envelope import Publication
from penstock.common.routes import Route


async def nothing(_: Sequence[Any]) -> list[Publication[Any]]:
    return []


def raw(offset: int, key: bytes | None) -> ConsumerRecord:
    return ConsumerRecord(
        topic="t", partition=0, offset=offset, timestamp=0, timestamp_type=0, key=key, value=b"",
        checksum=None, serialized_key_size=0, serialized_value_size=0, headers=(),
    )  # fmt: skip


def route(**more: Any) -> Route:
    fields: dict[str, Any] = {"batch": 1, "concurrency": 8, "in_key_order": True}
    return Route(
        topics.DOCUMENT_SUBMITTED, nothing, stage=None, cancellable=True, **(fields | more)
    )


def drain(route: Route) -> list[int]:
    offsets = []
    while batch := route.next_batch():
        offsets += [record.offset for record in batch]
    return offsets


def test_a_second_record_of_a_key_waits_for_the_first() -> None:
    ordered = route()
    first, second, other = raw(1, b"a"), raw(2, b"a"), raw(3, b"b")
    for record in (first, second, other):
        ordered.take(record)
    assert drain(ordered) == [1, 3]
    ordered.release(other)
    assert drain(ordered) == []
    ordered.release(first)
    assert drain(ordered) == [2]
    ordered.release(second)
    assert (ordered.held, ordered.behind) == (0, {})


def test_records_without_a_key_wait_for_nobody() -> None:
    ordered = route()
    for offset in range(3):
        ordered.take(raw(offset, None))
    assert drain(ordered) == [0, 1, 2]


def test_no_more_calls_than_allowed() -> None:
    narrow = route(concurrency=1, batch=2, in_key_order=False)
    for offset in range(3):
        narrow.take(raw(offset, b"a"))
    batch = narrow.next_batch()
    narrow.active += 1
    assert [r.offset for r in batch] == [0, 1]
    assert narrow.next_batch() == []
