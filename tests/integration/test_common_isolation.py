"""Row-level security in every schema, found from what the migrations made and not from a list."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from penstock.common.bootstrap.database import DATABASE, SCHEMAS, role
from penstock.common.db import Database
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected

SERVICES = Path(__file__).parents[2] / "services"

OPEN_TABLES = """
    SELECT n.nspname || '.' || c.relname AS name,
        c.relrowsecurity AND EXISTS (
            SELECT FROM pg_policy p
            WHERE p.polrelid = c.oid AND p.polpermissive AND r.oid = ANY (p.polroles)
        ) AND NOT EXISTS (
            SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND NOT (
                pg_get_expr(p.polqual, p.polrelid)
                    = '(tenant = current_setting(''app.tenant''::text))'
                AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid),
                             pg_get_expr(p.polqual, p.polrelid))
                    = '(tenant = current_setting(''app.tenant''::text))'
                AND p.polroles = ARRAY[r.oid])
        ) AS guarded
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_roles r ON r.rolname = n.nspname || '_request'
    WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'm', 'f')
    AND (has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
        OR has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE'))
"""
"""Every table that the role of a request may touch in any way, and whether a policy bounds it."""


@pytest.fixture(scope="module")
async def databases(servers: Servers) -> AsyncIterator[asyncpg.Connection]:
    """Every schema migrated by its own service; a superuser's connection that looks on."""
    for schema in SCHEMAS:
        (migrations,) = SERVICES.glob(f"*/src/penstock/{schema}/migrations")
        async with Database.open(servers.dsns[schema], schema=schema, migrations=migrations):
            pass
    admin = await asyncpg.connect(_of_penstock(servers.admin_dsn))
    yield admin
    await admin.close()


def _of_penstock(dsn: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{DATABASE}"))


@asynccontextmanager
async def undone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """What is done inside leaves no trace."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def test_a_request_sees_one_tenant_of_every_table(databases: asyncpg.Connection) -> None:
    """A table that a migration adds is bounded by a policy, or no request reaches it."""
    rows = await databases.fetch(OPEN_TABLES, list(SCHEMAS))
    assert {row["name"].split(".")[0] for row in rows} == set(SCHEMAS)
    assert [row["name"] for row in rows if not row["guarded"]] == []


@pytest.mark.parametrize(
    "slip",
    [
        "ALTER TABLE guard.held DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON api.answer",
        "CREATE POLICY more ON retrieve.chunk TO retrieve_request USING (true)",
        "CREATE TABLE ingest.later (tenant text); GRANT SELECT ON ingest.later TO ingest_request",
    ],
)
async def test_a_forgotten_policy_is_noticed(databases: asyncpg.Connection, slip: str) -> None:
    """The check above finds what a careless migration would leave open."""
    async with undone(databases):
        await databases.execute(slip)
        rows = await databases.fetch(OPEN_TABLES, list(SCHEMAS))
    assert [row["name"] for row in rows if not row["guarded"]] != []


async def test_views_look_with_the_eyes_of_who_asks(databases: asyncpg.Connection) -> None:
    """A view runs as its owner by default, whom no policy binds."""
    rows = await databases.fetch(
        "SELECT c.relname, c.reloptions FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE n.nspname = ANY ($1) AND c.relkind = 'v'",
        list(SCHEMAS),
    )
    assert rows
    assert all("security_invoker=true" in (row["reloptions"] or ()) for row in rows)


async def test_the_role_of_a_request_owns_nothing_and_escapes_nothing(
    databases: asyncpg.Connection,
) -> None:
    """Neither owner nor superuser, no login, member of nobody: policies bind it always."""
    for schema in SCHEMAS:
        request = f"{schema}_request"
        found = await databases.fetchrow("SELECT * FROM pg_roles WHERE rolname = $1", request)
        assert not any(
            found[name]
            for name in ("rolsuper", "rolbypassrls", "rolcanlogin", "rolcreaterole", "rolcreatedb")
        )
        owned = "SELECT count(*) FROM pg_shdepend WHERE refobjid = $1 AND deptype = 'o'"
        assert await databases.fetchval(owned, found["oid"]) == 0
        member = "SELECT count(*) FROM pg_auth_members WHERE member = $1"
        assert await databases.fetchval(member, found["oid"]) == 0


async def test_a_service_has_no_rights_in_anothers_schema(databases: asyncpg.Connection) -> None:
    """The password of one service opens its own schema and nothing more."""
    for schema in SCHEMAS:
        for name in (role(schema), f"{schema}_request"):
            usable = await databases.fetch(
                "SELECT nspname FROM pg_namespace WHERE nspname = ANY ($2) "
                "AND has_schema_privilege($1, oid, 'USAGE, CREATE')",
                name,
                list(SCHEMAS),
            )
            assert [row["nspname"] for row in usable] == [schema], name
        owner = await databases.fetchrow("SELECT * FROM pg_roles WHERE rolname = $1", role(schema))
        rights = ("rolsuper", "rolbypassrls", "rolcreaterole")
        assert not any(owner[right] for right in rights)


async def test_functions_that_run_as_their_owner_are_pinned(databases: asyncpg.Connection) -> None:
    """Neither a caller's search_path nor a temporary table can change what they mean."""
    rows = await databases.fetch(
        "SELECT n.nspname, p.proname, p.proconfig, has_function_privilege('public', p.oid, "
        "'EXECUTE') AS anyone FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE n.nspname = ANY ($1) AND p.prosecdef",
        list(SCHEMAS),
    )
    assert "narrowed" in {row["proname"] for row in rows}
    for row in rows:
        assert row["proconfig"] == [f"search_path={row['nspname']}, pg_temp"], row["proname"]
        assert not row["anyone"], row["proname"]


async def test_narrowing_a_search_finds_the_callers_tenant_alone(
    databases: asyncpg.Connection, servers: Servers
) -> None:
    """The one function that passes by the policies names the tenant itself, whatever it is asked."""
    connection = await asyncpg.connect(servers.dsns["retrieve"])
    call = "SELECT narrowed(1, 'default', {wanted}, {groups})"
    hostile = ["NULL", """ARRAY['{}']::jsonb[]""", """ARRAY['{"a": "'' OR true --"}']::jsonb[]"""]
    try:
        async with undone(connection):
            for number, tenant in ((-1, "ours"), (-2, "theirs")):
                await connection.execute(
                    "INSERT INTO chunk VALUES ($1, gen_random_uuid(), $2, 1, 'default', 'd', 1, 0, "
                    "'t', 'paragraph', NULL, '{}', 0, 1, NULL, '{}', NULL, '[]', 1)",
                    number,
                    tenant,
                )
            # What a caller could put in the way: a table of the same name.
            await connection.execute("CREATE TEMP TABLE chunk AS SELECT * FROM retrieve.chunk")
            await connection.execute("GRANT SELECT ON pg_temp.chunk TO PUBLIC")
            await connection.execute("SET LOCAL ROLE retrieve_request")
            for tenant, mine in (("ours", -1), ("theirs", -2), ("", None), ("nobody", None)):
                await connection.execute("SELECT set_config('app.tenant', $1, true)", tenant)
                for wanted in hostile:
                    for groups in ("'{}'", "ARRAY['a']", "NULL"):
                        found = await connection.fetchval(call.format(wanted=wanted, groups=groups))
                        assert set(found) <= {mine}, (tenant, wanted, groups)
                plain = await connection.fetchval(call.format(wanted="NULL", groups="'{}'"))
                assert plain == ([mine] if mine else [])
    finally:
        await connection.close()


async def test_without_a_tenant_nothing_is_seen(servers: Servers) -> None:
    """A request whose tenant was not set is an error, not everybody's rows."""
    connection = await asyncpg.connect(servers.dsns["retrieve"])
    try:
        async with undone(connection):
            await connection.execute("SET LOCAL ROLE retrieve_request")
            with pytest.raises(asyncpg.UndefinedObjectError, match=r"app\.tenant"):
                await connection.fetchval("SELECT narrowed(1, 'default', NULL, '{}')")
    finally:
        await connection.close()
