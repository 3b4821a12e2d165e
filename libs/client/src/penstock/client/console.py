"""How every subcommand talks: tables for people, `--json` for programs, one sentence for errors."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings
from rich.console import Console
from rich.table import Table

from penstock.client.client import Penstock
from penstock.client.errors import PenstockError
from penstock.client.stack import find
from penstock.common.failures import PermanentError, TransientError

Result = TypeVar("Result")
Settings = TypeVar("Settings", bound=BaseSettings)

_PIPED_COLUMNS = 200
"""Into a file or a pipe a table is not folded to eighty columns: ids would be cut in pieces."""

console = Console(width=None if sys.stdout.isatty() else _PIPED_COLUMNS)
errors = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most rows to print.")]


def fail(sentence: str) -> NoReturn:
    """Say what is wrong, in red, and leave with status 1."""
    errors.print(sentence, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def settings_of(kind: type[Settings], **fields: Any) -> Settings:
    """From the environment, `fields` before it; what is wrong there ends the command."""
    try:
        return kind(**fields)
    except ValidationError as error:
        fail("; ".join(_setting(e["loc"], e["msg"]) for e in error.errors()))


def _setting(place: tuple[int | str, ...], message: str) -> str:
    words = message.removeprefix("Value error, ")
    return f"PENSTOCK_{str(place[0]).upper()}: {words}" if place else words


def run(work: Awaitable[Result]) -> Result:
    """Run to the end; what can be expected to go wrong becomes one sentence and status 1."""

    async def awaited() -> Result:
        return await work

    try:
        return asyncio.run(awaited())
    except (PenstockError, PermanentError, TransientError, TimeoutError) as error:
        fail(str(error) or "timed out")
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def with_client(call: Callable[[Penstock], Awaitable[Result]]) -> Result:
    """Run one call against the API that is configured here."""

    async def work() -> Result:
        addresses = find()
        async with Penstock(addresses.api, addresses.key) as penstock:
            return await call(penstock)

    return run(work())


def plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def show(value: Any, *, as_json: bool) -> None:
    """One thing, as JSON or as name and value below each other."""
    fields = plain(value)
    if as_json:
        print_json(fields)
        return
    for name, content in fields.items():
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        console.print(f"[bold]{name}[/bold]  ", end="")
        console.print(text, markup=False, highlight=False)


def rows(
    items: Sequence[Any], columns: Mapping[str, Callable[[Any], Any]], *, as_json: bool
) -> None:
    """Many things, as a JSON list or as a table."""
    if as_json:
        print_json([plain(item) for item in items])
        return
    if not items:
        console.print("none")
        return
    table = Table(box=None, pad_edge=False)
    for name in columns:
        # An id with an ellipsis in it is of no use in the next command.
        table.add_column(name, no_wrap=name == "id", overflow="fold")
    for item in items:
        table.add_row(*(_cell(read(item)) for read in columns.values()))
    console.print(table)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


async def first(items: Any, limit: int) -> list[Any]:
    """The first `limit` items of an async iterator."""
    found: list[Any] = []
    async for item in items:
        found.append(item)
        if len(found) >= limit:
            break
    return found


def pick(*names: str) -> dict[str, Callable[[Any], Any]]:
    """Columns that read a field of the same name, from a mapping or a model.

    The field has to be there: a column that is always empty would look like an answer.
    """

    def reader(name: str) -> Callable[[Any], Any]:
        def read(item: Any) -> Any:
            return item[name] if isinstance(item, Mapping) else getattr(item, name)

        return read

    return {name: reader(name) for name in names}
