"""A Kafka with SCRAM, TLS and ACLs, a Postgres that takes TLS alone, set up by the how-to's commands."""

import asyncio
import os
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from aiokafka.admin import NewPartitions
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from penstock.common.bootstrap.topics import administration
from penstock.common.failures import TransientError
from penstock.common.settings import KafkaSettings
from penstock.common.topics import DOCUMENT_INDEXED, JOB_PROGRESSED
from penstock.local.credentials import Credentials
from penstock.local.java import cache_folder, java, kafka_jars
from penstock.local.kafka import Kafka
from penstock.local.ports import free_port
from penstock.local.postgres import Postgres
from penstock.local.probes import readyz
from penstock.local.process import Command, Process
from penstock.local.services import SERVICES, ServiceSpec
from penstock.local.stack import until_ready

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/how-to/cluster.md"
PASSWORD = "the administrators own"
SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
"""How a client of Postgres asks for TLS, before it says anything else."""


@dataclass(frozen=True)
class Cluster:
    """Two servers that nobody may use without a certificate and a password."""

    folder: Path
    kafka: str
    postgres: str
    admin_dsn: str
    ca: Path

    @property
    def tls(self) -> str:
        return f"sslmode=verify-full&sslrootcert={self.ca}"

    def settings(self, username: str, password: str, mechanism: str) -> KafkaSettings:
        return KafkaSettings.model_validate(
            {
                "kafka": self.kafka, "kafka_security": "SASL_SSL", "kafka_mechanism": mechanism,
                "kafka_username": username, "kafka_password": password, "kafka_ca": self.ca,
            }
        )  # fmt: skip

    def admin(self) -> KafkaSettings:
        return self.settings("admin", PASSWORD, "PLAIN")

    def environment(self) -> dict[str, str]:
        """What the page has an administrator set first."""
        return {
            **plain_environment(),
            "PATH": f"{self.folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PENSTOCK_KAFKA": self.kafka,
            "PENSTOCK_KAFKA_SECURITY": "SASL_SSL",
            "PENSTOCK_KAFKA_MECHANISM": "PLAIN",
            "PENSTOCK_KAFKA_USERNAME": "admin",
            "PENSTOCK_KAFKA_PASSWORD": PASSWORD,
            "PENSTOCK_KAFKA_CA": str(self.ca),
            "POSTGRES": self.postgres,
            "POSTGRES_TLS": self.tls,
            "PENSTOCK_ADMIN_DATABASE": f"{self.admin_dsn}?{self.tls}",
        }

    def run(self, script: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder, env=self.environment(), capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip

    def given(self, *files: str) -> dict[str, str]:
        """The variables of the files that the page's commands wrote."""
        lines = [li for f in files for li in (self.folder / f).read_text().splitlines()]
        return dict(line.split("=", 1) for line in lines)


def plain_environment() -> dict[str, str]:
    return {n: v for n, v in os.environ.items() if not n.startswith("PENSTOCK_")}


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    authority = trustme.CA()
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    async with (
        _kafka(folder, ca, certificate) as kafka,
        _postgres(folder, certificate) as (server, postgres),
    ):
        running = Cluster(
            folder,
            kafka,
            postgres,
            server.admin_dsn.replace(f"127.0.0.1:{server.port}", postgres),
            ca,
        )
        _kafkas_own_tool(running)
        yield running


@asynccontextmanager
async def _kafka(folder: Path, ca: Path, certificate: trustme.LeafCert) -> AsyncIterator[str]:
    kafka = Kafka(folder / "kafka", free_port())
    await asyncio.to_thread(kafka.prepare)
    store = folder / "kafka" / "store.pem"
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    # Java reads keys as PKCS #8 alone.
    store.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + chain)
    controller = f"127.0.0.1:{free_port()}"
    login = "org.apache.kafka.common.security"
    settings = {
        # The controller's listener is on the loopback; who comes by it has no name.
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "listeners": f"SASL_SSL://{kafka.bootstrap},CONTROLLER://{controller}",
        "controller.quorum.voters": f"1@{controller}",
        "advertised.listeners": f"SASL_SSL://{kafka.bootstrap}",
        "inter.broker.listener.name": "SASL_SSL",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f"{login}.plain.PlainLoginModule required "
        f'username="admin" password="{PASSWORD}" user_admin="{PASSWORD}";',
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule "
        "required;",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": store,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": ca,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin;User:ANONYMOUS",
    }
    properties = folder / "kafka" / "server.properties"
    more = "".join(f"{name}={value}\n" for name, value in settings.items())
    properties.write_text(properties.read_text() + more)  # what is said last counts
    admin = KafkaSettings.model_validate(
        {
            "kafka": kafka.bootstrap, "kafka_security": "SASL_SSL", "kafka_mechanism": "PLAIN",
            "kafka_username": "admin", "kafka_password": PASSWORD, "kafka_ca": ca,
        }
    )  # fmt: skip

    async def answers() -> str | None:
        try:
            async with administration(admin) as client:
                await client.describe_cluster()
        except TransientError as error:
            return str(error)
        return None

    async with _running("kafka", kafka.command(), folder) as process:
        await until_ready(process, answers)
        yield kafka.bootstrap


@asynccontextmanager
async def _postgres(
    folder: Path, certificate: trustme.LeafCert
) -> AsyncIterator[tuple[Postgres, str]]:
    """The server, and the address at which it takes TLS alone.

    The Postgres of these tests is built without TLS, so a proxy before it ends it, as an operator's
    connection pool would.
    """
    postgres = Postgres(folder / "postgres", free_port())
    await asyncio.to_thread(postgres.prepare)
    try:
        async with _running("postgres", postgres.command(), folder) as process:
            await until_ready(process, postgres.ready)
            async with _behind_tls(postgres.port, certificate) as address:
                yield postgres, address
    finally:
        postgres.close()


@asynccontextmanager
async def _behind_tls(port: int, certificate: trustme.LeafCert) -> AsyncIterator[str]:
    """Where a client that asks for TLS, as Postgres' protocol has it, reaches the server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
                writer.close()
                return
            writer.write(b"S")
            await writer.start_tls(context)
            theirs, ours = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, ours))
                both.create_task(_pump(theirs, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    writer.close()


def _kafkas_own_tool(cluster: Cluster) -> None:
    """`kafka-configs.sh`, which Kafka's distribution has and its jars have not."""
    script = cluster.folder / "kafka-configs.sh"
    script.write_text(
        f"#!/bin/sh\nexec '{java()}' -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger"
        f".defaultLogLevel=error -cp '{kafka_jars()}/*' kafka.admin.ConfigCommand \"$@\"\n"
    )
    script.chmod(0o755)
    (cluster.folder / "admin.properties").write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nssl.truststore.type=PEM\n"
        f"ssl.truststore.location={cluster.ca}\n"
        "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="admin" password="{PASSWORD}";\n'
    )


@asynccontextmanager
async def _running(name: str, command: Command, folder: Path) -> AsyncIterator[Process]:
    log = folder / "logs" / f"{name}.log"
    process = await Process.start(name, command, log, dies_with_us=True)
    try:
        yield process
    finally:
        await process.stop(20)


@pytest.fixture(scope="module")
async def prepared(cluster: Cluster) -> str:
    """Every command of the page has been run, in order and in one shell; what it said."""
    commands = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    done = await asyncio.to_thread(cluster.run, "".join(commands))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class System:
    """Every process, each with its own Kafka user and database role."""

    url: str
    key: str
    cluster: Cluster


@pytest.fixture(scope="module")
async def system(cluster: Cluster, prepared: str) -> AsyncIterator[System]:
    async with administration(cluster.admin()) as admin:  # an operator wants more of these
        await admin.create_partitions(
            {t.name: NewPartitions(12) for t in (DOCUMENT_INDEXED, JOB_PROGRESSED)}
        )
    ports = {spec.name: free_port() for spec in SERVICES}
    key = Credentials().operator_key
    async with AsyncExitStack() as stack:
        started = []
        for spec in SERVICES:
            command = Command(
                argv=(sys.executable, *spec.argv),
                env=_environment(cluster, spec, ports, key),
                cwd=cluster.folder,
            )
            process = await stack.enter_async_context(_running(spec.name, command, cluster.folder))
            started.append(until_ready(process, _ready(ports[spec.name]), 120))
        await asyncio.gather(*started)
        yield System(f"http://127.0.0.1:{ports['api']}", key, cluster)


def _ready(port: int):  # type: ignore[no-untyped-def]
    async def ask() -> str | None:
        return await readyz(port)

    return ask


def _environment(
    cluster: Cluster, spec: ServiceSpec, ports: dict[str, int], key: str
) -> dict[str, str]:
    files = ["common.env", f"{spec.name}.env"]
    if spec.schema_name is not None:
        files.append(f"{spec.schema_name}.database.env")
    own = {"PENSTOCK_PORT": str(ports[spec.name]), "PENSTOCK_MODELS": str(_models())}
    if spec.blobs:
        own["PENSTOCK_BLOBS"] = str(cluster.folder / "blobs")
    if spec.name == "api":
        own |= {
            "PENSTOCK_OPERATOR_KEY": key,
            "PENSTOCK_SEARCHER_URL": f"http://127.0.0.1:{ports['searcher']}",
            "PENSTOCK_GUARD_URL": f"http://127.0.0.1:{ports['guard-documents']}",
        }
    return {**plain_environment(), **cluster.given(*files), **own}


def _models() -> Path:
    return Path(os.environ.get("PENSTOCK_MODELS") or cache_folder() / "models")
