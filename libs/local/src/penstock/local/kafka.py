"""One Kafka 4.1 broker, KRaft, in a folder: real, small, on the loopback."""

import asyncio
import json
import subprocess
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from penstock.local.failures import StackError
from penstock.local.files import write_atomically
from penstock.local.java import java, kafka_jars
from penstock.local.ports import free_port
from penstock.local.process import Command

# The first compiler alone: measured on 2 cores it saves half a second of start. A class archive
# saves as much again, and takes 7 s to write; not worth it.
_FLAGS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")
_QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


@dataclass(frozen=True, slots=True)
class Kafka:
    """A broker whose data lies in `folder`. `prepare`, then run `command`, then await `ready`."""

    folder: Path
    port: int
    heap_mb: int = 512

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Fetch the jars, write the configuration, format the storage once. Blocks; idempotent."""
        jars = kafka_jars()
        self.folder.mkdir(parents=True, exist_ok=True)
        controller = free_port()
        write_atomically(self._properties, properties(self.folder, self.port, controller))
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(jars)

    def command(self) -> Command:
        """Valid after `prepare`."""
        heap = (f"-Xmx{self.heap_mb}m", f"-Xms{min(self.heap_mb, 128)}m")
        return Command(
            argv=(
                *(str(java()), *heap, *_FLAGS, _QUIET, "-Djava.awt.headless=true"),
                *("-cp", f"{kafka_jars()}/*", "kafka.Kafka", str(self._properties)),
            ),
            cwd=self.folder,
        )

    async def ready(self) -> str | None:
        """None when the broker answers, else the reason."""
        if not await _listens(self.port):
            return f"port {self.port} is not open yet"
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=5000)
        try:
            await admin.start()
            await admin.describe_cluster()
        except KafkaError as error:
            return f"the broker does not answer yet ({type(error).__name__})"
        finally:
            await admin.close()
        return None

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _format(self, jars: Path) -> None:
        # The first letter is fixed: an id that begins with a dash would be read as an option.
        cluster = "P" + urlsafe_b64encode(uuid4().bytes).decode()[1:22]
        done = subprocess.run(  # noqa: S603
            [
                *(str(java()), "-XX:TieredStopAtLevel=1", _QUIET, "-cp", f"{jars}/*"),
                *("kafka.tools.StorageTool", "format", "-t", cluster),
                *("-c", str(self._properties)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            words = (done.stderr or done.stdout).strip().splitlines()
            raise StackError(f"Kafka's storage could not be formatted: {' '.join(words[-3:])}")


def properties(folder: Path, port: int, controller: int) -> str:
    """Kafka's configuration for one node that is broker and controller."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        # Voters by configuration, not stored at format time: the ports may differ at every start.
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": folder / "data",
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        # A group that was away for a month must not start again from the beginning.
        "offsets.retention.minutes": 30 * 24 * 60,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.threads": 1,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        # Retention drops whole segments: smaller ones give the disk back sooner.
        "log.segment.bytes": 256 * 1024 * 1024,
        "log.index.size.max.bytes": 2 * 1024 * 1024,
    }
    return "".join(f"{name}={_escaped(str(value))}\n" for name, value in settings.items())


def _escaped(value: str) -> str:
    """As java.util.Properties reads it: a backslash starts an escape, the rest is UTF-8 as JSON."""
    return json.dumps(value)[1:-1].replace('\\"', '"')


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
