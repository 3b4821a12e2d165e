"""Start and stop a stack from outside: `up` hands it to a supervisor of its own, `down` ends it."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from penstock.local.failures import StackError, from_os
from penstock.local.orphans import end_orphans
from penstock.local.process import last_lines, start_detached
from penstock.local.state import StackState, State, is_running, usable
from penstock.local.supervisor import Options

READY_SECONDS = 180.0
_POLL_SECONDS = 0.1
_REWRITE_SECONDS = 10.0
"""A supervisor writes a stack.json that was deleted again, well within this."""
_CRASHES = 3
"""So many ends of a process that never was ready, and `up` stops waiting for it."""
Say = Callable[[str], None]


async def up(
    folder: Path, options: Options, say: Say, *, timeout: float = READY_SECONDS
) -> StackState:
    """Start the stack, or join one that runs or starts already; returns when all is ready.

    `say` gets one line for each thing that happened. `StackError` says what did not come up; what
    did come up is left running, so that `status` and `logs` can be asked."""
    await asyncio.to_thread(usable, folder)
    supervisor: subprocess.Popen[bytes] | None = None
    if await asyncio.to_thread(is_running, folder):
        if options.scale:
            asked = " ".join(f"{name}={count}" for name, count in options.scale.items())
            raise StackError(
                f"A stack runs already in {folder}; to scale it run `penstock scale {asked}`."
            )
        say(
            f"A stack runs already in {folder}; its ports and settings stay as they are "
            "until `penstock down`."
        )
    else:
        supervisor = await asyncio.to_thread(_spawn, folder, options)
    return await _follow(folder, supervisor, say, time.monotonic() + timeout)


def _spawn(folder: Path, options: Options) -> "subprocess.Popen[bytes]":
    argv = (
        # -P: nothing is imported from the folder that `up` happens to be called in.
        *(sys.executable, "-P", "-m", "penstock.local", "supervise"),
        *("--folder", str(folder), "--options", options.model_dump_json()),
    )
    try:
        return start_detached(argv, folder / "logs" / "supervisor.log")
    except OSError as error:
        raise from_os(error, "The supervisor cannot be started") from error


async def _follow(
    folder: Path, supervisor: "subprocess.Popen[bytes] | None", say: Say, deadline: float
) -> StackState:
    began, told = time.monotonic(), set[str]()
    while True:
        ended = supervisor is not None and supervisor.poll() is not None
        runs = await asyncio.to_thread(is_running, folder)
        stack = await asyncio.to_thread(StackState.read, folder)
        fresh = stack is not None and runs and _is_of(stack, supervisor)
        if ended and not runs:
            raise StackError(_why_ended(folder))
        if ended:
            supervisor = None  # another `up` was first: follow its stack
        if stack is not None and fresh:
            _tell(stack, told, say, time.monotonic() - began)
            if stack.state is State.READY:
                return stack
            raise_if_crashing(stack, "The rest was left running; `penstock down` stops it.")
        if time.monotonic() > deadline:
            raise StackError(_what_is_late(stack))
        await asyncio.sleep(_POLL_SECONDS)


def _is_of(stack: StackState, supervisor: "subprocess.Popen[bytes] | None") -> bool:
    """Whether the file was written by the supervisor of now, not by an earlier one."""
    if supervisor is not None:
        return stack.supervisor.pid == supervisor.pid
    return stack.supervisor.identity.find() is not None


def _tell(stack: StackState, told: set[str], say: Say, seconds: float) -> None:
    for name, process in stack.processes.items():
        if process.state is State.READY and name not in told:
            told.add(name)
            say(f"  {name:<16} ready after {seconds:4.1f} s   port {process.port}")
        elif (
            process.state is State.RESTARTING
            and (line := f"  {name:<16} {process.reason}") not in told
        ):
            told.add(line)
            say(line)


def raise_if_crashing(stack: StackState, advice: str, since: StackState | None = None) -> None:
    """`StackError` when a process ended again and again before it was ready; `since`: what was
    before does not count."""
    before = since.processes if since is not None else {}
    for name, process in stack.processes.items():
        ends = process.restarts - (before[name].restarts if name in before else 0)
        if ends >= _CRASHES and process.state is not State.READY:
            raise StackError(
                f"{name} does not stay up ({process.reason}).\n{_words(process.log)}\n{advice}"
            )


def _what_is_late(stack: StackState | None) -> str:
    if stack is None:
        return "The supervisor did not start in time."
    late = {n: p for n, p in stack.processes.items() if p.state is not State.READY}
    said = [
        f"{name} is not ready ({p.reason or p.state}).\n{_words(p.log)}" for name, p in late.items()
    ]
    return "\n".join([*said, "The rest was left running; `penstock down` stops it."])


def _words(log: str) -> str:
    lines = "\n".join(f"    {line}" for line in last_lines(Path(log)))
    return f"  The end of {log}:\n{lines}"


def _why_ended(folder: Path) -> str:
    stack = StackState.read(folder)
    if stack is not None and stack.state is State.FAILED and stack.reason:
        return stack.reason
    words = " ".join(last_lines(folder / "logs" / "supervisor.log", 5))
    return words or "The supervisor ended before the stack was ready."


def down(folder: Path, *, timeout: float = 60.0) -> bool:
    """Stop the stack of a folder; False when nothing ran. Blocks until all processes are gone."""
    ran = is_running(folder)
    stack = StackState.read(folder)
    deadline = time.monotonic() + _REWRITE_SECONDS
    while stack is None and ran and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        stack = StackState.read(folder)
    if stack is None:
        return False
    if ran and (supervisor := stack.supervisor.identity.find()) is not None:
        supervisor.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while is_running(folder) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if is_running(folder):
            supervisor.kill()
            supervisor.wait(5)
    left = end_orphans(StackState.read(folder) or stack)
    if left:
        stopped = {
            n: p.model_copy(update={"state": State.STOPPED, "pid": 0})
            for n, p in stack.processes.items()
        }
        stack.model_copy(update={"state": State.STOPPED, "processes": stopped}).write(folder)
    return ran or bool(left)


def delete(folder: Path) -> None:
    """Remove the folder with all its data. `StackError` when it is not a stack's, or cannot be."""
    if not (folder / "stack.json").exists() and not (folder / "secrets.json").exists():
        raise StackError(f"{folder} is not a stack's folder; nothing was deleted.")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise from_os(error, f"{folder} cannot be deleted") from error


def home() -> Path:
    """The stack's folder: `PENSTOCK_HOME`, else `.penstock` here."""
    return Path(os.environ.get("PENSTOCK_HOME") or ".penstock").absolute()
