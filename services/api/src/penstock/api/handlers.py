"""What the API does about each event. Every batch is one transaction; doing it twice is harmless.

Reports are kept under unique keys, documents fold by version, events for followers carry a name
that comes once: a redelivered record finds everything as it would make it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from penstock.api import answers, ledger, removals, reports
from penstock.api.documents import Document
from penstock.api.postgres import Key, lock_documents, save_documents
from penstock.api.reports import Kind, Report
from penstock.common import events as e
from penstock.common.consumer import Stage
from penstock.common.db import Database
from penstock.common.envelope import Publication, Record
from penstock.common.topics import (
    ANSWER_RELEASED,
    ANSWER_WITHHELD,
    DOCUMENT_FAILED,
    DOCUMENT_INDEXED,
    DOCUMENT_PURGED,
    DOCUMENT_QUARANTINED,
    DOCUMENT_REJECTED,
    DOCUMENT_REMOVED,
    JOB_PROGRESSED,
    QUESTION_REFUSED,
    Topic,
)

BATCH = 256
_AWAITED = (ANSWER_RELEASED, ANSWER_WITHHELD, QUESTION_REFUSED)
GROUP = "api"
Nothing = Sequence[Publication[Any]]
Fold = Callable[[Document, Record[Any]], Document]


class Handlers:
    def __init__(self, database: Database) -> None:
        self._database = database

    def subscribe(self, prompt: Stage, patient: Stage) -> None:
        """Facts about finished work are handled for cancelled jobs too.

        Answers are waited for by somebody; the rest is worth more together than at once.
        """
        on: Sequence[tuple[Topic[Any], Callable[..., Awaitable[Nothing]]]] = (
            (JOB_PROGRESSED, self.progressed),
            (DOCUMENT_INDEXED, self.indexed),
            (DOCUMENT_REMOVED, self.removed),
            (DOCUMENT_FAILED, self.failed),
            (DOCUMENT_QUARANTINED, self.quarantined),
            (DOCUMENT_REJECTED, self.rejected),
            (DOCUMENT_PURGED, self.purged),
            (ANSWER_RELEASED, self.answered),
            (ANSWER_WITHHELD, self.answered),
            (QUESTION_REFUSED, self.refused),
        )
        for topic, handler in on:
            stage = prompt if topic in _AWAITED else patient
            stage.on(topic, handler, batch=BATCH, cancellable=False)

    async def progressed(self, records: Sequence[Record[e.JobProgressed]]) -> Nothing:
        await self._gather(records, reports.from_progress, _by_progress)
        return []

    async def indexed(self, records: Sequence[Record[e.DocumentIndexed]]) -> Nothing:
        await self._gather(records, reports.indexed, lambda d, r: d.indexed(r.value))
        return []

    async def failed(self, records: Sequence[Record[e.DocumentFailed]]) -> Nothing:
        def fold(document: Document, record: Record[e.DocumentFailed]) -> Document:
            return _reached(document, record.value, "failed", record.value.error)

        await self._gather(records, reports.failed, fold)
        return []

    async def quarantined(self, records: Sequence[Record[e.DocumentQuarantined]]) -> Nothing:
        def fold(document: Document, record: Record[e.DocumentQuarantined]) -> Document:
            return _reached(document, record.value, "quarantined")

        await self._gather(records, reports.quarantined, fold)
        return []

    async def rejected(self, records: Sequence[Record[e.DocumentRejected]]) -> Nothing:
        def fold(document: Document, record: Record[e.DocumentRejected]) -> Document:
            error = e.Failure(type="rejected", message=f"rejected by {record.value.actor}")
            return _reached(document, record.value, "failed", error)

        await self._gather(records, reports.rejected, fold)
        return []

    async def removed(self, records: Sequence[Record[e.DocumentRemoved]]) -> Nothing:
        """Unretrievable now: our own quotes of it go, and the receipt is begun."""
        about = [reports.about_removal(record) for record in records]
        async with self._database.transaction() as connection:
            jobs = await ledger.lock(connection, about)
            documents = await lock_documents(connection, map(_document_key, records))
            before = dict(documents)
            for record in records:
                key = _document_key(record)
                documents[key] = documents[key].removed(record.value)
            await save_documents(connection, _changed(before, documents))
            for record in records:
                await removals.begin(connection, record)
            ended = await removals.completed(connection, records)
            await ledger.apply(connection, [*about, *ended], jobs)
        return []

    async def purged(self, records: Sequence[Record[e.DocumentPurged]]) -> Nothing:
        """One owner of a store keeps nothing of it any more."""
        jobs = {(record.envelope.tenant, record.envelope.job) for record in records}
        async with self._database.transaction() as connection:
            await ledger.lock_known(connection, jobs)
            await lock_documents(connection, map(_document_key, records))
            for record in records:
                await removals.note(connection, record)
            await ledger.apply(connection, await removals.completed(connection, records))
        return []

    async def answered(
        self, records: Sequence[Record[e.AnswerReleased] | Record[e.AnswerWithheld]]
    ) -> Nothing:
        """Sentences are streamed; the final one ends the job, unless it cites what is gone."""
        about = [reports.about_question(record) for record in records]
        # Measured: the flush is a third of what the API adds to a question. An answer lost by
        # a crash of Postgres leaves a job that ends at its deadline.
        async with self._database.transaction(flush=False) as connection:
            jobs = await ledger.lock(connection, about)
            cited = {
                (record.envelope.tenant, document)
                for record in records
                for document in answers.documents_of(record)
            }
            documents = await lock_documents(connection, cited) if cited else {}
            ended: list[Report] = []
            kept = answers.Kept()
            for record in records:
                job = jobs[record.envelope.tenant, record.envelope.job]
                if record.value.final:
                    jobs[job.tenant, job.id], report = await answers.finish(
                        connection, record, job, documents, kept
                    )
                    ended.append(report)
                else:
                    answers.stream(record, job, documents, kept)
            await kept.write(connection)
            await ledger.apply(connection, [*about, *ended], jobs)
        return []

    async def refused(self, records: Sequence[Record[e.QuestionRefused]]) -> Nothing:
        async with self._database.transaction() as connection:
            await ledger.apply(connection, [answers.refuse(record) for record in records])
        return []

    async def _gather(
        self, records: Sequence[Record[Any]], reader: reports.Reader, fold: Fold
    ) -> None:
        """Report to the jobs, and fold the events into their documents."""
        about = [reader(record) for record in records]
        outcomes = not all(report.step for report in about)  # the rest is a count for the eye
        async with self._database.transaction(flush=outcomes) as connection:
            await ledger.apply(connection, about)
            made_good = await ledger.redriven(connection, about)
            of_documents = [
                (record, (report.tenant, report.document))
                for record, report in zip(records, about, strict=True)
                if report.kind is not Kind.QUESTION and _touches(record)
                and not (report.letter and report.letter.place in made_good)
            ]  # fmt: skip
            if of_documents:
                documents = await lock_documents(connection, (key for _, key in of_documents))
                before = dict(documents)
                for record, key in of_documents:
                    documents[key] = fold(documents[key], record)
                await save_documents(connection, _changed(before, documents))


def _touches(record: Record[Any]) -> bool:
    """Of what stages report only take-in and dead letters concern the document itself."""
    body = record.value
    return not isinstance(body, e.JobProgressed) or body.state in (
        e.ProgressState.TAKEN_IN,
        e.ProgressState.DEAD_LETTERED,
        e.ProgressState.UNCHANGED,
    )


def _by_progress(document: Document, record: Record[e.JobProgressed]) -> Document:
    body = record.value
    if body.state is e.ProgressState.DEAD_LETTERED:
        report = reports.from_progress(record)
        error = report.letter.as_failure() if report.letter else body.error
        return document.stopped(body.version, error) if error else document
    if body.version is None:
        return document
    if body.state is e.ProgressState.UNCHANGED:
        return document.at(body.version, "searchable")
    return document.at(body.version, "pending", position=body.position)


def _reached(
    document: Document, body: e.DocumentEvent, state: str, error: e.Failure | None = None
) -> Document:
    return document.at(
        body.version, state, collection=body.collection, position=body.position, error=error
    )


def _changed(before: Mapping[Key, Document], after: Mapping[Key, Document]) -> list[Document]:
    return [document for key, document in after.items() if document != before[key]]


def _document_key(record: Record[Any]) -> tuple[str, str]:
    return (record.envelope.tenant, record.value.document)
