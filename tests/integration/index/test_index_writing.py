"""What a person may rely on when documents come, change, come late, twice or at once."""

import asyncio
import random
from typing import Any

import pytest

from penstock.common.db import Database
from penstock.common.envelope import Publication
from penstock.common.events import DocumentIndexed, JobProgressed, ProgressState
from penstock.common.failures import PermanentError
from penstock.retrieve.indexer import Index

pytestmark = pytest.mark.connected


def indexed(publications: list[Publication[Any]]) -> list[tuple[str, int, int]]:
    bodies = [p.body for p in publications if isinstance(p.body, DocumentIndexed)]
    return [(body.document, body.version, body.chunks) for body in bodies]


def states(publications: list[Publication[Any]]) -> list[ProgressState]:
    return [p.body.state for p in publications if isinstance(p.body, JobProgressed)]


async def test_many_documents_in_one_call_are_all_searchable(
    index: Index, events: Any, seen: Any
) -> None:
    records = [events.batch(f"d{i}", 1, [f"alpha number{i}", "beta"]) for i in range(40)]
    publications = await index.write(records)
    assert sorted(indexed(publications)) == sorted((f"d{i}", 1, 2) for i in range(40))
    assert states(publications) == [ProgressState.DONE] * 40
    assert await seen.texts("d7") == ["alpha number7", "beta"]
    assert len(await seen.holding("alpha")) == 40
    assert await seen.holding("number7") == [(await seen.ids("d7"))["alpha number7"]]
    assert await seen.staged() == 0


async def test_a_tenant_sees_nothing_of_another(
    index: Index, events: Any, seen: Any, database: Database
) -> None:
    await index.write([events.batch("d", 1, ["secret"])])
    stranger = type(seen)(database, "somebody-else")
    for table in (
        "document",
        "indexed",
        "chunk",
        "embedding_1",
        "segment",
        "posting_block",
        "corpus",
    ):
        assert await seen.rows(f"SELECT tenant FROM {table}")
        mine = await stranger.rows(f"SELECT FROM {table} WHERE tenant = '{events.tenant}'")
        assert mine == []


async def test_half_a_document_is_never_seen_and_the_last_batch_swaps(
    index: Index, events: Any, seen: Any
) -> None:
    await index.write([events.batch("d", 1, ["old"])])
    parts = [events.batch("d", 2, [f"new{k}"], k=k, n=3, first=k) for k in range(3)]
    assert indexed(await index.write([parts[2]])) == []
    assert await seen.texts("d") == ["old"]
    assert states(await index.write([parts[0], parts[0]])) == [ProgressState.DONE] * 2
    assert await seen.texts("d") == ["old"]
    assert indexed(await index.write([parts[1]])) == [("d", 2, 3)]
    assert await seen.texts("d") == ["new0", "new1", "new2"]
    assert await seen.staged() == 0


async def test_batches_of_different_cuts_never_mix(index: Index, events: Any, seen: Any) -> None:
    await index.write([events.batch("d", 1, ["a0"], k=0, n=2, cut="a")])
    await index.write([events.batch("d", 1, ["b1"], k=1, n=2, cut="b", first=1)])
    assert await seen.texts("d") == []
    await index.write([events.batch("d", 1, ["b0"], k=0, n=2, cut="b")])
    assert await seen.texts("d") == ["b0", "b1"]
    assert await seen.staged() == 0


async def test_a_document_that_comes_whole_in_one_call_is_not_staged(
    index: Index, events: Any, seen: Any
) -> None:
    parts = [events.batch("d", 1, [f"p{k}"], k=k, n=3, first=k) for k in (2, 0, 1)]
    publications = await index.write(parts)
    assert indexed(publications) == [("d", 1, 3)]
    assert await seen.texts("d") == ["p0", "p1", "p2"]


async def test_a_repeat_writes_nothing_and_announces_the_same_again(
    index: Index, events: Any, seen: Any
) -> None:
    record = events.batch("d", 3, ["one", "two"])
    first = await index.write([record])
    before = await seen.ids("d")
    again = await index.write([record])
    assert [p.body for p in again] == [p.body for p in first]
    assert await seen.ids("d") == before
    assert len(await seen.rows("SELECT FROM segment")) == 1


async def test_an_older_version_is_superseded(index: Index, events: Any, seen: Any) -> None:
    await index.write([events.batch("d", 5, ["five"])])
    late = await index.write([events.batch("d", 4, ["four"])])
    assert states(late) == [ProgressState.SUPERSEDED]
    assert indexed(late) == []
    assert await seen.texts("d") == ["five"]


async def test_two_versions_in_one_call_end_as_the_newer(
    index: Index, events: Any, seen: Any
) -> None:
    publications = await index.write([events.batch("d", 2, ["two"]), events.batch("d", 1, ["one"])])
    assert indexed(publications) == [("d", 2, 1)]
    assert states(publications) == [ProgressState.DONE, ProgressState.SUPERSEDED]
    assert await seen.texts("d") == ["two"]


async def test_a_staged_newer_version_does_not_hold_back_an_older_complete_one(
    index: Index, events: Any, seen: Any
) -> None:
    await index.write([events.batch("d", 2, ["two"], k=0, n=2)])
    assert indexed(await index.write([events.batch("d", 1, ["one"])])) == [("d", 1, 1)]
    done = await index.write([events.batch("d", 2, ["zwei"], k=1, n=2, first=1)])
    assert indexed(done) == [("d", 2, 2)]
    assert await seen.texts("d") == ["two", "zwei"]


async def test_unchanged_chunks_keep_number_and_postings_and_follow_the_new_version(
    index: Index, events: Any, seen: Any
) -> None:
    await index.write([events.batch("d", 1, ["keep", "same", "same", "goes"])])
    before = await seen.rows("SELECT id, chunk_id, text FROM chunk ORDER BY ordinal")
    texts = ["comes", "same", "keep", "same"]
    await index.write([events.batch("d", 2, texts, metadata={"year": 2026}, access=("board",))])
    after = await seen.rows(
        "SELECT id, chunk_id, text, version, metadata, access FROM chunk ORDER BY ordinal"
    )
    assert [row["text"] for row in after] == texts
    assert {(r["id"], r["chunk_id"]) for r in after if r["text"] != "comes"} == {
        (r["id"], r["chunk_id"]) for r in before if r["text"] != "goes"
    }
    assert {(r["version"], r["metadata"], tuple(r["access"])) for r in after} == {
        (2, '{"year": 2026}', ("board",))
    }
    assert len(await seen.holding("keep")) == 1
    assert await seen.holding("goe") == []
    segments = await seen.rows("SELECT chunks FROM segment ORDER BY id")
    assert [row["chunks"] for row in segments] == [4, 1]


async def test_a_changed_title_is_a_change_of_every_chunk(
    index: Index, events: Any, seen: Any
) -> None:
    await index.write([events.batch("d", 1, ["body"], title="Pumps")])
    before = await seen.ids("d")
    await index.write([events.batch("d", 2, ["body"], title="Valves")])
    assert await seen.ids("d") != before
    assert await seen.holding("pump") == []
    assert len(await seen.holding("valv")) == 1


async def test_what_this_index_cannot_hold_is_refused_by_name(
    index: Index, events: Any, seen: Any
) -> None:
    cases = [
        (events.batch("d", 1, ["x"], generation=2), "generation: 2"),
        (events.batch("d", 1, ["x"], dim=768), "dim: 768"),
        (events.batch("d", 1, ["x"], vectors=b"\0" * 766), "vectors: 766 bytes"),
        (events.batch("d", 1, ["x"], vectors=b"\xff" * 768), "not every number is finite"),
        (events.batch("d", 1, ["x"], k=2, n=2), "k: batch 2 of 2"),
        (events.batch("d", 1, ["x\0y"]), "Postgres cannot store this"),
    ]
    for record, message in cases:
        with pytest.raises(PermanentError, match=message):
            await index.write([record])
    assert await seen.texts("d") == []


async def test_a_rejection_drops_that_versions_staging_and_nothing_else(
    index: Index, events: Any, seen: Any
) -> None:
    await index.write([events.batch("d", 1, ["one"])])
    await index.write(
        [events.batch("d", 2, ["bad"], k=0, n=2), events.batch("d", 3, ["x"], k=0, n=2)]
    )
    assert await index.reject([events.rejected("d", 2), events.rejected("unheard-of", 1)]) == []
    assert await seen.staged() == 1
    assert await seen.texts("d") == ["one"]


async def test_writers_of_the_same_documents_in_opposite_order_do_not_block_each_other(
    database: Database, events: Any, seen: Any
) -> None:
    names = [f"d{i}" for i in range(12)]
    writers = []
    for version in range(1, 9):
        order = names if version % 2 else names[::-1]
        writers.append(
            Index(database).write(
                [events.batch(d, version, [f"{d} v{version}", "same"]) for d in order]
            )
        )
    await asyncio.wait_for(asyncio.gather(*writers), 60)
    for name in names:
        assert await seen.texts(name) == [f"{name} v8", "same"]
    assert len(await seen.holding("same")) == 12
    assert len(await seen.holding("v8")) == 12
    assert await seen.holding("v7") == []


async def test_long_documents_in_shuffled_pieces_from_many_writers(
    database: Database, events: Any, seen: Any
) -> None:
    pieces = [
        events.batch(f"d{d}", v, [f"d{d} v{v} k{k} c{c}" for c in range(3)], k=k, n=5, first=3 * k)
        for d in range(4)
        for v in (1, 2, 3)
        for k in range(5)
    ]
    pieces += pieces[::3]
    random.Random(3).shuffle(pieces)
    index = Index(database)
    await asyncio.gather(*(index.write(pieces[i : i + 4]) for i in range(0, len(pieces), 4)))
    for d in range(4):
        assert await seen.texts(f"d{d}") == [
            f"d{d} v3 k{k} c{c}" for k in range(5) for c in range(3)
        ]
    assert await seen.staged() == 0
