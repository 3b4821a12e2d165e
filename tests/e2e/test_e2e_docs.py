"""What the README and the guides tell people to type works, as it stands there."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.connected

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/quickstart.md", *sorted(
    str(page.relative_to(ROOT)) for page in (ROOT / "docs/how-to").glob("*.md")
))  # fmt: skip
LINK = re.compile(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Fenced blocks in `sh` and `python`; other fences show what is not run here."""
    text = (ROOT / page).read_text()
    yield from re.findall(r"^```(sh|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_does_what_it_says(stack: Any, page: str) -> None:
    """Run in order, in one shell, against the stack of this run instead of the default ports."""
    script = "".join(
        code if language == "sh" else f"python - <<'PYTHON'\n{code}PYTHON\n"
        for language, code in blocks(page)
    )
    here = Path(sys.executable).parent
    environment = {**stack.environment, "PATH": f"{here}:{stack.environment['PATH']}"}
    script = script.replace("127.0.0.1:8080", stack.api.removeprefix("http://"))
    script = script.replace("127.0.0.1:9092", stack.kafka)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("curl -s", "curl -sSf")],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("page", [*PAGES, "docs/architecture.md", "CONTRIBUTING.md"])
def test_no_link_of_a_page_leads_nowhere(page: str) -> None:
    here = (ROOT / page).parent
    assert [
        link for link in LINK.findall((ROOT / page).read_text()) if not (here / link).exists()
    ] == []
