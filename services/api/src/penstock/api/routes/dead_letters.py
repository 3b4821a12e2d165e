"""Dead letters: list, look, drive again, drop."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from penstock.api import ledger
from penstock.api.access import Caller, Operator
from penstock.api.deadletters import ALL, DeadLetterRecord, id_of, place_of
from penstock.api.errors import Problem
from penstock.api.handlers import GROUP
from penstock.api.outbox import Row, enqueue_rows
from penstock.api.postgres import lock_documents, save_documents
from penstock.api.reports import THE_QUESTION, Kind, Report
from penstock.api.resources import Resources, resources
from penstock.api.routes.answering import MOST_PER_PAGE, cursor, read_cursor
from penstock.api.states import Letter, NotAllowedError, Status
from penstock.common.http import JSON

router = APIRouter(tags=["dead letters"])
Shared = Annotated[Resources, Depends(resources)]


@router.get("/v1/dead-letters")
async def list_dead_letters(
    caller: Operator,
    shared: Shared,
    topic: str | None = None,
    cursor_: Annotated[str | None, Query(alias="cursor")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = 50,
) -> Response:
    """The tenant's dead letters (a global operator's: everybody's) about which nothing was decided.

    By topic, in each the oldest first. `topic`: one of dead letters, or one that they come from.
    A page may be short and still have a `next`: a bounded number of records is looked at.
    """
    after = read_cursor(cursor_, str, int, int)
    page = await shared.dead_letters.page(
        _tenant(caller),
        (after[0], after[1], after[2]) if after else None,
        limit,
        _named(topic),
    )
    decided = await _decisions(shared, page.records)
    shown = [letter.view() for letter in page.records if letter.place not in decided]
    return JSON({"dead_letters": shown, "next": cursor(*page.next) if page.next else None})


@router.get("/v1/dead-letters/{dead_letter}")
async def show(dead_letter: str, caller: Operator, shared: Shared) -> Response:
    """One dead letter with its headers and its value, and what was decided about it."""
    letter = await _find(dead_letter, caller, shared)
    decision = (await _decisions(shared, [letter])).get(letter.place)
    return JSON(letter.view(whole=True) | {"decision": decision})


@router.post("/v1/dead-letters/{dead_letter}/redrive", status_code=202)
async def redrive(dead_letter: str, caller: Operator, shared: Shared) -> Response:
    """Drive it again: the original bytes, to the stage that failed alone, one attempt more."""
    letter = await _find(dead_letter, caller, shared)
    if letter.why_not_redriven:
        raise Problem("not_acceptable_now", letter.why_not_redriven)
    topic, group = ALL[letter.place[0]]
    async with shared.database.transaction() as connection:
        await _decide(connection, letter, "redriven", caller)
        # What the API itself could not note down failed no job.
        status = await _run_again(connection, letter) if group != GROUP else None
        again = Row(
            letter.tenant, topic.retries(group), letter.key, letter.value, letter.redriven()
        )
        await enqueue_rows(connection, [again])
    shown: dict[str, Any] = {"id": dead_letter, "decision": "redriven", "job": letter.job}
    if status is not None:
        shown |= {"job_state": status.state, "attempt": status.attempt}
    return JSON(shown, status_code=202)


@router.delete("/v1/dead-letters/{dead_letter}")
async def drop(dead_letter: str, caller: Operator, shared: Shared) -> Response:
    """Drop it from the list. Kafka cannot delete one record: it goes with the topic's retention."""
    letter = await _find(dead_letter, caller, shared)
    async with shared.database.transaction() as connection:
        await _decide(connection, letter, "dropped", caller)
    return JSON({"id": dead_letter, "decision": "dropped", "job": letter.job})


async def _run_again(connection: Any, letter: DeadLetterRecord) -> Status | None:
    """Its job runs again, and its document is pending again."""
    try:
        status = await ledger.redrive(connection, _redriven(letter))
    except NotAllowedError as error:
        raise Problem("not_acceptable_now", str(error)) from error
    if letter.document:
        documents = await lock_documents(connection, [(letter.tenant, letter.document)])
        await save_documents(connection, [d.resumed() for d in documents.values()])
    return status


def _named(topic: str | None) -> list[str]:
    """The topics of dead letters that are meant."""
    names = sorted(name for name, (of, _) in ALL.items() if topic in (None, name, of.name))
    if not names:
        raise Problem("invalid", f"topic: there are no dead letters of a topic {topic!r}")
    return names


def _tenant(caller: Caller) -> str | None:
    return None if caller.all_tenants else caller.tenant


async def _find(text: str, caller: Caller, shared: Resources) -> DeadLetterRecord:
    place = place_of(text)
    letter = await shared.dead_letters.one(place) if place else None
    if letter is None or _tenant(caller) not in (None, letter.tenant):
        raise Problem("not_found", f"there is no dead letter {text!r}; ids come from the list")
    return letter


async def _decisions(
    shared: Resources, letters: list[DeadLetterRecord]
) -> dict[tuple[str, int, int], str]:
    async with shared.database.transaction() as connection:
        rows = await connection.fetch(
            'SELECT topic, "partition", "offset", decision FROM dead_letter_decision '
            'WHERE (topic, "partition", "offset") IN '
            "(SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[]))",
            [letter.place[0] for letter in letters],
            [letter.place[1] for letter in letters],
            [letter.place[2] for letter in letters],
        )
    return {(r["topic"], r["partition"], r["offset"]): r["decision"] for r in rows}


async def _decide(connection: Any, letter: DeadLetterRecord, decision: str, caller: Caller) -> None:
    """Once: two who decide at the same time do not both succeed."""
    made = await connection.fetchval(
        'INSERT INTO dead_letter_decision (tenant, topic, "partition", "offset", decision, key) '
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true",
        letter.tenant,
        *letter.place,
        decision,
        caller.key,
    )
    if not made:
        raise Problem(
            "not_acceptable_now", f"{id_of(letter.place)} was redriven or dropped already"
        )


def _redriven(letter: DeadLetterRecord) -> Report:
    topic, partition, offset = letter.place
    return Report(
        tenant=letter.tenant,
        job=letter.job,
        kind=Kind.QUESTION if letter.about_question else Kind.DOCUMENT,
        document=letter.document or THE_QUESTION,
        letter=Letter(topic, partition, offset, letter.attempt, k=letter.batch, redriven=True),
    )
