"""`penstock llm up`, `down`, `status`: a model on this machine instead of quotes."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from penstock.local.failures import StackError
from penstock.local.llm import running
from penstock.local.llm.server import LocalModel
from penstock.local.llm.weights import QWEN
from penstock.local.options import Folder, console, fail, run, stack_folder
from penstock.local.state import State

app = typer.Typer(no_args_is_help=True, help="A small model on this machine that answers.")

Port = Annotated[
    int | None,
    typer.Option("--port", envvar="PENSTOCK_LLM_PORT", help="0: any free one. Default 8090."),
]


@app.command()
def up(folder: Folder = None, port: Port = None) -> None:
    """Start the local model and let the stack's answerer ask it."""
    record = run(_up(stack_folder(folder), port))
    console.print(
        f"\n{record.model} answers.\n  address   {record.url}\n  log       {record.log}\n"
        "`penstock llm down` ends it, and the answerer quotes again."
    )


async def _up(folder: Path, port: int | None) -> LocalModel:
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"Checking {QWEN.file}", total=QWEN.size)
        return await running.up(
            folder, port, bar.console.print, lambda done: bar.update(task, completed=done)
        )


@app.command()
def down(folder: Folder = None) -> None:
    """End the local model; the answerer quotes from the documents again."""
    where = stack_folder(folder)
    done = run(running.down(where, typer.echo))
    console.print("Stopped." if done else f"No local model runs in {where}.")


@app.command()
def status(
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Show whether the local model runs, where, and how much memory it takes."""
    found = _report(stack_folder(folder))
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found)
    if found.state is not State.READY:
        raise typer.Exit(3)


def _print(found: running.Report) -> None:
    console.print(f"{found.state}" + (f": {found.reason}" if found.reason else ""))
    if found.url is not None:
        console.print(
            f"  model     {found.model}\n  address   {found.url}\n  memory    "
            f"{found.memory_mb} MB\n  up        {found.uptime_s} s\n  log       {found.log}"
        )
    if found.url is not None and not found.answers:
        console.print("The answerer does not ask it: run `penstock llm up`.")


def say_when_gone(folder: Path) -> None:
    """After the stack has come up: its answerer may ask a model that does not run."""
    found = _report(folder)
    if found.state is State.FAILED:
        console.print(f"The answerer asks the local model, but {found.reason}.")


def say_when_left(folder: Path) -> None:
    """After the stack went down: the model is a process of its own, and large."""
    found = _report(folder)
    if found.pid is not None:
        console.print(
            f"The local model still runs ({found.memory_mb} MB); `penstock llm down` ends it."
        )


def _report(folder: Path) -> running.Report:
    try:
        return running.report(folder)
    except StackError as error:
        fail(error)
