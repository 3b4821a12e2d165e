"""llama.cpp's OpenAI-compatible server as a process of its own: start, find and stop it."""

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from penstock.local.failures import StackError, from_os
from penstock.local.files import write_atomically
from penstock.local.llm.weights import NOT_INSTALLED
from penstock.local.process import Identity, kill_group, last_lines, start_detached

START_SECONDS = 120.0
CONTEXT_TOKENS = 8192
"""Passages and answer together; 28 KB of memory for each."""
BUSY = "it is busy with an answer"
_STOP_SECONDS = 10.0
_PROBE_SECONDS = 3.0
_POLL_SECONDS = 0.2
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


class LocalModel(BaseModel):
    """`llm.json`: which model is served, where, by which process."""

    model_config = ConfigDict(frozen=True)

    model: str
    port: int
    pid: int
    started: float
    """Start time of the process, seconds since 1970: with the pid it names one process."""
    log: str

    @property
    def url(self) -> str:
        """Base URL, as OpenAI's clients want it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def find(self) -> psutil.Process | None:
        """The server's process, while it runs."""
        return Identity(self.pid, self.started).find()

    @classmethod
    def read(cls, folder: Path) -> "LocalModel | None":
        """None when none was started. `StackError` when it cannot be read."""
        path = folder / "llm.json"
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os(error, "llm.json cannot be read") from error
        except ValidationError as error:
            raise StackError(
                f"{path} is damaged: stop the llama_cpp.server process by hand, then delete it."
            ) from error


def require_installed() -> None:
    """`StackError` that says how to install the extra, when it is not."""
    if find_spec("llama_cpp") is None:
        raise StackError(NOT_INSTALLED)


def configuration(weights: Path, model: str, port: int, key: str, cores: int) -> dict[str, object]:
    """What the server is told, as llama-cpp-python's `--config_file`."""
    return {
        "host": "127.0.0.1",
        "port": port,
        "api_key": key,
        # By default a new request ends the answer that is being written for another.
        "interrupt_requests": False,
        "models": [
            {
                "model": str(weights),
                "model_alias": model,
                "n_ctx": CONTEXT_TOKENS,
                "n_threads": cores,
                "n_threads_batch": cores,
                "logits_all": False,  # by default 600 KB for every token of the context
                "flash_attn": True,
                "use_mlock": False,
                "verbose": False,
            }
        ],
    }


def start(folder: Path, weights: Path, model: str, port: int, key: str) -> LocalModel:
    """Start the server and put it on record; it is not ready yet. `StackError` when it cannot."""
    settings = configuration(weights, model, port, key, len(os.sched_getaffinity(0)))
    log = folder / "logs" / "llm.log"
    try:
        # In a file of its owner's: arguments and environments show in the list of processes.
        write_atomically(_settings_path(folder), json.dumps(settings, indent=2), mode=0o600)
        process = start_detached(
            (
                sys.executable,
                "-P",  # see launcher
                "-m",
                "llama_cpp.server",
                "--config_file",
                str(_settings_path(folder)),
            ),
            log,
            _environment(os.environ),
        )
        found = Identity.of(process.pid)
        record = LocalModel(
            model=model, port=port, pid=found.pid, started=found.started, log=str(log)
        )
        write_atomically(folder / "llm.json", record.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise from_os(error, "The local model cannot be started") from error
    return record


def _environment(caller: Mapping[str, str]) -> dict[str, str]:
    """Little: the server takes any variable that is called like one of its settings (HOST, CACHE)
    for a setting. Its threads wait for each other asleep: measured on 2 cores, it writes as fast
    alone, and more than twice as fast beside another busy process."""
    kept = {name: caller[name] for name in _KEPT_VARIABLES if name in caller}
    return {**kept, "OMP_WAIT_POLICY": "passive"}


async def until_ready(record: LocalModel, key: str, timeout: float = START_SECONDS) -> None:
    """Wait until the server answers; `StackError` with its last words when it does not."""
    deadline = time.monotonic() + timeout
    while (reason := await asyncio.to_thread(why_silent, record, key)) is not None:
        ended = record.find() is None
        if ended or time.monotonic() > deadline:
            said = "it ended" if ended else f"{reason} after {timeout:.0f} s"
            words = "\n".join(f"    {line}" for line in last_lines(Path(record.log)))
            raise StackError(
                f"The local model does not start ({said}); the end of {record.log}:\n{words}"
            )
        await asyncio.sleep(_POLL_SECONDS)


def why_silent(record: LocalModel, key: str) -> str | None:
    """None when the server answers `/v1/models`, else the reason. Blocks for 3 s at most."""
    request = urllib.request.Request(  # noqa: S310  (a URL of our own)
        f"{record.url}/models", headers={"Authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"another server answers at {record.url} with {error.code}"
    except TimeoutError:
        return BUSY
    except (OSError, ValueError):
        return "it does not answer yet"


def stop(folder: Path) -> bool:
    """End the server and forget it; False when it did not run. Blocks for 10 s at most."""
    record = LocalModel.read(folder)
    process = record.find() if record is not None else None
    if process is not None:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
        psutil.wait_procs([process], timeout=_STOP_SECONDS)
        kill_group(process.pid)
    for path in (folder / "llm.json", _settings_path(folder)):
        path.unlink(missing_ok=True)
    return process is not None


def _settings_path(folder: Path) -> Path:
    return folder / "llm-server.json"
