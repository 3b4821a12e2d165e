"""Batches of records as they come from the brokers, so that none of them stops a consumer.

aiokafka 0.14 raises out of `getmany` for what it cannot decode: again at every poll and after every
restart, for ever. It takes no name of a header that is no UTF-8 (C and Go clients send any bytes),
and it unpacks a compressed batch whatever that unpacks to. Here

- a record whose headers have such a name is handed on, the name's odd bytes as surrogates, and
  `envelope.read` refuses it by name; its neighbours in the batch come as they are;
- a batch that cannot be unpacked, or that unpacks to too much, is handed on as one record which
  says so, and where it lies: a dead letter like any other;
- no partition hands over more than `MOST_AT_ONCE` in one go: many small batches may unpack to much.
"""

from collections.abc import Iterator
from typing import Any

import structlog
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import (
    DefaultRecordBase,
    DefaultRecordBatch,
    _DefaultRecordBatchPy,
    _DefaultRecordPy,
)
from aiokafka.record.memory_records import _MemoryRecordsPy

from penstock.common.unpacking import UnpackError, unpack

log = structlog.get_logger()

UNREADABLE = "penstock-unreadable"
"""Header of what is handed on in the place of records that cannot be read: why."""

MOST_AT_ONCE = 8 * 1024 * 1024
"""Bytes of keys, values and headers. An uncompressed fetch of a partition has 1 MiB."""

_HEADER = DefaultRecordBase.HEADER_STRUCT.size
_ATTRIBUTES = slice(DefaultRecordBase.ATTRIBUTES_OFFSET, DefaultRecordBase.ATTRIBUTES_OFFSET + 2)


class _AnyText(bytearray):
    """Bytes that can be decoded whatever they are; so can every slice of them."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return _AnyText(found) if isinstance(key, slice) else found

    def decode(self, *_: object) -> str:
        return bytes(self).decode(errors="surrogateescape")


class _Batch:
    """One batch; what it knows of itself is asked of aiokafka's."""

    def __init__(self, batch: Any, data: memoryview, topic: str, partition: int) -> None:
        self._batch = batch
        self._data = data
        self._place = {"topic": topic, "partition": partition}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # the one record of a control batch

    def __iter__(self) -> Iterator[Any]:
        try:
            plain = self._plain()
        except UnpackError as error:
            yield self._unreadable(f"a compressed batch of records was left out: {error}")
            return
        yield from self._records(plain)

    def _plain(self) -> memoryview | bytes:
        """Its bytes, not compressed."""
        codec = self._batch.compression_type
        if not codec:
            return self._data
        attributes = int.from_bytes(self._data[_ATTRIBUTES]) & ~DefaultRecordBase.CODEC_MASK
        head = bytearray(self._data[:_HEADER])
        head[_ATTRIBUTES] = attributes.to_bytes(2)
        return bytes(head) + unpack(self._data[_HEADER:], codec)

    def _records(self, plain: memoryview | bytes) -> Iterator[Any]:
        read = 0
        try:
            try:
                for record in DefaultRecordBatch(plain):
                    yield record
                    read += 1
            except UnicodeDecodeError:
                for number, record in enumerate(_lenient(plain)):
                    if number >= read:
                        yield record
        except (CorruptRecordException, ValueError, IndexError) as error:
            yield self._unreadable(f"the rest of a batch of records was left out: {error!r}")

    def _unreadable(self, why: str) -> Any:
        """In the place of its last record: the consumer goes on behind it."""
        first, last = self._batch.base_offset, self._batch.next_offset - 1
        reason = f"{why} (offsets {first} to {last} of {self._place['topic']})"
        log.error("batch_left_out", **self._place, first=first, last=last, error=why)
        headers = [(UNREADABLE, reason.encode())]
        return _DefaultRecordPy(last, self._batch.max_timestamp, 0, None, None, headers)


def _lenient(plain: memoryview | bytes) -> Iterator[Any]:
    """The records of a batch, names of headers included that are no UTF-8."""
    batch = _DefaultRecordBatchPy(plain)
    batch._buffer = _AnyText(batch._buffer)  # noqa: SLF001  (nothing else of it reads text)
    return iter(batch)


class _Batches:
    """The batches of one fetch, each with its bytes and its place."""

    def __init__(self, records: Any, topic: str, partition: int) -> None:
        self._records = records
        self._topic, self._partition = topic, partition
        self.compressed = False
        """Whether one was: what is not has the size that it was fetched with."""

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        data = self._records._next_slice  # noqa: SLF001  (a batch does not show its bytes)
        batch = self._records.next_batch()
        if batch is None or not isinstance(batch, DefaultRecordBatch):
            return batch  # the format of brokers before 0.11
        self.compressed = self.compressed or batch.compression_type != 0
        return _Batch(batch, data, self._topic, self._partition)


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """Ends when it has handed over enough: what lies behind is fetched again."""

    def __init__(self, tp: Any, records: Any, *more: Any) -> None:
        self._batches = _Batches(records, tp.topic, tp.partition)
        super().__init__(tp, self._batches, *more)
        self._handed_over = 0

    def __next__(self) -> Any:
        if self._handed_over >= MOST_AT_ONCE:
            raise StopIteration
        record = super().__next__()
        if self._batches.compressed:
            self._handed_over += _size(record)
        return record


def _size(record: Any) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return headers + len(record.key or b"") + len(record.value or b"")


def install() -> None:
    """For every consumer of this process; doing it again changes nothing."""
    fetcher.MemoryRecords = _MemoryRecordsPy  # the one that shows the bytes of each batch
    fetcher.PartitionRecords = _PartitionRecords
