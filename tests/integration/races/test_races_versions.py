"""A document sent again, or deleted and sent again, before the pipeline is through with it."""

from typing import Any

import pytest

from penstock.common.topics import DOCUMENT_CLEARED, DOCUMENT_EMBEDDED, DOCUMENT_RETIRED

pytestmark = pytest.mark.connected


async def test_a_version_that_comes_after_the_next_one_is_superseded(
    pipeline: Any, name: str
) -> None:
    """It was held up on its way; what is searchable stays as it is, and its job says why."""
    gate = pipeline.gate("embed", DOCUMENT_CLEARED)
    with gate.holding(lambda r: r.value.document == name and r.value.version == 1) as held:
        old = await pipeline.publish(name, f"{name} was old and rusty.")
        await held.wait()
        indexed = await pipeline.searchable(name, f"{name} is new and shining.")
    ended = await pipeline.ended(old)
    assert (ended.state, ended.error.type) == ("failed", "superseded")
    assert await pipeline.indexed(name) == indexed
    assert {version for _, version, *_ in indexed} == {2}
    assert await pipeline.found("rusty", name) == []
    assert (await pipeline.penstock.document(name)).searchable_version == 2


async def test_a_b_a_submitted_quickly_is_searchable_as_a(pipeline: Any, name: str) -> None:
    """The last job succeeds; no other one is left without an end."""
    a, b = f"{name} is painted green.", f"{name} is painted yellow."
    jobs = [await pipeline.publish(name, text) for text in (a, b, a)]
    first, second, third = [await pipeline.ended(job) for job in jobs]
    assert third.state == "succeeded"
    for job in (first, second):
        assert job.state == "succeeded" or job.error.type == "superseded"

    async def settled() -> bool:
        return bool((await pipeline.penstock.document(name)).searchable_version == 3)

    await pipeline.until(settled)
    assert await pipeline.found("green", name) == [a]
    assert await pipeline.found("yellow", name) == []


@pytest.mark.parametrize("late", [DOCUMENT_RETIRED, DOCUMENT_EMBEDDED], ids=["delete", "load"])
async def test_the_same_bytes_again_while_the_delete_is_in_flight_stay(
    pipeline: Any, name: str, late: Any
) -> None:
    """Whichever the index hears of first: the receipt is written, and the document is there."""
    text = f"{name} is painted green."
    before = await pipeline.searchable(name, text)
    gate = pipeline.gate("indexer", late)
    with gate.holding(lambda r: r.value.document == name) as held:
        removal = await pipeline.penstock.delete_document(name)
        if late is DOCUMENT_RETIRED:
            await held.wait()
        again = await pipeline.publish(name, text)
        if late is DOCUMENT_EMBEDDED:
            await held.wait()
            receipt = await pipeline.penstock.wait(removal.id, timeout_s=40)
            assert receipt.state == "succeeded"
            assert await pipeline.indexed(name) == []
        else:
            assert (await pipeline.ended(again)).state == "succeeded"
    assert (await pipeline.ended(again)).state == "succeeded"
    receipt = await pipeline.penstock.wait(removal.id, timeout_s=40)
    assert receipt.state == "succeeded"
    document = await pipeline.penstock.document(name)
    assert (document.state, document.searchable_version) == ("searchable", 3)
    assert [row[3:] for row in await pipeline.indexed(name)] == [row[3:] for row in before]
    assert await pipeline.found("green", name) == [text]
    assert await pipeline.penstock.document_text(name) == text
