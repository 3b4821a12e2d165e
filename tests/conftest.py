"""The real servers, started once per run for every test that is marked `connected`."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import structlog

from penstock.common.failures import TransientError
from penstock.local.ports import free_port
from penstock.local.stack import Servers
from penstock.local.stack import servers as start_servers
from penstock.models import DEFAULT_MODEL, ModelSettings, model_spec
from penstock.models.cache import model_files


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """Kafka and Postgres with roles and topics, without services."""
    folder: Path = tmp_path_factory.mktemp("servers")
    async with start_servers(folder) as running:
        yield running


@pytest.fixture
async def fast_model() -> None:
    """The small embedding model's files, fetched where this machine has never had them."""
    try:
        await asyncio.to_thread(
            model_files, model_spec("all-minilm-l6-v2"), "int8", ModelSettings()
        )
    except TransientError as error:
        pytest.skip(str(error))


class TritonServer:
    """A real tritonserver with the default model's int8 graph, at one address each time it runs."""

    PACKAGES = ("nvidia-pytriton==0.7.0", "onnxruntime==1.31.1")
    PYTHON = "/usr/bin/python3"
    START_S = 90.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = [free_port() for _ in range(3)]
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "server.log"
        self.address = f"127.0.0.1:{self._ports[1]}"

    def batch_sizes(self) -> list[int]:
        """Of the requests as it merged them."""
        lines = self.log.read_text().splitlines()
        return [int(line.split("(")[1].split(",")[0]) for line in lines if line[:6] == "batch "]

    def start(self) -> None:
        """Returns when it answers; the test is skipped where it cannot run."""
        if self._process is not None:
            return
        python = self.environment()
        files = model_files(model_spec(DEFAULT_MODEL), "int8", ModelSettings())
        server = Path(__file__).parent / "contracts" / "pytriton_server.py"
        workspace = self._folder / "workspace"
        shutil.rmtree(workspace, ignore_errors=True)
        with self.log.open("a") as output:
            self._process = subprocess.Popen(
                [python, server, DEFAULT_MODEL, files.onnx, workspace, *map(str, self._ports)],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        assert self._process is not None
        url = f"http://127.0.0.1:{self._ports[0]}/v2/models/{DEFAULT_MODEL}/ready"
        until = time.monotonic() + self.START_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                pytest.skip(f"tritonserver cannot run on this machine: {self._end_of_log()}")
            try:
                with urlopen(url, timeout=1):
                    return
            except (URLError, OSError):
                time.sleep(0.05)
        pytest.fail(f"no tritonserver within {self.START_S:.0f} s: {self._end_of_log()}")

    def _end_of_log(self) -> str:
        return self.log.read_text()[-2_000:]

    def stall(self) -> None:
        """It takes connections and answers nothing, until `go_on`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self._process is None:
            return
        self.go_on()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def environment(self) -> Path:
        """PyTriton's own environment (it needs numpy < 2), made once; its Python."""
        folder = ModelSettings().models.expanduser().parent / "pytriton-0.7.0"
        uv = shutil.which("uv")
        if uv is None or not Path(self.PYTHON).exists():
            pytest.skip(f"a real tritonserver needs uv and {self.PYTHON} with a shared libpython")
        folder.parent.mkdir(parents=True, exist_ok=True)
        python = folder / "bin/python"
        with (folder.parent / f"{folder.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / "complete").exists():
                return python
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", self.PYTHON, str(folder)],
                [uv, "pip", "install", "--quiet", "--python", str(python), *self.PACKAGES],
            ):
                made = subprocess.run(command, capture_output=True, text=True, check=False)
                if made.returncode:
                    pytest.skip(f"PyTriton's environment cannot be made: {made.stderr.strip()}")
            (folder / "complete").touch()
        return python


@pytest.fixture(scope="session")
def tritonserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """Not started; stopped at the end."""
    server = TritonServer(tmp_path_factory.mktemp("triton"))
    yield server
    server.stop()


@pytest.fixture(autouse=True, scope="session")
def plain_logs() -> None:
    """Tracebacks as text: the pretty ones cost a second each."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ],
        cache_logger_on_first_use=False,
    )


@pytest.fixture(autouse=True)
def clean_context() -> Iterator[None]:
    """No test sees another's log context."""
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()
