"""`penstock up`, `down`, `status`, `logs`: the embedded stack from the terminal."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from penstock.local import launcher
from penstock.local.failures import StackError
from penstock.local.llm import commands as llm
from penstock.local.llm import running
from penstock.local.options import INTERRUPTED, Folder, console, fail, run, stack_folder
from penstock.local.process import last_lines
from penstock.local.scaling import scale as scale_stack
from penstock.local.state import State
from penstock.local.status import Report, report
from penstock.local.supervisor import Options, Supervisor

app = typer.Typer(no_args_is_help=True, help="Kafka, Postgres and every service on this machine.")
app.add_typer(llm.app, name="llm")
_COLOURS = {State.READY: "green", State.STOPPED: "dim", State.FAILED: "red"}

ApiPort = Annotated[int | None, typer.Option("--api-port", envvar="PENSTOCK_API_PORT")]
KafkaPort = Annotated[int | None, typer.Option("--kafka-port", envvar="PENSTOCK_KAFKA_PORT")]
PostgresPort = Annotated[
    int | None, typer.Option("--postgres-port", envvar="PENSTOCK_POSTGRES_PORT")
]
Scale = Annotated[list[str] | None, typer.Option("--scale", help="PROCESS=COUNT, e.g. embed=2.")]


@app.command()
def up(
    folder: Folder = None,
    api_port: ApiPort = None,
    kafka_port: KafkaPort = None,
    postgres_port: PostgresPort = None,
    scale: Scale = None,
    foreground: Annotated[bool, typer.Option(help="Stay; Ctrl-C stops the stack.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until all is ready.")] = 180.0,
) -> None:
    """Start the stack and wait until every process is ready."""
    where = stack_folder(folder)
    options = Options(
        api_port=api_port,
        kafka_port=kafka_port,
        postgres_port=postgres_port,
        scale=_counts(scale or [], "--scale "),
    )
    if foreground:
        console.print(f"Starting in {where}; Ctrl-C stops. Another terminal: penstock status")
        run(_supervise(where, options))
        return
    try:
        stack = run(launcher.up(where, options, typer.echo, timeout=timeout))
    except typer.Exit as end:
        if end.exit_code == INTERRUPTED:
            typer.echo("The stack goes on starting; `penstock down` stops it.", err=True)
        raise
    console.print(
        f"\nPenstock is ready.\n  api       {stack.api}   (docs: {stack.api}/docs)\n"
        f"  kafka     {stack.kafka}\n  postgres  {stack.postgres}\n  logs      {where / 'logs'}"
    )
    llm.say_when_gone(where)


@app.command()
def down(
    folder: Folder = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete all data too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop the stack: services first, then Kafka and Postgres."""
    where = stack_folder(folder)
    if delete and not yes:
        typer.confirm(f"Delete every document, index and topic in {where}?", abort=True)
    try:
        stopped = launcher.down(where)
        if delete:
            run(running.down(where, typer.echo))
            launcher.delete(where)
    except StackError as error:
        fail(error)
    console.print("Stopped." if stopped else f"Nothing runs in {where}.")
    if not delete:
        llm.say_when_left(where)
    if delete:
        console.print(f"Deleted {where}.")


@app.command()
def scale(
    counts: Annotated[list[str], typer.Argument(metavar="PROCESS=COUNT...", show_default=False)],
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until it is done.")] = 180.0,
) -> None:
    """Run more or fewer of a process, for example embed=2, while the stack runs.

    Returns when those that were added are ready, and those that were taken away have finished
    what they had in hand. The scale holds until `penstock down`."""
    say = (lambda _: None) if as_json else typer.echo
    found = run(scale_stack(stack_folder(folder), _counts(counts), say, timeout=timeout))
    if as_json:
        typer.echo(json.dumps([one.as_dict() for one in found], indent=2))
        return
    for one in found:
        was = f" (was {one.before})" if one.before != one.now else ""
        console.print(f"{one.service}: {one.now}{was}")


@app.command()
def status(
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Show every process: state, memory, uptime and how far its consumer group is behind."""
    where = stack_folder(folder)
    found = run(report(where))
    if found is None:
        fail(StackError(f"There is no stack in {where}; `penstock up` starts one."))
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found)
    if found.state is not State.READY:
        raise typer.Exit(3)


@app.command()
def logs(
    name: Annotated[str | None, typer.Argument(help="A process; none: all of them.")] = None,
    folder: Folder = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0)] = 50,
) -> None:
    """Show what the processes wrote."""
    where = stack_folder(folder) / "logs"
    known = {path.stem: path for path in sorted(where.glob("*.log"))}
    if name is not None and name not in known:
        fail(StackError(f"There is no log of {name!r}; known: {', '.join(known) or 'none yet'}."))
    shown = {name: known[name]} if name is not None else known
    width = max((len(each) for each in shown), default=0) if len(shown) > 1 else 0
    for each, path in shown.items():
        for line in last_lines(path, lines):
            typer.echo(f"{each:<{width}} | {line}" if width else line)
    if follow:
        for each, line in _new_lines(shown):
            typer.echo(f"{each:<{width}} | {line}" if width else line)


@app.command(hidden=True)
def supervise(
    folder: Annotated[Path, typer.Option()], options: Annotated[str, typer.Option()]
) -> None:
    """Own the stack of a folder until SIGTERM; started by `up`."""
    run(_supervise(folder, Options.model_validate_json(options)))


async def _supervise(folder: Path, options: Options) -> None:
    await Supervisor(folder, options, dict(os.environ)).run()


def _new_lines(logs: dict[str, Path]) -> Iterator[tuple[str, str]]:
    """Lines as they are written; a log that was emptied is read from its start again."""
    places = {name: path.stat().st_size for name, path in logs.items()}
    while True:
        for name, path in logs.items():
            size = path.stat().st_size
            with path.open("rb") as file:
                file.seek(places[name] if size >= places[name] else 0)
                whole, _, begun = file.read().rpartition(b"\n")
                places[name] = file.tell() - len(begun)
            for line in whole.decode(errors="replace").splitlines():
                yield name, line
        time.sleep(0.2)


def _print(found: Report) -> None:
    console.print(f"{found.state}" + (f": {found.reason}" if found.reason else ""))
    console.print(f"api {found.api}   kafka {found.kafka}   postgres {found.postgres}")
    table = Table(box=None, pad_edge=False)
    for title in ("process", "state", "pid", "port", "memory", "up", "restarts", "lag", "reason"):
        right = title in ("pid", "port", "memory", "up", "restarts", "lag")
        table.add_column(title, justify="right" if right else "left")
    for one in found.processes:
        colour = _COLOURS.get(one.state, "yellow")
        table.add_row(
            *(one.name, f"[{colour}]{one.state}[/{colour}]", _text(one.pid), str(one.port)),
            *(_text(one.memory_mb, " MB"), _text(one.uptime_s, " s"), str(one.restarts)),
            *(_text(one.lag), one.reason or ""),
        )
    console.print(table)
    if found.lag_reason:
        console.print(f"The lag is not known: {found.lag_reason}")


def _text(value: int | None, unit: str = "") -> str:
    return "-" if value is None else f"{value}{unit}"


def _counts(pairs: list[str], option: str = "") -> dict[str, int]:
    found = {}
    for pair in pairs:
        name, _, count = pair.partition("=")
        if not (count.isascii() and count.isdigit()):
            fail(StackError(f"{option}{pair}: write PROCESS=COUNT, for example embed=2."))
        found[name] = int(count)
    return found
