"""Taking in on a real Postgres: races, deletes ahead of a backlog, and what a purge leaves."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest

from penstock.common.db import Database
from penstock.common.events import DocumentSubmitted, Position
from penstock.ingest.postgres import MIGRATIONS, Submissions, TakenIn
from penstock.ingest.takein import Decision, Incoming, Outcome
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected

TENANT = "ingest-tests"
BODY = DocumentSubmitted(text="x", title="marker-title", metadata={"m": "marker-meta"})


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[Database]:
    dsn = servers.dsns["ingest"]
    async with Database.open(dsn, schema="ingest", migrations=MIGRATIONS, pool_size=8) as opened:
        yield opened


@pytest.fixture
def submissions(database: Database) -> Submissions:
    return Submissions(database)


@pytest.fixture
def document() -> str:
    return uuid4().hex


def record(offset: int, content: str | None = "a", *, partition: int = 0) -> Incoming:
    position = Position(cluster="c", partition=partition, offset=offset, at=offset)
    return Incoming(f"s{partition}-{offset}", position, content, generation=1)


async def take(
    submissions: Submissions, document: str, incoming: Incoming, blob: str | None = None
) -> TakenIn:
    body = BODY if incoming.fingerprint is not None else None
    return await submissions.take_in(TENANT, document, incoming, body, blob)


async def test_at_once_from_many_connections_every_number_is_given_once(
    submissions: Submissions, document: str
) -> None:
    """Redeliveries included: all who carry one id get one number."""
    records = [record(n, f"content {n}") for n in range(20)]
    arrivals = records * 2
    random.Random(7).shuffle(arrivals)
    taken = await asyncio.gather(*(take(submissions, document, each) for each in arrivals))
    numbers: dict[str, set[int]] = {}
    for each, result in zip(arrivals, taken, strict=True):
        if result.decision.version is not None:
            numbers.setdefault(each.submission, set()).add(result.decision.version)
    assert all(len(given) == 1 for given in numbers.values())
    assert sorted(min(given) for given in numbers.values()) == list(range(1, len(numbers) + 1))
    assert "s0-19" in numbers, "the last record of the log is always taken in"
    in_order = [numbers[r.submission] for r in records if r.submission in numbers]
    assert [min(given) for given in in_order] == list(range(1, len(in_order) + 1))


async def test_a_delete_ahead_of_the_backlog_gives_its_number_to_the_null_record(
    submissions: Submissions, document: str
) -> None:
    await take(submissions, document, record(1))
    removal = record(5000, None)
    assert (await take(submissions, document, removal)).decision == Decision(Outcome.NEW, 2)
    backlog = await asyncio.gather(
        *(take(submissions, document, record(n, f"v{n}")) for n in range(2, 40))
    )
    assert {result.decision for result in backlog} == {Decision(Outcome.SUPERSEDED)}
    assert (await take(submissions, document, removal)).decision == Decision(Outcome.AGAIN, 2)
    assert (await take(submissions, document, record(5001))).decision == Decision(Outcome.NEW, 3)


async def test_the_generation_and_blob_of_a_redelivery_are_those_it_was_taken_in_with(
    submissions: Submissions, document: str
) -> None:
    await take(submissions, document, record(1), "blob:t/s/1")
    again = await take(submissions, document, replace(record(1), generation=9), "blob:t/s/2")
    assert (again.decision, again.generation, again.blob) == (
        Decision(Outcome.AGAIN, 1), 1, "blob:t/s/1",
    )  # fmt: skip


async def test_an_equal_submission_is_unchanged_only_once_the_first_is_searchable(
    submissions: Submissions, document: str
) -> None:
    await take(submissions, document, record(1))
    assert (await take(submissions, document, record(2))).decision == Decision(Outcome.NEW, 2)
    await submissions.confirm([(TENANT, document, 2, 1)])
    unchanged = await take(submissions, document, record(3), "blob:t/s3/1")
    assert unchanged.decision == Decision(Outcome.UNCHANGED, 2)
    assert unchanged.blob is None, "nothing needs its source"
    assert (await take(submissions, document, record(2))).decision == Decision(Outcome.AGAIN, 2)
    assert (await take(submissions, document, record(4))).decision == Decision(Outcome.UNCHANGED, 2)
    assert (await take(submissions, document, record(5, None))).decision == Decision(Outcome.NEW, 3)
    assert (await take(submissions, document, record(6))).decision == Decision(Outcome.NEW, 4)


async def test_the_sources_of_replaced_versions_go_when_the_new_one_is_searchable(
    submissions: Submissions, document: str
) -> None:
    await take(submissions, document, record(1, "a"), "blob:t/s1/1")
    await take(submissions, document, record(2, "b"), "blob:t/s2/1")
    assert await submissions.confirm([(TENANT, document, 2, 1)]) == ["blob:t/s1/1"]
    assert await submissions.confirm([(TENANT, document, 2, 1)]) == ["blob:t/s1/1"], (
        "not yet forgotten"
    )
    await submissions.purge(TENANT, document, 1)
    assert await submissions.confirm([(TENANT, document, 2, 1)]) == []
    assert await submissions.blobs_up_to(TENANT, document, 2) == ["blob:t/s2/1"]


async def test_a_purge_leaves_the_tombstone_and_the_ids_and_no_content(
    submissions: Submissions, database: Database, document: str
) -> None:
    await take(submissions, document, record(1), "blob:t/s1/1")
    await take(submissions, document, record(2, None))
    assert await submissions.blobs_up_to(TENANT, document, 2) == ["blob:t/s1/1"]
    for _ in range(2):
        await submissions.purge(TENANT, document, 2)
    assert await submissions.blobs_up_to(TENANT, document, 2) == []
    async with database.transaction() as connection:
        rows = await connection.fetch(
            "SELECT submission::text AS whole FROM submission WHERE document = $1", document
        )
    assert len(rows) == 2
    assert not any("marker" in row["whole"] for row in rows)
    reused = await take(submissions, document, record(1, "other"))
    assert reused.decision.outcome is Outcome.REUSED
    late = await take(submissions, document, record(1))
    assert late.decision == Decision(Outcome.SUPERSEDED, 1)


async def test_a_source_fetched_after_a_delete_is_not_kept(
    submissions: Submissions, document: str
) -> None:
    await take(submissions, document, record(1))
    assert await submissions.keep_blob(TENANT, document, "s0-1", "blob:t/s1/1")
    await take(submissions, document, record(2, None))
    assert await submissions.overtaken(TENANT, document, 1)
    await submissions.blobs_up_to(TENANT, document, 2)
    assert not await submissions.keep_blob(TENANT, document, "s0-1", "blob:t/s1/2")


async def test_equal_documents_of_two_ids_and_two_tenants_do_not_meet(
    submissions: Submissions, document: str
) -> None:
    for tenant, name in ((TENANT, document), (TENANT, f"{document}-2"), ("other", document)):
        taken = await submissions.take_in(tenant, name, record(1), BODY)
        assert taken.decision == Decision(Outcome.NEW, 1)


async def test_a_request_sees_its_tenant_alone_and_changes_nothing(
    submissions: Submissions, database: Database, document: str
) -> None:
    await take(submissions, document, record(1))
    query = "SELECT count(*) FROM submission WHERE document = $1"
    async with database.request(TENANT) as connection:
        assert await connection.fetchval(query, document) == 1
    async with database.request("other") as connection:
        assert await connection.fetchval(query, document) == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM submission")
