"""The embedded stack on real servers, with a small HTTP server in the place of each service: what
is tested is that the stack comes up, stays up, is repaired and goes away."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from typer.testing import CliRunner

from penstock.common.topics import DOCUMENT_SUBMITTED
from penstock.local.commands import app
from penstock.local.failures import StackError
from penstock.local.launcher import down, up
from penstock.local.ports import free_port
from penstock.local.probes import readyz
from penstock.local.scaling import scale
from penstock.local.services import ServiceSpec
from penstock.local.stack import Servers, servers
from penstock.local.state import StackState, State, is_running
from penstock.local.status import report
from penstock.local.supervisor import Options

pytestmark = pytest.mark.connected

STAND_IN = (str(Path(__file__).with_name("stand_in.py")), "PENSTOCK_DATABASE")


def options(*more: ServiceSpec, **ports: int) -> Options:
    services = (
        ServiceSpec(name="api", argv=STAND_IN, schema_name="api", default_port=8080),
        ServiceSpec(name="embed", argv=STAND_IN),
        *more,
    )
    return Options.model_validate(
        {"api_port": 0, "kafka_port": 0, "postgres_port": 0, **ports, "services": services}
    )


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


def stack_of(folder: Path) -> StackState:
    stack = StackState.read(folder)
    assert stack is not None
    return stack


async def count_records(found: Servers) -> int:
    topic = DOCUMENT_SUBMITTED.name
    async with AIOKafkaConsumer(topic, bootstrap_servers=found.kafka) as consumer:
        return sum((await consumer.end_offsets(list(consumer.assignment()))).values())


async def test_data_outlives_a_restart_and_a_role_reaches_its_own_schema_only(
    tmp_path: Path,
) -> None:
    async with servers(tmp_path) as found:
        own = await asyncpg.connect(found.dsns["retrieve"])
        await own.execute("CREATE TABLE thing (v vector(3)); INSERT INTO thing VALUES ('[1,2,3]')")
        await own.close()
        other = await asyncpg.connect(found.dsns["ingest"])
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await other.fetch("SELECT * FROM retrieve.thing")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await other.execute("CREATE TABLE public.thing (a int)")
        await other.close()
        async with AIOKafkaProducer(bootstrap_servers=found.kafka, acks="all") as producer:
            sent = await producer.send_and_wait(DOCUMENT_SUBMITTED.name, b"{}", timestamp_ms=1)
        assert abs(sent.timestamp / 1000 - time.time()) < 60, "the broker's clock, not the sender's"
    async with servers(tmp_path) as found:
        own = await asyncpg.connect(found.dsns["retrieve"])
        assert await own.fetchval("SELECT count(*) FROM retrieve.thing") == 1
        await own.close()
        assert await count_records(found) == 1
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(found.admin_dsn, password="wrong")


async def test_a_port_that_was_set_and_is_taken_is_refused_in_a_sentence(tmp_path: Path) -> None:
    port = free_port()
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    async with taken:
        with pytest.raises(StackError, match=rf"^Port {port}, set for kafka, is in use"):
            await up(tmp_path, options(kafka_port=port), lambda _: None)
    assert not is_running(tmp_path)


async def test_a_stack_from_up_to_down(tmp_path: Path) -> None:
    """One stack through its life: a second up joins, a killed service comes back, processes are
    added and taken away, a killed supervisor is repaired, and down leaves nothing."""
    said: list[str] = []
    stack = await up(tmp_path, options(), said.append)
    try:
        assert stack.state is State.READY
        again = await up(tmp_path, options(), said.append)
        assert again.supervisor.pid == stack.supervisor.pid
        assert any("runs already" in line for line in said)

        await a_killed_service_comes_back(tmp_path, stack)
        found = await report(tmp_path)
        assert found is not None
        assert found.lag["ingest"] == 0
        assert all(one.state is State.READY and one.memory_mb for one in found.processes)

        await it_is_scaled_while_it_runs(tmp_path)
        await a_deleted_stack_file_is_written_again(tmp_path)
        await a_killed_supervisor_is_repaired(tmp_path)
        left = [psutil.Process(p.pid) for p in stack_of(tmp_path).processes.values()]
    finally:
        stopped = await asyncio.to_thread(down, tmp_path)
    assert stopped
    assert not [process for process in left if process.is_running()]
    assert stack_of(tmp_path).state is State.STOPPED


async def a_killed_service_comes_back(folder: Path, stack: StackState) -> None:
    os.kill(stack.processes["embed"].pid, signal.SIGKILL)

    async def is_back() -> bool:
        embed = stack_of(folder).processes["embed"]
        return embed.restarts == 1 and embed.state is State.READY

    await until(is_back)
    assert stack_of(folder).processes["api"].restarts == 0


async def it_is_scaled_while_it_runs(folder: Path) -> None:
    """Two of a process, its address in stack.json; then one again, then none, then the first."""
    before = stack_of(folder)
    (grown,) = await scale(folder, {"api": 2}, lambda _: None)
    assert (grown.before, grown.now, grown.processes) == (1, 2, ["api", "api-2"])
    stack = stack_of(folder)
    assert stack.api == before.api, "clients keep the first"
    second = stack.processes["api-2"]
    assert second.port != stack.processes["api"].port
    assert await readyz(second.port) is None
    assert stack.processes["embed"] == before.processes["embed"]

    (shrunk,) = await scale(folder, {"api": 1}, lambda _: None)
    assert shrunk.processes == ["api"]
    assert second.identity.find() is None
    await scale(folder, {"api": 0, "embed": 0}, lambda _: None)
    assert stack_of(folder).api is None
    await scale(folder, {"api": 1, "embed": 1}, lambda _: None)
    assert stack_of(folder).api == before.api


async def a_deleted_stack_file_is_written_again(folder: Path) -> None:
    """Without it `down` would find nothing to stop."""
    before = stack_of(folder)
    (folder / "stack.json").unlink()

    async def is_back() -> bool:
        return (folder / "stack.json").exists()

    await until(is_back)
    assert stack_of(folder) == before


async def a_killed_supervisor_is_repaired(folder: Path) -> None:
    before = stack_of(folder)
    orphans = [psutil.Process(p.pid) for p in before.processes.values()]
    os.kill(before.supervisor.pid, signal.SIGKILL)

    async def is_gone() -> bool:
        return not is_running(folder)

    await until(is_gone)
    assert all(process.is_running() for process in orphans)
    found = await report(folder)
    assert found is not None
    assert found.reason == "the supervisor is gone; `penstock up` repairs the stack"
    after = await up(folder, options(), lambda _: None)
    assert after.state is State.READY
    assert not [process for process in orphans if process.is_running()]


async def test_a_service_that_does_not_stay_up_is_named_with_its_last_words(
    tmp_path: Path,
) -> None:
    broken = ServiceSpec(name="ingest", argv=("-c", "raise SystemExit('no model is installed')"))
    try:
        with pytest.raises(StackError, match=r"(?s)ingest does not stay up.*no model is installed"):
            await up(tmp_path, options(broken), lambda _: None)
        shown = await asyncio.to_thread(
            CliRunner().invoke, app, ["logs", "ingest", "--folder", str(tmp_path)]
        )
        assert "no model is installed" in shown.output
    finally:
        await asyncio.to_thread(down, tmp_path)


async def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"^The stack's folder .* cannot be used .*\.$"):
        await up(tmp_path / "file" / "stack", options(), lambda _: None)
