"""The searcher process: answers planned questions with passages, and two doors.

`POST /v1/search` finds passages, `GET /v1/documents/{id}/text` gives back a document's text.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pgvector.asyncpg import register_vector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.common import events
from penstock.common.consumer import Stage
from penstock.common.db import Reads, answers
from penstock.common.envelope import Publication, Record, follow
from penstock.common.events import Failure, PassageRetrieved, ProgressState, QuestionPlanned
from penstock.common.failures import PermanentError, TransientError
from penstock.common.http import JSON, guarded, problem
from penstock.common.progress import progressed
from penstock.common.service import Service
from penstock.common.settings import DatabaseSettings
from penstock.common.tokens import Identity
from penstock.common.topics import PASSAGE_RETRIEVED, QUESTION_PLANNED
from penstock.models import DEFAULT_MODEL, Embedder, open_embedder
from penstock.retrieve.cuts import GENERATION
from penstock.retrieve.dense import SERVER_SETTINGS
from penstock.retrieve.filters import parse
from penstock.retrieve.requests import LEAST_PASSAGES, fitting, search_request, searches_of
from penstock.retrieve.scope import Scope
from penstock.retrieve.search import Found, Mode, Searcher
from penstock.retrieve.text import collection_of, document_text

CONCURRENCY = 8
"""Questions in hand at once."""

POOL = 8
"""Connections, two to a search; more searches at once than this gives do not finish sooner."""

MIGRATIONS = Path(__file__).parent / "migrations"

_STATUS = {"unknown_collection": 404}


class Embedders:
    """One embedder for each model that collections use, opened when first asked for."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._open: dict[str, Embedder] = {}
        self._opening = asyncio.Lock()

    async def of(self, model: str) -> Embedder:
        async with self._opening:
            if model not in self._open:
                self._open[model] = await self._stack.enter_async_context(open_embedder(model))
        return self._open[model]


class SearcherProcess:
    """What the handler and the doors work with, while the process is up."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self.settings = settings
        self.stage = Stage("searcher", settings)
        self.reads: Reads
        self.embedders: Embedders
        self.searcher: Searcher

    @asynccontextmanager
    async def resources(self) -> AsyncIterator[None]:
        pool_size = max(self.settings.database_pool, POOL)
        async with AsyncExitStack() as stack:
            self.reads = await stack.enter_async_context(
                Reads.open(
                    self.settings.database.get_secret_value(),
                    schema="retrieve",
                    migrations=MIGRATIONS,
                    pool_size=pool_size,
                    setup=register_vector,
                    server_settings=SERVER_SETTINGS,
                )
            )
            self.searcher = Searcher(self.reads, pool_size=pool_size)
            self.embedders = Embedders(stack)
            await self.embedders.of(DEFAULT_MODEL)
            yield

    async def _search(
        self,
        tenant: str,
        collection: str,
        groups: Sequence[str],
        texts: Sequence[str],
        raw_filter: dict[str, Any],
        *,
        top_k: int,
        mode: Mode = "hybrid",
    ) -> Found:
        configured = self.stage.collections.get(tenant, collection)
        if configured.generation != GENERATION:
            raise PermanentError(
                f"collection {collection!r} wants generation {configured.generation}; "
                f"this index holds {GENERATION} only",
                type="unknown_generation",
            )
        scope = Scope(tenant, configured.generation, collection, tuple(groups), parse(raw_filter))
        embedder = await self.embedders.of(configured.model)
        return await self.searcher.search(embedder, texts, scope, top_k=top_k, mode=mode)

    # ------------------------------------------------------------ from the topic

    async def retrieve(
        self, records: Sequence[Record[QuestionPlanned]]
    ) -> Sequence[Publication[Any]]:
        """Find the passages of a planned question.

        Safe to repeat: it reads only, and what it publishes is the same question's again.
        """
        (record,) = records
        question = record.value
        if record.envelope.expired(datetime.now(UTC)):
            late = Failure(
                type="expired", message="the question's deadline passed before its search"
            )
            return [progressed(record, events.Stage.SEARCH, ProgressState.FAILED, error=late)]
        found = await self._search(
            record.envelope.tenant,
            question.collection,
            question.groups,
            searches_of(question),
            question.filter,
            top_k=max(question.top_k, LEAST_PASSAGES),
        )
        body = question.model_dump(exclude={"searches", "timings_ms"})
        timings = _added(question.timings_ms, embed=found.embed_ms, search=found.search_ms)
        event = PassageRetrieved(**body, passages=found.passages, timings_ms=timings)
        return [
            follow(record, PASSAGE_RETRIEVED, fitting(event)),
            progressed(record, events.Stage.SEARCH),
        ]

    # ------------------------------------------------------------ from the doors

    async def search(self, request: Request, identity: Identity) -> Response:
        started = time.perf_counter()
        asked = search_request(await request.body())
        found = await self._search(
            identity.tenant,
            asked.collection,
            identity.groups,
            [asked.query],
            asked.filter,
            top_k=asked.top_k,
            mode=asked.mode,
        )
        passages = [passage.model_dump(mode="json") for passage in found.passages]
        took_ms = round((time.perf_counter() - started) * 1e3, 3)
        return JSON({"passages": passages, "took_ms": took_ms})

    async def text(self, request: Request, identity: Identity) -> Response:
        document = request.path_params["document"]
        collection = await collection_of(self.reads, identity.tenant, document)
        found = None
        if collection is not None:
            generation = self.stage.collections.get(identity.tenant, collection).generation
            found = await document_text(
                self.reads, identity.tenant, document, generation, identity.groups
            )
        if found is None:
            return problem(
                404, "document_not_found", f"no searchable document {document!r} that you may read"
            )
        version, text = found
        return JSON({"document_id": document, "version": version, "text": text})


def _added(timings: dict[str, float], **more: float) -> dict[str, float]:
    """Timings with milliseconds added; a question that comes round again adds up."""
    return timings | {name: round(timings.get(name, 0.0) + ms, 3) for name, ms in more.items()}


Door = Callable[[Request, Identity], Awaitable[Response]]


def answering(door: Door) -> Door:
    """A door whose classified errors become problems: the caller's fault, or come again."""

    async def answer(request: Request, identity: Identity) -> Response:
        try:
            return await door(request, identity)
        except PermanentError as error:
            return problem(_STATUS.get(error.type, 422), error.type, str(error))
        except TransientError as error:
            return problem(503, "unavailable", str(error), headers={"Retry-After": "1"})

    return answer


def build(settings: DatabaseSettings) -> Service:
    """The searcher, ready to run."""
    process = SearcherProcess(settings)
    process.stage.on(
        QUESTION_PLANNED, process.retrieve, concurrency=CONCURRENCY, stage=events.Stage.SEARCH
    )

    def door(endpoint: Door) -> Callable[[Request], Awaitable[Response]]:
        return guarded(answering(endpoint), settings.service_secret)

    return Service(
        "searcher",
        settings,
        stage=process.stage,
        routes=[
            Route("/v1/search", door(process.search), methods=["POST"]),
            Route("/v1/documents/{document:path}/text", door(process.text), methods=["GET"]),
        ],
        resources=process.resources,
        ready=partial(answers, settings.database.get_secret_value()),
    )
