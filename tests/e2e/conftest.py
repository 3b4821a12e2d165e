"""The whole system as a user starts it: `penstock up` in a folder of its own, once per run."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_load import CleanRun, Load
from e2e_stack import ROOT, SERVICES, Running, environment, until

from penstock.client import Penstock

INSTANCES = int(os.environ.get("PENSTOCK_TEST_INSTANCES", "1"))
"""Of every process: all of these tests hold with two as with one."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The stack under test. Its settings make limits short enough to be met in a test."""
    folder = tmp_path_factory.mktemp("stack") / "penstock"
    running = Running(
        folder,
        environment(
            folder,
            PENSTOCK_PARSE_SECONDS="8",
            PENSTOCK_MAX_DOCUMENT_BYTES=str(4 * 1024 * 1024),
            PENSTOCK_URI_PREFIXES=f"file://{folder.parent}/docs",
        ),
    )
    scale = [f"--scale={service}={INSTANCES}" for service in SERVICES]
    up = running.command("up", *scale, timeout=240)
    if up.returncode != 0:
        running.command("down")
        pytest.fail(f"penstock up failed:\n{up.stdout}\n{up.stderr}")
    yield running
    running.command("down", timeout=120)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def penstock(stack: Running) -> AsyncIterator[Penstock]:
    async with Penstock(stack.api) as client:
        yield client


@pytest.fixture(scope="session")
async def clean_run(stack: Running) -> CleanRun:
    """What the load of `e2e_load` comes to when nothing happens."""
    async with Penstock(stack.api) as client:
        load = await Load.begin(stack, client, "clean")
        return CleanRun(load, await load.outcome(), await load.answers(client))


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Awaitable[Any]]:
    return until


@pytest.fixture
def samples() -> Path:
    return ROOT / "samples"
