"""Segments are merged while others delete and insert: nothing is lost, nothing comes back."""

from typing import Any

import pytest

from penstock.common.db import Database
from penstock.common.envelope import Publication
from penstock.retrieve.indexer import Index
from penstock.retrieve.merging import Upkeep
from penstock.retrieve.segments import FAN_IN

pytestmark = pytest.mark.connected

POSTINGS = "SELECT FROM posting_block WHERE tenant = $1 FOR UPDATE"


async def write_small_segments(index: Index, events: Any) -> None:
    """As many as a merge waits for."""
    for n in range(FAN_IN):
        await index.write([events.batch(f"d{n}", 1, [f"common word{n}", f"common second{n}"])])


async def test_what_comes_and_goes_while_segments_are_merged_is_found_and_forgotten(
    index: Index,
    events: Any,
    seen: Any,
    barrier: Any,
    upkeep: Upkeep,
    published: list[Publication[Any]],
) -> None:
    """The merge has read all it writes when others delete, replace and insert."""
    await write_small_segments(index, events)
    async with barrier("retrieve", POSTINGS, events.tenant) as meeting:
        merging = await meeting.start(upkeep.merge(events.tenant))
        await index.retire([events.retired("d0", 2)])
        await index.write([events.batch("d1", 2, ["common replaced"])])
        await index.write([events.batch("fresh", 1, ["common fresh"])])
        assert await seen.texts("d0") == []
    assert await merging
    live = await seen.rows("SELECT id FROM chunk ORDER BY id")
    assert len(live) == 2 * FAN_IN - 2 - 1 + 1
    assert await seen.holding("common") == [row["id"] for row in live]
    assert await seen.holding("word0") == []

    assert published == []
    await upkeep.round()
    assert await seen.rows("SELECT FROM posting_block WHERE term = 'word0'") == []
    assert await seen.holding("common") == [row["id"] for row in live]
    purged = [p.body for p in published if p.envelope.tenant == events.tenant]
    assert [(body.document, body.version) for body in purged if body] == [("d0", 2)]


async def test_two_indexers_merge_the_same_segments_once(
    database: Database, index: Index, events: Any, seen: Any, barrier: Any, upkeep: Upkeep
) -> None:
    """The second finds the first at work and leaves it alone."""
    await write_small_segments(index, events)
    before = await seen.holding("common")
    other = Upkeep(database, upkeep._publish, index.untidy)
    async with barrier("retrieve", POSTINGS, events.tenant) as meeting:
        merging = await meeting.start(upkeep.merge(events.tenant))
        assert not await other.merge(events.tenant)
    assert await merging
    assert await seen.holding("common") == before
    assert len(await seen.rows("SELECT FROM segment")) == 1


async def test_a_chunk_that_died_in_a_segment_left_alone_is_still_forgotten_with_its_document(
    index: Index, events: Any, seen: Any, upkeep: Upkeep
) -> None:
    """A merge of other segments must not strike it off."""
    texts = ["marker old", *(f"common large{n}" for n in range(FAN_IN))]
    await index.write([events.batch("d", 1, texts)])
    await index.write([events.batch("d", 2, ["marker new", *texts[1:]])])
    await write_small_segments(index, events)
    await upkeep.round()
    assert len(await seen.rows("SELECT FROM posting_block WHERE term = 'old'")) == 1
    await index.retire([events.retired("d", 3)])
    await upkeep.round()
    for term in ("old", "marker", "large3"):
        assert await seen.rows("SELECT FROM posting_block WHERE term = $1", term) == []
