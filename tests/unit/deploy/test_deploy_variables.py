"""Whoever follows the documentation sets no variable that nothing reads."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [
    *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md"),
    ROOT / "docker-compose.yml", ROOT / "deploy/Dockerfile", ROOT / "Makefile",
]  # fmt: skip
NAME = re.compile(r"PENSTOCK_[A-Z0-9_]*[A-Z0-9]")
READ = re.compile(r'(?:environ(?:\.get)?[\[(]|getenv\(|envvar=)\s*"(PENSTOCK_\w+)"')


def documented() -> set[str]:
    """By docs/settings.md, which is written from the settings classes."""
    return set(
        re.findall(r"^\| `(PENSTOCK_\w+)`", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    )


def read_directly() -> set[str]:
    """By the command and the tests, without a settings class."""
    sources = [p for f in ("libs", "bench", "tests") for p in (ROOT / f).rglob("*.py")]
    return {name for path in sources for name in READ.findall(path.read_text())}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_variable_of_a_page_is_read_by_something(page: Path) -> None:
    assert set(NAME.findall(page.read_text())) <= documented() | read_directly()
