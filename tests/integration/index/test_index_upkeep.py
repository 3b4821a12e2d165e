"""Deletes, merges and purges: gone is gone, at once from results and soon from every table."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from penstock.common.db import Database
from penstock.common.envelope import Publication
from penstock.common.events import (
    DocumentIndexed,
    DocumentPurged,
    DocumentRemoved,
    ProgressState,
)
from penstock.common.failures import TransientError
from penstock.retrieve.indexer import Index
from penstock.retrieve.merging import Upkeep

pytestmark = pytest.mark.connected

MARKER = "zanzibarquux"


def bodies(publications: Sequence[Publication[Any]], tenant: str = "") -> list[Any]:
    return [p.body for p in publications if tenant in ("", p.envelope.tenant)]


async def tables_holding(database: Database, marker: str) -> set[str]:
    """Every table of the schema with the marker in any column, bytes included."""
    async with database.transaction() as connection:
        columns = await connection.fetch(
            "SELECT table_name, column_name, data_type FROM information_schema.columns "
            "JOIN information_schema.tables USING (table_schema, table_name) "
            "WHERE table_schema = 'retrieve' AND table_type = 'BASE TABLE'"
        )
        found = set()
        for table, column, kind in columns:
            value = f"encode({column}, 'escape')" if kind == "bytea" else f"{column}::text"
            sql = f"SELECT EXISTS (SELECT FROM {table} WHERE {value} ILIKE $1)"
            if await connection.fetchval(sql, f"%{marker}%"):
                found.add(table)
        return found


async def test_a_delete_is_unretrievable_at_once_and_late_batches_stay_out(
    index: Index, events: Any, seen: Any
) -> None:
    await index.write([events.batch("d", 1, ["here"]), events.batch("e", 1, ["here"])])
    await index.write([events.batch("d", 2, ["half"], k=0, n=2)])
    [removed] = bodies(await index.retire([events.retired("d", 3)]))
    assert isinstance(removed, DocumentRemoved)
    assert (removed.version, removed.elapsed_ms < 60_000) == (3, True)
    assert await seen.texts("d") == []
    assert await seen.texts("e") == ["here"]
    assert await seen.staged() == 0
    late = await index.write(
        [events.batch("d", 2, ["half"], k=1, n=2), events.batch("d", 1, ["here"])]
    )
    assert [body.state for body in bodies(late)] == [ProgressState.SUPERSEDED] * 2
    assert await seen.texts("d") == []
    assert await seen.staged() == 0


async def test_a_document_comes_back_under_a_newer_version(
    index: Index, events: Any, seen: Any
) -> None:
    await index.write([events.batch("d", 1, ["same words"])])
    await index.retire([events.retired("d", 2)])
    publications = await index.write([events.batch("d", 3, ["same words"])])
    assert [p.body.version for p in publications if isinstance(p.body, DocumentIndexed)] == [3]
    assert await seen.texts("d") == ["same words"]
    [row] = await seen.rows("SELECT state, version, removed_version FROM document")
    assert tuple(row) == ("searchable", 3, 2)


async def test_an_overtaken_delete_announces_its_own_and_touches_nothing(
    index: Index, events: Any, seen: Any, upkeep: Upkeep, published: list[Publication[Any]]
) -> None:
    await index.write([events.batch("d", 3, ["newer"])])
    [removed] = bodies(await index.retire([events.retired("d", 2)]))
    assert removed.version == 2
    assert await seen.texts("d") == ["newer"]
    await upkeep.round()
    assert [body.version for body in bodies(published, events.tenant)] == [2]
    assert await seen.texts("d") == ["newer"]


async def test_a_repeated_delete_announces_the_same_moment_again(
    index: Index, events: Any, upkeep: Upkeep, published: list[Publication[Any]]
) -> None:
    await index.write([events.batch("d", 1, ["x"])])
    record = events.retired("d", 2)
    [first] = bodies(await index.retire([record]))
    await upkeep.round()
    [again] = bodies(await index.retire([record]))
    await upkeep.round()
    assert abs((again.at - first.at).total_seconds()) < 5
    [third] = bodies(await index.retire([record]))
    assert third == again
    mine = bodies(published, events.tenant)
    assert [body.store for body in mine] == ["index", "index"]


async def test_a_purged_document_has_left_every_table(
    database: Database,
    index: Index,
    events: Any,
    seen: Any,
    upkeep: Upkeep,
    published: list[Publication[Any]],
) -> None:
    """Replaced chunks of earlier versions and staged batches included; neighbours stay."""
    await index.write(
        [
            events.batch(
                "d",
                1,
                [f"{MARKER}one old", "plain"],
                title=f"{MARKER}title",
                metadata={"m": MARKER},
            ),
            events.batch("e", 1, ["plain neighbour"]),
        ]
    )
    await index.write([events.batch("d", 2, [f"{MARKER}two"], title=f"{MARKER}title")])
    await index.write([events.batch("d", 3, [f"{MARKER}three"], k=0, n=2)])
    held = await tables_holding(database, MARKER)
    assert {"chunk", "posting_block", "staging", "document"} <= held
    await index.retire([events.retired("d", 4)])
    assert published == []
    await upkeep.round()
    assert await tables_holding(database, MARKER) == set()
    [purged] = [p for p in published if p.envelope.tenant == events.tenant]
    assert isinstance(purged.body, DocumentPurged)
    assert (purged.body.document, purged.body.version, purged.body.store) == ("d", 4, "index")
    assert purged.envelope.job == "job-d-4"
    assert len(await seen.holding("plain")) == 1
    [segment] = await seen.rows("SELECT chunks, total_length FROM corpus")
    assert tuple(segment) == (1, 2)


async def test_a_purge_that_could_not_be_announced_is_announced_later(
    database: Database, index: Index, events: Any, upkeep: Upkeep, published: list[Publication[Any]]
) -> None:
    await index.write([events.batch("d", 1, ["x"])])
    await index.retire([events.retired("d", 2)])

    async def away(*_: Any) -> None:
        raise TransientError("no broker")

    with pytest.raises(TransientError):
        await Upkeep(database, away, index.untidy).round()
    await upkeep.round()
    assert [body.version for body in bodies(published, events.tenant)] == [2]


async def test_small_segments_become_few_and_find_the_same(
    index: Index, events: Any, seen: Any, upkeep: Upkeep
) -> None:
    for i in range(70):
        await index.write([events.batch(f"d{i}", 1, [f"alpha w{i % 7} alpha", f"beta w{i}"])])
    before = {t: await seen.holding(t) for t in ("alpha", "beta", "w3", "w69")}
    corpus = await seen.rows("SELECT chunks, total_length FROM corpus")
    await upkeep.round()
    assert len(await seen.rows("SELECT FROM segment")) < 16
    assert {t: await seen.holding(t) for t in before} == before
    assert await seen.rows("SELECT chunks, total_length FROM corpus") == corpus
    [block] = await seen.rows("SELECT tfs FROM posting_block WHERE term = 'w69'")
    assert block["tfs"] == b"\x01"


async def test_a_segment_of_dead_chunks_is_rewritten_without_them(
    index: Index, events: Any, seen: Any, upkeep: Upkeep
) -> None:
    await index.write([events.batch("d", 1, [f"old{i}" for i in range(10)])])
    await index.write([events.batch("d", 2, [f"old{i}" for i in range(5)] + ["fresh"])])
    await upkeep.round()
    assert await seen.rows("SELECT FROM posting_block WHERE term = 'old7'") == []
    assert len(await seen.holding("old3")) == 1
    [corpus] = await seen.rows("SELECT chunks, total_length FROM corpus")
    assert tuple(corpus) == (6, 6)


async def test_merges_beside_writers_and_deletes_lose_nothing(
    database: Database, events: Any, seen: Any, upkeep: Upkeep, published: list[Publication[Any]]
) -> None:
    index = Index(database)
    busy = True

    async def write(worker: int) -> None:
        for i in range(25):
            name = f"w{worker}d{i}"
            await index.write([events.batch(name, 1, ["common first", f"only{name}"])])
            if i % 3 == 0:
                await index.write([events.batch(name, 2, ["common second", f"only{name}"])])
            if i % 5 == 0:
                await index.retire([events.retired(name, 3)])

    async def merge() -> None:
        while busy:
            await upkeep.round()

    async def watch() -> None:
        while busy:
            numbers = await seen.holding("common")
            assert len(numbers) == len(set(numbers)), "a chunk was seen in two segments"

    background = [asyncio.create_task(merge()) for _ in range(2)] + [asyncio.create_task(watch())]
    await asyncio.gather(*(write(worker) for worker in range(4)))
    busy = False
    await asyncio.gather(*background)
    await upkeep.round()
    live = await seen.rows("SELECT id FROM chunk WHERE text LIKE 'common%' ORDER BY id")
    assert await seen.holding("common") == [row["id"] for row in live]
    assert len(live) == 4 * 20
    assert len([p for p in published if p.envelope.tenant == events.tenant]) == 4 * 5
    async with database.transaction() as connection:
        owed = await connection.fetchval(
            "SELECT count(*) FROM purge WHERE tenant = $1", events.tenant
        )
    assert owed == 0


async def test_staging_that_nothing_can_complete_is_swept(
    database: Database, index: Index, events: Any, seen: Any, upkeep: Upkeep
) -> None:
    await index.write(
        [events.batch("d", 1, ["x"], k=0, n=2), events.batch("e", 1, ["x"], k=0, n=2)]
    )
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE staging SET staged_at = now() - interval '31 days' WHERE tenant = $1 AND document = 'd'",
            events.tenant,
        )
    await upkeep.sweep()
    assert await seen.staged() == 1
