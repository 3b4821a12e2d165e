"""Put the local model behind the answerer, and take it away again."""

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from penstock.local.failures import StackError
from penstock.local.llm.server import LocalModel
from penstock.local.services import PREFIX, service_of
from penstock.local.state import ProcessState, StackState, State, is_running

SERVICE = "answerer"
_RESTART_SECONDS = 60.0
_POLL_SECONDS = 0.1


def settings(record: LocalModel, key: str) -> dict[str, str]:
    """What the answerer is told."""
    return {
        f"{PREFIX}CHAT_URL": record.url,
        f"{PREFIX}CHAT_MODEL": record.model,
        f"{PREFIX}CHAT_KEY": key,
        # A few questions at once wait in the server's line, silent until it is their turn.
        f"{PREFIX}CHAT_TIMEOUT_S": "300",
    }


def refuse_when_overridden(folder: Path) -> None:
    """`StackError` when the stack's own environment names another model: it comes first."""
    environment: Mapping[str, str] = os.environ
    stack = StackState.read(folder)
    if stack is not None and is_running(folder):
        supervisor = stack.supervisor.identity.find()
        with suppress(psutil.Error):
            environment = supervisor.environ() if supervisor is not None else environment
    for name in (f"{PREFIX}CHAT_{which}" for which in ("URL", "MODEL", "KEY")):
        if name in environment:
            raise StackError(
                f"{name} is set in the environment of the stack, which comes before settings.env: "
                "unset it, then `penstock down` and `penstock up`."
            )


async def restart(folder: Path, timeout: float = _RESTART_SECONDS) -> list[str]:
    """Restart the answerers, so that they read their settings again; the names of those that ran.

    They finish what they have in hand, and their supervisor starts them anew. `StackError` when
    one is not ready again in time.
    """
    if not await asyncio.to_thread(is_running, folder):
        return []
    before = {name: state for name, state in (await _answerers(folder)).items() if state.pid}
    for state in before.values():
        process = state.identity.find()
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
    deadline = time.monotonic() + timeout
    while late := _not_back(before, await _answerers(folder)):
        if time.monotonic() > deadline:
            raise StackError(
                f"{' and '.join(late)} did not come back in {timeout:.0f} s; "
                f"see `penstock status` and `penstock logs {late[0]}`."
            )
        await asyncio.sleep(_POLL_SECONDS)
    return list(before)


def _not_back(before: Mapping[str, ProcessState], now: Mapping[str, ProcessState]) -> list[str]:
    return [
        name
        for name, old in before.items()
        if name not in now or now[name].state is not State.READY or now[name].pid == old.pid
    ]


async def _answerers(folder: Path) -> dict[str, ProcessState]:
    stack = await asyncio.to_thread(StackState.read, folder)
    processes = stack.processes if stack is not None else {}
    return {name: state for name, state in processes.items() if service_of(name) == SERVICE}
