"""What aiokafka cannot decode ends a batch, and not the consumer.

aiokafka 0.14 decodes the names of headers strictly, and raises out of `getmany` for one that is no
UTF-8 (C and Go clients send any bytes): again at every poll and after every restart, for ever. Its
records are told apart by the length of each, so what lies behind in the same batch is lost with it;
that is the same publisher's. The log says where it lies.
"""

from typing import Any

import structlog
from aiokafka.consumer import fetcher

log = structlog.get_logger()


class _Batch:
    """One batch that ends where it cannot be read."""

    def __init__(self, batch: Any, topic: str, partition: int) -> None:
        self._batch = batch
        self._place = {"topic": topic, "partition": partition}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> "_Batch":
        iter(self._batch)  # which is what unpacks a compressed one
        return self

    def __next__(self) -> Any:
        try:
            return next(self._batch)
        except UnicodeDecodeError as error:
            log.error(
                "batch_left_out", **self._place, base_offset=self._batch.base_offset,
                next_offset=self._batch.next_offset, error=f"the name of a header: {error}",
            )  # fmt: skip
            raise StopIteration from error


class _Batches:
    """The batches of one fetch, each with its place."""

    def __init__(self, records: Any, topic: str, partition: int) -> None:
        self._records = records
        self._topic, self._partition = topic, partition

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> _Batch:
        return _Batch(self._records.next_batch(), self._topic, self._partition)


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    def __init__(self, tp: Any, records: Any, *more: Any) -> None:
        super().__init__(tp, _Batches(records, tp.topic, tp.partition), *more)


def install() -> None:
    """For every consumer of this process; doing it again changes nothing."""
    fetcher.PartitionRecords = _PartitionRecords
