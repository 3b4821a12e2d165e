"""One operating-system process: what to run, how it starts, and how it stops."""

import asyncio
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from penstock.local.failures import StackError

LOG_BYTES = 20 * 1024 * 1024
_PR_SET_PDEATHSIG = 1
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)
"""Linux alone has it. Looked up here: little is safe to do between fork and exec."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `user` and `group` are numeric ids to run as; None: this process's own."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    user: int | None = None
    group: int | None = None
    pass_fds: tuple[int, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Identity:
    """A process id with its start time: an id alone is given out again after its process ends."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "Identity":
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.Error:
            return cls(pid, 0.0)

    def find(self) -> psutil.Process | None:
        """The process, while it still runs and is the same one."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


class Process:
    """A running process whose output goes to a log file. It leads a session of its own, so that
    Ctrl-C at the terminal reaches the supervisor alone, which stops its children in order."""

    def __init__(self, name: str, log: Path, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.log = log
        self.identity = Identity.of(process.pid)
        self._process = process
        self._command: Command | None = None

    @classmethod
    async def start(
        cls, name: str, command: Command, log: Path, *, dies_with_us: bool = False
    ) -> "Process":
        """`dies_with_us`: it is stopped when this process ends, however that ends (Linux).
        Raises OSError when the log cannot be written or the program cannot be run."""
        log.parent.mkdir(parents=True, exist_ok=True)
        rotate(log, LOG_BYTES)
        with log.open("ab") as output:
            options: dict[str, object] = {}
            if command.user is not None:
                options = {"user": command.user, "group": command.group, "extra_groups": []}
            if dies_with_us and _PRCTL is not None:
                options["preexec_fn"] = partial(_PRCTL, _PR_SET_PDEATHSIG, int(command.stop_signal))
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                env=dict(command.env),
                cwd=command.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=command.pass_fds,
                **options,  # type: ignore[arg-type]
            )
        started = cls(name, log, process)
        started._command = command
        return started

    @property
    def pid(self) -> int:
        return self.identity.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.returncode

    async def wait(self) -> int:
        return await self._process.wait()

    async def stop(self, grace: float) -> None:
        """Ask it to stop; after `grace` seconds end it and what it started."""
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(self._command.stop_signal if self._command else 15)
            try:
                await asyncio.wait_for(self._process.wait(), grace)
            except TimeoutError:
                kill_group(self.pid)
        kill_group(self.pid)
        await self._process.wait()


def start_detached(
    argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """A process that outlives this one, with its output in `log`, which it starts anew; the
    environment of this one by default. Raises OSError."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # It outlives this process, or is reaped by it.
    threading.Thread(target=process.wait, daemon=True, name="reaper").start()
    return process


def kill_group(pid: int) -> None:
    """End the process and whatever it started in its session (a pool's workers)."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def rotate(log: Path, limit: int) -> bool:
    """Move a log that has grown over `limit` bytes to `<name>.1`; the content is copied and the
    file emptied, because its writer goes on appending to the same file."""
    if not log.exists() or log.stat().st_size <= limit:
        return False
    older = log.with_name(log.name + ".1")
    with log.open("rb+") as source, older.open("wb") as target:
        while block := source.read(1 << 20):
            target.write(block)
        source.truncate(0)
    return True


def last_lines(log: Path, count: int = 10) -> list[str]:
    """The end of a log, at most `count` lines; [] when there is none."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 64 * 1024))
        return file.read().decode(errors="replace").splitlines()[-count:]


def describe_exit(code: int) -> str:
    return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with {code}"


def explain_exit(name: str, code: int, log: Path) -> StackError:
    """Why a process that should run has ended, with its last words."""
    words = "\n".join(f"    {line}" for line in last_lines(log))
    return StackError(f"{name}: {describe_exit(code)}; the end of {log}:\n{words}")
