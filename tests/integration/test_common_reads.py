"""Reads on behalf of tenants keep the tenant on the connection; nobody sees another one's rows."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from penstock.common.db import Database, Reads
from penstock.common.failures import PermanentError, TransientError
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected

MINE, THEIRS = "mine", "theirs"
SEEN = "SELECT tenant FROM {table}"


@pytest.fixture
async def table(servers: Servers) -> AsyncIterator[str]:
    """A table with a row of each tenant, guarded as all are."""
    owner = await asyncpg.connect(servers.dsns["retrieve"])
    name = f"guarded_{uuid4().hex[:8]}"
    await owner.execute(
        f"""
        GRANT USAGE ON SCHEMA retrieve TO retrieve_request;
        CREATE TABLE {name} (tenant text NOT NULL);
        INSERT INTO {name} VALUES ('{MINE}'), ('{THEIRS}');
        GRANT SELECT ON {name} TO retrieve_request;
        ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON {name} TO retrieve_request
            USING (tenant = current_setting('app.tenant'));
        """
    )
    yield name
    await owner.execute(f"DROP TABLE {name}")
    await owner.close()


@pytest.fixture
async def reads(servers: Servers, table: str, tmp_path: Path) -> AsyncIterator[Reads]:
    """Two connections."""
    async with Reads.open(
        servers.dsns["retrieve"], schema="retrieve", migrations=tmp_path, pool_size=2
    ) as opened:
        yield opened


async def seen(connection: asyncpg.Connection, table: str) -> list[str]:
    return [row["tenant"] for row in await connection.fetch(SEEN.format(table=table))]


async def test_tenants_that_take_turns_see_their_own_rows_alone(reads: Reads, table: str) -> None:
    """Sixteen askers of two tenants on two connections, 640 reads, in any order."""
    chance = random.Random(3)

    async def asker(tenant: str) -> None:
        for _ in range(20):
            async with reads.of(tenant) as connection:
                await asyncio.sleep(0)
                assert await seen(connection, table) == [tenant]
                await asyncio.sleep(chance.random() / 1000)
                assert await seen(connection, table) == [tenant]

    await asyncio.gather(*(asker(tenant) for tenant in (MINE, THEIRS) * 8))


async def test_the_tenant_is_set_when_it_changes_and_not_again(reads: Reads) -> None:
    """A tenant that asks twice pays one round trip for being itself."""
    said: list[str] = []
    async with reads.of(MINE) as connection:
        one = connection._con
    with one.query_logger(lambda query: said.append(query.query)):
        for tenant in (MINE, MINE, THEIRS, THEIRS, MINE):
            async with reads.of(tenant) as connection:
                assert connection._con is one
    assert ["set_config" in query for query in said] == [True, True]


async def test_a_read_that_is_cancelled_while_the_tenant_changes_leaves_nobody_the_wrong_one(
    reads: Reads, table: str
) -> None:
    """Whether the server had changed it or not by then: the next one says again who it is."""
    for turns in range(12):  # broken off a little later each time, until after it is done
        for tenant, other in ((MINE, THEIRS), (THEIRS, MINE)):
            async with reads.of(other) as first, reads.of(other) as second:
                assert await seen(first, table) == await seen(second, table) == [other]
            task = asyncio.create_task(_reading(reads, tenant, table))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with reads.of(other) as first, reads.of(tenant) as second:
                assert await seen(first, table) == [other]
                assert await seen(second, table) == [tenant]


async def _reading(reads: Reads, tenant: str, table: str) -> None:
    async with reads.of(tenant) as connection:
        await seen(connection, table)


@pytest.mark.parametrize("after", [MINE, THEIRS])
@pytest.mark.parametrize("arrived", [True, False])
async def test_a_tenant_that_nobody_heard_was_set_is_set_again(
    reads: Reads, table: str, monkeypatch: pytest.MonkeyPatch, *, arrived: bool, after: str
) -> None:
    """Cancelled before the server did it, or before it said so: the connection is nobody's."""
    async with reads.of(MINE) as connection:
        assert await seen(connection, table) == [MINE]
        one = connection._con
    really = type(one).fetchval

    async def unheard(connection: asyncpg.Connection, *args: str) -> None:
        if arrived:
            await really(connection, *args)
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(type(one), "fetchval", unheard)
        with pytest.raises(asyncio.CancelledError):
            await _reading(reads, THEIRS, table)
    async with reads.of(after) as connection:
        assert connection._con is one
        assert await seen(connection, table) == [after]


@pytest.mark.parametrize("wrong", ["SELECT 1 / 0", "SELECT nothing"])
async def test_after_an_error_the_tenant_is_still_the_askers(
    reads: Reads, table: str, wrong: str
) -> None:
    """What a statement did wrong is the matter of who asked it, and not of the next one."""
    for tenant in (MINE, THEIRS) * 2:
        with pytest.raises((PermanentError, asyncpg.UndefinedColumnError)):
            async with reads.of(tenant) as connection:
                await connection.fetch(wrong)
        async with reads.of(tenant) as connection:
            assert await seen(connection, table) == [tenant]


async def test_a_transaction_that_fails_takes_no_tenant_back(reads: Reads, table: str) -> None:
    """What is set outside of a transaction outlives its end."""
    async with reads.of(MINE):
        pass
    for tenant in (THEIRS, MINE):
        with pytest.raises(ZeroDivisionError):
            async with reads.of(tenant) as connection, connection.transaction():
                raise ZeroDivisionError
        async with reads.of(tenant) as connection:
            assert await seen(connection, table) == [tenant]


async def test_a_connection_that_was_lost_comes_back_for_the_same_tenant(
    servers: Servers, reads: Reads, table: str
) -> None:
    """The new one has no tenant, whatever was known of the old one."""
    async with reads.of(MINE) as connection:
        old = connection.get_server_pid()
    admin = await asyncpg.connect(servers.admin_dsn)
    await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", old)
    await admin.close()
    with contextlib.suppress(TransientError):  # it may not be seen yet that it is over
        await _reading(reads, MINE, table)
    for tenant in (MINE, THEIRS):
        async with reads.of(tenant) as connection:
            assert connection.get_server_pid() != old
            assert await seen(connection, table) == [tenant]


async def test_no_connection_is_ever_the_owners(reads: Reads, table: str) -> None:
    """The owner sees everything: these connections show nothing until somebody's tenant is set."""
    async with reads._pool.acquire() as first, reads._pool.acquire() as second:
        for connection in (first, second):
            assert await connection.fetchval("SELECT current_user") == "retrieve_request"
            with pytest.raises(asyncpg.UndefinedObjectError, match=r"app\.tenant"):
                await seen(connection, table)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"INSERT INTO {table} VALUES ('{MINE}')")


async def test_the_owner_sees_everything_beside_the_reads(
    servers: Servers, reads: Reads, table: str, tmp_path: Path
) -> None:
    """A writer of the same process works through a pool of its own, before and after."""
    async with Database.open(
        servers.dsns["retrieve"], schema="retrieve", migrations=tmp_path, pool_size=1
    ) as database:
        for tenant in (MINE, THEIRS):
            async with reads.of(tenant) as connection:
                assert await seen(connection, table) == [tenant]
            async with database.transaction() as connection:
                assert sorted(await seen(connection, table)) == [MINE, THEIRS]
            async with database.request(tenant) as connection:
                assert await seen(connection, table) == [tenant]
            async with database.statements() as connection:
                assert sorted(await seen(connection, table)) == [MINE, THEIRS]


async def test_postgres_away_is_said_as_everywhere(reads: Reads) -> None:
    """A search waits for it; nothing is dead-lettered."""
    reads._pool.terminate()
    with pytest.raises(TransientError):
        async with reads.of(MINE):
            pytest.fail("there is no connection")
