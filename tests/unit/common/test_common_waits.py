"""What is written beside a publication, when one of the two fails or somebody gives up."""

import asyncio

import pytest

from penstock.common.failures import PermanentError, TransientError
from penstock.common.waits import Waits


class Work:
    """Goes on until it is let, or is stopped."""

    def __init__(self) -> None:
        self.begun, self.may_end, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self) -> str:
        self.begun.set()
        try:
            await self.may_end.wait()
            return "written"
        finally:
            self.over.set()


async def failing(after: Work, error: Exception) -> None:
    await after.begun.wait()
    raise error


async def test_a_publication_that_fails_leaves_no_writing_behind() -> None:
    """The next try does not meet the one before, nor does whoever has the partition next."""
    write = Work()
    with pytest.raises(TransientError, match="Kafka"):
        await Waits("g").written_beside("t", failing(write, TransientError("Kafka is away")), write)
    assert write.over.is_set()


async def test_a_writing_that_is_refused_leaves_no_publication_behind() -> None:
    publish = Work()
    both = asyncio.create_task(
        Waits("g").written_beside(
            "t", publish(), lambda: failing(publish, PermanentError("no such value"))
        )
    )
    await publish.begun.wait()
    await asyncio.sleep(0)
    publish.may_end.set()
    with pytest.raises(PermanentError, match="no such value"):
        await both
    assert publish.over.is_set()


async def test_a_partition_that_goes_takes_both_along() -> None:
    """A cancelled call ends when nothing of it runs any more."""
    publish, write = Work(), Work()
    both = asyncio.create_task(Waits("g").written_beside("t", publish(), write))
    await asyncio.gather(publish.begun.wait(), write.begun.wait())
    both.cancel()
    with pytest.raises(asyncio.CancelledError):
        await both
    assert publish.over.is_set()
    assert write.over.is_set()
