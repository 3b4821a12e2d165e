"""The processes of a stack and the environment of each: only what it needs, only its own role."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from penstock.common.bootstrap.database import DATABASE, role
from penstock.local.credentials import Credentials
from penstock.local.failures import StackError
from penstock.local.postgres import dsn

PREFIX = "PENSTOCK_"


class ServiceSpec(BaseModel):
    """One line of the table of services."""

    model_config = ConfigDict(frozen=True)

    name: str
    argv: tuple[str, ...]
    """Arguments of this Python."""
    schema_name: str | None = None
    """The database schema that it may use, as the role that owns it."""
    blobs: bool = False
    default_port: int | None = None
    """None: any free one."""
    all_cores: bool = False
    """Its numeric libraries may use every core; the others are held to one thread."""


def _module(name: str, *argument: str, **more: object) -> ServiceSpec:
    package = name.split("-", maxsplit=1)[0]
    package = {"indexer": "retrieve", "searcher": "retrieve", "answerer": "generate"}.get(
        package, package
    )
    argv = ("-P", "-m", f"penstock.{package}.app", *argument)  # -P: see launcher
    return ServiceSpec.model_validate({"name": name, "argv": argv, **more})


SERVICES: tuple[ServiceSpec, ...] = (
    _module("api", schema_name="api", blobs=True, default_port=8080),
    _module("ingest", schema_name="ingest", blobs=True),
    _module("guard-documents", "documents", schema_name="guard"),
    _module("guard-dialogue", "dialogue", schema_name="guard"),
    _module("embed", all_cores=True),
    _module("indexer", "indexer", schema_name="retrieve"),
    _module("searcher", "searcher", schema_name="retrieve", all_cores=True),
    _module("answerer", "answerer", schema_name="generate"),
)


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of a service. `embed`, then `embed-2`, `embed-3` …"""

    name: str
    spec: ServiceSpec


def counts(services: Sequence[ServiceSpec], scale: Mapping[str, int]) -> dict[str, int]:
    """How many processes of every service: one where `scale` says nothing. `StackError` for a name
    that is not known or a count that cannot be."""
    names = [spec.name for spec in services]
    for name, count in scale.items():
        if name not in names:
            known = ", ".join(names)
            raise StackError(f"{name}={count}: there is no such process; known: {known}.")
        if not 0 <= count <= 64:
            raise StackError(f"{name}={count}: give a count between 0 and 64.")
    return {name: scale.get(name, 1) for name in names}


def instances(spec: ServiceSpec, count: int) -> list[Instance]:
    return [
        Instance(spec.name if number == 1 else f"{spec.name}-{number}", spec)
        for number in range(1, count + 1)
    ]


def service_of(name: str) -> str:
    """The service that a process belongs to: `embed` of `embed-2`."""
    return name.rstrip("0123456789").removesuffix("-")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the environments of all the processes are made from."""

    folder: Path
    kafka: str
    postgres_port: int
    credentials: Credentials
    ports: Mapping[str, int]
    """By process name."""
    models: Path
    caller: Mapping[str, str]
    """The environment of whoever ran `up`."""
    settings: Mapping[str, str]
    """What `settings.env` says; the caller's environment comes before it."""


def environment(instance: Instance, around: Surroundings) -> dict[str, str]:
    """The whole environment of a process."""
    spec = instance.spec
    settings = {name: value for name, value in around.settings.items() if name.startswith(PREFIX)}
    theirs = {**settings, **around.caller}
    defaults = {"PENSTOCK_MODELS": str(around.models)}
    if spec.name == "api":
        defaults |= {
            "PENSTOCK_OPEN_ON_LOOPBACK": "true",
            "PENSTOCK_OPERATOR_KEY": around.credentials.operator_key,
        }
    own = {
        "PENSTOCK_KAFKA": around.kafka,
        "PENSTOCK_KAFKA_SECURITY": "PLAINTEXT",
        "PENSTOCK_SERVICE_SECRET": around.credentials.service_secret,
        "PENSTOCK_HOST": "127.0.0.1",
        "PENSTOCK_PORT": str(around.ports[instance.name]),
    }
    for name, process in (("SEARCHER", "searcher"), ("GUARD", "guard-documents")):
        if process in around.ports:
            own[f"PENSTOCK_{name}_URL"] = f"http://127.0.0.1:{around.ports[process]}"
    theirs.pop("PENSTOCK_DATABASE", None)
    if spec.schema_name is not None:
        password = around.credentials.database[spec.schema_name]
        own["PENSTOCK_DATABASE"] = dsn(
            role(spec.schema_name), password, around.postgres_port, DATABASE
        )
    if spec.blobs:
        own["PENSTOCK_BLOBS"] = str(around.folder / "blobs")
    return _threads({**defaults, **theirs, **own}, all_cores=spec.all_cores)


def _threads(environment: dict[str, str], *, all_cores: bool) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    kept = {name: value for name, value in environment.items() if name not in names}
    return kept if all_cores else {**kept, **dict.fromkeys(names, "1")}


def read_settings(path: Path) -> dict[str, str]:
    """`NAME=value` lines, `#` comments; {} when there is no file. `StackError` names a bad line."""
    if not path.exists():
        return {}
    found = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.removeprefix("export ").partition("=")
        if not equals or not name.strip().startswith(PREFIX):
            raise StackError(f"{path}, line {number}: expected {PREFIX}NAME=value, got {text!r}.")
        found[name.strip()] = value.strip().strip("\"'")
    return found
