"""The inner doors: what is in quarantine, and a person's decision about it."""

import base64
import binascii
from typing import Any
from uuid import UUID

import orjson
import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from penstock.common.db import Database
from penstock.common.failures import PermanentError, TransientError
from penstock.common.http import JSON, Endpoint, guarded, problem
from penstock.common.kafka import Publisher
from penstock.common.tokens import Identity
from penstock.guard.decisions import DecisionError, decide
from penstock.guard.postgres import FINDINGS, Quarantined, Quarantines
from penstock.guard.quarantine import Decision, State

log = structlog.get_logger()

ROLES = frozenset({"operator", "approver"})
MAX_PAGE = 200
EXCERPTS = 20


class DecisionBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    decision: Decision
    comment: str = Field(default="", max_length=2_000)


class QuarantineDoors:
    """Each sees the tenant of its token alone, under row-level security."""

    def __init__(self, publisher: Publisher, secret: SecretStr) -> None:
        self._publisher = publisher
        self._secret = secret
        self.database: Database | None = None
        """Set while the process is up."""

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/quarantine", self._door(self.page)),
            Route("/v1/quarantine/{id}", self._door(self.show)),
            Route("/v1/quarantine/{id}/decision", self._door(self.decision), methods=["POST"]),
        ]

    async def page(self, request: Request, identity: Identity) -> Response:
        """`?state=&limit=&cursor=` -> `{"items": […], "next": cursor or null}`, newest first."""
        query = request.query_params
        try:
            state = State(query["state"]) if query.get("state") else None
            limit = min(MAX_PAGE, max(1, int(query.get("limit", "50"))))
            after = _position(query["cursor"]) if query.get("cursor") else None
        except (ValueError, binascii.Error):
            return problem(
                400,
                "invalid_query",
                f"state is one of {', '.join(State)}, limit a number up to {MAX_PAGE}, "
                "cursor what the last page gave as next",
            )
        async with self._database_up().request(identity.tenant) as connection:
            items = await Quarantines(connection).page(state, after, limit + 1)
        more = len(items) > limit
        items = items[:limit]
        following = _cursor(items[-1].number) if more else None
        return JSON({"items": [_summary(item) for item in items], "next": following})

    async def show(self, request: Request, identity: Identity) -> Response:
        """One quarantined version, its findings, and the chunks they were found in."""
        async with self._database_up().request(identity.tenant) as connection:
            quarantines = Quarantines(connection)
            item = await _found(quarantines, request)
            if item is None:
                return _absent(request)
            findings = await quarantines.findings(item)
            chunks = await _excerpts(quarantines, item)
        found = FINDINGS.dump_python(findings, mode="json")
        return JSON({**_summary(item), "findings": found, "chunks": chunks})

    async def decision(self, request: Request, identity: Identity) -> Response:
        """`{"decision": "release" | "reject", "comment"?}`; the first decision stands."""
        try:
            body = DecisionBody.model_validate(orjson.loads(await request.body()))
        except (ValidationError, orjson.JSONDecodeError):
            return problem(
                422,
                "invalid_decision",
                'send {"decision": "release" or "reject", "comment": up to 2,000 characters}',
            )
        async with self._database_up().request(identity.tenant) as connection:
            quarantines = Quarantines(connection)
            item = await _found(quarantines, request, lock=True)
            if item is None:
                return _absent(request)
            try:
                await decide(
                    quarantines, self._publisher, item, body.decision, identity.key, body.comment
                )
            except DecisionError as error:
                return problem(409, error.type, str(error), decided_by=item.decided_by)
            item = await quarantines.get(item.id)
        assert item is not None
        log.info("quarantine_decided", id=str(item.id), state=item.state, by=identity.key)
        return JSON(_summary(item))

    def _door(self, endpoint: Endpoint) -> Any:
        async def door(request: Request, identity: Identity) -> Response:
            if not identity.roles & ROLES:
                return problem(403, "role_missing", "this needs the role operator or approver")
            try:
                return await endpoint(request, identity)
            except TransientError as error:
                return problem(503, "try_again", str(error), headers={"Retry-After": "1"})
            except PermanentError as error:
                return problem(422, error.type, str(error))

        return guarded(door, self._secret)

    def _database_up(self) -> Database:
        if self.database is None:
            raise TransientError("guard is starting or stopping")
        return self.database


async def _found(
    quarantines: Quarantines, request: Request, *, lock: bool = False
) -> Quarantined | None:
    try:
        wanted = UUID(request.path_params["id"])
    except ValueError:
        return None
    return await quarantines.get(wanted, lock=lock)


def _absent(request: Request) -> Response:
    detail = f"there is no quarantined document {request.path_params['id']!r}"
    return problem(404, "quarantine_not_found", detail)


async def _excerpts(quarantines: Quarantines, item: Quarantined) -> list[dict[str, Any]]:
    """The first held chunks with findings, redactions applied; none once it is decided."""
    chunks: list[dict[str, Any]] = []
    async for held in quarantines.held(item):
        for one in held:
            chunks += [
                chunk.model_dump(mode="json") for chunk in one.batch.chunks if chunk.findings
            ]
        if len(chunks) >= EXCERPTS:
            break
    return chunks[:EXCERPTS]


def _summary(item: Quarantined) -> dict[str, Any]:
    return {
        "id": str(item.id),
        "document": item.document,
        "version": item.version,
        "collection": item.collection,
        "title": item.title,
        "batches": item.n,
        "state": item.state,
        "decided_by": item.decided_by,
        "decided_at": item.decided_at,
        "comment": item.comment,
        "created_at": item.created_at,
    }


def _cursor(number: int) -> str:
    return base64.urlsafe_b64encode(str(number).encode()).decode()


def _position(cursor: str) -> int:
    return int(base64.urlsafe_b64decode(cursor.encode()))
