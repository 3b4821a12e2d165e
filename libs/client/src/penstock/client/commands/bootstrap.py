"""`penstock bootstrap`: what a Kafka and a Postgres of your own need before the first start."""

import secrets
from base64 import urlsafe_b64encode
from dataclasses import asdict
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from penstock.client.console import AsJson, console, fail, print_json, run, settings_of
from penstock.client.errors import PenstockError
from penstock.client.stack import find
from penstock.common.bootstrap import acls as rights
from penstock.common.bootstrap import database as databases
from penstock.common.bootstrap.database import SCHEMAS
from penstock.common.bootstrap.settings import AdminSettings
from penstock.common.bootstrap.topics import create_topics
from penstock.common.settings import KafkaSettings

app = typer.Typer(
    no_args_is_help=True,
    help="Topics, rights and roles on servers of your own; secrets for docker compose.",
)
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")]


@app.command()
def topics(
    replication: Annotated[
        int | None,
        typer.Option(min=1, help="Copies of each partition. Default: 3, or one on each broker."),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Create the topics that are missing; a topic that is there is left as it is.

    Status 1 when one is there in a way that Penstock does not work with.
    """
    plan = run(create_topics(_kafka(), replication=replication, dry_run=dry_run))
    created = [topic.name for topic in plan.missing]
    if as_json:
        different = [asdict(difference) for difference in plan.differences]
        print_json({"dry_run": dry_run, "created": created, "different": different})
    else:
        _report(created, dry_run)
        for difference in plan.differences:
            console.print(f"left as it is: {difference}", markup=False, highlight=False)
    if harmful := [str(d) for d in plan.differences if d.harmful]:
        fail(f"Penstock does not work with this: {'; '.join(harmful)}")


@app.command()
def acls(
    principal: Annotated[
        str, typer.Option(help="The Kafka user of each process.")
    ] = rights.PRINCIPAL,
    publisher: Annotated[
        list[str] | None,
        typer.Option(help="A user that may submit documents and questions; repeatable."),
    ] = None,
    commands: Annotated[
        bool, typer.Option("--commands", help="Print lines for kafka-acls.sh; ask no broker.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let each process read and write the topics that the register gives it, and no other.

    Adds rights, and takes none away.
    """
    if "{process}" not in principal:
        fail("--principal needs {process} in it, for example User:penstock-{process}")
    settings = _kafka()
    wanted = rights.wanted(principal=principal, publishers=publisher or ())
    if commands:
        for acl in wanted:
            typer.echo(acl.command(settings.kafka))
        return
    added = run(rights.allow(settings, wanted, dry_run=dry_run))
    if as_json:
        fields = [
            asdict(a) | {"resource": a.resource.name, "operation": a.operation.name} for a in added
        ]
        print_json({"dry_run": dry_run, "added": fields})
        return
    _report(
        [f"{a.principal} {a.operation.name} {a.resource.name.lower()} {a.name}" for a in added],
        dry_run,
    )


@app.command()
def database(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Create the database, pgvector, a role and a schema per service; set the roles' passwords.

    As the superuser of PENSTOCK_ADMIN_DATABASE. The services make their tables themselves.
    """
    admin = settings_of(AdminSettings)
    created = run(
        databases.bootstrap(
            admin.admin_database.get_secret_value(), admin.passwords(), dry_run=dry_run
        )
    )
    if as_json:
        print_json({"dry_run": dry_run, "created": created})
        return
    _report(created, dry_run)
    told = "would be set" if dry_run else "set"
    console.print(f"passwords of {len(SCHEMAS)} roles {told}", highlight=False)


@app.command()
def env(
    file: Annotated[Path, typer.Option(help="Where to; never over a file that is there.")] = Path(
        ".env"
    ),
    stdout: Annotated[bool, typer.Option("--stdout", help="Print it instead.")] = False,
) -> None:
    """Make the secrets that docker-compose.yml asks for, at random."""
    text = "".join(f"{name}={value}\n" for name, value in compose_secrets().items())
    if stdout:
        typer.echo(text, nl=False)
        return
    try:
        file.touch(mode=0o600, exist_ok=False)
        file.write_text(text)
    except FileExistsError:
        fail(f"{file} is there already; new secrets would lock you out of your data")
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}")
    console.print(f"wrote {file}; keep it as you keep the data", highlight=False)


def compose_secrets() -> dict[str, str]:
    """By variable of docker-compose.yml."""
    cluster = "P" + urlsafe_b64encode(uuid4().bytes).decode()[1:22]
    return {
        "KAFKA_CLUSTER_ID": cluster,
        "POSTGRES_PASSWORD": secrets.token_urlsafe(24),
        "PENSTOCK_SERVICE_SECRET": secrets.token_urlsafe(32),
        "PENSTOCK_OPERATOR_KEY": f"pk_operator_{secrets.token_hex(24)}",
        **{f"PENSTOCK_{s.upper()}_PASSWORD": secrets.token_urlsafe(24) for s in SCHEMAS},
    }


def _kafka() -> KafkaSettings:
    """The cluster of the environment, else of the stack that runs here."""
    try:
        found = find().kafka
    except PenstockError as error:
        fail(str(error))
    return settings_of(KafkaSettings, **({"kafka": found} if found else {}))


def _report(items: list[str], dry_run: bool) -> None:
    """Names that were created, or would be, one a line."""
    if not items:
        console.print("nothing is missing")
    for item in items:
        told = "would create" if dry_run else "created"
        console.print(f"{told} {item}", markup=False, highlight=False, soft_wrap=True)
