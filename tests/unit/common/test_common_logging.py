"""Logs tell of the work; they never stop it."""

import subprocess
import sys

import pytest

PROGRAM = """
import logging, structlog
from penstock.common.logging import configure
configure("x")
structlog.get_logger().warning("a")
logging.getLogger("y").warning("b")
print("alive")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's full disk")
def test_a_full_disk_costs_the_line_and_not_the_record() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 (a device, not a path)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=True,
        )
    assert done.stdout == "alive\n"
