"""One process kept running: started, watched until it is ready, restarted when it ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from penstock.local.failures import StackError, from_os
from penstock.local.process import Command, Process, describe_exit, kill_group
from penstock.local.state import ProcessState, State

_POLL_SECONDS = 0.1
_STARTS = 3


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next start, seconds: doubling, from the start again once a
    process has been up for `healthy` seconds."""

    first: float = 0.5
    longest: float = 30.0
    healthy: float = 60.0
    failures: int = 0

    def after(self, uptime: float) -> float:
        self.failures = 1 if uptime >= self.healthy else self.failures + 1
        return min(self.longest, self.first * 2.0 ** min(self.failures - 1, 16))


class Child:
    """A process of the stack. `changed` is called whenever `state` is another.

    Args:
        command: asked before every start; a `StackError` is why it cannot be started now.
        ready: None when it can work, else the reason; asked until it first says None.
        grace: seconds that a stop may take before the process is killed.
    """

    def __init__(
        self,
        name: str,
        *,
        log: Path,
        port: int,
        command: Callable[[], Command],
        ready: Callable[[], Awaitable[str | None]],
        changed: Callable[[], None],
        grace: float,
    ) -> None:
        self.name = name
        self.log = log
        self.backoff = Backoff()
        self.is_ready = asyncio.Event()
        self.state = ProcessState(port=port, log=str(log))
        self._command = command
        self._ready = ready
        self._changed = changed
        self._grace = grace
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._came_up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        self._life = asyncio.create_task(self._live(), name=self.name)

    async def comes_up(self, timeout: float) -> bool:
        """Whether it is ready within `timeout` seconds and three starts."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._came_up), timeout)
        except TimeoutError:
            return False

    async def stop(self) -> None:
        """Stop the process, and do not start it again."""
        self._stopping.set()
        if self._process is not None:
            self._show(state=State.STOPPING, reason=None)
            await self._process.stop(self._grace)
        if self._life is not None:
            await self._life
        self._show(state=State.STOPPED, pid=0, started=0.0)

    async def _live(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = await self._run_once()
            self._process = None
            self.is_ready.clear()
            if self._stopping.is_set():
                return
            pause = self.backoff.after(time.monotonic() - began)
            self._show(
                state=State.RESTARTING,
                reason=f"{reason}; starts again in {pause:g} s",
                restarts=self.state.restarts + 1,
                pid=0,
                started=0.0,
            )
            if self.state.restarts >= _STARTS:
                self._decide(came_up=False)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _run_once(self) -> str:
        """Run the process to its end; why it ended."""
        try:
            process = await Process.start(self.name, self._command(), self.log)
        except StackError as error:
            return str(error)
        except OSError as error:
            return str(from_os(error, "it cannot be started"))
        self._process = process
        found = process.identity
        self._show(state=State.STARTING, pid=found.pid, started=found.started)
        watching = asyncio.create_task(self._watch())
        if self._stopping.is_set():  # stop came while it was being started
            await process.stop(self._grace)
        code = await process.wait()
        kill_group(process.pid)  # a pool's workers outlive a service that crashed
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        return describe_exit(code)

    async def _watch(self) -> None:
        while (reason := await self._ready()) is not None:
            if reason != self.state.reason:
                self._show(reason=reason)
            await asyncio.sleep(_POLL_SECONDS)
        self._show(state=State.READY, reason=None)
        self.is_ready.set()
        self._decide(came_up=True)

    def _decide(self, *, came_up: bool) -> None:
        if not self._came_up.done():
            self._came_up.set_result(came_up)

    def _show(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)
        self._changed()
