"""Drafts on a real Postgres: paid for once, gone with the document they were written from."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

import pytest

from penstock.common.db import Database
from penstock.common.envelope import Envelope, Record
from penstock.common.events import (
    AnswerDrafted,
    DocumentIndexed,
    DocumentRemoved,
    Event,
    Passage,
    PassageRetrieved,
    Position,
    TextSpan,
)
from penstock.common.topics import DOCUMENT_PURGED
from penstock.generate.app import MIGRATIONS
from penstock.generate.document_handlers import DraftUpkeep
from penstock.generate.postgres import PostgresDrafts
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected

ASKED = PassageRetrieved(question="How deep?", passages=())
Body = TypeVar("Body", bound=Event)
POSITION = Position(cluster="c", partition=0, offset=0, at=0)


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[Database]:
    async with Database.open(
        servers.dsns["generate"], schema="generate", migrations=MIGRATIONS
    ) as opened:
        yield opened


def passage(document: str, version: int) -> Passage:
    return Passage(
        chunk_id=f"{document}-{version}", document_id=document, version=version, score=1.0, rank=1,
        text="Six metres.", span=TextSpan(start=0, end=11),
    )  # fmt: skip


def drafted(*passages: Passage) -> list[AnswerDrafted]:
    final = AnswerDrafted(
        question="How deep?", ask=1, round=0, sentence=1, final=True, text="Six.",
        passages=passages,
    )  # fmt: skip
    return [final.model_copy(update={"sentence": 0, "final": False}), final]


def record(tenant: str, body: Body) -> Record[Body]:
    return Record(
        topic="t", partition=0, offset=0, position=POSITION, key=f"{tenant}/d",
        envelope=Envelope(id=uuid4().hex, tenant=tenant, job="j"), body=body,
    )  # fmt: skip


def removed(tenant: str, document: str, version: int) -> Record[DocumentRemoved]:
    body = DocumentRemoved(
        document=document, collection="default", submission="s", position=POSITION,
        version=version, at=datetime.now(UTC), elapsed_ms=1,
    )  # fmt: skip
    return record(tenant, body)


def indexed(tenant: str, document: str, version: int) -> Record[DocumentIndexed]:
    body = DocumentIndexed(
        document=document, collection="default", submission="s", position=POSITION,
        version=version, at=datetime.now(UTC), generation=1, chunks=1,
    )  # fmt: skip
    return record(tenant, body)


async def test_a_draft_is_found_as_it_was_published(database: Database) -> None:
    """A redelivered question gets the very same sentences, and only of its own ask."""
    drafts, tenant = PostgresDrafts(database), uuid4().hex
    written = drafted(passage("d", 1))
    assert await drafts.store(tenant, "q", written)
    assert (await drafts.find(tenant, ASKED, "q")).drafted == written
    assert (await drafts.find(tenant, ASKED.model_copy(update={"ask": 2}), "q")).drafted == []
    assert (await drafts.find("another", ASKED, "q")).drafted == []


async def test_a_draft_of_an_older_release_gets_its_questions_collection(
    database: Database,
) -> None:
    """It does not name one, and is judged by that collection's policy all the same."""
    drafts, tenant = PostgresDrafts(database), uuid4().hex
    await drafts.store(tenant, "q", drafted(passage("d", 1)))
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE draft SET sentences = (SELECT jsonb_agg(one - 'collection') "
            "FROM jsonb_array_elements(sentences) AS one) WHERE tenant = $1",
            tenant,
        )
    question = ASKED.model_copy(update={"collection": "legal"})
    found = (await drafts.find(tenant, question, "q")).drafted
    assert [sentence.collection for sentence in found] == ["legal", "legal"]


async def test_a_deleted_document_takes_its_drafts_along(database: Database) -> None:
    """The receipt can say that no draft holds its text; a repeat says so again."""
    drafts, tenant = PostgresDrafts(database), uuid4().hex
    await drafts.store(tenant, "q", drafted(passage("gone", 2), passage("stays", 1)))
    await drafts.store(tenant, "other", drafted(passage("stays", 1)))
    upkeep = DraftUpkeep(drafts)
    for _ in range(2):
        (word,) = await upkeep.removed([removed(tenant, "gone", 3)])
        assert word.body is not None
        assert (word.topic, word.body.store, word.body.version) == (DOCUMENT_PURGED, "drafts", 3)
    assert (await drafts.find(tenant, ASKED, "q")).drafted == []
    assert (await drafts.find(tenant, ASKED, "other")).drafted != []
    async with database.transaction() as connection:
        left = "SELECT count(*) FROM draft_source WHERE tenant = $1 AND document = 'gone'"
        assert await connection.fetchval(left, tenant) == 0


async def test_an_answer_that_comes_after_the_delete_is_not_kept(database: Database) -> None:
    """However late the model was, nothing of a removed version is stored; a new version may be."""
    drafts, tenant = PostgresDrafts(database), uuid4().hex
    await DraftUpkeep(drafts).removed([removed(tenant, "gone", 3)])
    old, new = passage("gone", 2), passage("gone", 4)
    assert await drafts.live(tenant, [old, new]) == [new]
    assert not await drafts.store(tenant, "late", drafted(old))
    assert (await drafts.find(tenant, ASKED, "late")).drafted == []
    assert await drafts.store(tenant, "fresh", drafted(new))


async def test_a_new_version_replaces_what_was_drafted_from_the_old(database: Database) -> None:
    """A redelivered question is answered from what is searchable now."""
    drafts, tenant = PostgresDrafts(database), uuid4().hex
    await drafts.store(tenant, "old", drafted(passage("d", 1)))
    await drafts.store(tenant, "new", drafted(passage("d", 2)))
    assert await DraftUpkeep(drafts).replaced([indexed(tenant, "d", 2)]) == []
    assert (await drafts.find(tenant, ASKED, "old")).drafted == []
    assert (await drafts.find(tenant, ASKED, "new")).drafted != []


async def test_a_request_sees_only_its_own_tenant(database: Database) -> None:
    """Row-level security holds on the drafts."""
    drafts, mine, theirs = PostgresDrafts(database), uuid4().hex, uuid4().hex
    for tenant in (mine, theirs):
        await drafts.store(tenant, "q", drafted(passage("d", 1)))
    async with database.request(mine) as connection:
        rows = await connection.fetch("SELECT DISTINCT tenant FROM draft")
    assert [row["tenant"] for row in rows] == [mine]
