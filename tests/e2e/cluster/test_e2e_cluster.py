"""On a Kafka and a Postgres of one's own, behind TLS, passwords and ACLs, all of it works as before,
and who is not meant to gets in nowhere. Set up by the commands of docs/how-to/cluster.md."""

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import trustme
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError

from penstock.client import Penstock
from penstock.client.publishing import TopicPublisher
from penstock.common.bootstrap.topics import administration
from penstock.common.envelope import Envelope, Publication
from penstock.common.events import DocumentSubmitted
from penstock.common.failures import TransientError
from penstock.common.kafka import Publisher, connection
from penstock.common.settings import BlobSettings
from penstock.common.topics import DOCUMENT_CLEARED, DOCUMENT_INDEXED, DOCUMENT_SUBMITTED

pytestmark = [pytest.mark.connected, pytest.mark.timeout(400)]


def test_the_commands_of_the_page_say_what_they_do_and_a_second_run_changes_nothing(
    cluster: Any, prepared: str
) -> None:
    assert "would create document.submitted.v1" in prepared
    assert "created document.submitted.v1.ingest.dlq" in prepared
    assert "created User:erp WRITE topic document.submitted.v1" in prepared
    assert "would create database penstock" in prepared
    assert "created schema retrieve" in prepared
    again = cluster.run("penstock bootstrap topics --json; penstock bootstrap acls --json")
    assert again.returncode == 0, again.stderr
    topics, end = json.JSONDecoder().raw_decode(again.stdout)
    assert topics["created"] == []
    assert json.loads(again.stdout[end:]) == {"dry_run": False, "added": []}


async def test_a_document_becomes_an_answer_a_dead_letter_is_redriven_and_a_delete_is_receipted(
    system: Any, until: Callable[..., Any]
) -> None:
    """Every process does its part with the rights of its own user and no others."""
    async with Penstock(system.url, system.key) as penstock:
        job = await penstock.submit_documents(
            [{"id": "weir", "text": "# The weir\n\nThe weir at Alder Mill is 4 metres high."}]
        )
        assert (await penstock.wait(job.id, timeout_s=60)).state == "succeeded"
        answer = await penstock.ask("How high is the weir at Alder Mill?")
        assert "4 metres" in answer.text

        publisher = Publisher("test", system.cluster.admin())
        await publisher.start()
        lost = Envelope(id="lost-1", tenant="default", job="lost-1", subject="lost")
        body = DocumentSubmitted(text="The lost one.", collection="quay")
        await publisher.publish(Publication(DOCUMENT_SUBMITTED, "default/lost", lost, body))
        await publisher.stop()

        async def letters() -> list[dict[str, Any]]:
            return [x async for x in penstock.dead_letters() if x["job"] == "lost-1"]

        (letter,) = await until(letters)
        await penstock.create_collection(name="quay")
        await penstock.redrive(letter["id"])
        assert (await penstock.wait("lost-1", timeout_s=60)).state == "succeeded"

        gone = await penstock.delete_document("weir")
        assert (await penstock.wait(gone.id, timeout_s=60)).state == "succeeded"
        assert (await penstock.ask("How high is the weir at Alder Mill?")).abstained


async def test_a_publisher_follows_its_files_on_topics_with_more_partitions_than_registered(
    system: Any, tmp_path: Path
) -> None:
    """The operator has widened them; what lies in the new partitions is seen too."""
    said = system.cluster.run("penstock bootstrap topics")
    assert said.returncode == 0, said.stderr
    assert "left as it is: document.indexed.v1: partitions is 12, registered is 8" in said.stdout
    names = [f"lock-{n}.txt" for n in range(24)]
    blobs = BlobSettings(blobs=system.cluster.folder / "blobs")
    async with TopicPublisher(system.cluster.admin(), blobs, "default") as publisher:
        for name in names:
            (tmp_path / name).write_text(f"{name} is a lock of the canal.")
            await publisher.submit(name, tmp_path / name)
        async with asyncio.timeout(60):
            await publisher.follow(lambda: None)
        assert [f.outcome for f in publisher.followed.values()] == ["searchable"] * len(names)
    async with administration(system.cluster.admin()) as admin:
        described = await admin.describe_topics([DOCUMENT_INDEXED.name])
    assert len(described[0]["partitions"]) == 12


async def test_a_process_may_write_what_it_produces_and_nothing_else(
    cluster: Any, prepared: str
) -> None:
    given = cluster.given("embed.env")
    settings = cluster.settings(
        given["PENSTOCK_KAFKA_USERNAME"], given["PENSTOCK_KAFKA_PASSWORD"], "SCRAM-SHA-512"
    )
    async with AIOKafkaProducer(**connection(settings)) as producer:
        await producer.send_and_wait(DOCUMENT_CLEARED.dead_letters("embed"), b"its own dead letter")
        for other in (DOCUMENT_SUBMITTED.name, DOCUMENT_CLEARED.retries("embed")):
            with pytest.raises(TopicAuthorizationFailedError):
                await producer.send_and_wait(other, b"not its own")


async def test_a_wrong_password_and_a_strange_certificate_are_refused_in_a_sentence(
    cluster: Any,
) -> None:
    with pytest.raises(TransientError, match=r"SASL_SSL.* cannot be used"):
        async with administration(cluster.settings("admin", "wrong", "PLAIN")):
            pass
    done = cluster.run("unset PENSTOCK_KAFKA_CA; penstock bootstrap topics")
    assert done.returncode == 1
    assert f"Kafka at {cluster.kafka} (SASL_SSL) cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


async def test_postgres_is_reached_through_tls_alone_and_by_who_trusts_its_certificate(
    cluster: Any, prepared: str, tmp_path: Path
) -> None:
    dsn = cluster.given("retrieve.database.env")["PENSTOCK_DATABASE"]
    reached = await asyncpg.connect(dsn)
    assert await reached.fetchval("SELECT current_user") == "penstock_retrieve"
    await reached.close()
    with pytest.raises((ConnectionError, asyncpg.PostgresConnectionError)):
        await asyncpg.connect(dsn.partition("?")[0], ssl=False)
    strange = tmp_path / "strange.pem"
    trustme.CA().cert_pem.write_to_path(strange)
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncpg.connect(dsn.replace(str(cluster.ca), str(strange)))


def test_without_an_authorizer_the_command_says_that_acls_would_do_nothing(stack: Any) -> None:
    done = stack.command("bootstrap", "acls")
    assert done.returncode == 1
    assert "the brokers have no authorizer" in done.stderr
