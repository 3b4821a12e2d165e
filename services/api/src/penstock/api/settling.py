"""Settling: `states` decides about locked jobs, and what it decided is written and made known.

Everything is written for all jobs of a batch together: a bulk load is one job per document.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg

from penstock.api.postgres import JOB_CHANNEL, WEBHOOK_CHANNEL, Key, end_signal, job_signal, notify
from penstock.api.reports import DOCUMENT_STAGES, QUESTION_STAGES, Kind
from penstock.api.states import EXPIRED, Cause, JobState, Status, Summary, move
from penstock.api.views import read_row, with_result
from penstock.common.events import Failure


@dataclass(frozen=True, slots=True)
class Job:
    """A locked row of table `job`, as far as a decision needs it."""

    tenant: str
    id: str
    kind: Kind
    status: Status
    ask: int
    documents: int | None
    request: dict[str, Any] | None
    callback_url: str | None
    key: str | None
    deadline: datetime | None
    progress: dict[str, Any]

    @property
    def answered(self) -> bool:
        """A question has one part: once that is answered, nothing about the job changes."""
        return self.kind is Kind.QUESTION and self.status.state is JobState.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Note:
    """One event for those who follow a job; `once` names what must not come twice."""

    tenant: str
    job: str
    kind: str
    data: dict[str, Any]
    once: str | None = None


@dataclass(frozen=True, slots=True)
class _Settled:
    job: Job
    status: Status
    progress: dict[str, Any]

    @property
    def changed(self) -> bool:
        return self.status != self.job.status or self.progress != self.job.progress

    @property
    def ends(self) -> bool:
        return self.status.state.final and not self.job.status.state.final


async def settle(
    connection: asyncpg.Connection, jobs: Iterable[Job], cause: Cause
) -> dict[Key, Status]:
    """Decide about each (locked) job, write it, tell its followers."""
    by_key = {(job.tenant, job.id): job for job in jobs}
    # Most reports of a question's stages come when it is answered, and nothing is left to decide.
    open_ = {key: job for key, job in by_key.items() if not job.answered}
    summaries = await _summaries(connection, open_) if open_ else {}
    settled = []
    for key, job in open_.items():
        summary, progress = summaries[key]
        status = move(job.status, summary, cause)
        if status.state is JobState.SUCCEEDED:
            progress = all_done(progress)
        if status.error is EXPIRED:
            status = replace(status, error=expired_in(progress))
        settled.append(_Settled(job, status, progress))
    await _write(connection, [one for one in settled if one.changed])
    after = {key: job.status for key, job in by_key.items()}
    return after | {(one.job.tenant, one.job.id): one.status for one in settled}


async def _summaries(
    connection: asyncpg.Connection, jobs: dict[Key, Job]
) -> dict[Key, tuple[Summary, dict[str, Any]]]:
    """For each job what `states.summarise` says of its parts, and its progress in numbers."""
    rows = await connection.fetch(
        """
        WITH asked AS (SELECT * FROM unnest($1::text[], $2::text[]) AS a(tenant, job)),
        parts AS (
            SELECT tenant, job, count(*) AS seen, count(*) FILTER (WHERE ended) AS ended,
                sum(batches) AS batches,
                (array_agg(failure ORDER BY ordinal, document)
                    FILTER (WHERE failure IS NOT NULL))[1] AS failure,
                (array_agg(blocked ORDER BY ordinal, document)
                    FILTER (WHERE blocked IS NOT NULL))[1] AS blocked
            FROM part JOIN asked USING (tenant, job) GROUP BY tenant, job),
        steps AS (
            SELECT tenant, job, jsonb_object_agg(stage, done) AS steps FROM (
                SELECT tenant, job, stage, count(*) AS done
                FROM progress JOIN asked USING (tenant, job) GROUP BY tenant, job, stage) s
            GROUP BY tenant, job),
        attempts AS (
            SELECT tenant, job, max(attempt + 1) AS attempt
            FROM dead_letter JOIN asked USING (tenant, job) WHERE redriven GROUP BY tenant, job)
        SELECT tenant, job, coalesce(seen, 0) AS seen, coalesce(ended, 0) AS ended,
            coalesce(batches, 0) AS batches, failure, blocked,
            coalesce(steps, '{}') AS steps, coalesce(attempt, 1) AS attempt
        FROM asked LEFT JOIN parts USING (tenant, job) LEFT JOIN steps USING (tenant, job)
            LEFT JOIN attempts USING (tenant, job)
        """,
        [key[0] for key in jobs],
        [key[1] for key in jobs],
    )
    found = {}
    for row in rows:
        job = jobs[row["tenant"], row["job"]]
        summary = Summary(
            expected=job.documents,
            seen=row["seen"],
            ended=row["ended"],
            attempt=row["attempt"],
            first_failure=_failure(row["failure"]),
            first_blocked=_failure(row["blocked"]),
        )
        progress = count_progress(job.kind, summary, int(row["batches"]), row["steps"])
        found[job.tenant, job.id] = (summary, progress)
    return found


def _failure(value: dict[str, Any] | None) -> Failure | None:
    return Failure.model_validate(value) if value else None


def count_progress(
    kind: Kind, summary: Summary, batches: int, steps: dict[str, int]
) -> dict[str, Any]:
    """Counts over what the stages reported; `total` grows as documents turn out longer."""
    names = QUESTION_STAGES if kind is Kind.QUESTION else DOCUMENT_STAGES
    if kind is Kind.QUESTION:
        steps = up_to_the_last(steps)
    parts = max(summary.expected or 0, summary.seen, 1)
    expected = batches + parts - summary.seen
    stages = {
        stage.value: {"done": min(steps.get(stage, 0), expected), "total": expected}
        for stage in (names if kind is not Kind.REMOVAL else ())
    }
    return {
        "done": sum(stage["done"] for stage in stages.values()),
        "total": sum(stage["total"] for stage in stages.values()) or 1,
        "stages": stages,
        "documents": {"ended": summary.ended, "total": parts},
    }


def up_to_the_last(steps: dict[str, int]) -> dict[str, int]:
    """A question goes from stage to stage: what a later one has done, all before it have."""
    last = max((n for n, stage in enumerate(QUESTION_STAGES) if steps.get(stage)), default=-1)
    return {stage.value: 1 for stage in QUESTION_STAGES[: last + 1]}


def expired_in(progress: dict[str, Any]) -> Failure:
    """Names the stage that had not done its part: there one looks for what is away."""
    for stage, counts in progress["stages"].items():
        if counts["done"] < counts["total"]:
            message = f"{EXPIRED.message}: the stage {stage} had not done its part"
            return Failure(type=EXPIRED.type, message=message)
    return EXPIRED


def all_done(progress: dict[str, Any]) -> dict[str, Any]:
    """Of a job that has succeeded all is done, whatever a stage has yet to report."""
    stages = {
        name: counts | {"done": counts["total"]} for name, counts in progress["stages"].items()
    }
    return progress | {"done": progress["total"], "stages": stages}


async def _write(connection: asyncpg.Connection, settled: Sequence[_Settled]) -> None:
    if not settled:
        return
    await add_notes(
        connection,
        [note for one in settled for note in _notes(one)],
        """
        settled AS (
            UPDATE job SET state = r.state, attempt = r.attempt, error = nullif(r.error, 'null'),
                progress = r.progress, progressed_at = clock_timestamp(),
                finished_at = CASE WHEN r.final
                    THEN coalesce(job.finished_at, clock_timestamp()) END
            FROM jsonb_to_recordset($7) AS r(tenant text, id text, state text, attempt int,
                error jsonb, progress jsonb, final boolean)
            WHERE job.tenant = r.tenant AND job.id = r.id)
        """,
        [
            {
                "tenant": one.job.tenant, "id": one.job.id, "state": one.status.state,
                "attempt": one.status.attempt, "progress": one.progress,
                "error": one.status.error.model_dump() if one.status.error else None,
                "final": one.status.state.final,
            }
            for one in settled
        ],
    )  # fmt: skip
    await _call_back(connection, [one for one in settled if one.ends and one.job.callback_url])


def _notes(one: _Settled) -> Iterable[Note]:
    """What the job's followers are told."""
    job, status = one.job, one.status
    if one.progress != job.progress and not job.status.state.final:
        yield Note(job.tenant, job.id, "progress", {"state": status.state, **one.progress})
    if one.ends:
        error = status.error.model_dump() if status.error else None
        end = {"state": status.state, "attempt": status.attempt, "error": error}
        yield Note(job.tenant, job.id, "end", end, f"end/{status.attempt}/{status.state}")


async def add_notes(
    connection: asyncpg.Connection, notes: Sequence[Note], beside: str = "", *arguments: Any
) -> None:
    """
    Write events of locked jobs and wake who waits for them.

    Args:
        beside: what is written along with them, as parts of WITH; its parameters begin with $7.
    """
    signals = {job_signal(note.tenant, note.job) for note in notes}
    signals |= {end_signal(note.tenant, note.job) for note in notes if note.kind == "end"}
    await connection.execute(
        f"""
        WITH {beside}{"," if beside else ""}
        told AS (
            INSERT INTO job_event (tenant, job, kind, once, data)
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[])
            ON CONFLICT (tenant, job, once) DO NOTHING)
        SELECT pg_notify('{JOB_CHANNEL}', signal) FROM unnest($6::text[]) AS signal
        """,  # noqa: S608
        [note.tenant for note in notes],
        [note.job for note in notes],
        [note.kind for note in notes],
        [note.once for note in notes],
        [note.data for note in notes],
        sorted(signals),
        *arguments,
    )


async def _call_back(connection: asyncpg.Connection, ended: Sequence[_Settled]) -> None:
    """A webhook for every job that asked for one."""
    for one in ended:
        job, status = one.job, one.status
        row = await read_row(connection, job.tenant, job.id)
        assert row is not None  # it is locked
        body = {
            "type": f"job.{status.state}",
            "timestamp": datetime.now(UTC).isoformat(),
            "data": await with_result(connection, row),
        }
        await connection.execute(
            "INSERT INTO webhook (id, tenant, job, key, url, body) "
            "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            f"msg_{job_signal(job.tenant, job.id)[:24]}_{status.attempt}_{status.state}",
            job.tenant,
            job.id,
            job.key or "",
            job.callback_url,
            body,
        )
    if ended:
        await notify(connection, WEBHOOK_CHANNEL)
