"""What operators type: `penstock jobs | dlq | quarantine | collections | keys`."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import typer

from penstock.client.client import Penstock
from penstock.client.console import (
    AsJson,
    Limit,
    console,
    first,
    pick,
    print_json,
    rows,
    show,
    with_client,
)

jobs = typer.Typer(no_args_is_help=True, help="Follow and cancel jobs.")
dlq = typer.Typer(no_args_is_help=True, help="Dead letters: see, redrive, drop.")
quarantine = typer.Typer(no_args_is_help=True, help="Documents the guard holds.")
collections = typer.Typer(no_args_is_help=True, help="Collections of documents.")
keys = typer.Typer(no_args_is_help=True, help="API keys.")


@jobs.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Jobs, newest first."""
    found = with_client(lambda p: first(p.jobs(state=state), limit))
    rows(found, pick("id", "kind", "state", "attempt", "created_at"), as_json=as_json)


@jobs.command("show")
def show_job(job: str, as_json: AsJson = False) -> None:
    """One job: state, progress, result or error."""
    show(with_client(lambda p: p.job(job)), as_json=as_json)


@jobs.command("wait")
def wait_for_job(job: str, as_json: AsJson = False) -> None:
    """Wait until a job has ended; status 1 unless it succeeded."""
    ended = with_client(lambda p: p.wait(job))
    show(ended, as_json=as_json)
    if ended.state != "succeeded":
        raise typer.Exit(1)


@jobs.command("cancel")
def cancel_job(job: str, as_json: AsJson = False) -> None:
    """Cancel a job: no stage starts work on it any more."""
    show(with_client(lambda p: p.cancel_job(job)), as_json=as_json)


@dlq.command("list")
def list_dead_letters(
    topic: Annotated[str | None, typer.Option(help="Only letters of this topic.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Records that could not be handled, by topic, in each the oldest first."""
    found = with_client(lambda p: first(p.dead_letters(topic=topic), limit))
    rows(found, pick("id", "tenant", "job", "reason", "message"), as_json=as_json)


@dlq.command("show")
def show_dead_letter(letter: str, as_json: AsJson = False) -> None:
    """One dead letter: headers, value, what went wrong."""
    show(with_client(lambda p: p.dead_letter(letter)), as_json=as_json)


@dlq.command("redrive")
def redrive(letters: list[str], as_json: AsJson = False) -> None:
    """Send dead letters on their way again; their jobs run again."""
    for letter in letters:
        show(with_client(partial(Penstock.redrive, letter_id=letter)), as_json=as_json)


@dlq.command("drop")
def drop(letters: list[str], as_json: AsJson = False) -> None:
    """Decide that dead letters need nothing more; they leave the list."""
    for letter in letters:
        show(with_client(partial(Penstock.drop, letter_id=letter)), as_json=as_json)


@quarantine.command("list")
def list_quarantine(
    state: Annotated[str | None, typer.Option(help="waiting, released or rejected.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Documents that wait for a decision."""
    found = with_client(lambda p: first(p.quarantine(state=state), limit))
    rows(found, pick("id", "document", "version", "state", "created_at"), as_json=as_json)


@quarantine.command("show")
def show_quarantine(item: str, as_json: AsJson = False) -> None:
    """What was found, and where."""
    held = with_client(lambda p: p.quarantined(item))
    if as_json:
        print_json(held)
        return
    show({k: v for k, v in held.items() if k not in ("chunks", "findings")}, as_json=False)
    for chunk in held["chunks"]:
        console.print(f"\nchunk {chunk['ordinal']}", style="bold", highlight=False)
        console.print(chunk["text"], markup=False, highlight=False)
        for finding in chunk["findings"]:
            console.print(f"  {_finding(finding, chunk['text'])}", markup=False, highlight=False)


def _finding(finding: Mapping[str, Any], text: str) -> str:
    span = finding["span"]
    where = f': "{text[span["start"] : span["end"]]}"' if span else " (title or heading)"
    score = f"{finding['score']:.2f}"
    return f"{finding['action']}, {finding['detector']}/{finding['category']} {score}{where}"


@quarantine.command("release")
def release(item: str, comment: str = "", as_json: AsJson = False) -> None:
    """Let a document go on."""
    show(with_client(lambda p: p.decide(item, "release", comment)), as_json=as_json)


@quarantine.command("reject")
def reject(item: str, comment: str = "", as_json: AsJson = False) -> None:
    """Refuse a document for good."""
    show(with_client(lambda p: p.decide(item, "reject", comment)), as_json=as_json)


@collections.command("list")
def list_collections(as_json: AsJson = False) -> None:
    """The tenant's collections."""
    found = with_client(lambda p: first(p.collections(), 1000))
    rows(found, pick("name", "model", "generation", "chunk_tokens"), as_json=as_json)


@collections.command("create")
def create_collection(
    name: str,
    model: Annotated[str, typer.Option(help="Embedding model.")] = "bge-small-en-v1.5",
    chunk_tokens: Annotated[int, typer.Option(min=32, max=512)] = 220,
    as_json: AsJson = False,
) -> None:
    """Create or change a collection."""
    created = with_client(
        lambda p: p.create_collection(name=name, model=model, chunk_tokens=chunk_tokens)
    )
    show(created, as_json=as_json)


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """The tenant's API keys, without their secrets."""
    found = with_client(lambda p: first(p.keys(), 1000))
    rows(found, pick("id", "name", "tenant", "roles", "groups", "created_at"), as_json=as_json)


@keys.command("create")
def create_key(
    name: str,
    role: Annotated[list[str], typer.Option(help="reader, publisher, approver, operator.")],
    group: Annotated[list[str] | None, typer.Option(help="Groups for `access`.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Another tenant (operators).")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it, this once."""
    fields = {"name": name, "roles": role, "groups": group or []}
    if tenant:
        fields["tenant"] = tenant
    show(with_client(lambda p: p.create_key(**fields)), as_json=as_json)


@keys.command("delete")
def delete_key(key: str, as_json: AsJson = False) -> None:
    """Delete a key; it is refused from now on."""
    with_client(lambda p: p.delete_key(key))
    show({"id": key, "state": "deleted"}, as_json=as_json)
