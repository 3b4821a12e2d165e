"""The `penstock` command. Other packages add theirs through the entry points `penstock.commands`."""

import logging
import sys
from importlib.metadata import entry_points

import typer

from penstock.client.commands import bootstrap, demo, documents, operations, questions


def build() -> typer.Typer:
    """The command with everything that is installed."""
    app = typer.Typer(
        name="penstock",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Documents and questions through Kafka to cited answers.",
    )
    app.command()(documents.publish)
    app.command()(questions.ask)
    app.command()(questions.search)
    app.command()(demo.demo)
    app.add_typer(documents.app, name="documents")
    app.add_typer(bootstrap.app, name="bootstrap")
    for name in ("jobs", "dlq", "quarantine", "collections", "keys"):
        app.add_typer(getattr(operations, name), name=name)
    for entry in entry_points(group="penstock.commands"):
        extra = entry.load()
        if entry.name == "local":
            app.add_typer(extra)  # up, down, status, logs at the top level
        else:
            app.add_typer(extra, name=entry.name)
    return app


def main() -> None:
    # What aiokafka meets is said in sentences of our own, or passes by itself.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        build()()
    except KeyboardInterrupt:  # Ctrl-C while the subcommands are still being imported
        sys.exit(130)
