"""What the stack keeps is its owner's alone."""

import stat
from pathlib import Path

from penstock.local.credentials import Credentials
from penstock.local.state import usable


def test_nobody_else_on_the_machine_reads_the_folder_of_a_stack(tmp_path: Path) -> None:
    """It holds documents, logs and secrets, whichever command made it first."""
    first, second = tmp_path / "one/.penstock", tmp_path / "two/.penstock"
    usable(first)
    Credentials.load(second)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (first, second)] == [0o700, 0o700]
    assert stat.S_IMODE((second / "secrets.json").stat().st_mode) == 0o600
