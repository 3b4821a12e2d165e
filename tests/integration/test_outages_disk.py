"""A full disk under Postgres, a real one: what cannot be stored waits, and is stored once there is room."""

import asyncio
import secrets
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from penstock.common.bootstrap.database import DATABASE
from penstock.common.bootstrap.topics import create_topics
from penstock.common.consumer import Stage
from penstock.common.db import Database
from penstock.common.envelope import Envelope, Publication, Record
from penstock.common.events import JobCancelled
from penstock.common.settings import ServiceSettings
from penstock.common.topics import Topic
from penstock.local.account import unprivileged
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected

RECORDS, BYTES = 30, 100_000


class SmallDisk:
    """One megabyte that Postgres may write to, in memory; `grow` gives it more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self) -> None:
        account = unprivileged()
        if account is None:
            pytest.skip("only root may mount a small disk")
        options = f"size=1m,mode=700,uid={account.uid},gid={account.gid}"
        made = self._run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder))
        if made.returncode != 0:
            pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")

    def grow(self) -> None:
        done = self._run("mount", "-o", "remount,size=64m", str(self.folder))
        assert done.returncode == 0, done.stderr

    def unmount(self) -> None:
        self._run("umount", "--lazy", str(self.folder))

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
async def disk(servers: Servers) -> AsyncIterator[SmallDisk]:
    """With the table `ingest.filling` on it, and nothing else."""
    # Postgres's account does not enter pytest's own folder.
    with tempfile.TemporaryDirectory(dir=tempfile.gettempdir()) as above:
        Path(above).chmod(0o755)
        folder = Path(above, "disk")
        folder.mkdir()
        small = SmallDisk(folder)
        small.mount()
        dsn = urlunsplit(urlsplit(servers.admin_dsn)._replace(path=f"/{DATABASE}"))
        admin = await asyncpg.connect(dsn)
        name = f"small_{uuid4().hex[:8]}"
        try:
            await admin.execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
            await admin.execute(
                f"CREATE TABLE ingest.filling (id text PRIMARY KEY USING INDEX TABLESPACE {name}, "
                f"fill text) TABLESPACE {name}; GRANT ALL ON ingest.filling TO penstock_ingest"
            )
            yield small
        finally:
            await admin.execute("DROP TABLE IF EXISTS ingest.filling")
            await admin.execute(f"DROP TABLESPACE IF EXISTS {name}")
            await admin.close()
            small.unmount()


async def dead_letters(servers: Servers, topic: Topic[JobCancelled]) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=servers.kafka)
    await consumer.start()
    try:
        place = TopicPartition(topic.dead_letters("g"), 0)
        return int((await consumer.end_offsets([place]))[place])
    finally:
        await consumer.stop()


async def test_what_a_full_disk_refuses_is_stored_once_there_is_room(
    servers: Servers, disk: SmallDisk, tmp_path: Path
) -> None:
    """No record is dead-lettered, `/readyz` names the disk, and every row is there in the end."""
    settings = ServiceSettings(kafka=servers.kafka, service_secret="x" * 32, grace_s=5)
    topic: Topic[Any] = Topic(
        f"test.{uuid4().hex[:8]}.v1", JobCancelled, "test", (), ("g",), "document", partitions=1
    )
    await create_topics(settings, [topic])
    async with Database.open(
        servers.dsns["ingest"], schema="ingest", migrations=tmp_path
    ) as database:

        async def store(records: Sequence[Record[JobCancelled]]) -> list[Publication[Any]]:
            async with database.transaction() as connection:
                for record in records:
                    await connection.execute(
                        "INSERT INTO filling VALUES ($1, $2) ON CONFLICT DO NOTHING",
                        record.value.reason,
                        secrets.token_hex(BYTES // 2),  # Postgres cannot make it small
                    )
            return []

        stage = Stage("g", settings)
        stage.on(topic, store, batch=4, concurrency=2)
        await stage.start()
        try:
            envelope = Envelope(id=uuid4().hex, tenant="default", job="j")
            await stage.publisher.publish(
                *(
                    Publication(topic, f"default/{n}", envelope, JobCancelled(reason=str(n)))
                    for n in range(RECORDS)
                )
            )
            async with asyncio.timeout(30):
                while "No space left" not in (stage.waits.longest() or ""):
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(disk.grow)
            async with asyncio.timeout(30), database.pool.acquire() as connection:
                while await connection.fetchval("SELECT count(*) FROM filling") < RECORDS:
                    await asyncio.sleep(0.05)
        finally:
            await stage.drain()
    assert await dead_letters(servers, topic) == 0
