"""Batches of records that no client of Python sends, but others do."""

from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

MOST = 1_048_588
"""What a broker takes at most, bytes of one batch."""


class NoText(str):
    """The name of a header that is no UTF-8."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


def batch_of(producer: AIOKafkaProducer, compression: int = 0) -> Any:
    """An empty batch that takes names which are no text, and compresses as it is told."""
    batch = producer.create_batch()
    batch._builder = _DefaultRecordBatchBuilderPy(
        magic=2, compression_type=compression, is_transactional=0, producer_id=-1,
        producer_epoch=-1, base_sequence=-1, batch_size=256 * MOST,
    )  # fmt: skip
    return batch
