"""One match among 50,000 chunks is found by both legs, whatever hides it: filter, access, or tenant."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import numpy as np
import pytest
from pgvector.asyncpg import register_vector

import penstock.retrieve
from penstock.common.db import Database, Reads
from penstock.local.stack import Servers
from penstock.retrieve import segments
from penstock.retrieve.dense import SERVER_SETTINGS, Vector
from penstock.retrieve.filters import parse
from penstock.retrieve.scope import Narrowing, Scope
from penstock.retrieve.search import Mode, Searcher

pytestmark = pytest.mark.connected

MIGRATIONS = Path(next(iter(penstock.retrieve.__path__))) / "migrations"
CHUNKS = 50_000
NEEDLE = 31_337
"""The one chunk whose metadata says so, that only the group `needle` may read."""

EVERYBODY = ("hay", "needle")

HNSW = "CREATE INDEX ON embedding_1 USING hnsw (vector halfvec_ip_ops) WITH (m = 8)"

INSERT = """
    INSERT INTO chunk
    SELECT $2 + i, gen_random_uuid(), $1, 1, 'default', 'd' || i, 1, 0, 'common word ' || i,
           'paragraph', null, '{}', 0, 10, null,
           jsonb_build_object('n', i, 'half', i % 2, 'needle', i = $4, 'kind', 'k' || i % 5000),
           CASE WHEN i = $4 THEN '{needle}' ELSE '{hay}' END::text[],
           '[]', 3
    FROM generate_series(0, $3 - 1) AS i
"""


class OneVector:
    """Every text means the same: far from the needle, so that only the filter leads to it."""

    def __init__(self, vector: Vector) -> None:
        self._vector = vector

    async def embed_query(self, text: str) -> Vector:
        return self._vector


def vectors(count: int) -> Vector:
    """Unit vectors about a few centres, as embeddings are."""
    random = np.random.default_rng(1)
    centres = random.standard_normal((64, 384))
    found = centres[random.integers(0, 64, count)] + 0.5 * random.standard_normal((count, 384))
    unit: Vector = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


async def fill(connection: asyncpg.Connection, tenant: str, first: int, count: int) -> None:
    await connection.execute(INSERT, tenant, first, count, NEEDLE)
    numbers = range(first, first + count)
    rows = zip(numbers, [tenant] * count, vectors(count), strict=True)
    await connection.copy_records_to_table("embedding_1", records=rows)
    built = segments.build(numbers, [["common", "word"]] * count)
    segment = await connection.fetchval(
        "INSERT INTO segment (tenant, generation, base, chunks, total_length, members)"
        " VALUES ($1, 1, $2, $3, $4, $5) RETURNING id",
        tenant, built.base, built.chunks, built.total_length, built.members,
    )  # fmt: skip
    await connection.copy_records_to_table(
        "posting_block",
        records=[(tenant, 1, p.term, segment, p.chunks, p.tfs, p.lengths) for p in built.postings],
    )


@pytest.fixture(scope="module")
async def database(servers: Servers) -> AsyncIterator[Database]:
    """A database of its own: the vector index is built at the end, which takes a tenth."""
    name = f"search_{uuid4().hex[:8]}"
    admin = await asyncpg.connect(servers.admin_dsn)
    await admin.execute(f"CREATE DATABASE {name} OWNER penstock_retrieve")
    inside = await asyncpg.connect(_named(servers.admin_dsn, name))
    await inside.execute("CREATE EXTENSION vector; CREATE SCHEMA retrieve")
    await inside.execute("ALTER SCHEMA retrieve OWNER TO penstock_retrieve")
    await inside.close()
    async with Database.open(
        _named(servers.dsns["retrieve"], name), schema="retrieve", migrations=MIGRATIONS,
        setup=register_vector,
    ) as opened:  # fmt: skip
        async with opened.transaction() as connection:
            await connection.execute("DROP INDEX embedding_1_hnsw")
            await fill(connection, "large", 1_000_000, CHUNKS)
            await fill(connection, "small", 2_000_000, 7)
            await fill(connection, "dying", 3_000_000, 1_000)
            await connection.execute(HNSW)
        async with opened.pool.acquire() as connection:
            await connection.execute("ANALYZE")
        yield opened
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


def _named(dsn: str, database: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


@pytest.fixture(scope="module")
async def reads(servers: Servers, database: Database) -> AsyncIterator[Reads]:
    async with database.pool.acquire() as connection:
        name = await connection.fetchval("SELECT current_database()")
    async with Reads.open(
        _named(servers.dsns["retrieve"], name), schema="retrieve", migrations=MIGRATIONS,
        setup=register_vector, server_settings=SERVER_SETTINGS,
    ) as opened:  # fmt: skip
        yield opened


@pytest.fixture(scope="module")
def searcher(reads: Reads) -> Searcher:
    return Searcher(reads, pool_size=4)


async def numbers(
    searcher: Searcher, scope: Scope, mode: Mode, *, top_k: int = 10, text: str = "common word"
) -> list[int]:
    """The metadata's `n` of what is found."""
    embedder = OneVector(vectors(1)[0])
    found = await searcher.search(embedder, [text], scope, top_k=top_k, mode=mode)
    return [passage.metadata["n"] for passage in found.passages]


MODES: list[Mode] = ["hybrid", "dense", "lexical"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "condition", [{"needle": True}, {"n": NEEDLE}, {"n": {"gte": NEEDLE, "lt": NEEDLE + 1}}],
    ids=json.dumps,
)  # fmt: skip
async def test_one_match_by_filter(
    searcher: Searcher, mode: Mode, condition: dict[str, object]
) -> None:
    scope = Scope("large", 1, "default", EVERYBODY, parse(condition))
    assert await numbers(searcher, scope, mode) == [NEEDLE]


@pytest.mark.parametrize("mode", MODES)
async def test_one_match_by_access(searcher: Searcher, mode: Mode) -> None:
    assert await numbers(searcher, Scope("large", 1, "default", ("needle",)), mode) == [NEEDLE]
    assert await numbers(searcher, Scope("large", 1, "default"), mode) == []
    assert len(await numbers(searcher, Scope("large", 1, "default", ("hay",)), mode)) == 10


@pytest.mark.parametrize("mode", MODES)
async def test_a_small_tenant_beside_large_ones_finds_all_it_has(
    searcher: Searcher, mode: Mode
) -> None:
    assert sorted(await numbers(searcher, Scope("small", 1, "default", EVERYBODY), mode)) == list(
        range(7)
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("condition", "k"),
    [({}, 50), ({"half": 1}, 50), ({"kind": "k7"}, 10), ({"n": {"lt": 30}}, 30)],
    ids=json.dumps,
)
async def test_k_passages_come_whenever_k_exist(
    searcher: Searcher, mode: Mode, condition: dict[str, object], k: int
) -> None:
    scope = Scope("large", 1, "default", EVERYBODY, parse(condition))
    found = await numbers(searcher, scope, mode, top_k=50)
    assert len(set(found)) == k


async def test_the_dense_leg_finds_the_truly_nearest_inside_a_filter(
    searcher: Searcher, database: Database
) -> None:
    """Ranked whole, so exactly; through the vector index, nearly."""
    everything, query = vectors(CHUNKS), vectors(1)[0]
    order = np.argsort(-(everything.astype(np.float16).astype(np.float32) @ query))
    few = Scope("large", 1, "default", EVERYBODY, parse({"kind": "k7"}))
    assert await numbers(searcher, few, "dense") == [n for n in order.tolist() if n % 5000 == 7]
    half = Scope("large", 1, "default", EVERYBODY, parse({"half": 1}))
    nearest = [n for n in order.tolist() if n % 2 == 1][:50]
    assert len(set(nearest) & set(await numbers(searcher, half, "dense", top_k=50))) >= 40


async def test_what_was_deleted_costs_nobody_a_place(
    searcher: Searcher, database: Database
) -> None:
    """The best 200 by BM25 are dead, as between a delete and the next merge."""
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM chunk WHERE id BETWEEN 3000000 AND 3000199")
    scope = Scope("dying", 1, "default", EVERYBODY)
    assert await numbers(searcher, scope, "lexical", top_k=50) == list(range(200, 250))


async def test_a_wide_scope_is_not_measured_again_for_every_search(reads: Reads) -> None:
    """Postgres is asked once; a filter is measured each time, and so is what is narrow."""
    narrowing, asked = Narrowing(), list[object]()
    wide = Scope("large", 1, "default", EVERYBODY)
    half = Scope("large", 1, "default", EVERYBODY, parse({"half": 1}))
    async with reads.of("large") as connection:
        with connection.query_logger(asked.append):
            for scope, more in ((wide, 1), (wide, 0), (half, 1), (half, 1), (wide, 0)):
                before = len(asked)
                assert await narrowing.narrowed(connection, scope) is None
                await asyncio.sleep(0)  # the log is told in the next turn of the loop
                assert len(asked) - before == more
            few = Scope("large", 1, "default", ("needle",))
            for _ in range(2):
                assert await narrowing.narrowed(connection, few) == [1_000_000 + NEEDLE]
                await asyncio.sleep(0)
    assert len(asked) == 5


@pytest.mark.parametrize("mode", MODES)
async def test_a_scope_that_was_wide_a_moment_ago_gives_all_that_is_left(
    reads: Reads, mode: Mode
) -> None:
    """What is remembered of it costs time and no passage."""
    searcher = Searcher(reads, pool_size=4)
    scope = Scope("small", 1, "default", EVERYBODY)
    searcher._narrowing._wide_until[scope] = float("inf")
    assert sorted(await numbers(searcher, scope, mode)) == list(range(7))


@pytest.mark.parametrize("mode", MODES)
async def test_a_selective_filter_is_quick(searcher: Searcher, mode: Mode) -> None:
    """A filter that ten chunks pass reads those ten, not the 50,000 (which takes over 100 ms)."""
    scope = Scope("large", 1, "default", EVERYBODY, parse({"kind": "k7"}))
    times = []
    for _ in range(15):
        started = time.perf_counter()
        assert len(await numbers(searcher, scope, mode)) == 10
        times.append(time.perf_counter() - started)
    assert sorted(times)[5] < 0.06
