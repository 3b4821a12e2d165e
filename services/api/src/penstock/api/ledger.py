"""The jobs' ledger in Postgres: reports are gathered, `states` decides, the outcome is written.

Every writer locks the jobs' rows first, in the order (tenant, id), then any documents' rows.
Under the job's lock its events get ascending ids in the order of their commits, which is what
makes `Last-Event-ID` safe.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from penstock.api.postgres import Key
from penstock.api.reports import Kind, Report
from penstock.api.settling import Job, settle
from penstock.api.states import Cause, Ended, JobState, Letter, Outcome, Part, Status
from penstock.common.events import Failure


async def lock(connection: asyncpg.Connection, reports: Iterable[Report]) -> dict[Key, Job]:
    """
    The jobs of these reports, made where nobody announced them, locked in order.

    A question that was published to the topic without a deadline gets an hour: every job ends.
    """
    kinds: dict[Key, Kind] = {}
    deadlines: dict[Key, datetime | None] = {}
    for report in reports:
        known = kinds.get(report.of)
        kinds[report.of] = Kind.REMOVAL if known is Kind.REMOVAL else report.kind
        deadlines[report.of] = report.deadline or deadlines.get(report.of)
    ordered = sorted(kinds)
    tenants, ids = [key[0] for key in ordered], [key[1] for key in ordered]
    await connection.execute(
        """
        INSERT INTO job (tenant, id, kind, deadline)
        SELECT tenant, id, kind, CASE WHEN kind = 'question'
            THEN coalesce(deadline, clock_timestamp() + interval '1 hour') END
        FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
            AS u(tenant, id, kind, deadline) ORDER BY 1, 2
        ON CONFLICT (tenant, id) DO UPDATE SET kind = 'removal'
            WHERE excluded.kind = 'removal' AND job.kind = 'document'
        """,
        tenants,
        ids,
        [kinds[key].value for key in ordered],
        [deadlines[key] for key in ordered],
    )
    return await lock_known(connection, ordered)


async def lock_known(connection: asyncpg.Connection, keys: Iterable[Key]) -> dict[Key, Job]:
    """The jobs that exist of these, locked in order."""
    ordered = sorted(set(keys))
    rows = await connection.fetch(
        "SELECT tenant, id, kind, state, attempt, error, ask, documents, request, callback_url, "
        "key, deadline, progress FROM job "
        "WHERE (tenant, id) IN (SELECT * FROM unnest($1::text[], $2::text[])) "
        "ORDER BY tenant, id FOR UPDATE",
        [key[0] for key in ordered],
        [key[1] for key in ordered],
    )
    return {(row["tenant"], row["id"]): _job(row) for row in rows}


def _job(row: asyncpg.Record) -> Job:
    return Job(
        tenant=row["tenant"],
        id=row["id"],
        kind=Kind(row["kind"]),
        status=Status(JobState(row["state"]), row["attempt"], _failure(row["error"])),
        ask=row["ask"],
        documents=row["documents"],
        request=row["request"],
        callback_url=row["callback_url"],
        key=row["key"],
        deadline=row["deadline"],
        progress=row["progress"],
    )


def _failure(value: dict[str, Any] | None) -> Failure | None:
    return Failure.model_validate(value) if value else None


async def apply(connection: asyncpg.Connection, reports: Sequence[Report]) -> None:
    """Gather reports and settle their jobs. Doing it twice changes nothing."""
    if not reports:
        return
    jobs = await lock(connection, reports)
    await _gather(connection, reports)
    await _save_steps(connection, reports)
    await settle(connection, jobs.values(), Cause.REPORT)


async def redrive(connection: asyncpg.Connection, report: Report) -> Status | None:
    """
    A dead letter is driven again: its job is running again, with one attempt more.

    Raises:
        NotAllowedError: the job was cancelled.
    """
    jobs = await lock(connection, [report])
    await _gather(connection, [report])
    return (await settle(connection, jobs.values(), Cause.REDRIVE)).get(report.of)


async def redriven(
    connection: asyncpg.Connection, reports: Iterable[Report]
) -> set[tuple[str, int, int]]:
    """The places of those dead letters that were driven again before they were reported (jobs locked)."""
    letters = [report.letter for report in reports if report.letter]
    if not letters:
        return set()
    rows = await connection.fetch(
        'SELECT topic, "partition", "offset" FROM dead_letter_decision '
        'WHERE decision = \'redriven\' AND (topic, "partition", "offset") IN '
        "(SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[]))",
        *(list(column) for column in zip(*(letter.place for letter in letters), strict=True)),
    )
    return {(row["topic"], row["partition"], row["offset"]) for row in rows}


# ---------------------------------------------------------------- parts


async def _gather(connection: asyncpg.Connection, reports: Sequence[Report]) -> None:
    """Fold the reports into their parts and write those."""
    parts = await _read_parts(connection, reports)
    versions: dict[tuple[Key, str], tuple[int | None, int]] = {}
    for report in reports:
        name = (report.of, report.document)
        part = parts.get(name) or Part(report.document)
        if report.ended is not None:
            part = part.with_outcome(report.ended)
        if report.letter is not None:
            part = part.with_letter(report.letter)
        parts[name] = part
        version, batches = versions.get(name, (None, 1))
        versions[name] = (
            max(filter(None, (version, report.version)), default=None),
            max(batches, report.step.n if report.step else 1),
        )
    await _save_parts(connection, parts, versions)
    await _save_letters(connection, reports, parts)


async def _read_parts(
    connection: asyncpg.Connection, reports: Sequence[Report]
) -> dict[tuple[Key, str], Part]:
    names = sorted({(*report.of, report.document) for report in reports})
    arrays = [list(column) for column in zip(*names, strict=True)]
    rows = await connection.fetch(
        "SELECT * FROM part WHERE (tenant, job, document) IN "
        "(SELECT * FROM unnest($1::text[], $2::text[], $3::text[]))",
        *arrays,
    )
    letters = await connection.fetch(
        "SELECT * FROM dead_letter WHERE (tenant, job, document) IN "
        "(SELECT * FROM unnest($1::text[], $2::text[], $3::text[]))",
        *arrays,
    )
    parts = {_name(row): _part(row) for row in rows}
    for row in letters:
        part = parts.get(_name(row)) or Part(row["document"])
        parts[_name(row)] = part.with_letter(_letter(row))
    return parts


def _name(row: asyncpg.Record) -> tuple[Key, str]:
    return ((row["tenant"], row["job"]), row["document"])


def _part(row: asyncpg.Record) -> Part:
    ended = None
    if row["outcome"] is not None:
        ended = Ended(Outcome(row["outcome"]), row["outcome_attempt"], _failure(row["error"]))
    return Part(row["document"], row["ordinal"], ended)


def _letter(row: asyncpg.Record) -> Letter:
    return Letter(
        row["topic"], row["partition"], row["offset"], row["attempt"], row["stage"], row["k"],
        row["redriven"], _failure(row["error"]),
    )  # fmt: skip


async def _save_parts(
    connection: asyncpg.Connection,
    parts: dict[tuple[Key, str], Part],
    versions: dict[tuple[Key, str], tuple[int | None, int]],
) -> None:
    await connection.execute(
        """
        INSERT INTO part AS p (tenant, job, document, version, batches, outcome, outcome_attempt,
            error, ended, failure, blocked)
        SELECT tenant, job, document, version, batches, outcome, outcome_attempt,
            nullif(error, 'null'), ended, nullif(failure, 'null'), nullif(blocked, 'null')
        FROM jsonb_to_recordset($1) AS r(tenant text, job text, document text, version int,
            batches int, outcome text, outcome_attempt int, error jsonb, ended boolean,
            failure jsonb, blocked jsonb)
        ON CONFLICT (tenant, job, document) DO UPDATE SET
            version = greatest(p.version, excluded.version),
            batches = greatest(p.batches, excluded.batches),
            outcome = excluded.outcome, outcome_attempt = excluded.outcome_attempt,
            error = excluded.error, ended = excluded.ended, failure = excluded.failure,
            blocked = excluded.blocked
        """,
        [_part_row(key, part, *versions[key, document]) for (key, document), part in parts.items()],
    )


def _part_row(key: Key, part: Part, version: int | None, batches: int) -> dict[str, Any]:
    reported, blocking = part.reported, part.blocking
    return {
        "tenant": key[0],
        "job": key[1],
        "document": part.document,
        "version": version,
        "batches": batches,
        "outcome": reported.outcome.value if reported else None,
        "outcome_attempt": reported.attempt if reported else None,
        "error": _dump(reported.error) if reported else None,
        "ended": part.ended is not None,
        "failure": _dump(part.failure),
        "blocked": _dump(blocking.as_failure()) if blocking else None,
    }


def _dump(failure: Failure | None) -> dict[str, Any] | None:
    return failure.model_dump() if failure else None


async def _save_letters(
    connection: asyncpg.Connection,
    reports: Sequence[Report],
    parts: dict[tuple[Key, str], Part],
) -> None:
    rows = [
        {
            "tenant": key[0], "job": key[1], "document": document, "topic": letter.topic,
            "partition": letter.partition, "offset": letter.offset, "attempt": letter.attempt,
            "stage": letter.stage, "k": letter.k, "redriven": letter.redriven,
            "error": _dump(letter.error),
        }
        for key, document in {(r.of, r.document) for r in reports if r.letter}
        for letter in parts[key, document].letters
    ]  # fmt: skip
    if not rows:
        return
    await connection.execute(
        """
        INSERT INTO dead_letter (tenant, job, document, topic, "partition", "offset", attempt,
            stage, k, redriven, error)
        SELECT tenant, job, document, topic, "partition", "offset", attempt, stage, k, redriven,
            nullif(error, 'null')
        FROM jsonb_to_recordset($1) AS r(tenant text, job text, document text, topic text,
            "partition" int, "offset" bigint, attempt int, stage text, k int, redriven boolean,
            error jsonb)
        ON CONFLICT (tenant, job, document, topic, "partition", "offset") DO UPDATE SET
            attempt = excluded.attempt, stage = excluded.stage, k = excluded.k,
            redriven = excluded.redriven, error = excluded.error
        """,
        rows,
    )


async def _save_steps(connection: asyncpg.Connection, reports: Sequence[Report]) -> None:
    steps = {(*r.of, r.document, r.version or 0, r.step.stage, r.step.k) for r in reports if r.step}
    if steps:
        await connection.execute(
            "INSERT INTO progress SELECT * FROM unnest("
            "$1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::int[]) "
            "ON CONFLICT DO NOTHING",
            *(list(column) for column in zip(*sorted(steps), strict=True)),
        )
