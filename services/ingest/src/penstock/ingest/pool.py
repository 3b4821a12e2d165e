"""Parse workers under limits: a hostile file costs its worker, never the service.

Each worker is a Python process of its own (not a fork: a worker must not carry the service's
memory, threads and sockets), started when first needed and killed with its children when a
document takes too long.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import structlog

from penstock.common.failures import TransientError
from penstock.ingest.failures import Unreadable
from penstock.ingest.jobs import Chunked, Failed, Job, Started

log = structlog.get_logger()

_WORKER = "penstock.ingest.worker"
# What a parser needs of our own environment: never a password, a key or an address to use one at.
_INHERITED = re.compile(
    r"PATH|HOME|USER|LANG(UAGE)?|LC_\w+|TZ|TMPDIR|(LD|DYLD)_LIBRARY_PATH|PYTHON\w+|VIRTUAL_ENV"
    r"|XDG_\w+|TESSDATA_PREFIX|SSL_CERT_(FILE|DIR)|PENSTOCK_(MODELS|MAVEN)"
    r"|(?i:(https?|all|no)_proxy)"
)
# One thread each: the number of workers is how the cores are shared. Nothing calls home.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "DO_NOT_TRACK": "1",
    "UNSTRUCTURED_DISABLE_NOTICE": "1",
}
_MIB = 1024 * 1024
START_SECONDS = 60
"""Within which a worker must be ready to read, its imports and the tokenizer included."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may take."""

    seconds: int = 60
    memory_bytes: int = 2048 * _MIB


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a worker: a file that takes it over finds no secret in it."""
    inherited = {name: value for name, value in ours.items() if _INHERITED.fullmatch(name)}
    return {**inherited, **_ENVIRONMENT}


class ParsePool:
    """At most `workers` documents at once, each in a process under `limits`."""

    def __init__(self, workers: int, limits: Limits, *, module: str = _WORKER) -> None:
        self._limits = limits
        self._module = module
        self._workers = [_Worker(limits, module) for _ in range(workers)]
        # Last in, first out: few busy workers stay small, and the others are never started.
        self._idle: asyncio.LifoQueue[_Worker] = asyncio.LifoQueue()
        for worker in self._workers:
            self._idle.put_nowait(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="parse")

    @classmethod
    @asynccontextmanager
    async def open(cls, workers: int, limits: Limits) -> AsyncIterator["ParsePool"]:
        pool = cls(workers, limits)
        try:
            yield pool
        finally:
            await pool.close()

    async def run(self, job: Job) -> Chunked:
        """
        The chunks of a document.

        A caller that is cancelled leaves the worker to finish (its limits bound that).

        Raises:
            Unreadable: for a reason in the document, its hunger for time or memory included.
            TransientError: the pool is closing, or a worker cannot be started.
        """
        worker = await self._idle.get()
        future = asyncio.get_running_loop().run_in_executor(self._threads, worker.call, job)

        def released(done: asyncio.Future[Chunked | Failed]) -> None:
            if not done.cancelled():
                done.exception()  # seen, should nobody wait any more
            self._idle.put_nowait(worker)

        future.add_done_callback(released)
        result = await asyncio.shield(future)
        if isinstance(result, Failed):
            if result.trace:
                log.warning("parser_failed", filename=job.filename, trace=result.trace)
            raise result.error
        return result

    async def close(self) -> None:
        """Kill what is running: it is taken up again elsewhere."""
        for worker in self._workers:
            worker.stop()
        await asyncio.to_thread(self._threads.shutdown)
        for worker in self._workers:
            worker.release()


class _Worker:
    """One worker process, started when needed, replaced when it died."""

    def __init__(self, limits: Limits, module: str) -> None:
        self._limits = limits
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._closing = False

    def call(self, job: Job) -> Chunked | Failed:
        """Blocks until the answer, the time limit, or the worker's end."""
        connection = self._ready()
        try:
            connection.send(job)
            result = self._answer(connection)
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if isinstance(result, Failed) and getattr(result.error, "type", "") == "out_of_memory":
            self._kill()  # what it holds on to is not worth keeping
        return result

    def _answer(self, connection: Connection) -> Chunked | Failed:
        """A document is not charged with the start of its worker: seconds, where all are busy."""
        if not connection.poll(START_SECONDS):
            self._kill()
            raise TransientError(f"a parse worker was not ready within {START_SECONDS} s")
        first: Started | Failed = connection.recv()
        if isinstance(first, Failed):
            return first
        if not connection.poll(self._limits.seconds):
            self._kill()
            raise Unreadable(
                f"Reading the document took longer than {self._limits.seconds} s, the limit.",
                type="timeout",
            )
        answer: Chunked | Failed = connection.recv()
        return answer

    def stop(self) -> None:
        """End a call in progress; from any thread."""
        self._closing = True
        process = self._process
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def release(self) -> None:
        """Free everything; no call may be in progress."""
        self._kill()

    def _ready(self) -> Connection:
        if self._closing:
            raise TransientError("the parse workers are stopping")
        if self._process is None or self._process.poll() is not None or self._connection is None:
            self._kill()
            self._start()
            if self._closing:
                self.stop()
        assert self._connection is not None
        return self._connection

    def _start(self) -> None:
        here, there = socket.socketpair()
        limits = self._limits
        arguments = (there.fileno(), limits.seconds, limits.memory_bytes)
        try:
            self._process = subprocess.Popen(  # noqa: S603  (ourselves)
                # -P: nothing is imported from the folder that we happen to be in
                [sys.executable, "-P", "-m", self._module, *map(str, arguments)],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment(os.environ),
                start_new_session=True,  # so that its children (LibreOffice) go with it
            )
        except OSError as error:
            here.close()
            raise TransientError(f"a parse worker cannot be started: {error}") from error
        finally:
            there.close()
        self._connection = Connection(here.detach())

    def _ended(self) -> Exception:
        """What to say of a worker that went away in the middle of a document."""
        if self._closing:
            return TransientError("the parse workers are stopping")
        code = self._process.wait() if self._process is not None else 0
        self._kill()
        if code == -signal.SIGKILL:
            return Unreadable(
                "Reading the document was stopped by the system, most likely for its memory.",
                type="out_of_memory",
            )
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Unreadable(f"The document crashed its parser ({how}).", type="crashed")

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._connection is not None and not self._connection.closed:
            self._connection.close()
        self._process = self._connection = None
