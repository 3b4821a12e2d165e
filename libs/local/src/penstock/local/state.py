"""`stack.json`: what runs, where, since when; and the lock that makes one supervisor the owner."""

import fcntl
import os
import shutil
from enum import StrEnum
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.local.failures import StackError, from_os
from penstock.local.files import write_atomically
from penstock.local.process import Identity

LEAST_FREE_MB = 256


class State(StrEnum):
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class ProcessState(BaseModel):
    """One process as its supervisor last saw it."""

    model_config = ConfigDict(frozen=True)

    state: State = State.STARTING
    pid: int = 0
    started: float = 0.0
    """Start time of the process, seconds since 1970: with the pid it names one process."""
    port: int = 0
    restarts: int = 0
    reason: str | None = None
    log: str = ""

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.started)


class StackState(BaseModel):
    """The whole file. `api`, `kafka`, `postgres`, `blobs` are what clients look for."""

    model_config = ConfigDict(frozen=True)

    state: State = State.STARTING
    reason: str | None = None
    supervisor: ProcessState = Field(default_factory=ProcessState)
    api: str | None = None
    kafka: str | None = None
    postgres: str | None = None
    """host:port; passwords are in secrets.json."""
    blobs: str | None = None
    scale: dict[str, int] = Field(default_factory=dict)
    """How many processes of each service there are to be."""
    processes: dict[str, ProcessState] = Field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "StackState | None":
        """None when there is none. `StackError` when it cannot be read."""
        path = folder / "stack.json"
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os(error, "stack.json cannot be read") from error
        except ValidationError as error:
            raise StackError(
                f"{path} is damaged: stop what it started by hand, then delete it."
            ) from error

    def write(self, folder: Path) -> None:
        """Raises OSError."""
        write_atomically(folder / "stack.json", self.model_dump_json(indent=2) + "\n")


class ScaleRequest(BaseModel):
    """`scale.json`: how `penstock scale` reaches the supervisor of the folder, which looks for it
    while the stack is ready. It holds for as long as that supervisor lives."""

    model_config = ConfigDict(frozen=True)

    scale: dict[str, int]

    @classmethod
    def read(cls, folder: Path) -> "ScaleRequest | None":
        """None when nothing was asked for. `StackError` when it cannot be read."""
        path = folder / "scale.json"
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os(error, "scale.json cannot be read") from error
        except ValidationError as error:
            raise StackError(f"{path} is damaged: delete it, and scale again.") from error

    def write(self, folder: Path) -> None:
        try:
            write_atomically(folder / "scale.json", self.model_dump_json() + "\n")
        except OSError as error:
            raise from_os(error, "The scale cannot be written") from error

    @staticmethod
    def forget(folder: Path) -> None:
        (folder / "scale.json").unlink(missing_ok=True)


class Lock:
    """Held by the supervisor of a folder for as long as it lives, however it ends. Other work that
    one process at a time may do has a lock of another name."""

    def __init__(self, folder: Path, name: str = "lock") -> None:
        self._path = folder / name
        self._file: IO[bytes] | None = None

    def take(self) -> bool:
        """False when another process holds it."""
        file = self._path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def is_running(folder: Path) -> bool:
    """Whether a supervisor holds the folder now."""
    if not (folder / "lock").exists():
        return False
    lock = Lock(folder)
    free = lock.take()
    lock.release()
    return not free


def usable(folder: Path) -> None:
    """`StackError` in a sentence when the stack cannot keep its data in the folder."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # documents and secrets
        (folder / "logs").mkdir(exist_ok=True)
        write_atomically(folder / ".writable", f"{os.getpid()}\n")
        (folder / ".writable").unlink()
        free_mb = shutil.disk_usage(folder).free // 2**20
    except OSError as error:
        raise from_os(error, f"The stack's folder {folder} cannot be used") from error
    if free_mb < LEAST_FREE_MB:
        raise StackError(
            f"Only {free_mb} MB are free where {folder} lies; the stack needs {LEAST_FREE_MB} MB: "
            "free some space, or choose another folder with --folder."
        )
