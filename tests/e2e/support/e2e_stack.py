"""A stack that is up, and what a test needs of it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from topic_reading import everything

from penstock.local.credentials import Credentials
from penstock.local.ports import free_port
from penstock.local.postgres import ADMIN
from penstock.local.services import SERVICES as SERVICE_SPECS
from penstock.local.services import service_of

ROOT = Path(__file__).parents[3]
SERVICES = tuple(spec.name for spec in SERVICE_SPECS)


@dataclass(frozen=True)
class Running:
    """A stack that is up, and what a test needs of it."""

    folder: Path
    environment: dict[str, str]

    @property
    def state(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / "stack.json").read_text())
        return loaded

    @property
    def api(self) -> str:
        return str(self.state["api"])

    @property
    def kafka(self) -> str:
        return str(self.state["kafka"])

    @property
    def operator_key(self) -> str:
        return Credentials.load(self.folder).operator_key

    @property
    def penstock(self) -> str:
        """The installed command."""
        return str(Path(sys.executable).parent / "penstock")

    def command(self, *arguments: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Run `penstock …` as a user does."""
        return subprocess.run(
            [self.penstock, *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        done = self.command(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def kill(self, name: str) -> None:
        """kill -9 a process of the stack."""
        os.kill(self.pid(name), signal.SIGKILL)

    def terminate(self, name: str) -> None:
        """Ask a process to stop in order, as an orchestrator does; it is started again."""
        number = signal.SIGINT if name == "postgres" else signal.SIGTERM
        os.kill(self.pid(name), number)

    async def ready_again(self, *, after: int) -> None:
        """Return when processes have been started anew so many times, and all are ready."""

        async def ready() -> bool:
            processes = self.state["processes"].values()
            anew = sum(process["restarts"] for process in processes)
            return anew >= after and all(process["state"] == "ready" for process in processes)

        await until(ready, 120)

    @property
    def restarts(self) -> int:
        return sum(process["restarts"] for process in self.state["processes"].values())

    def pid(self, name: str) -> int:
        """Fails for a process that does not run: signals to 0 reach the tests themselves."""
        pid = int(self.state["processes"][name]["pid"])
        assert pid > 0, f"{name} does not run"
        return pid

    def instances(self, service: str) -> list[psutil.Process]:
        """Every process of a service: `embed`, `embed-2` …"""
        processes = self.state["processes"]
        return [psutil.Process(self.pid(n)) for n in processes if service_of(n) == service]

    @contextmanager
    def stopped(self, service: str) -> Iterator[None]:
        """For a while its processes and their children do nothing, as if the machine had stalled."""
        tops = self.instances(service)
        processes = [*tops, *(child for top in tops for child in top.children(recursive=True))]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """As the superuser, to look into every schema."""
        password = (self.folder / "postgres" / "password").read_text().strip()
        host, port = str(self.state["postgres"]).split(":")
        connection = await asyncpg.connect(
            host=host, port=int(port), user=ADMIN, password=password, database="penstock"
        )
        try:
            yield connection
        finally:
            await connection.close()

    async def _partitions(self, names: tuple[str, ...]) -> list[TopicPartition]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        try:
            described = await admin.describe_topics(list(names) or None)
        finally:
            await admin.close()
        return [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in described
            for partition in topic["partitions"]
            if not topic["is_internal"]
        ]

    async def records(self, *names: str) -> list[ConsumerRecord]:
        """Everything that lies in these topics now; all topics when none is named."""
        return await everything(self.kafka, await self._partitions(names))


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    cache = {n: v for n, v in os.environ.items() if n in ("PENSTOCK_CACHE", "PENSTOCK_MODELS")}
    ports = {f"PENSTOCK_{name}_PORT": str(free_port()) for name in ("API", "KAFKA", "POSTGRES")}
    return {**kept, **cache, **ports, "PENSTOCK_HOME": str(folder), "COLUMNS": "200", **more}


async def until(condition: Callable[[], Awaitable[Any]], timeout_s: float = 60) -> Any:
    """The first true answer of `condition`; asked again and again, for so long."""
    async with asyncio.timeout(timeout_s):
        while not (answer := await condition()):
            await asyncio.sleep(0.1)
        return answer
