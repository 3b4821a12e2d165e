"""Answers: streamed by sentence, finished once nothing they cite has been deleted meanwhile."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import asyncpg

from penstock.api.documents import Document
from penstock.api.outbox import enqueue
from penstock.api.postgres import Key
from penstock.api.reports import Report, about_question
from penstock.api.settling import Job, Note, add_notes
from penstock.api.states import Ended, Outcome
from penstock.common import events as e
from penstock.common.envelope import Publication, Record, document_key
from penstock.common.topics import QUESTION_ASKED

ASKS = 2
"""An answer that cites a deleted document is asked for once more, then abstained from."""

I_DO_NOT_KNOW = "I don't know."

Answer = Record[e.AnswerReleased] | Record[e.AnswerWithheld]
Documents = Mapping[Key, Document]


def documents_of(record: Answer) -> set[str]:
    """The documents that this cites, or was written from."""
    body = record.value
    cited = {citation.document_id for citation in body.citations}
    return cited | {passage.document_id for passage in body.passages}


def gone(record: Answer, documents: Documents) -> list[str]:
    """The documents this cites in a version that a delete has gone over."""
    tenant = record.envelope.tenant
    return sorted(
        {
            citation.document_id
            for citation in record.value.citations
            if documents[tenant, citation.document_id].gone(citation.version)
        }
    )


@dataclass(slots=True)
class Kept:
    """What answers leave in the database, gathered to be written together."""

    notes: list[Note] = field(default_factory=list)
    results: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    quotes: set[tuple[str, str, str, int]] = field(default_factory=set)

    def quote(self, job: Job, items: Iterable[e.Citation | e.Passage]) -> None:
        """Remember that this job holds text of these documents, so that a delete finds it."""
        self.quotes |= {(job.tenant, job.id, item.document_id, item.version) for item in items}

    async def write(self, connection: asyncpg.Connection) -> None:
        """All of it, once."""
        quotes = sorted(self.quotes)
        if self.notes or self.results or quotes:
            await add_notes(
                connection,
                self.notes,
                """
                answers AS (
                    INSERT INTO answer (tenant, job, result)
                    SELECT * FROM unnest($7::text[], $8::text[], $9::jsonb[])
                    ON CONFLICT (tenant, job) DO NOTHING),
                quotes AS (
                    INSERT INTO quotation (tenant, job, document, version)
                    SELECT * FROM unnest($10::text[], $11::text[], $12::text[], $13::int[])
                    ON CONFLICT DO NOTHING)
                """,
                *([row[n] for row in self.results] for n in range(3)),
                *([row[n] for row in quotes] for n in range(4)),
            )
        self.notes, self.results, self.quotes = [], [], set()


def stream(record: Answer, job: Job, documents: Documents, kept: Kept) -> None:
    """One sentence for those who follow the job; not one that cites what is gone."""
    body = record.value
    if job.status.state.final or body.ask < job.ask or gone(record, documents):
        return
    kept.notes.append(_sentence(job, body))
    kept.quote(job, body.citations)


def _sentence(job: Job, body: e.AnswerReleased | e.AnswerWithheld) -> Note:
    data = {
        "ask": body.ask,
        "round": body.round,
        "sentence": body.sentence,
        "text": body.text,
        "citations": [c.model_dump() for c in body.citations],
    }
    once = f"sentence/{body.ask}/{body.round}/{body.sentence}"
    return Note(job.tenant, job.id, "sentence", data, once)


async def finish(
    connection: asyncpg.Connection, record: Answer, job: Job, documents: Documents, kept: Kept
) -> tuple[Job, Report]:
    """
    The whole answer: kept as the job's result, or asked for again.

    The cited documents' rows are locked by the caller: a delete either is seen here, or finds
    this answer among those that it purges.
    """
    body = record.value
    if job.status.state.final or body.ask < job.ask:
        return job, about_question(record)
    removed = gone(record, documents)
    if removed or isinstance(body, e.AnswerWithheld):
        await kept.write(connection)  # the sentences that are to be withdrawn
    if removed:
        await retract(connection, job, removed)
        if job.ask < ASKS and job.request is not None:
            return await _ask_again(connection, record, job), about_question(record)
        result = abstained(body)
    else:
        result = as_result(record, documents)
        if isinstance(body, e.AnswerWithheld):
            await retract(connection, job, [], reason="the answer was withheld by the guard")
        elif not body.abstained and not body.sentence:
            kept.notes.append(_sentence(job, body))  # at once: no sentence went ahead
    kept.results.append((job.tenant, job.id, result))
    if not removed:
        kept.quote(job, [*body.citations, *_showable(record, documents)])
    ended = Ended(Outcome.ANSWERED, record.envelope.attempt)
    return job, about_question(record, ended)


def refuse(record: Record[e.QuestionRefused]) -> Report:
    """The guard does not let the question in."""
    error = e.Failure(type="refused", message=record.value.reason)
    return about_question(record, Ended(Outcome.REFUSED, record.envelope.attempt, error))


async def retract(
    connection: asyncpg.Connection, job: Job, documents: Sequence[str], *, reason: str | None = None
) -> None:
    """Sentences that were streamed are withdrawn, if there were any."""
    streamed = await connection.fetchval(
        "SELECT count(*) FROM job_event WHERE tenant = $1 AND job = $2 AND kind = 'sentence' "
        "AND (data->>'ask')::int = $3",
        job.tenant,
        job.id,
        job.ask,
    )
    if not streamed:
        return
    why = reason or f"deleted meanwhile: {', '.join(documents)}"
    note = Note(
        job.tenant, job.id, "retracted", {"ask": job.ask, "reason": why}, f"retracted/{job.ask}"
    )
    await add_notes(connection, [note])


async def _ask_again(connection: asyncpg.Connection, record: Answer, job: Job) -> Job:
    assert job.request is not None
    again = replace(job, ask=job.ask + 1)
    await connection.execute(
        "UPDATE job SET ask = $3 WHERE tenant = $1 AND id = $2", job.tenant, job.id, again.ask
    )
    body = e.QuestionAsked.model_validate(job.request | {"ask": again.ask})
    envelope = record.envelope.next(id=uuid4().hex)
    key = document_key(job.tenant, job.id)
    await enqueue(connection, Publication(QUESTION_ASKED, key, envelope, body))
    return again


def as_result(record: Answer, documents: Documents) -> dict[str, Any]:
    """The job's result: the answer, its citations with where each document lies in the log."""
    body, tenant = record.value, record.envelope.tenant
    withheld = isinstance(body, e.AnswerWithheld)

    def source(citation: e.Citation) -> dict[str, Any] | None:
        return documents[tenant, citation.document_id].source(citation.version)

    citations = () if withheld else body.citations
    return {
        "text": body.text,
        "abstained": body.abstained or withheld,
        "citations": [c.model_dump() | {"source": source(c)} for c in citations],
        "passages": [p.model_dump(mode="json") for p in _showable(record, documents)],
        "model": body.model,
        "usage": body.usage.model_dump() if body.usage else None,
        "verdicts": [verdict.model_dump(mode="json") for verdict in body.verdicts],
        "timings_ms": body.timings_ms,
    }


def _showable(record: Answer, documents: Documents) -> list[e.Passage]:
    """The passages that may be shown: none of a withheld answer, none of a deleted document."""
    if isinstance(record.value, e.AnswerWithheld):
        return []
    tenant = record.envelope.tenant
    return [
        passage
        for passage in record.value.passages
        if not documents[tenant, passage.document_id].gone(passage.version)
    ]


def abstained(body: e.AnswerReleased | e.AnswerWithheld) -> dict[str, Any]:
    """What is answered when even the second answer cites what was deleted."""
    return {
        "text": I_DO_NOT_KNOW,
        "abstained": True,
        "citations": [],
        "passages": [],
        "model": body.model,
        "usage": body.usage.model_dump() if body.usage else None,
        "verdicts": [verdict.model_dump(mode="json") for verdict in body.verdicts],
        "timings_ms": body.timings_ms,
    }
