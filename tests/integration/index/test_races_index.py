"""Whatever arrives twice, late, in another order or in two indexers at once: one outcome."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from itertools import permutations
from typing import Any

import pytest

from penstock.common.db import Database
from penstock.common.envelope import Publication, Record
from penstock.common.events import DocumentIndexed, DocumentRetired
from penstock.local.stack import Servers
from penstock.retrieve import writing
from penstock.retrieve.app import MIGRATIONS
from penstock.retrieve.indexer import Index
from penstock.retrieve.merging import Upkeep

pytestmark = pytest.mark.connected

LOCK = "SELECT FROM document WHERE tenant = $1 AND id = $2 FOR UPDATE"
MAKE = "INSERT INTO document (tenant, id, collection) VALUES ($1, $2, 'default')"


@pytest.fixture(scope="module")
async def indexers(servers: Servers) -> AsyncIterator[tuple[Index, Index]]:
    """Two, each with connections of its own: all that two indexer processes have in common is Postgres."""
    open_one = Database.open
    dsn, more = servers.dsns["retrieve"], {"migrations": MIGRATIONS, "setup": writing.setup}
    async with (
        open_one(dsn, schema="retrieve", **more) as one,  # type: ignore[arg-type]
        open_one(dsn, schema="retrieve", **more) as two,  # type: ignore[arg-type]
    ):
        yield Index(one), Index(two)


def searchable(publications: Sequence[Publication[Any]]) -> list[tuple[int, int]]:
    """Versions and numbers of chunks that are announced."""
    bodies = [p.body for p in publications if isinstance(p.body, DocumentIndexed)]
    return [(body.version, body.chunks) for body in bodies]


async def deliver(index: Index, record: Record[Any]) -> None:
    """As the indexer's subscriptions would."""
    if isinstance(record.body, DocumentRetired):
        await index.retire([record])
    else:
        await index.write([record])


@pytest.mark.parametrize("known", [True, False], ids=["known", "never heard of"])
async def test_the_two_last_batches_in_two_indexers_at_once_make_the_document_searchable(
    indexers: tuple[Index, Index], events: Any, seen: Any, barrier: Any, known: bool
) -> None:
    """Each must see what the other staged: or both go on waiting for the last one, for ever."""
    one, two = indexers
    parts = [events.batch("d", 1, [f"part {k}"], k=k, n=3, first=k) for k in range(3)]
    if known:
        await one.write([parts[0]])
    else:
        parts = [events.batch("d", 1, [f"part {k}"], k=k, n=2, first=k) for k in range(2)]
    async with barrier("retrieve", LOCK if known else MAKE, events.tenant, "d") as meeting:
        first = await meeting.start(one.write([parts[-1]]))
        second = await meeting.start(two.write([parts[-2]]))
    announced = searchable(await first) + searchable(await second)
    assert announced == [(1, len(parts))], "made searchable by one of them, and once"
    assert await seen.texts("d") == [f"part {k}" for k in range(len(parts))]
    assert await seen.staged() == 0


@pytest.mark.parametrize("load_first", [True, False], ids=["load first", "delete first"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "never heard of"])
@pytest.mark.parametrize("deleted", [2, 4], ids=["older delete", "newer delete"])
async def test_a_delete_and_a_load_in_two_indexers_at_once_end_as_their_versions_say(
    indexers: tuple[Index, Index],
    events: Any,
    seen: Any,
    barrier: Any,
    load_first: bool,
    known: bool,
    deleted: int,
) -> None:
    """Version 3 is loaded while version 2 or 4, a delete, is seen to: the higher number stays."""
    one, two = indexers
    if known:
        await one.write([events.batch("d", 1, ["older words"])])
    acts: list[Any] = [
        lambda: one.write([events.batch("d", 3, ["new words"])]),
        lambda: two.retire([events.retired("d", deleted)]),
    ]
    if not load_first:
        acts.reverse()
    async with barrier("retrieve", LOCK if known else MAKE, events.tenant, "d") as meeting:
        work = [await meeting.start(act()) for act in acts]
    await asyncio.gather(*work)
    expected = ["new words"] if deleted == 2 else []
    assert await seen.texts("d") == expected
    assert len(await seen.holding("new")) == len(expected)
    [row] = await seen.rows("SELECT version, removed_version, state FROM document")
    assert tuple(row) == ((3, 2, "searchable") if deleted == 2 else (4, 4, "removed"))


def log_of(events: Any, document: str) -> list[Record[Any]]:
    """A document's life: loaded, replaced, deleted, loaded, left half, deleted, loaded."""

    def version(number: int, n: int, **more: Any) -> list[Record[Any]]:
        texts = [[f"{document} always the same", f"{document} v{number} k{k}"] for k in range(n)]
        return [
            events.batch(document, number, texts[k], k=k, n=n, first=2 * k, **more)
            for k in range(n)
        ]

    return [
        *version(1, 2),
        *version(2, 3),
        events.retired(document, 3),
        *version(4, 1),
        *version(5, 4)[:3],
        events.retired(document, 6),
        *version(7, 3),
    ]


async def test_any_order_and_any_repetition_end_as_the_log_in_order(
    indexers: tuple[Index, Index], events: Any, seen: Any, upkeep: Upkeep
) -> None:
    """Every other document ends deleted. Deliveries go to two indexers, four calls at once."""
    chance = random.Random(11)
    logs = {f"d{n}": log_of(events, f"d{n}")[: None if n % 2 else -3] for n in range(16)}
    deliveries = [record for log in logs.values() for record in log * 2]
    chance.shuffle(deliveries)

    async def consume(index: Index) -> None:
        while deliveries:
            await deliver(index, deliveries.pop())

    await asyncio.gather(*(consume(index) for index in (*indexers, *indexers)))
    await upkeep.round()
    for document, log in logs.items():
        name = f"in order {document}"
        for record in log_of(events, name)[: len(log)]:
            await deliver(indexers[0], record)
        expected = [text.removeprefix("in order ") for text in await seen.texts(name)]
        assert await seen.texts(document) == expected
        assert bool(expected) == bool(int(document[1:]) % 2)
        rows = await seen.rows(
            "SELECT state, version, removed_version, chunks FROM document WHERE id = ANY ($1)",
            [document, name],
        )
        assert len(rows) == 2
        assert len({tuple(row) for row in rows}) == 1
    assert await seen.staged() == 0


@pytest.mark.parametrize("last", ["load", "delete"])
async def test_the_same_bytes_again_in_every_order_of_arrival(
    indexers: tuple[Index, Index], events: Any, seen: Any, last: str
) -> None:
    """A, B, A submitted quickly, and A, deleted, A again (and A, A, deleted): the last one counts."""
    for number, order in enumerate(permutations(range(3))):
        for middle in ("load", "delete"):
            d = f"{last}{number}{middle}"
            kinds = ["load", middle, last]
            log = [
                events.batch(d, v, [f"{d} B" if v == 2 else f"{d} A"]) if kind == "load" else events.retired(d, v)
                for v, kind in enumerate(kinds, 1)
            ]  # fmt: skip
            for place in order:
                await deliver(indexers[place % 2], log[place])
            assert await seen.texts(d) == ([f"{d} A"] if last == "load" else []), (order, kinds)


async def test_of_two_cuts_of_one_version_one_is_searchable_whole_in_every_order(
    indexers: tuple[Index, Index], events: Any, seen: Any
) -> None:
    """A parser was upgraded between two batches: ingest cut the document anew on redelivery."""
    for number, order in enumerate(sorted(set(permutations("aaabb")))):
        d, first = f"d{number}", None
        cuts = {cut: [f"{d} {cut}{k}" for k in range(n)] for cut, n in (("a", 3), ("b", 2))}
        left = {
            cut: [
                events.batch(d, 1, [text], k=k, n=len(texts), first=k, cut=cut)
                for k, text in enumerate(texts)
            ]
            for cut, texts in cuts.items()
        }
        for place, cut in enumerate(order):
            await deliver(indexers[place % 2], left[cut].pop())
            if first is None and not left[cut]:
                first = cut
            assert await seen.texts(d) == ([] if first is None else cuts[first]), (order, place)
    assert await seen.staged() == 0, "what the other cut left behind is gone"
