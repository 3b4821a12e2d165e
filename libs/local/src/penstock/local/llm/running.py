"""What `penstock llm` does: bring the local model up, take it down, say how it is."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from penstock.local.credentials import Credentials
from penstock.local.failures import StackError, from_os
from penstock.local.llm import answerer, server, settings_file
from penstock.local.llm.server import LocalModel
from penstock.local.llm.weights import QWEN, Progress, Weights, models_folder, whole_file
from penstock.local.ports import choose
from penstock.local.state import Lock, State, usable
from penstock.local.status import memory_mb

DEFAULT_PORT = 8090
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Report:
    state: State
    reason: str | None
    url: str | None
    model: str | None
    pid: int | None
    memory_mb: int | None
    """Resident; the weights are mapped from their file and count as well."""
    uptime_s: int | None
    log: str | None
    answers: bool
    """Whether the stack's settings send the answerer's questions to it."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


async def up(
    folder: Path, port: int | None, say: Say, progress: Progress, weights: Weights = QWEN
) -> LocalModel:
    """Serve the model and let the stack's answerer use it; harmless when it is up already.

    `port`: None is 8090, or a free one where that is in use. `StackError` says what went wrong."""
    await asyncio.to_thread(usable, folder)
    credentials = await asyncio.to_thread(Credentials.load, folder)
    with _alone(folder):
        record = await asyncio.to_thread(LocalModel.read, folder)
        if record is None or record.find() is None:
            await asyncio.to_thread(answerer.refuse_when_overridden, folder)
            record = await _start(folder, port, credentials.llm_key, progress, weights)
        elif port not in (None, record.port):
            raise StackError(
                f"The local model runs already, at {record.url}: `penstock llm down` first."
            )
        else:
            say("The local model runs already.")
        values = answerer.settings(record, credentials.llm_key)
        if await asyncio.to_thread(_changed, folder, lambda: settings_file.give(folder, values)):
            await _restart(folder, say)
    return record


async def _start(
    folder: Path, port: int | None, key: str, progress: Progress, weights: Weights
) -> LocalModel:
    await asyncio.to_thread(server.require_installed)
    file = await asyncio.to_thread(whole_file, weights, models_folder(), progress=progress)
    chosen = choose("the local model", set_port=port, default=DEFAULT_PORT)
    record = await asyncio.to_thread(server.start, folder, file, weights.model, chosen, key)
    try:
        await server.until_ready(record, key)
    except StackError:
        await asyncio.to_thread(server.stop, folder)
        raise
    return record


async def down(folder: Path, say: Say) -> bool:
    """Let the answerer quote again, then end the server; False when there was nothing to do."""
    if not await asyncio.to_thread(folder.is_dir):
        return False
    with _alone(folder):
        taken = await asyncio.to_thread(_changed, folder, lambda: settings_file.take_back(folder))
        if taken:
            await _restart(folder, say)
        stopped = await asyncio.to_thread(server.stop, folder)
    return taken or stopped


async def _restart(folder: Path, say: Say) -> None:
    restarted = await answerer.restart(folder)
    for name in restarted:
        say(f"Restarted {name}.")
    if not restarted:
        say("The stack does not run; its next start reads the new settings.")


def _changed(folder: Path, write: Callable[[], bool]) -> bool:
    try:
        return write()
    except OSError as error:
        raise from_os(error, f"The settings in {folder} cannot be written") from error


def report(folder: Path) -> Report:
    """How the local model is. Blocks for 3 s at most."""
    record = LocalModel.read(folder)
    answers = settings_file.holds_block(folder)
    process = record.find() if record is not None else None
    if record is None or process is None:
        reason = None
        if record is not None or answers:
            reason = (
                "its process is gone; `penstock llm up` starts it again, `penstock llm down` lets "
                "the answerer quote without it"
            )
        state = State.STOPPED if reason is None else State.FAILED
        return Report(state, reason, None, None, None, None, None, None, answers)
    why = server.why_silent(record, Credentials.load(folder).llm_key)
    busy = why == server.BUSY
    return Report(
        state=State.READY if why is None or busy else State.STARTING,
        reason=why,
        url=record.url,
        model=record.model,
        pid=record.pid,
        memory_mb=memory_mb(process),
        uptime_s=int(time.time() - record.started),
        log=record.log,
        answers=answers,
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One `up` or `down` at a time: two would start two servers."""
    lock = Lock(folder, "llm.lock")
    if not lock.take():
        raise StackError(
            "Another `penstock llm` is at work in this folder; try again when it is done."
        )
    try:
        yield
    finally:
        lock.release()
