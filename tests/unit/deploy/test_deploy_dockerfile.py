"""The Dockerfile, as far as it can be checked without an engine."""

import importlib
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock.api.settings import ApiSettings
from penstock.models import ModelSettings
from penstock.models.registry import DEFAULT_MODEL

ROOT = Path(__file__).parents[3]
Instructions = list[tuple[str, str]]


def stage(dockerfile: Instructions, name: str) -> Instructions:
    """The instructions of one stage, without its FROM."""
    starts = [n for n, (word, _) in enumerate(dockerfile) if word == "FROM"]
    for start, end in zip(starts, [*starts[1:], len(dockerfile)], strict=True):
        if dockerfile[start][1].endswith(f" AS {name}"):
            return dockerfile[start + 1 : end]
    raise AssertionError(f"there is no stage {name}")


def test_hadolint_finds_nothing(program: Callable[[str], str]) -> None:
    done = subprocess.run(
        [program("hadolint"), ROOT / "deploy/Dockerfile"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_everything_copied_is_there_and_let_through(dockerfile: Instructions) -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    assert "*" in ignore, "nothing goes along that is not named"
    copied = [rest.split() for word, rest in dockerfile if word == "COPY" and "--from" not in rest]
    sources = [source.replace("${MODEL}", DEFAULT_MODEL) for *s, _ in copied for source in s]
    assert len(sources) >= 4
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(Path(source).is_relative_to(a) for a in allowed), source


def test_every_image_of_compose_is_a_package_whose_process_can_be_named(
    services: dict[str, Any], dockerfile: Instructions
) -> None:
    for name, service in services.items():
        if "build" not in service:
            continue
        target, package = service["build"]["target"], service["build"]["args"]["SERVICE"]
        stage(dockerfile, target)
        folder = ROOT / ("libs" if package == "client" else "services") / package
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert project["name"] == f"penstock-{package}"
        if target == "command":
            assert "penstock" in project["scripts"]
        if target != "service":
            continue
        module = importlib.import_module(f"penstock.{package}.app")
        assert callable(module.main), name
        processes = getattr(module, "PROCESSES", None)
        if processes is None:
            assert service.get("command") is None, name
        else:
            assert set(service["command"]) <= set(processes), name


def test_a_service_runs_as_nobody_and_says_whether_it_is_ready(dockerfile: Instructions) -> None:
    assert dockerfile[[w for w, _ in dockerfile].index("FROM")][1].endswith(" AS build")
    assert [rest for word, rest in dockerfile if word == "FROM"][-1] == "runtime AS service"
    assert ("USER", "10001:10001") in stage(dockerfile, "runtime")
    service = stage(dockerfile, "service")
    assert "USER" not in {word for word, _ in service}
    (health,) = [rest for word, rest in service if word == "HEALTHCHECK"]
    assert "penstock.common.probe" in health
    assert importlib.import_module("penstock.common.probe").main


def test_only_what_is_locked_is_installed_and_of_one_service(dockerfile: Instructions) -> None:
    (sync,) = [rest for word, rest in dockerfile if word == "RUN" and "uv sync" in rest]
    for option in ("--frozen", "--no-dev", "--no-editable", '--package "penstock-${SERVICE'):
        assert option in sync


def test_what_the_image_sets_exists(
    image_environment: dict[str, str], dockerfile: Instructions
) -> None:
    known = {*ApiSettings.model_fields, *ModelSettings.model_fields}
    assert {name.removeprefix("PENSTOCK_").lower() for name in image_environment} <= known
    arguments = {
        rest.partition("=")[0]: rest.partition("=")[2] for w, rest in dockerfile if w == "ARG"
    }
    assert arguments["PENSTOCK_MAVEN"] == ModelSettings.model_fields["maven"].default
    assert DEFAULT_MODEL in [r.partition("=")[2] for w, r in dockerfile if r.startswith("MODEL=")]
    version = re.match(r"\d+\.\d+", arguments["PYTHON"])
    assert version is not None
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == f">={version[0]}"
    text = (ROOT / "deploy/Dockerfile").read_text()
    assert set(re.findall(r"python(3\.\d+)", text)) == {version[0]}
