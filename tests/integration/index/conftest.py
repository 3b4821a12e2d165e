"""An index on the run's Postgres, and events for it. Every test has a tenant of its own."""

import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

import penstock.retrieve
from penstock.common.db import Database
from penstock.common.envelope import Envelope, Publication, Record, document_key
from penstock.common.events import (
    Chunk,
    DocumentEmbedded,
    DocumentRejected,
    DocumentRetired,
    ElementKind,
    Position,
    TextSpan,
)
from penstock.local.stack import Servers
from penstock.retrieve import writing
from penstock.retrieve.indexer import Index
from penstock.retrieve.merging import Upkeep

MIGRATIONS = Path(next(iter(penstock.retrieve.__path__))) / "migrations"


@pytest.fixture(scope="session")
async def database(servers: Servers) -> AsyncIterator[Database]:
    async with Database.open(
        servers.dsns["retrieve"],
        schema="retrieve",
        migrations=MIGRATIONS,
        pool_size=8,
        setup=writing.setup,
    ) as opened:
        yield opened


@pytest.fixture
def index(database: Database) -> Index:
    return Index(database)


@pytest.fixture
def published() -> list[Publication[Any]]:
    return []


@pytest.fixture
def upkeep(database: Database, index: Index, published: list[Publication[Any]]) -> Upkeep:
    async def publish(*publications: Publication[Any]) -> None:
        published.extend(publications)

    return Upkeep(database, publish, index.untidy)


class Events:
    """Records as the indexer would get them, for one tenant."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self._random = np.random.default_rng(7)

    def _record(self, body: Any, document: str) -> Record[Any]:
        position = Position(cluster="c", partition=0, offset=body.version, at=0)
        envelope = Envelope(
            id=uuid4().hex, tenant=self.tenant, job=f"job-{document}-{body.version}"
        )
        key = document_key(self.tenant, document)
        return Record("t", 0, body.version, position, key, envelope, body)

    def _common(self, document: str, version: int) -> dict[str, Any]:
        at = round(time.time() * 1000)
        return {
            "document": document,
            "collection": "default",
            "submission": f"s{version}",
            "position": Position(cluster="c", partition=0, offset=version, at=at),
            "version": version,
        }

    def batch(
        self,
        document: str,
        version: int,
        texts: Sequence[str],
        *,
        k: int = 0,
        n: int = 1,
        cut: str = "",
        first: int = 0,
        **more: Any,
    ) -> Record[DocumentEmbedded]:
        """Batch k of n with a random unit vector for each text."""
        vectors = self._random.standard_normal((len(texts), 384))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        chunks = tuple(
            Chunk(
                ordinal=first + i,
                text=text,
                kind=ElementKind.PARAGRAPH,
                span=TextSpan(start=i, end=i + len(text)),
            )
            for i, text in enumerate(texts)
        )
        fields = self._common(document, version) | {
            "generation": 1,
            "cut": cut or f"cut{version}",
            "k": k,
            "n": n,
            "chunks": chunks,
            "model": "bge-small-en-v1.5",
            "dim": 384,
            "vectors": vectors.astype("<f2").tobytes(),
        }
        return self._record(DocumentEmbedded(**(fields | more)), document)

    def retired(self, document: str, version: int) -> Record[DocumentRetired]:
        body = DocumentRetired(**self._common(document, version), at=datetime.now(UTC))
        return self._record(body, document)

    def rejected(self, document: str, version: int) -> Record[DocumentRejected]:
        body = DocumentRejected(**self._common(document, version), actor="somebody")
        return self._record(body, document)


@pytest.fixture
def events() -> Events:
    return Events(f"t{uuid4().hex[:12]}")


class Seen:
    """What a tenant's searches could see, and what the tables hold of it."""

    def __init__(self, database: Database, tenant: str) -> None:
        self._database = database
        self._tenant = tenant

    async def rows(self, sql: str, *args: Any) -> list[Any]:
        """As the request role, under row-level security."""
        async with self._database.request(self._tenant) as connection:
            return list(await connection.fetch(sql, *args))

    async def texts(self, document: str) -> list[str]:
        rows = await self.rows(
            "SELECT text FROM chunk JOIN embedding_1 ON chunk = id WHERE document = $1 ORDER BY ordinal",
            document,
        )
        return [row["text"] for row in rows]

    async def ids(self, document: str) -> dict[str, int]:
        rows = await self.rows("SELECT text, id FROM chunk WHERE document = $1", document)
        return {row["text"]: row["id"] for row in rows}

    async def holding(self, term: str) -> list[int]:
        """Numbers of the live chunks whose postings hold a term, ascending."""
        blocks = await self.rows(
            "SELECT s.base, b.chunks, b.tfs, b.lengths FROM posting_block b "
            "JOIN segment s ON s.id = b.segment WHERE b.term = $1",
            term,
        )
        found: list[int] = []
        for block in blocks:
            offsets = np.frombuffer(block["chunks"], "<i4")
            assert len(offsets) == len(block["tfs"]) == len(block["lengths"]) // 2
            found += (offsets + block["base"]).tolist()
        live = await self.rows("SELECT id FROM chunk WHERE id = ANY ($1::bigint[])", found)
        alive = {row["id"] for row in live}
        return sorted(number for number in found if number in alive)

    async def staged(self) -> int:
        async with self._database.transaction() as connection:
            count: int = await connection.fetchval(
                "SELECT count(*) FROM staging WHERE tenant = $1", self._tenant
            )
            return count


@pytest.fixture
def seen(database: Database, events: Events) -> Seen:
    return Seen(database, events.tenant)
