"""Jobs: look, wait, follow, cancel."""

import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from penstock.api import jobs
from penstock.api.access import Anyone, Caller, Role, still_holds
from penstock.api.errors import Problem
from penstock.api.models import JobBody
from penstock.api.postgres import job_signal
from penstock.api.resources import Resources, resources
from penstock.api.routes.answering import (
    MOST_PER_PAGE,
    Prefer,
    cursor,
    read_cursor,
    wanted_wait,
)
from penstock.api.states import JobState
from penstock.api.views import JOB_COLUMNS, job_view
from penstock.common.http import JSON

router = APIRouter(tags=["jobs"])
Shared = Annotated[Resources, Depends(resources)]

HEARTBEAT_S = 15.0
"""A comment line this often, so that proxies do not take a quiet stream for a dead one."""


@router.get("/v1/jobs")
async def list_jobs(
    caller: Anyone,
    shared: Shared,
    cursor_: Annotated[str | None, Query(alias="cursor")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = 50,
    state: JobState | None = None,
) -> Response:
    """The jobs this key may see, newest first, without their results."""
    after = read_cursor(cursor_, str, str)
    async with shared.database.request(caller.tenant) as connection:
        rows = await connection.fetch(
            f"""
            SELECT {JOB_COLUMNS} FROM job WHERE tenant = $1
            AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3))
            AND ($4::text IS NULL OR state = $4)
            AND ($5 OR key = $6 OR ($7 AND kind <> 'question'))
            ORDER BY created_at DESC, id DESC LIMIT $8
            """,  # noqa: S608
            caller.tenant, _time(after[0]) if after else None, after[1] if after else "",
            state.value if state else None, caller.has(Role.OPERATOR), caller.key,
            caller.has(Role.PUBLISHER), limit + 1,
        )  # fmt: skip
    shown = [job_view(row) for row in rows[:limit]]
    last = rows[limit - 1] if len(rows) > limit else None
    following = cursor(last["created_at"].isoformat(), last["id"]) if last else None
    return JSON({"jobs": shown, "next": following})


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise Problem("invalid", "cursor: take `next` from a page as it is") from error


@router.get("/v1/jobs/{job}", response_model=JobBody)
async def show(job: str, caller: Anyone, shared: Shared, prefer: Prefer = None) -> Response:
    """One job with its result; `Prefer: wait=N` waits for it to end."""
    return JSON(await jobs.wait(shared, caller, job, wanted_wait(prefer)))


@router.post("/v1/jobs/{job}/cancel", response_model=JobBody)
async def cancel(job: str, caller: Anyone, shared: Shared) -> Response:
    """Cancel a job; what is at work finishes its step, nothing further is begun."""
    await jobs.find(shared, caller, job)
    await jobs.cancel(shared, caller, job)
    return JSON(await jobs.find(shared, caller, job))


@router.get(
    "/v1/jobs/{job}/events",
    responses={200: {"content": {"text/event-stream": {}}}},
    response_class=StreamingResponse,
)
async def follow(
    request: Request,
    job: str,
    caller: Anyone,
    shared: Shared,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Server-sent events: progress, sentence, retracted, end. Resumes after `Last-Event-ID`."""
    await jobs.find(shared, caller, job)
    if last_event_id is not None and not re.fullmatch("[0-9]{1,18}", last_event_id):
        raise Problem("invalid", "Last-Event-ID: send the id of the last event that came")
    events = _events(request, shared, caller, job, int(last_event_id or 0))
    return StreamingResponse(
        events, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(
    request: Request, shared: Resources, caller: Caller, job: str, last: int
) -> AsyncIterator[bytes]:
    """
    Events beyond `last`, until the job has ended, the key is revoked or this process stops.

    A client that resumes after the last of them gets nothing more, and the stream ends.
    """
    with shared.signals.listen(job_signal(caller.tenant, job)) as woken:
        quiet = 0.0
        while not (shared.signals.stopping or await request.is_disconnected()):
            rows, final = await _news(shared, caller, job, last)
            for row in rows:
                last = row["id"]
                yield _event(row)
            if final:
                return
            quiet = 0.0 if rows else quiet
            # Once a second without news too: the listening connection may have been away.
            if not await woken.wait(1.0):
                quiet += 1.0
            if quiet >= HEARTBEAT_S:
                quiet = 0.0
                yield b": still here\n\n"


async def _news(shared: Resources, caller: Caller, job: str, last: int) -> tuple[list[Any], bool]:
    """What has come since, and whether that is all there will be for this key."""
    async with shared.database.request(caller.tenant) as connection:
        if not await still_holds(connection, caller):
            return [], True
        state = await connection.fetchval(
            "SELECT state FROM job WHERE tenant = $1 AND id = $2", caller.tenant, job
        )
        rows = await connection.fetch(
            "SELECT id, kind, data FROM job_event WHERE tenant = $1 AND job = $2 AND id > $3 "
            "ORDER BY id LIMIT 500",
            caller.tenant,
            job,
            last,
        )
    final = state is None or JobState(state).final
    return rows, final and len(rows) < 500


def _event(row: Any) -> bytes:
    data = orjson.dumps(row["data"])
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (row["id"], row["kind"].encode(), data)
