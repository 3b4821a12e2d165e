"""Batches of records as other clients send them: nothing stops a consumer, nothing is lost beside it."""

import gzip
from typing import Any

import cramjam
import pytest
from aiokafka import TopicPartition
from aiokafka.codec import snappy_encode
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.common import batches, unpacking
from penstock.common.unpacking import MOST_UNPACKED, UnpackError, unpack

TEXT = b"The penstock brings the water. " * 3000


class Odd(str):
    """The name of a header as other clients send it: any bytes."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return super().encode("latin-1")


def a_batch(names: list[str], *, size: int = 1, codec: int = 0, base: int = 0) -> bytes:
    """One record for each name of a header, its value so many bytes."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2, compression_type=codec, is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=2**30,
    )  # fmt: skip
    for number, name in enumerate(names):
        headers: list[tuple[str, bytes | None]] = [(Odd(name), b"v")]
        assert builder.append(number, 0, b"k", bytes([number % 256]) * size, headers)
    return base.to_bytes(8) + bytes(builder.build())[8:]


def fetched(data: bytes, offset: int = 0) -> Any:
    """As a consumer has it after a fetch from there."""
    batches.install()
    records = fetcher.MemoryRecords(data)
    partition = TopicPartition("t", 0)
    return fetcher.PartitionRecords(partition, records, [], offset, None, None, True, 0)


@given(
    st.lists(st.sampled_from(["text", "\xff\xfe", "\xc3"]), max_size=8), st.sampled_from([0, 1, 4])
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_headers_are_called_every_record_arrives(names: list[str], codec: int) -> None:
    """In order, once each, with its value; the consumer goes on behind the last."""
    taken = fetched(
        a_batch(["first", *names], codec=codec) + a_batch(["next"], base=len(names) + 1)
    )
    records = list(taken)
    assert [r.offset for r in records] == list(range(len(names) + 2))
    assert [r.headers[0][0].encode(errors="surrogateescape") for r in records] == [
        name.encode("latin-1") for name in ("first", *names, "next")
    ]
    assert [r.value for r in records[:-1]] == [bytes([n]) for n in range(len(names) + 1)]
    assert taken.next_fetch_offset == len(names) + 2


def test_what_unpacks_to_much_is_handed_over_in_parts() -> None:
    """So that a fetch of small batches, each within its bound, is not in memory all at once."""
    size, many = 256 * 1024, 40
    sent = [a_batch(["n"] * many, size=size, codec=unpacking.ZSTD, base=n * many) for n in range(2)]
    assert len(b"".join(sent)) < 100_000
    offsets: list[int] = []
    while len(offsets) < len(sent) * many:
        at = len(offsets)
        records = list(fetched(b"".join(sent[at // many :]), at))
        offsets += [record.offset for record in records]
        assert sum(len(r.value) for r in records) <= batches.MOST_AT_ONCE + size
    assert offsets == list(range(len(sent) * many))


def test_a_damaged_batch_leaves_a_record_that_says_so() -> None:
    """The consumer goes on with the next one."""
    batch = bytearray(a_batch(["n"] * 3, size=1000, codec=unpacking.GZIP))
    batch[80] ^= 0xFF
    taken = fetched(bytes(batch) + a_batch(["next"], base=3))
    taken._check_crcs = False  # as if it had been damaged before it was sent
    said, following = list(taken)
    ((name, why),) = said.headers
    assert (said.offset, said.value, name) == (2, None, batches.UNREADABLE)
    assert b"offsets 0 to 2 of t" in why
    assert following.offset == 3


@pytest.mark.parametrize(
    ("codec", "packed"),
    [
        (unpacking.GZIP, gzip.compress(TEXT)),
        (unpacking.GZIP, gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:])),
        (unpacking.SNAPPY, snappy_encode(TEXT)),
        (unpacking.SNAPPY, snappy_encode(TEXT, xerial_compatible=False)),
        (unpacking.LZ4, bytes(cramjam.lz4.compress(TEXT))),
        (unpacking.ZSTD, bytes(cramjam.zstd.compress(TEXT))),
    ],
    ids=["gzip", "gzip in members", "snappy of Java", "snappy", "lz4", "zstd"],
)
def test_every_compression_of_kafka_is_unpacked(codec: int, packed: bytes) -> None:
    assert unpack(memoryview(packed), codec) == TEXT


@pytest.mark.parametrize("codec", [unpacking.GZIP, unpacking.LZ4, unpacking.ZSTD])
def test_the_bound_is_exact(codec: int) -> None:
    def packed(size: int) -> memoryview:
        data = bytes(size)
        if codec == unpacking.GZIP:
            return memoryview(gzip.compress(data, 1))
        return memoryview(
            bytes((cramjam.lz4 if codec == unpacking.LZ4 else cramjam.zstd).compress(data))
        )

    assert len(unpack(packed(MOST_UNPACKED), codec)) == MOST_UNPACKED
    with pytest.raises(UnpackError, match="more than 32 MiB"):
        unpack(packed(MOST_UNPACKED + 1), codec)


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        (unpacking.GZIP, b"no compression at all"),
        (unpacking.GZIP, gzip.compress(TEXT)[:-9]),
        (unpacking.SNAPPY, b"\xff\xff\xff\xff\x0f four gigabytes, it says"),
        (unpacking.SNAPPY, snappy_encode(TEXT)[:-9]),
        (unpacking.LZ4, b"no compression at all"),
        (unpacking.ZSTD, b"no compression at all"),
        (7, b"of another time"),
    ],
)
def test_what_cannot_be_unpacked_is_refused(codec: int, data: bytes) -> None:
    with pytest.raises(UnpackError):
        unpack(memoryview(data), codec)
