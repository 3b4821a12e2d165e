"""`penstock bootstrap` on servers that have everything changes nothing, and says what it cannot do."""

from typing import Any
from uuid import uuid4

import pytest

from penstock.common.bootstrap.database import SCHEMAS, bootstrap
from penstock.common.bootstrap.topics import create_topics
from penstock.common.events import DocumentChunked
from penstock.common.failures import PermanentError, TransientError
from penstock.common.settings import KafkaSettings
from penstock.common.topics import Topic
from penstock.local.ports import free_port
from penstock.local.stack import Servers

pytestmark = pytest.mark.connected

PASSWORDS = dict.fromkeys(SCHEMAS, "never set: nothing is done here")


def a_topic(partitions: int, name: str) -> Topic[Any]:
    return Topic(
        name, DocumentChunked, "ingest", ("ingest",), ("embed",), "tenant/document",
        partitions=partitions,
    )  # fmt: skip


async def test_a_dry_run_creates_nothing_and_a_second_run_finds_nothing(servers: Servers) -> None:
    settings = KafkaSettings(kafka=servers.kafka)
    name = f"t{uuid4().hex[:8]}.v1"
    three = {name, f"{name}.embed.dlq", f"{name}.embed.retry"}
    would = await create_topics(settings, [a_topic(2, name)], dry_run=True)
    did = await create_topics(settings, [a_topic(2, name)])
    again = await create_topics(settings, [a_topic(2, name)])
    assert {t.name for t in would.missing} == {t.name for t in did.missing} == three
    assert (again.missing, again.differences) == ((), ())


async def test_a_topic_that_is_there_otherwise_is_told_and_left_as_it_is(servers: Servers) -> None:
    settings = KafkaSettings(kafka=servers.kafka)
    name = f"t{uuid4().hex[:8]}.v1"
    await create_topics(settings, [a_topic(3, name)])
    for _ in range(2):
        plan = await create_topics(settings, [a_topic(2, name)])
        (difference,) = plan.differences
        assert str(difference) == f"{name}: partitions is 3, registered is 2"
        assert not difference.harmful


async def test_more_copies_than_brokers_are_refused_by_the_name_of_the_topic(
    servers: Servers,
) -> None:
    name = f"t{uuid4().hex[:8]}.v1"
    with pytest.raises(PermanentError, match=f"Kafka refuses the topic {name}"):
        await create_topics(KafkaSettings(kafka=servers.kafka), [a_topic(1, name)], replication=3)


async def test_a_database_that_has_everything_lacks_nothing(servers: Servers) -> None:
    assert await bootstrap(servers.admin_dsn, PASSWORDS, dry_run=True) == []


async def test_who_is_no_superuser_and_who_is_not_let_in_are_told_so(servers: Servers) -> None:
    with pytest.raises(PermanentError, match="must be a superuser"):
        await bootstrap(servers.dsns["api"], PASSWORDS)
    wrong = servers.admin_dsn.replace("://penstock_admin:", "://penstock_admin:not-")
    with pytest.raises(PermanentError, match="password authentication failed"):
        await bootstrap(wrong, PASSWORDS)
    nobody = f"postgresql://a:b@127.0.0.1:{free_port()}/postgres"
    with pytest.raises(TransientError, match="cannot be reached"):
        await bootstrap(nobody, PASSWORDS)
