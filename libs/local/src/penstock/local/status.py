"""What runs: every process with its state, memory, readiness and its group's lag."""

import asyncio
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from penstock.common.bootstrap.topics import silenced
from penstock.local.failures import StackError
from penstock.local.lag import lag
from penstock.local.orphans import SERVERS
from penstock.local.probes import readyz
from penstock.local.services import service_of
from penstock.local.state import ProcessState, StackState, State, is_running


@dataclass(frozen=True, slots=True)
class ProcessReport:
    name: str
    state: State
    pid: int | None
    port: int
    memory_mb: int | None
    """Resident, with the processes it started; shared pages count once for each."""
    uptime_s: int | None
    restarts: int
    reason: str | None
    """Why it is not ready, or why it was last restarted."""
    lag: int | None
    """Records its consumer group has not processed; None: it has no group, or Kafka is away."""


@dataclass(frozen=True, slots=True)
class Report:
    state: State
    reason: str | None
    api: str | None
    kafka: str | None
    postgres: str | None
    lag: dict[str, int]
    """By consumer group; {} when it is not known."""
    lag_reason: str | None
    """Why the lag is not known."""
    processes: list[ProcessReport]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


async def report(folder: Path) -> Report | None:
    """None when there has never been a stack in the folder."""
    stack = await asyncio.to_thread(StackState.read, folder)
    if stack is None:
        return None
    runs = await asyncio.to_thread(is_running, folder)
    lags, lag_reason = await _lags(stack)
    found = await asyncio.gather(
        *(_process(name, recorded, lags) for name, recorded in stack.processes.items())
    )
    state, reason = stack.state, stack.reason
    if not runs and state not in (State.STOPPED, State.FAILED):
        state = State.FAILED
        reason = "the supervisor is gone; `penstock up` repairs the stack"
    elif state is State.READY and (late := [p.name for p in found if p.state is not State.READY]):
        state, reason = State.RESTARTING, f"not ready: {', '.join(late)}"
    return Report(
        state, reason, stack.api, stack.kafka, stack.postgres, lags, lag_reason, list(found)
    )


async def _lags(stack: StackState) -> tuple[dict[str, int], str | None]:
    kafka = stack.processes.get("kafka")
    if stack.kafka is None or kafka is None or kafka.identity.find() is None:
        return {}, "Kafka does not run"
    try:
        with silenced("aiokafka"):
            return await lag(stack.kafka), None
    except StackError as error:
        return {}, str(error)


async def _process(name: str, recorded: ProcessState, lags: dict[str, int]) -> ProcessReport:
    running = recorded.identity.find() if recorded.pid else None
    state, reason = recorded.state, recorded.reason
    if running is None and state in (State.READY, State.STARTING, State.STOPPING):
        state, reason = State.STOPPED, "the process is gone"
    elif state is State.READY and name not in SERVERS:
        why = await readyz(recorded.port)
        state, reason = (state, reason) if why is None else (State.STARTING, why)
    return ProcessReport(
        name=name,
        state=state,
        pid=running.pid if running else None,
        port=recorded.port,
        memory_mb=await asyncio.to_thread(memory_mb, running) if running else None,
        uptime_s=int(time.time() - recorded.started) if running else None,
        restarts=recorded.restarts,
        reason=reason,
        lag=lags.get(service_of(name)),
    )


def memory_mb(process: psutil.Process) -> int:
    """Resident memory of a process and of those it started, MB."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue  # ended meanwhile: it has no memory any more
    return total // 2**20
