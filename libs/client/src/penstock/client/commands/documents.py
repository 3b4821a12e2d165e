"""`penstock publish` and `penstock documents`."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from watchfiles import awatch

from penstock.client import files
from penstock.client.client import Penstock
from penstock.client.console import (
    AsJson,
    Limit,
    console,
    errors,
    fail,
    first,
    pick,
    print_json,
    rows,
    run,
    settings_of,
    show,
    with_client,
)
from penstock.client.errors import PenstockError
from penstock.client.models import Job
from penstock.client.publishing import STAGES, Followed, TopicPublisher
from penstock.client.stack import Addresses, find
from penstock.common.events import Failure
from penstock.common.settings import BlobSettings, KafkaSettings

app = typer.Typer(no_args_is_help=True, help="List, read and delete documents.")


def publish(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    collection: Annotated[str, typer.Option(help="The collection they go to.")] = "default",
    access: Annotated[
        list[str] | None, typer.Option(help="A group that may read them; repeatable.")
    ] = None,
    watch: Annotated[
        bool, typer.Option(help="Stay, publish what changes, delete what disappears.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Publish files to the topic and follow them until they are searchable."""
    fields: dict[str, Any] = {"collection": collection}
    if access:
        fields["access"] = tuple(access)
    found = find()
    if found.kafka is None or found.blobs is None:
        if watch:
            fail("--watch publishes to the topic: set PENSTOCK_KAFKA and PENSTOCK_BLOBS")
        followed = run(_upload(found, paths, fields, as_json))
    else:
        followed = run(_publish(found, paths, fields, watch, as_json))
    if any(f.outcome == "failed" for f in followed):
        raise typer.Exit(1)


async def _publish(
    found: Addresses, paths: Sequence[Path], fields: dict[str, Any], watch: bool, as_json: bool
) -> list[Followed]:
    assert found.kafka is not None
    assert found.blobs is not None
    before = files.scan(paths) if watch else {}
    named = list(files.walk(paths))
    if not named and not watch:
        fail("no files there")
    await _warn_of_unknown(found, fields["collection"])
    async with TopicPublisher(
        settings_of(KafkaSettings, kafka=found.kafka),
        settings_of(BlobSettings, blobs=found.blobs),
        found.tenant,
    ) as publisher:
        for document, path in named:
            await publisher.submit(document, path, **fields)
        await follow(publisher, quiet=as_json)
        followed = list(publisher.followed.values())
        _report(followed, as_json)
        if watch:
            await _watch(publisher, list(paths), fields, before)
    return followed


async def _warn_of_unknown(found: Addresses, collection: str) -> None:
    """A misspelt name makes a dead letter of every file.

    A warning, no refusal: the topic needs neither the API nor a key, and its tenant may be another.
    """
    try:
        async with Penstock(found.api, found.key) as penstock:
            names = [known["name"] async for known in penstock.collections()]
    except PenstockError:
        return
    if collection not in names:
        errors.print(
            f"the API knows no collection {collection!r} ({', '.join(names)}); if it is not there, "
            f"every file becomes a dead letter until `penstock collections create {collection}` "
            "and `penstock dlq redrive`",
            markup=False,
            highlight=False,
        )


async def follow(publisher: TopicPublisher, *, quiet: bool = False) -> None:
    """A bar per stage, until every submission has an outcome."""
    followed = publisher.followed.values()
    with Progress(
        TextColumn("{task.description:8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        disable=quiet,
    ) as bars:
        tasks = {stage: bars.add_task(stage.value, total=len(followed)) for stage in STAGES}

        def changed() -> None:
            for stage, task in tasks.items():
                bars.update(task, completed=sum(f.stage_done(stage) for f in followed))

        await publisher.follow(changed, _hint)
        changed()


def _hint() -> None:
    errors.print(
        "nothing heard from the stages for a while; `penstock status` tells what runs. "
        "Ctrl-C is harmless: what is published is worked on in any case"
    )


def _report(followed: Sequence[Followed], as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {
                    "document": f.document,
                    "outcome": f.outcome,
                    "error": f.error.model_dump() if f.error else None,
                }
                for f in followed
            ]
        )
        return
    counted = Counter(f.outcome for f in followed)
    console.print(", ".join(f"{count} {outcome}" for outcome, count in counted.items()))
    for f in followed:
        if f.error is not None:
            errors.print(f"{f.document}: {f.error.message}", markup=False, highlight=False)


async def _watch(
    publisher: TopicPublisher,
    roots: list[Path],
    fields: dict[str, Any],
    before: dict[str, files.Seen],
) -> None:
    """What differs from `before` is published or deleted, then what changes from now on.

    The watcher only wakes us: comparing whole scans misses nothing, whatever came together.
    """
    errors.print("watching; Ctrl-C ends it")
    first = True
    async for changes in awatch(*roots, yield_on_timeout=True, rust_timeout=500):
        if not changes and not first:
            continue
        first = False
        now = await asyncio.to_thread(files.scan, roots)
        changed, gone = files.differences(before, now)
        before = now
        known = set(publisher.followed)
        for document, path in changed.items():
            await publisher.submit(document, path, **fields)
        for document in gone:
            await publisher.delete(document)
        await publisher.follow(lambda: None)
        for submission in set(publisher.followed) - known:
            f = publisher.followed.pop(submission)
            reason = f": {f.error.message}" if f.error else ""
            console.print(f"{f.document}: {f.outcome}{reason}", markup=False, highlight=False)


async def _upload(
    found: Addresses, paths: Sequence[Path], fields: dict[str, Any], as_json: bool
) -> list[Followed]:
    """Without the broker's address: through the API, fifty files a job."""
    named = list(await asyncio.to_thread(lambda: list(files.walk(paths))))
    if not named:
        fail("no files there")
    followed: list[Followed] = []
    async with Penstock(found.api, found.key) as penstock:
        for start in range(0, len(named), 50):
            part = dict(named[start : start + 50])
            job = await penstock.upload(part, **fields)
            followed += outcomes(await penstock.wait(job.id, timeout_s=3600), part)
    _report(followed, as_json)
    return followed


def outcomes(job: Job, documents: Iterable[str]) -> list[Followed]:
    """What a job of the API made of each document; what it does not tell has its own end."""
    told = {one["document_id"]: one for one in (job.result or {}).get("documents", [])}
    found = []
    for document in documents:
        one = told.get(document, {"state": job.state, "error": job.error})
        error = Failure.model_validate(one["error"], from_attributes=True) if one["error"] else None
        found.append(Followed(document, outcome=one["state"], error=error))
    return found


@app.command("list")
def list_documents(
    state: Annotated[str | None, typer.Option(help="Only documents in this state.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Documents and what became of them."""
    found = with_client(lambda p: first(p.documents(state=state), limit))
    rows(found, pick("id", "state", "searchable_version", "chunks", "updated_at"), as_json=as_json)


@app.command("show")
def show_document(document: str, as_json: AsJson = False) -> None:
    """One document: state, versions, where it lies in the log."""
    show(with_client(lambda p: p.document(document)), as_json=as_json)


@app.command()
def text(document: str, as_json: AsJson = False) -> None:
    """The extracted text of the searchable version."""
    found = with_client(lambda p: p.document_text(document))
    if as_json:
        print_json({"document": document, "text": found})
    else:
        console.out(found, highlight=False)


@app.command()
def delete(document: str, as_json: AsJson = False) -> None:
    """Delete a document and print the receipt."""

    async def work(penstock: Penstock) -> Any:
        job = await penstock.delete_document(document)
        return await penstock.wait(job.id)

    job = with_client(work)
    show(job.result or job, as_json=as_json)
    if job.state != "succeeded":
        raise typer.Exit(1)
