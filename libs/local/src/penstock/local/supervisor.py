"""The process that owns a stack: starts it in order, keeps it running, stops it in order."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from penstock.local.child import Child
from penstock.local.credentials import Credentials
from penstock.local.failures import StackError, from_os
from penstock.local.java import cache_folder
from penstock.local.kafka import Kafka
from penstock.local.orphans import SERVERS, end_orphans
from penstock.local.ports import Ports
from penstock.local.postgres import Postgres
from penstock.local.probes import readyz
from penstock.local.process import Command, Identity, last_lines, rotate
from penstock.local.services import (
    SERVICES,
    Instance,
    ServiceSpec,
    Surroundings,
    counts,
    environment,
    instances,
    read_settings,
)
from penstock.local.stack import START_SECONDS, STOP_SECONDS, prepare, together
from penstock.local.state import Lock, ProcessState, ScaleRequest, StackState, State, usable

DRAIN_SECONDS = 15.0
LOG_BYTES = 20 * 1024 * 1024
_UPKEEP_SECONDS = 2.0
_SCALE_SECONDS = 0.2


class Options(BaseModel):
    """What `penstock up` was asked for. Ports: None is the default, which may move."""

    model_config = ConfigDict(frozen=True)

    api_port: int | None = None
    kafka_port: int | None = None
    postgres_port: int | None = None
    scale: dict[str, int] = {}
    services: tuple[ServiceSpec, ...] = SERVICES


class Supervisor:
    """Run it once, in the main thread: `await Supervisor(folder, options).run()`."""

    def __init__(self, folder: Path, options: Options, caller: Mapping[str, str]) -> None:
        self.folder = folder
        self._options = options
        self._caller = caller
        self._children: dict[str, Child] = {}
        self._ports = Ports()
        self._settings_file = folder / "settings.env"
        self._around: Surroundings
        self._stop = asyncio.Event()
        self._saved = False
        found = Identity.of(os.getpid())
        log = str(folder / "logs" / "supervisor.log")
        me = ProcessState(state=State.READY, pid=found.pid, started=found.started, log=log)
        self._stack = StackState(supervisor=me)

    async def run(self) -> None:
        """Returns when the stack was stopped by a signal. `StackError` when it cannot start, or
        when another supervisor owns the folder."""
        await asyncio.to_thread(usable, self.folder)
        lock = Lock(self.folder)
        if not lock.take():
            raise StackError(f"A stack runs already in {self.folder}; see `penstock status`.")
        try:
            await self._owning()
        except OSError as error:
            raise from_os(error, "The stack cannot run") from error
        finally:
            lock.release()

    async def _owning(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        before = StackState.read(self.folder)
        if before is not None:
            await asyncio.to_thread(end_orphans, before)
        await asyncio.to_thread(ScaleRequest.forget, self.folder)
        self._save(state=State.STARTING)
        keeping = asyncio.create_task(self._keep_files())
        reason: str | None = None
        try:
            await self._until_stopped(self._start())
            await self._until_stopped(self._follow_scale())
        except StackError as error:
            reason = str(error)
            raise
        finally:
            keeping.cancel()
            await self._drain()
            self._save(state=State.FAILED if reason else State.STOPPED, reason=reason)

    async def _until_stopped(self, working: Coroutine[None, None, None]) -> None:
        """Work, unless a signal says stop before it is done."""
        work, stop = asyncio.create_task(working), asyncio.create_task(self._stop.wait())
        await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not work.done():
            work.cancel()
        await asyncio.gather(stop, return_exceptions=True)
        if self._stop.is_set():
            await asyncio.gather(work, return_exceptions=True)
            return
        work.result()  # a library that cancels it raises here: the stack must not wait for ever

    async def _start(self) -> None:
        options = self._options
        scale = counts(options.services, options.scale)
        settings = await asyncio.to_thread(read_settings, self._settings_file)
        credentials = await asyncio.to_thread(Credentials.load, self.folder)
        give = self._ports.give
        kafka = Kafka(
            self.folder / "kafka", give("kafka", set_port=options.kafka_port, default=9092)
        )
        postgres = Postgres(
            self.folder / "postgres", give("postgres", set_port=options.postgres_port, default=5433)
        )
        for spec in options.services:  # also of those that do not run yet: their callers know them
            set_port = options.api_port if spec.name == "api" else None
            give(spec.name, set_port=set_port, default=spec.default_port or 0)
        self._save(
            kafka=kafka.bootstrap,
            postgres=f"127.0.0.1:{postgres.port}",
            blobs=str(self.folder / "blobs"),
        )
        await together(self._serve("kafka", kafka), self._serve("postgres", postgres))
        await prepare(kafka.bootstrap, postgres.admin_dsn, credentials)
        around = Surroundings(
            folder=self.folder,
            kafka=kafka.bootstrap,
            postgres_port=postgres.port,
            credentials=credentials,
            ports=self._ports.given,
            models=cache_folder() / "models",
            caller=self._caller,
            settings=settings,
        )
        self._around = around
        await self._scale(scale)
        services = [child for name, child in self._children.items() if name not in SERVERS]
        await asyncio.gather(*(child.is_ready.wait() for child in services))
        self._save(state=State.READY)

    async def _follow_scale(self) -> None:
        """For ever: what `penstock scale` asks for. A request that cannot be read changes nothing,
        and whoever wrote it sees that nothing changes."""
        last = self._stack.scale
        while True:
            await asyncio.sleep(_SCALE_SECONDS)
            try:
                request = await asyncio.to_thread(ScaleRequest.read, self.folder)
                if request is not None and request.scale != last:
                    last = request.scale
                    await self._scale(counts(self._options.services, last))
            except StackError as error:
                _log(error)
                await asyncio.sleep(_UPKEEP_SECONDS)

    async def _scale(self, scale: Mapping[str, int]) -> None:
        """Start the processes that are missing; stop those that are too many, the last first, each
        after it has finished what it has in hand."""
        specs = {spec.name: spec for spec in self._options.services}
        wanted = [one for name, count in scale.items() for one in instances(specs[name], count)]
        names = {*SERVERS, *(one.name for one in wanted)}
        surplus = [name for name in self._children if name not in names]
        for one in wanted:
            if one.name not in self._children:
                self._service(one).start()
        api = f"http://127.0.0.1:{self._ports.given['api']}" if scale.get("api") else None
        self._save(scale=dict(scale), api=api)
        await _stop_all(self._children[name] for name in surplus)
        for name in surplus:
            del self._children[name]
        self._save()

    async def _serve(self, name: str, server: Kafka | Postgres) -> None:
        """Start Kafka or Postgres and wait for it; `StackError` when it does not come up."""
        await asyncio.to_thread(server.prepare)
        child = self._child(name, server.port, server.command, server.ready, STOP_SECONDS)
        child.start()
        if not await child.comes_up(START_SECONDS):
            words = "\n".join(f"    {line}" for line in last_lines(child.log))
            reason = child.state.reason or f"not ready after {START_SECONDS:.0f} s"
            raise StackError(f"{name} does not start ({reason}); the end of {child.log}:\n{words}")

    def _service(self, instance: Instance) -> Child:
        port = self._ports.give(instance.name)

        def command() -> Command:
            # Read again before every start: a restart is how a process gets changed settings.
            now = replace(self._around, settings=read_settings(self._settings_file))
            return Command(
                argv=(sys.executable, *instance.spec.argv), env=environment(instance, now)
            )

        return self._child(instance.name, port, command, partial(readyz, port), DRAIN_SECONDS)

    def _child(
        self,
        name: str,
        port: int,
        command: Callable[[], Command],
        ready: Callable[[], Awaitable[str | None]],
        grace: float,
    ) -> Child:
        child = Child(
            name,
            log=self.folder / "logs" / f"{name}.log",
            port=port,
            command=command,
            ready=ready,
            changed=self._save,
            grace=grace,
        )
        self._children[name] = child
        return child

    async def _drain(self) -> None:
        """Services first, in parallel, then the servers they stand on."""
        self._save(state=State.STOPPING)
        await _stop_all(c for name, c in self._children.items() if name not in SERVERS)
        await _stop_all(c for name, c in self._children.items() if name in SERVERS)

    def _save(self, **changes: object) -> None:
        """A full disk must not stop what runs: the sentence goes to the log, and life goes on."""
        processes = {name: child.state for name, child in self._children.items()}
        self._stack = self._stack.model_copy(update={**changes, "processes": processes})
        try:
            self._stack.write(self.folder)
            self._saved = True
        except OSError as error:
            self._saved = False
            _log(from_os(error, "stack.json cannot be written"))

    async def _keep_files(self) -> None:
        """Logs stay small; a stack.json that was deleted or could not be written is written again,
        since `down` finds the processes by it; without the folder the stack stops."""
        while True:
            await asyncio.sleep(_UPKEEP_SECONDS)
            if not (self.folder / "lock").exists():
                _log(f"{self.folder} was removed: the stack stops.")
                self._stop.set()
                return
            if not self._saved or not (self.folder / "stack.json").exists():
                self._save()
            for child in list(self._children.values()):
                try:
                    await asyncio.to_thread(rotate, child.log, LOG_BYTES)
                except OSError as error:
                    _log(from_os(error, "A log cannot be rotated"))


def _log(words: object) -> None:
    """To the supervisor's log; where that lies on the disk that is full, nowhere."""
    with suppress(OSError):
        print(words, file=sys.stderr, flush=True)


async def _stop_all(children: Iterable[Child]) -> None:
    await asyncio.gather(*(child.stop() for child in children))
