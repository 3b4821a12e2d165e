"""The jobs' ledger in Postgres: reports are gathered, `states` decides, the outcome is written.

Every writer locks the jobs' rows first, in the order (tenant, id), then any documents' rows.
Under the job's lock its events get ascending ids in the order of their commits, which is what
makes `Last-Event-ID` safe.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from penstock.api.postgres import Key
from penstock.api.reports import Kind, Report
from penstock.api.settling import Job, settle
from penstock.api.states import Cause, Ended, JobState, Letter, Outcome, Part, Status
from penstock.common.events import Failure

Name = tuple[str, str, str]
"""(tenant, job, document): a part."""

_JOB_COLUMNS = (
    "tenant, id, kind, state, attempt, error, ask, documents, request, callback_url, key, "
    "deadline, progress"
)


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
    rows = await connection.fetch(
        f"SELECT {_JOB_COLUMNS} FROM lock_jobs($1, $2, $3, $4)",  # noqa: S608
        [key[0] for key in ordered],
        [key[1] for key in ordered],
        [kinds[key].value for key in ordered],
        [deadlines[key] for key in ordered],
    )
    return {(row["tenant"], row["id"]): _job(row) for row in rows}


async def lock_known(connection: asyncpg.Connection, keys: Iterable[Key]) -> dict[Key, Job]:
    """The jobs that exist of these, locked in order."""
    ordered = sorted(set(keys))
    rows = await connection.fetch(
        f"SELECT {_JOB_COLUMNS} FROM job "  # noqa: S608
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


async def apply(
    connection: asyncpg.Connection,
    reports: Sequence[Report],
    locked: Mapping[Key, Job] | None = None,
) -> None:
    """Gather reports and settle their jobs. Doing it twice changes nothing.

    `locked`: what `lock` gave earlier in this transaction; jobs that are not there are locked now.
    """
    jobs = dict(locked or {})
    more = [report for report in reports if report.of not in jobs]
    if more:
        jobs |= await lock(connection, more)
    await _gather(connection, reports)
    await settle(connection, [jobs[key] for key in {r.of: None for r in reports}], Cause.REPORT)


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
    versions: dict[Name, tuple[int | None, int]] = {}
    for report in reports:
        version, batches = versions.get(report.name, (None, 1))
        versions[report.name] = (
            max(filter(None, (version, report.version)), default=None),
            max(batches, report.step.n if report.step else 1),
        )
    deciding = [report for report in reports if report.ended or report.letter]
    if deciding:
        parts = await _read_parts(connection, deciding)
        for report in deciding:
            part = parts.get(report.name) or Part(report.document)
            if report.ended is not None:
                part = part.with_outcome(report.ended)
            if report.letter is not None:
                part = part.with_letter(report.letter)
            parts[report.name] = part
        await _save_parts(
            connection, {name: (part, *versions.pop(name)) for name, part in parts.items()}
        )
        await _save_letters(connection, deciding, parts)
    await _count(connection, versions, reports)


async def _read_parts(
    connection: asyncpg.Connection, reports: Sequence[Report]
) -> dict[Name, Part]:
    """Those of these reports' parts that are known, with their dead letters."""
    names = sorted({report.name for report in reports})
    rows = await connection.fetch(
        """
        SELECT tenant, job, document, ordinal, outcome, outcome_attempt, error,
            (SELECT coalesce(jsonb_agg(to_jsonb(d)), '[]') FROM dead_letter d
                WHERE (d.tenant, d.job, d.document) = (p.tenant, p.job, p.document)) AS letters
        FROM part p WHERE (tenant, job, document) IN
            (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]))
        """,
        *(list(column) for column in zip(*names, strict=True)),
    )
    return {(row["tenant"], row["job"], row["document"]): _part(row) for row in rows}


def _part(row: asyncpg.Record) -> Part:
    ended = None
    if row["outcome"] is not None:
        ended = Ended(Outcome(row["outcome"]), row["outcome_attempt"], _failure(row["error"]))
    part = Part(row["document"], row["ordinal"], ended)
    for letter in row["letters"]:
        part = part.with_letter(_letter(letter))
    return part


def _letter(row: Mapping[str, Any]) -> Letter:
    return Letter(
        row["topic"], row["partition"], row["offset"], row["attempt"], row["stage"], row["k"],
        row["redriven"], _failure(row["error"]),
    )  # fmt: skip


async def _save_parts(
    connection: asyncpg.Connection, parts: dict[Name, tuple[Part, int | None, int]]
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
        [_part_row(name, *row) for name, row in parts.items()],
    )


def _part_row(name: Name, part: Part, version: int | None, batches: int) -> dict[str, Any]:
    reported, blocking = part.reported, part.blocking
    return {
        "tenant": name[0],
        "job": name[1],
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
    connection: asyncpg.Connection, reports: Sequence[Report], parts: dict[Name, Part]
) -> None:
    rows = [
        {
            "tenant": name[0], "job": name[1], "document": name[2], "topic": letter.topic,
            "partition": letter.partition, "offset": letter.offset, "attempt": letter.attempt,
            "stage": letter.stage, "k": letter.k, "redriven": letter.redriven,
            "error": _dump(letter.error),
        }
        for name in {report.name for report in reports if report.letter}
        for letter in parts[name].letters
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


async def _count(
    connection: asyncpg.Connection,
    versions: Mapping[Name, tuple[int | None, int]],
    reports: Sequence[Report],
) -> None:
    """Parts of which no more is said than that they are there, and the steps that are done."""
    parts = [(*name, *known) for name, known in versions.items()]
    steps = {(*r.name, r.version or 0, r.step.stage, r.step.k) for r in reports if r.step}
    if parts or steps:
        await connection.execute(
            """
            WITH counted AS (
                INSERT INTO part AS p (tenant, job, document, version, batches)
                SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::int[])
                ON CONFLICT (tenant, job, document) DO UPDATE SET
                    version = greatest(p.version, excluded.version),
                    batches = greatest(p.batches, excluded.batches)
                WHERE excluded.version > coalesce(p.version, 0) OR excluded.batches > p.batches)
            INSERT INTO progress SELECT * FROM unnest(
                $6::text[], $7::text[], $8::text[], $9::int[], $10::text[], $11::int[])
            ON CONFLICT DO NOTHING
            """,
            *([row[n] for row in parts] for n in range(5)),
            *([row[n] for row in sorted(steps)] for n in range(6)),
        )
