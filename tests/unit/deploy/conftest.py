"""docker-compose.yml as compose itself reads it, and the Dockerfile as a list of instructions."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.client.commands.bootstrap import compose_secrets

ROOT = Path(__file__).parents[3]
Compose = Callable[..., subprocess.CompletedProcess[str]]


def tool(name: str) -> str:
    """A program that the development environment brings, where there is one for this machine."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; on Linux `make install` brings it")
    return found


@pytest.fixture
def program() -> Callable[[str], str]:
    return tool


@pytest.fixture(scope="session")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """Run `docker-compose config` offline: it validates against the specification's schema."""

    tmp_path = tmp_path_factory.mktemp("compose")

    def config(
        *arguments: str, file: Path = ROOT / "docker-compose.yml", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        variables = compose_secrets() if env is None else env
        (tmp_path / "env").write_text("".join(f"{n}={v}\n" for n, v in variables.items()))
        return subprocess.run(
            [tool("docker-compose"), "--project-directory", ROOT, "-f", file,
             "--env-file", tmp_path / "env", *("--profile", "*"), "config", *arguments],
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip

    return config


@pytest.fixture(scope="session")
def services(compose: Compose) -> dict[str, Any]:
    """Every service with all defaults and variables filled in."""
    done = compose("--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


@pytest.fixture
def dockerfile() -> list[tuple[str, str]]:
    """Instructions with their arguments, in order; continued lines joined."""
    text = (ROOT / "deploy/Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


@pytest.fixture
def image_environment(dockerfile: list[tuple[str, str]]) -> dict[str, str]:
    """The settings that every service's image comes with."""
    set_there = " ".join(rest for word, rest in dockerfile if word == "ENV")
    return dict(re.findall(r"(PENSTOCK_\w+)=(\S+)", set_there))
