"""Migrations at an upgrade: once whoever starts, all or nothing, and on from where it stopped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from penstock.common.db import migrate
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected


@pytest.fixture
async def schema(servers: Servers) -> AsyncIterator[str]:
    name = f"upgrade_{uuid4().hex[:8]}"
    connection = await asyncpg.connect(servers.admin_dsn)
    await connection.execute(f"CREATE SCHEMA {name}")
    yield name
    await connection.execute(f"DROP SCHEMA {name} CASCADE")
    await connection.close()


@asynccontextmanager
async def instance(servers: Servers, schema: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(servers.admin_dsn, server_settings={"search_path": schema})
    try:
        yield connection
    finally:
        await connection.close()


async def test_of_instances_that_start_together_one_migrates_and_the_others_wait(
    servers: Servers, schema: str, tmp_path: Path
) -> None:
    """The first is held up in the middle of its work; without the lock the others would fail."""
    (tmp_path / "001_first.sql").write_text("CREATE TABLE thing (a int)")
    (tmp_path / "002_second.sql").write_text("ALTER TABLE thing ADD b int; SELECT pg_sleep(0.3)")
    async with AsyncExitStack() as stack:
        instances = [await stack.enter_async_context(instance(servers, schema)) for _ in range(4)]
        await asyncio.gather(*(migrate(each, schema, tmp_path) for each in instances))
        done = await instances[0].fetch("SELECT name FROM migration ORDER BY name")
    assert [row["name"] for row in done] == ["001_first.sql", "002_second.sql"]


async def test_one_that_fails_leaves_nothing_and_the_next_start_goes_on_there(
    servers: Servers, schema: str, tmp_path: Path
) -> None:
    """What was there before it stays as it was, rows included; the lock is let go."""
    (tmp_path / "001_first.sql").write_text(
        "CREATE TABLE thing (a int); INSERT INTO thing VALUES (1)"
    )
    broken = tmp_path / "002_second.sql"
    broken.write_text("ALTER TABLE thing ADD b int; ALTER TABLE nothing ADD c int")
    async with instance(servers, schema) as old, instance(servers, schema) as new:
        with pytest.raises(asyncpg.UndefinedTableError):
            await migrate(old, schema, tmp_path)
        assert [dict(row) for row in await old.fetch("SELECT * FROM thing")] == [{"a": 1}]
        broken.write_text("ALTER TABLE thing ADD b int DEFAULT 2")
        async with asyncio.timeout(10):
            await migrate(new, schema, tmp_path)
        assert [dict(row) for row in await new.fetch("SELECT * FROM thing")] == [{"a": 1, "b": 2}]
