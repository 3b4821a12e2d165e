"""Change how many processes of a service a stack runs, while it runs."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from penstock.local.failures import StackError
from penstock.local.launcher import READY_SECONDS, Say, raise_if_crashing
from penstock.local.services import SERVICES, counts, service_of
from penstock.local.state import Lock, ScaleRequest, StackState, State, is_running

_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Scaled:
    """What became of one service that was named."""

    service: str
    before: int
    now: int
    processes: list[str]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


async def scale(
    folder: Path, wanted: Mapping[str, int], say: Say, *, timeout: float = READY_SECONDS
) -> list[Scaled]:
    """Returns when all of `wanted` is ready, and what was too many has finished its work and gone.

    `StackError` when there is no stack to scale, or another `scale` is at work, or a process does
    not come up; what did come up is left running."""
    counts(SERVICES, wanted)
    before = await asyncio.to_thread(_scalable, folder)
    lock = Lock(folder, "scaling")
    if not lock.take():
        raise StackError(f"Another `penstock scale` is at work in {folder}; wait until it is done.")
    try:
        ScaleRequest(scale={**before.scale, **wanted}).write(folder)
        after = await _follow(folder, before, wanted, say, time.monotonic() + timeout)
    finally:
        lock.release()
    return [
        Scaled(name, before.scale.get(name, 0), count, _of(after, name))
        for name, count in wanted.items()
    ]


def _scalable(folder: Path) -> StackState:
    stack = StackState.read(folder) if is_running(folder) else None
    if stack is None or stack.supervisor.identity.find() is None:
        raise StackError(f"No stack runs in {folder}; `penstock up` starts one.")
    if stack.state is not State.READY:
        raise StackError(
            f"The stack in {folder} is {stack.state}; scale it once `penstock up` has returned."
        )
    return stack


async def _follow(
    folder: Path, before: StackState, wanted: Mapping[str, int], say: Say, deadline: float
) -> StackState:
    last = before
    while True:
        stack = await asyncio.to_thread(StackState.read, folder)
        if stack is None or stack.supervisor != before.supervisor or stack.state is not State.READY:
            raise StackError(f"The stack in {folder} was stopped before it was scaled.")
        _tell(last, stack, wanted, say)
        if not (missing := _missing(stack, wanted)):
            return stack
        raise_if_crashing(stack, "`penstock scale` takes it away again.", since=before)
        if time.monotonic() > deadline:
            raise StackError(f"Not done in time: {missing}. `penstock status` shows how it goes.")
        last = stack
        await asyncio.sleep(_POLL_SECONDS)


def _missing(stack: StackState, wanted: Mapping[str, int]) -> str:
    """What the stack still lacks to be as wanted; "" when it is."""
    if any(stack.scale.get(name) != count for name, count in wanted.items()):
        return "the supervisor has not begun"
    late = [
        f"{one} is {stack.processes[one].state}"
        for name, count in wanted.items()
        for number, one in enumerate(_of(stack, name), start=1)
        if number > count or stack.processes[one].state is not State.READY
    ]
    return ", ".join(late)


def _of(stack: StackState, service: str) -> list[str]:
    return [name for name in stack.processes if service_of(name) == service]


def _tell(last: StackState, stack: StackState, wanted: Mapping[str, int], say: Say) -> None:
    for name in wanted:
        old, new = _of(last, name), _of(stack, name)
        for one in old:
            if one not in new:
                say(f"  {one:<16} stopped")
        for one in new:
            process = stack.processes[one]
            was = last.processes[one].state if one in old else None
            if process.state is State.READY and was is not State.READY:
                say(f"  {one:<16} ready   port {process.port}")
