"""`penstock ask` and `penstock search`."""

import json
from typing import Annotated, Any

import typer

from penstock.client.console import AsJson, console, fail, print_json, rows, with_client
from penstock.client.models import Answer

Collection = Annotated[str | None, typer.Option(help="Where to look; the default collection.")]
Filter = Annotated[
    str | None, typer.Option(help='A JSON object on metadata, as {"year": {"gte": 2024}}.')
]


def ask(
    question: str,
    top_k: Annotated[int | None, typer.Option(min=1, max=50, help="Passages to read.")] = None,
    filter: Filter = None,  # noqa: A002  (the option's name)
    collection: Collection = None,
    as_json: AsJson = False,
) -> None:
    """Ask a question; the answer cites the documents."""
    more = _given(top_k=top_k, filter=_object(filter), collection=collection)
    answer = with_client(lambda p: p.ask(question, **more))
    if as_json:
        print_json(answer)
    else:
        print_answer(answer)


def print_answer(answer: Answer) -> None:
    """The text, then its citations: document, range of characters, place in the log, quote."""
    piped = not console.is_terminal  # there a line is a line, however long
    console.print(answer.text, markup=False, highlight=False, soft_wrap=piped)
    for c in answer.citations:
        place = f" {c.source.topic}/{c.source.partition}/{c.source.offset}" if c.source else ""
        console.print(
            f"  [{c.marker}] {c.document_id} {c.start}-{c.end}{place}",
            markup=False, highlight=False, style="cyan", soft_wrap=True,
        )  # fmt: skip
        console.print(
            f'      "{c.quote}"', markup=False, highlight=False, style="dim", soft_wrap=piped
        )


def search(
    query: str,
    top_k: Annotated[int | None, typer.Option(min=1, max=50)] = None,
    mode: Annotated[str | None, typer.Option(help="hybrid, dense or lexical.")] = None,
    filter: Filter = None,  # noqa: A002  (the option's name)
    collection: Collection = None,
    as_json: AsJson = False,
) -> None:
    """Passages for a query, best first."""
    more = _given(top_k=top_k, mode=mode, filter=_object(filter), collection=collection)
    result = with_client(lambda p: p.search(query, **more))
    if as_json:
        print_json(result)
        return
    columns = {
        "rank": lambda p: p.rank,
        "score": lambda p: f"{p.score:.4f}",
        "dense": lambda p: p.dense_rank,
        "lexical": lambda p: p.lexical_rank,
        "document": lambda p: p.document_id,
        "text": lambda p: " ".join(p.text.split())[:90],
    }
    rows(result.passages, columns, as_json=False)
    console.print(f"{result.took_ms:.1f} ms", style="dim")


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        loaded = json.loads(text)
    except ValueError as error:
        fail(f"--filter is not JSON: {error}")
    if not isinstance(loaded, dict):
        fail("--filter is a JSON object, as in '{\"year\": 2024}'")
    return loaded
