"""What the stack keeps is its owner's alone."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.local import launcher
from penstock.local.credentials import Credentials
from penstock.local.services import SERVICES
from penstock.local.state import usable
from penstock.local.supervisor import Options


def test_nobody_else_on_the_machine_reads_the_folder_of_a_stack(tmp_path: Path) -> None:
    """It holds documents, logs and secrets, whichever command made it first."""
    first, second = tmp_path / "one/.penstock", tmp_path / "two/.penstock"
    usable(first)
    Credentials.load(second)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (first, second)] == [0o700, 0o700]
    assert stat.S_IMODE((second / "secrets.json").stat().st_mode) == 0o600


def test_the_processes_of_a_stack_import_nothing_from_the_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`penstock up` in a folder of somebody else's files runs none of them."""
    (tmp_path / "traceback.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    assert all(spec.argv[0] == "-P" for spec in SERVICES)
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(launcher, "start_detached", lambda argv, log: started.append(argv))
    launcher._spawn(tmp_path, Options())
    flags = started[0][1 : started[0].index("-m")]
    command = (sys.executable, *flags, "-c", "import traceback; print(traceback.__file__)")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert str(tmp_path) not in done.stdout
