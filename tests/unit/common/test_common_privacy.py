"""What a parser that has been taken over may read of the service beside it: nothing."""

import os
import subprocess
import sys

import pytest

from penstock.common import privacy

NOBODY = 65_534

PROCESS = """
import ctypes, os, sys
from penstock.common.privacy import close_to_neighbours
if os.geteuid() == 0:
    os.setgroups([]), os.setgid({nobody}), os.setuid({nobody})
    ctypes.CDLL(None).prctl(4, 1)  # as after exec: changing the user alone closes it
if {closed}:
    close_to_neighbours()
    os.listdir("/proc/self/fd")  # as Prometheus's client looks
print("up", flush=True)
sys.stdin.read()
"""


def neighbour_reads(*, closed: bool) -> set[str]:
    """What a process of the same user, who is not root, reads of a process."""
    code = PROCESS.format(nobody=NOBODY, closed=closed)
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PENSTOCK_SERVICE_SECRET": "hush"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        files = [f"/proc/{process.pid}/{name}" for name in ("environ", "maps", "statm")]
        looking = ["/usr/bin/head", "-c", "1", "-v", *files]
        seen = subprocess.run(looking, capture_output=True, text=True, cwd="/", check=False, **who)  # type: ignore[call-overload]
        process.communicate()
    return {file.rsplit("/", 1)[1] for file in files if f"==> {file} <==" in seen.stdout}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and prctl are Linux's")
def test_a_service_is_closed_to_processes_of_its_own_user() -> None:
    """Its passwords stand in its environment; without the call a parse worker reads them."""
    assert neighbour_reads(closed=False) == {"environ", "maps", "statm"}
    assert neighbour_reads(closed=True) == {"statm"}, "how much memory it takes may be seen"


def test_every_process_closes_itself() -> None:
    """The services do it where they begin to run, the parse workers where they do."""
    from penstock.common import service
    from penstock.ingest import worker

    for begins in (service.run, worker.main):
        assert privacy.close_to_neighbours.__name__ in begins.__code__.co_names
