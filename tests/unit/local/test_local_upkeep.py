"""A stack outlives a full disk, and a `stack.json` or a folder that somebody deleted."""

import asyncio
import errno
import io
import os
import sys
from pathlib import Path

import pytest

from penstock.local.failures import StackError
from penstock.local.launcher import raise_if_crashing, up
from penstock.local.process import Identity
from penstock.local.scaling import scale
from penstock.local.state import Lock, ProcessState, StackState, State
from penstock.local.status import report
from penstock.local.supervisor import Options, Supervisor


class FullDisk(io.TextIOBase):
    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_too_full_for_its_own_log_does_not_end_what_keeps_the_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor's log lies on that disk too: saying so must not raise."""
    supervisor = Supervisor(tmp_path / "gone", Options(), {})
    monkeypatch.setattr(sys, "stderr", FullDisk())
    supervisor._save()
    assert not supervisor._saved


async def test_up_does_not_ignore_a_scale_it_cannot_give_to_a_stack_that_runs(
    tmp_path: Path,
) -> None:
    lock = Lock(tmp_path)
    assert lock.take()
    with pytest.raises(StackError, match="`penstock scale embed=2`"):
        await up(tmp_path, Options(scale={"embed": 2}), lambda _: None)
    lock.release()


async def test_scale_says_why_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="No stack runs in"):
        await scale(tmp_path, {"embed": 2}, lambda _: None)
    owner, other = Lock(tmp_path), Lock(tmp_path, "scaling")
    assert owner.take()
    assert other.take()
    found = Identity.of(os.getpid())
    me = ProcessState(pid=found.pid, started=found.started)
    StackState(state=State.STARTING, supervisor=me).write(tmp_path)
    with pytest.raises(StackError, match="once `penstock up` has returned"):
        await scale(tmp_path, {"embed": 2}, lambda _: None)
    StackState(state=State.READY, supervisor=me).write(tmp_path)
    with pytest.raises(StackError, match="Another `penstock scale` is at work"):
        await scale(tmp_path, {"embed": 2}, lambda _: None)
    other.release()
    with pytest.raises(StackError, match="Not done in time: the supervisor has not begun"):
        await scale(tmp_path, {"embed": 2}, lambda _: None, timeout=0)
    owner.release()


def test_scale_does_not_blame_a_process_for_what_happened_to_it_last_week() -> None:
    def stack(restarts: int) -> StackState:
        embed = ProcessState(state=State.STARTING, restarts=restarts, log="/nowhere")
        return StackState(processes={"embed": embed})

    raise_if_crashing(stack(7), "", since=stack(5))
    with pytest.raises(StackError, match="embed does not stay up"):
        raise_if_crashing(stack(8), "", since=stack(5))
    with pytest.raises(StackError, match="embed does not stay up"):
        raise_if_crashing(stack(3), "")


async def test_a_stack_with_a_process_that_is_gone_is_not_called_ready(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    assert lock.take()
    gone = ProcessState(state=State.READY, pid=2**22 + 1, started=1.0)
    StackState(state=State.READY, processes={"kafka": gone}).write(tmp_path)
    found = await report(tmp_path)
    assert found is not None
    assert (found.state, found.reason) == (State.RESTARTING, "not ready: kafka")
    lock.release()


async def test_a_start_that_a_library_cancels_ends_instead_of_waiting_for_ever(
    tmp_path: Path,
) -> None:
    """`up` would follow a stack that says "starting" and does nothing."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    supervisor = Supervisor(tmp_path, Options(), {})
    with pytest.raises(asyncio.CancelledError):
        await supervisor._until_stopped(cancelled())
