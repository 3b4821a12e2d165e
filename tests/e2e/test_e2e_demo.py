"""The front door: what `make demo` promises, and that its answers come from the files."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from penstock.client import Penstock

pytestmark = pytest.mark.connected


def test_the_demo_publishes_asks_deletes_and_abstains(stack: Any, samples: Path) -> None:
    done = stack.command("demo", str(samples))
    assert done.returncode == 0, done.stdout + done.stderr
    for promised in ("31", "seven years", "7920", "swan", "receipt", "I don't know"):
        assert promised in done.stdout
    assert "document.submitted.v1/" in done.stdout


async def test_a_changed_fact_changes_the_answer(
    stack: Any, penstock: Penstock, samples: Path, tmp_path: Path
) -> None:
    question = "How many days of paid holiday does an employee have?"
    changed = tmp_path / "handbook.md"
    shutil.copy(samples / "handbook.md", changed)
    assert stack.command("publish", str(changed)).returncode == 0
    assert "31" in (await penstock.ask(question)).text
    changed.write_text(changed.read_text().replace("31 days", "34 days"))
    assert stack.command("publish", str(changed)).returncode == 0
    answer = await penstock.ask(question)
    assert "34" in answer.text
    assert "31" not in answer.text
