"""What the commands of the stack share: the folder option, and how they run and fail."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console

from penstock.local.failures import StackError
from penstock.local.launcher import home

Result = TypeVar("Result")

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells give it."""

console = Console(highlight=False)
Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="Where the stack keeps everything. [env: PENSTOCK_HOME]"),
]


def stack_folder(folder: Path | None) -> Path:
    return folder.absolute() if folder is not None else home()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of the work; a `StackError` ends the command with its sentence."""
    try:
        return asyncio.run(work)
    except StackError as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def fail(error: StackError) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(1)
