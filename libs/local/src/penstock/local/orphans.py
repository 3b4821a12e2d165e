"""End what a supervisor that died left running: services first, then the servers they stand on."""

import signal
from collections.abc import Iterable
from contextlib import suppress

import psutil

from penstock.local.process import kill_group
from penstock.local.state import ProcessState, StackState

SERVERS = ("kafka", "postgres")
_SERVICE_SECONDS = 10.0
_SERVER_SECONDS = 20.0


def end_orphans(stack: StackState) -> list[str]:
    """Names of the processes that were found and ended. Blocks until they are gone.

    Only processes with the recorded id and start time: another process that got the id since is
    left alone."""
    services = [(n, p) for n, p in stack.processes.items() if n not in SERVERS]
    servers = [(n, p) for n, p in stack.processes.items() if n in SERVERS]
    return [*_end(services, _SERVICE_SECONDS), *_end(servers, _SERVER_SECONDS)]


def _end(recorded: Iterable[tuple[str, ProcessState]], grace: float) -> list[str]:
    found = {name: p.identity.find() for name, p in recorded if p.pid}
    running = {name: process for name, process in found.items() if process is not None}
    for name, process in running.items():
        # Postgres waits for its sessions on SIGTERM; SIGINT ends them and shuts down cleanly.
        number = signal.SIGINT if name == "postgres" else signal.SIGTERM
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    _, alive = psutil.wait_procs(running.values(), timeout=grace)
    for process in running.values():
        kill_group(process.pid)
    psutil.wait_procs(alive, timeout=5)
    return list(running)
