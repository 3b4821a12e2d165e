"""What a request sets going: the job, and the events that begin it, in one transaction."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg

from penstock.api import ledger
from penstock.api.access import Caller
from penstock.api.errors import Problem
from penstock.api.models import NewQuestion
from penstock.api.outbox import Announcement, enqueue
from penstock.api.postgres import end_signal
from penstock.api.reports import THE_QUESTION, Kind
from penstock.api.resources import Resources
from penstock.api.settling import settle
from penstock.api.states import Cause, JobState
from penstock.api.views import read_row, with_result
from penstock.common import events as e
from penstock.common.envelope import Envelope, Publication, document_key
from penstock.common.telemetry import current_traceparent
from penstock.common.topics import DOCUMENT_SUBMITTED, JOB_CANCELLED, QUESTION_ASKED


@dataclass(frozen=True, slots=True)
class Submission:
    """A document on its way in; `id` is also the `ce_id` of its event."""

    id: str
    document: str
    body: e.DocumentSubmitted


@dataclass(frozen=True, slots=True)
class Once:
    """An `Idempotency-Key` and the hash of the request that it stands for."""

    name: str
    request: bytes

    @classmethod
    def of(cls, name: str | None, *parts: bytes) -> "Once | None":
        if name is None:
            return None
        if not 1 <= len(name) <= 255:
            raise Problem("invalid", "Idempotency-Key must have 1 to 255 characters")
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8))
            digest.update(part)
        return cls(name, digest.digest())


def new_id() -> str:
    return uuid4().hex


async def known(connection: asyncpg.Connection, caller: Caller, once: Once | None) -> str | None:
    """
    The job that this request has made before, if it has.

    Raises:
        Problem: the idempotency key stands for another request.
    """
    if once is None:
        return None
    row = await connection.fetchrow(
        "SELECT request, job FROM idempotency WHERE tenant = $1 AND key = $2 AND name = $3",
        caller.tenant,
        caller.key,
        once.name,
    )
    if row is None:
        return None
    if row["request"] != once.request:
        raise Problem(
            "idempotency_key_reused",
            f"Idempotency-Key {once.name!r} was used with another request; use a new one",
        )
    return str(row["job"])


async def _claim(
    connection: asyncpg.Connection, caller: Caller, once: Once | None, job: str
) -> str | None:
    """Claim the idempotency key for this job; the job that has it already, if one does."""
    if once is None:
        return None
    claimed = await connection.fetchval(
        "INSERT INTO idempotency (tenant, key, name, request, job) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT DO NOTHING RETURNING job",
        caller.tenant,
        caller.key,
        once.name,
        once.request,
        job,
    )
    return None if claimed else await known(connection, caller, once)


async def _insert(
    connection: asyncpg.Connection,
    caller: Caller,
    job: str,
    kind: Kind,
    parts: Sequence[str],
    *,
    callback_url: str | None = None,
    request: dict[str, Any] | None = None,
    deadline: datetime | None = None,
) -> None:
    await connection.execute(
        """
        WITH made AS (
            INSERT INTO job (tenant, id, kind, documents, callback_url, key, request, deadline)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8))
        INSERT INTO part (tenant, job, document, ordinal)
        SELECT $1, $2, document, n FROM unnest($9::text[]) WITH ORDINALITY AS u(document, n)
        """,
        caller.tenant, job, kind.value, len(parts), callback_url, caller.key, request, deadline,
        list(parts),
    )  # fmt: skip


def _envelope(caller: Caller, event: str, job: str, subject: str) -> Envelope:
    return Envelope(
        id=event,
        tenant=caller.tenant,
        job=job,
        subject=subject,
        traceparent=current_traceparent(),
    )


async def submit_documents(
    shared: Resources,
    caller: Caller,
    job: str,
    submissions: Sequence[Submission],
    *,
    callback_url: str | None,
    once: Once | None,
) -> str:
    """The job of these documents: `job`, or the one that the same request made before."""
    async with shared.database.request(caller.tenant) as connection:
        earlier = await _claim(connection, caller, once, job)
        if earlier is not None:
            return earlier
        names = [submission.document for submission in submissions]
        await _insert(connection, caller, job, Kind.DOCUMENT, names, callback_url=callback_url)
        await connection.execute(
            "INSERT INTO document (tenant, id, collection) "
            "SELECT $1, * FROM unnest($2::text[], $3::text[]) ORDER BY 2 ON CONFLICT DO NOTHING",
            caller.tenant,
            names,
            [submission.body.collection for submission in submissions],
        )
        await enqueue(
            connection,
            *(
                Publication(
                    DOCUMENT_SUBMITTED,
                    document_key(caller.tenant, s.document),
                    _envelope(caller, s.id, job, s.document),
                    s.body,
                )
                for s in submissions
            ),
        )
    return job


async def remove_document(
    shared: Resources, caller: Caller, document: str, once: Once | None
) -> str:
    """The job of a delete: a null record, announced ahead of any backlog once it lies in the log.

    A document that nobody here has heard of may lie in that backlog, so it is no error.
    """
    job, submission = new_id(), new_id()
    async with shared.database.request(caller.tenant) as connection:
        earlier = await _claim(connection, caller, once, job)
        if earlier is not None:
            return earlier
        await _insert(connection, caller, job, Kind.REMOVAL, [document])
        await enqueue(
            connection,
            Publication(
                DOCUMENT_SUBMITTED,
                document_key(caller.tenant, document),
                _envelope(caller, submission, job, document),
                None,
            ),
            announces=Announcement(document, submission, job),
        )
    return job


async def ask(shared: Resources, caller: Caller, question: NewQuestion, once: Once | None) -> str:
    """The job of a question."""
    job = new_id()
    deadline = datetime.now(UTC) + timedelta(seconds=question.deadline_s)
    body = e.QuestionAsked(
        question=question.question,
        conversation=question.conversation,
        groups=caller.groups,
        filter=question.filter,
        collection=question.collection,
        top_k=question.top_k,
        strategy=question.strategy,
    )
    envelope = replace(_envelope(caller, job, job, job), deadline=deadline)
    async with shared.database.request(caller.tenant) as connection:
        earlier = await _claim(connection, caller, once, job)
        if earlier is not None:
            return earlier
        await _insert(
            connection, caller, job, Kind.QUESTION, [THE_QUESTION],
            callback_url=question.callback_url, request=body.model_dump(mode="json"),
            deadline=deadline,
        )  # fmt: skip
        key = document_key(caller.tenant, job)
        await enqueue(connection, Publication(QUESTION_ASKED, key, envelope, body))
    return job


async def cancel(shared: Resources, caller: Caller, job: str) -> None:
    """
    Cancel what has not ended; every stage honours it before it starts work.

    Raises:
        Problem: the job has ended already.
    """
    async with shared.database.transaction() as connection:
        locked = await ledger.lock_known(connection, [(caller.tenant, job)])
        for one in locked.values():
            if one.status.state is JobState.CANCELLED:
                return
            if one.status.state.final:
                raise Problem(
                    "not_acceptable_now",
                    f"the job has {one.status.state} already; nothing to cancel",
                )
        await settle(connection, locked.values(), Cause.CANCEL)
        body = e.JobCancelled(reason=f"cancelled by {caller.key}")
        envelope = _envelope(caller, new_id(), job, job)
        key = document_key(caller.tenant, job)
        await enqueue(connection, Publication(JOB_CANCELLED, key, envelope, body))


async def find(shared: Resources, caller: Caller, job: str) -> dict[str, Any]:
    """
    The job as the caller may see it.

    Raises:
        Problem: there is none, or not for this key.
    """
    async with shared.database.request(caller.tenant) as connection:
        row = await read_row(connection, caller.tenant, job)
        if row is None or not caller.sees_job(row["kind"], row["key"]):
            raise Problem("not_found", f"there is no job {job!r} for this key")
        return await with_result(connection, row)


async def wait(shared: Resources, caller: Caller, job: str, seconds: float) -> dict[str, Any]:
    """The job, once it has ended or the time is over, or this process stops."""
    until = time.monotonic() + seconds
    with shared.signals.listen(end_signal(caller.tenant, job)) as woken:
        while True:
            found = await find(shared, caller, job)
            left = until - time.monotonic()
            if JobState(found["state"]).final or left <= 0 or shared.signals.stopping:
                return found
            # Once a second without news too: the listening connection may have been away.
            await woken.wait(min(left, 1.0))
