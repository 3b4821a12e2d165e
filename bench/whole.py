"""The whole stack as a user starts it, in a folder of its own, and what its processes take."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from penstock.local.credentials import Credentials
from penstock.local.ports import free_port
from penstock.local.services import SERVICES
from penstock.local.stack import dsns
from penstock.local.state import ProcessState, StackState

_DONE = re.compile(
    r'^penstock_records_total\{group="([^"]+)",outcome="done",topic="([^"]+)"\} (\S+)', re.MULTILINE
)
_COUNTED = {
    "ingest": ("ingest", "document.submitted.v1"),
    "guard-documents": ("guard-documents", "document.chunked.v1"),
    "embed": ("embed", "document.cleared.v1"),
    "indexer": ("indexer", "document.embedded.v1"),
    "api": ("api", "document.indexed.v1"),
}
"""Process: its group and the topic whose records tell how far it is."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack that is up."""

    folder: Path

    @property
    def state(self) -> StackState:
        found = StackState.read(self.folder)
        if found is None or found.kafka is None or found.api is None:
            raise RuntimeError(f"no stack runs in {self.folder}")
        return found

    @property
    def kafka(self) -> str:
        return str(self.state.kafka)

    @property
    def api(self) -> str:
        return str(self.state.api)

    @property
    def operator_key(self) -> str:
        return Credentials.load(self.folder).operator_key

    @property
    def service_secret(self) -> str:
        return Credentials.load(self.folder).service_secret

    def dsn(self, schema: str) -> str:
        """Of the role that owns the schema."""
        port = int(str(self.state.postgres).rpartition(":")[2])
        return dsns(Credentials.load(self.folder), port)[schema]

    @property
    def processes(self) -> dict[str, ProcessState]:
        return self.state.processes


@asynccontextmanager
async def whole_stack(folder: Path, *, instances: int = 1, **settings: str) -> AsyncIterator[Stack]:
    """`penstock up` with free ports and so many of every service; `settings` are PENSTOCK_…
    variables."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PENSTOCK_") or name in ("PENSTOCK_CACHE", "PENSTOCK_MODELS")
    }
    ports = {f"PENSTOCK_{name}_PORT": str(free_port()) for name in ("API", "KAFKA", "POSTGRES")}
    environment = {**kept, **ports, **settings, "PENSTOCK_HOME": str(folder)}

    def penstock(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "penstock"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    scale = [argument for s in SERVICES for argument in ("--scale", f"{s.name}={instances}")]
    up = await asyncio.to_thread(penstock, "up", *scale)
    if up.returncode != 0:
        await asyncio.to_thread(penstock, "down")
        sys.exit(f"penstock up failed:\n{up.stdout}\n{up.stderr}")
    try:
        yield Stack(folder)
    finally:
        await asyncio.to_thread(penstock, "down")


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment: seconds since the start; by process bytes resident, CPU seconds, records done."""

    at: float
    rss: Mapping[str, int]
    cpu: Mapping[str, float]
    done: Mapping[str, float]


@dataclass(slots=True)
class Watch:
    """Takes a sample of every process, its children included, again and again."""

    stack: Stack
    every_s: float = 1.0
    samples: list[Sample] = field(default_factory=list)
    _known: dict[int, psutil.Process] = field(default_factory=dict)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator["Watch"]:
        started = time.perf_counter()
        async with httpx.AsyncClient(timeout=5) as http:
            await self._sample(http, started)
            task = asyncio.create_task(self._follow(http, started))
            try:
                yield self
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await self._sample(http, started)

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds that each process took between the first and the last sample."""
        first, last = self.samples[0], self.samples[-1]
        return {name: max(0.0, last.cpu[name] - first.cpu.get(name, 0.0)) for name in last.cpu}

    def peak_rss(self) -> dict[str, int]:
        return {name: max(s.rss[name] for s in self.samples) for name in self.samples[0].rss}

    async def _follow(self, http: httpx.AsyncClient, started: float) -> None:
        while True:
            await asyncio.sleep(self.every_s)
            await self._sample(http, started)

    async def _sample(self, http: httpx.AsyncClient, started: float) -> None:
        processes = self.stack.processes
        rss, cpu = await asyncio.to_thread(self._usage, processes)
        done = {
            name: await _done(http, processes[name].port, *of)
            for name, of in _COUNTED.items()
            if name in processes
        }
        self.samples.append(Sample(time.perf_counter() - started, rss, cpu, done))

    def _usage(
        self, processes: Mapping[str, ProcessState]
    ) -> tuple[dict[str, int], dict[str, float]]:
        rss: dict[str, int] = {}
        cpu: dict[str, float] = {}
        for name, process in processes.items():
            family = self._family(process.pid)
            rss[name] = sum(_resident(one, shared=name != "postgres") for one in family)
            cpu[name] = sum(_cpu(one) for one in family)
        return rss, cpu

    def _family(self, pid: int) -> list[psutil.Process]:
        top = self._known.setdefault(pid, psutil.Process(pid))
        return [top, *top.children(recursive=True)]


def _resident(process: psutil.Process, *, shared: bool) -> int:
    """Postgres' processes share their buffers: counted as their own pages alone."""
    try:
        memory = process.memory_info()
    except psutil.NoSuchProcess:
        return 0
    return int(memory.rss if shared else memory.rss - memory.shared)


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    ended = (times.children_user, times.children_system)  # of children that are gone
    return float(times.user + times.system + sum(ended))


async def _done(http: httpx.AsyncClient, port: int, group: str, topic: str) -> float:
    text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    return sum(float(n) for g, t, n in _DONE.findall(text) if (g, t) == (group, topic))
