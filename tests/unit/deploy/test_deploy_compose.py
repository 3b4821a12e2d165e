"""docker-compose.yml is valid, gives every process what its settings ask for, and exposes nothing.

It is validated here, not run: there is no container engine in these tests.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from penstock.api.settings import ApiSettings
from penstock.client.commands.bootstrap import compose_secrets
from penstock.common.bootstrap.database import DATABASE, SCHEMAS, role
from penstock.common.bootstrap.settings import AdminSettings
from penstock.common.settings import DatabaseSettings, KafkaSettings
from penstock.embed.settings import EmbedSettings
from penstock.generate.settings import GenerateSettings
from penstock.guard.settings import GuardSettings
from penstock.ingest.settings import IngestSettings
from penstock.local.java import KAFKA_VERSION
from penstock.local.postgres import MAJOR
from penstock.local.services import SERVICES
from penstock.models import ModelSettings
from penstock.retrieve.settings import RetrieveSettings

ROOT = Path(__file__).parents[3]
SETTINGS: dict[str, tuple[type[BaseSettings], ...]] = {
    "api": (ApiSettings,),
    "ingest": (IngestSettings, ModelSettings),
    "guard-documents": (GuardSettings,),
    "guard-dialogue": (GuardSettings,),
    "embed": (EmbedSettings, ModelSettings),
    "indexer": (RetrieveSettings,),
    "searcher": (RetrieveSettings, ModelSettings),
    "answerer": (GenerateSettings, ModelSettings),
    "topics": (KafkaSettings,),
    "database": (AdminSettings,),
}
SERVERS = {"kafka", "postgres", "triton"}


def variables(kinds: tuple[type[BaseSettings], ...]) -> set[str]:
    return {f"PENSTOCK_{name.upper()}" for kind in kinds for name in kind.model_fields}


def test_the_file_is_what_the_compose_specification_allows(compose: Callable[..., Any]) -> None:
    done = compose("--quiet")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_misspelt_key_would_be_found(compose: Callable[..., Any], tmp_path: Path) -> None:
    """The check above is one: the same file with an unknown key is refused."""
    broken = tmp_path / "broken.yml"
    text = (ROOT / "docker-compose.yml").read_text()
    broken.write_text(text.replace("    shm_size:", "    shared_memory:", 1))
    done = compose("--quiet", file=broken)
    assert done.returncode != 0
    assert "shared_memory" in done.stderr


def test_no_secret_has_a_default_and_one_command_makes_them_all(
    compose: Callable[..., Any],
) -> None:
    required = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert required == set(compose_secrets())
    for name in required:
        others = {n: v for n, v in compose_secrets().items() if n != name}
        done = compose("--quiet", env=others)
        assert done.returncode != 0
        assert f"{name} is missing" in done.stderr


def test_secrets_differ_every_time() -> None:
    first, second = compose_secrets(), compose_secrets()
    assert not set(first.values()) & set(second.values())
    assert all(len(value) >= 22 for value in first.values())


def test_every_process_of_the_embedded_stack_is_there(services: dict[str, Any]) -> None:
    assert {spec.name for spec in SERVICES} == set(services) - SERVERS - {"topics", "database"}
    assert set(SETTINGS) == set(services) - SERVERS


@pytest.mark.parametrize("name", SETTINGS)
def test_a_process_knows_every_variable_it_is_given_and_lacks_none(
    services: dict[str, Any],
    image_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Its settings are read from exactly what its container would have."""
    given: dict[str, str | None] = services[name]["environment"]
    assert {n for n in given if n.startswith("PENSTOCK_")} <= variables(SETTINGS[name])
    for known in [n for n in os.environ if n.startswith("PENSTOCK_")]:
        monkeypatch.delenv(known)
    for variable, value in {**image_environment, **given}.items():
        if value is not None:
            monkeypatch.setenv(variable, value)
    for kind in SETTINGS[name]:
        settings = kind()
        if isinstance(settings, DatabaseSettings):
            schema = {"guard-documents": "guard", "guard-dialogue": "guard"}.get(name, name)
            schema = {"indexer": "retrieve", "searcher": "retrieve", "answerer": "generate"}.get(
                schema, schema
            )
            dsn = settings.database.get_secret_value()
            assert schema in SCHEMAS
            assert re.fullmatch(rf"postgresql://{role(schema)}:[^@]+@postgres:5432/{DATABASE}", dsn)


def test_what_env_says_reaches_the_process_and_what_it_does_not_say_is_absent(
    compose: Callable[..., Any],
) -> None:
    text = compose(env=compose_secrets() | {"PENSTOCK_CHAT_URL": "http://model.example/v1"}).stdout
    assert "PENSTOCK_CHAT_URL: http://model.example/v1" in text
    assert re.search(r"PENSTOCK_CHAT_MODEL: (?!null)\S", text) is None


def test_nothing_listens_beyond_this_machine(services: dict[str, Any]) -> None:
    published = {
        (name, port["host_ip"], port["published"])
        for name, service in services.items()
        for port in service.get("ports", ())
    }
    assert published == {("api", "127.0.0.1", "8080"), ("kafka", "127.0.0.1", "9092")}
    assert {n for n, s in services.items() if "outer" in s["networks"]} == {
        "api", "kafka", "ingest", "answerer",
    }  # fmt: skip


def test_every_container_has_as_few_rights_as_it_can(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        # Kafka's image writes its configuration into itself; Triton was not tried.
        assert service.get("read_only", False) is (name not in ("kafka", "triton")), name


def test_whoever_waits_waits_for_a_server_that_is_well(services: dict[str, Any]) -> None:
    for name, service in services.items():
        waits = service.get("depends_on", {})
        if name in SERVERS:
            assert service["healthcheck"]["test"], name
            continue
        expected = {"topics": {"kafka"}, "database": {"postgres"}}.get(name, {"topics"})
        assert expected <= set(waits), name
        once = name in ("topics", "database")
        assert service["restart"] == ("no" if once else "unless-stopped"), name
        for other, how in waits.items():
            done = other in ("topics", "database")
            wanted = "service_completed_successfully" if done else "service_healthy"
            assert how["condition"] == wanted, (name, other)
            assert how["required"] is (other != "triton"), "the profile gpu may be off"


def test_the_servers_are_the_versions_that_the_tests_run_on(services: dict[str, Any]) -> None:
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert services["postgres"]["image"] == f"pgvector/pgvector:pg{MAJOR}"


def test_data_lies_in_named_volumes_and_the_blobs_where_both_look(
    services: dict[str, Any], image_environment: dict[str, str]
) -> None:
    mounts = {
        name: {(v["type"], v["source"], v["target"]) for v in service["volumes"]}
        for name, service in services.items()
        if service.get("volumes")
    }
    blobs = {("volume", "blobs", image_environment["PENSTOCK_BLOBS"])}
    assert mounts == {
        "api": blobs,
        "ingest": blobs,
        "kafka": {("volume", "kafka", "/var/lib/kafka/data")},
        "postgres": {("volume", "postgres", "/var/lib/postgresql")},
    }
    assert services["kafka"]["environment"]["KAFKA_LOG_DIRS"].startswith("/var/lib/kafka/data/")
