"""What was backed up answers the same after a restore, by the commands of docs/how-to/backup.md."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from penstock.client import Penstock
from penstock.common.bootstrap.database import DATABASE
from penstock.local.postgres import Postgres
from penstock.local.stack import servers

pytestmark = [pytest.mark.connected, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
BACK_UP, RESTORE = re.findall(
    r"^```bash\n(.*?)^```", (ROOT / "docs/how-to/backup.md").read_text(), re.MULTILINE | re.DOTALL
)


def run(script: str, folder: Path, admin: str, blobs: Path) -> None:
    """As the page has it, with the tools of the Postgres that the tests run on."""
    tools = Postgres(folder / "no data", 0)._locate_programs()
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "ADMIN": admin.removesuffix("/postgres"),
        "PENSTOCK_BLOBS": str(blobs),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture
def elsewhere(stack: Any, tmp_path: Path) -> Iterator[Any]:
    """A second stack, not started yet."""
    again = type(stack)(
        tmp_path / "elsewhere",
        stack.environment
        | {"PENSTOCK_HOME": str(tmp_path / "elsewhere")}
        | {f"PENSTOCK_{name}_PORT": "0" for name in ("API", "KAFKA", "POSTGRES")},
    )
    yield again
    again.command("down", timeout=120)
    shutil.rmtree(tmp_path, ignore_errors=True)


async def test_a_restored_system_answers_as_before_and_goes_on(
    stack: Any, elsewhere: Any, samples: Path, tmp_path: Path
) -> None:
    """New servers, an empty Kafka; a question, a search, an unchanged file, a delete."""
    name = f"backup-{uuid4().hex[:8]}"
    question = f"How deep is the {name} basin?"
    async with Penstock(stack.api) as penstock:
        job = await penstock.submit_documents(
            [{"id": name, "text": f"# Basins\n\nThe {name} basin is 17 metres deep."}]
        )
        assert (await penstock.wait(job.id)).state == "succeeded"
        uploaded = await penstock.upload({"handbook.md": samples / "handbook.md"})
        assert (await penstock.wait(uploaded.id)).state == "succeeded"
        before = await penstock.ask(question)
        found = await penstock.search(question, top_k=1)
    assert "17 metres" in before.text
    admin = Postgres(stack.folder / "postgres", int(str(stack.state["postgres"]).split(":")[1]))
    run(BACK_UP, tmp_path, admin.admin_dsn, stack.folder / "blobs")

    async with servers(elsewhere.folder) as empty:
        run(RESTORE, tmp_path, empty.admin_dsn, elsewhere.folder / "blobs")
    up = elsewhere.command("up")
    assert up.returncode == 0, up.stderr
    async with Penstock(elsewhere.api) as penstock:
        after = await penstock.ask(question)
        again = await penstock.search(question, top_k=1)
        assert (after.text, after.citations) == (before.text, before.citations)
        assert again.passages == found.passages
        same = await penstock.upload({"handbook.md": samples / "handbook.md"})
        assert (await penstock.wait(same.id)).state == "succeeded"
        gone = await penstock.wait((await penstock.delete_document(name)).id)
        assert gone.state == "succeeded", gone
        assert (await penstock.ask(question)).abstained
    async with elsewhere.database() as database:
        unowned = await database.fetch(
            "SELECT datname FROM pg_database, aclexplode(datacl) a "
            "WHERE datname = $1 AND a.grantee = 0",
            DATABASE,
        )
    assert unowned == [], "who has no role of Penstock gets into the database no more than before"
