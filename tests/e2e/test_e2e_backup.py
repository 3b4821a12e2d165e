"""What was backed up answers the same after a restore, by the commands of docs/how-to/backup.md."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from penstock.client import Penstock
from penstock.common.bootstrap.database import DATABASE
from penstock.common.topics import BY_NAME, TOPICS
from penstock.local.lag import topics_of_groups
from penstock.local.postgres import Postgres
from penstock.local.stack import servers

pytestmark = [pytest.mark.connected, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
BACK_UP, RESTORE = re.findall(
    r"^```bash\n(.*?)^```", (ROOT / "docs/how-to/backup.md").read_text(), re.MULTILINE | re.DOTALL
)


def run(script: str, folder: Path, admin: str, stack: Path) -> None:
    """As the page has it, with the tools of the Postgres that the tests run on."""
    tools = Postgres(folder / "no data", 0)._locate_programs()
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "ADMIN": admin.removesuffix("/postgres"),
        "PENSTOCK_BLOBS": str(stack / "blobs"),
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


async def test_a_restored_system_answers_as_before_and_catches_up_with_the_log(
    stack: Any, elsewhere: Any, samples: Path, tmp_path: Path, until: Callable[..., Any]
) -> None:
    """First into new servers with an empty Kafka; then once more under the log of what came since."""
    name = f"backup-{uuid4().hex[:8]}"
    question = f"How deep is the {name} basin?"
    handbook = {"handbook.md": samples / "handbook.md"}
    async with Penstock(stack.api) as penstock:
        await submit(penstock, name, f"# Basins\n\nThe {name} basin is 17 metres deep.")
        assert (await penstock.wait((await penstock.upload(handbook)).id)).state == "succeeded"
        before = await penstock.ask(question)
        found = await penstock.search(question, top_k=1)
    assert "17 metres" in before.text
    port = int(str(stack.state["postgres"]).split(":")[1])
    run(BACK_UP, tmp_path, Postgres(stack.folder / "postgres", port).admin_dsn, stack.folder)

    await restore(elsewhere, tmp_path)
    async with Penstock(elsewhere.api) as penstock:
        after = await penstock.ask(question)
        again = await penstock.search(question, top_k=1)
        assert (after.text, after.citations) == (before.text, before.citations)
        assert again.passages == found.passages
        assert (await penstock.wait((await penstock.upload(handbook)).id)).state == "succeeded"
        await submit(penstock, f"{name}-later", f"# Weirs\n\nThe {name} weir has 9 gates.")
        gone = await penstock.wait((await penstock.delete_document(name)).id)
        assert gone.state == "succeeded", gone
        assert (await penstock.ask(question)).abstained
    assert elsewhere.command("down").returncode == 0

    await restore(elsewhere, tmp_path)
    async with Penstock(elsewhere.api) as penstock:

        async def caught_up() -> bool:
            weir = await penstock.ask(f"How many gates has the {name} weir?")
            basin = await penstock.ask(question)
            return "9 gates" in weir.text and basin.abstained

        await until(caught_up, 60)


async def submit(penstock: Penstock, name: str, text: str) -> None:
    job = await penstock.submit_documents([{"id": name, "text": text}])
    assert (await penstock.wait(job.id)).state == "succeeded"


async def restore(elsewhere: Any, backup: Path) -> None:
    """By the page, into the servers alone; every group reads the log from its start again."""
    async with servers(elsewhere.folder) as empty:
        run(RESTORE, backup, empty.admin_dsn, elsewhere.folder)
        for group, names in topics_of_groups(TOPICS).items():
            consumer = AIOKafkaConsumer(
                bootstrap_servers=empty.kafka, group_id=group, enable_auto_commit=False
            )
            async with consumer:
                places = {TopicPartition(n, p): 0 for n in names for p in range(partitions(n))}
                consumer.assign(list(places))
                await consumer.commit(places)
    up = elsewhere.command("up")
    assert up.returncode == 0, up.stderr
    async with elsewhere.database() as database:
        anybody = await database.fetch(
            "SELECT 1 FROM pg_database, aclexplode(datacl) a WHERE datname = $1 AND a.grantee = 0",
            DATABASE,
        )
    assert anybody == [], "who has no role of Penstock gets in no more than before"


def partitions(name: str) -> int:
    """As registered; a topic of retries has one."""
    return BY_NAME[name].partitions if name in BY_NAME else 1
