"""What a cluster is given, and what is said of one that has it otherwise."""

import pytest
from aiokafka.admin import NewTopic

from penstock.common.bootstrap import acls, database, topics
from penstock.common.bootstrap.acls import Acl, Operation, Resource
from penstock.common.failures import PermanentError
from penstock.common.topics import (
    COLLECTION_CONFIGURED,
    DOCUMENT_CLEARED,
    DOCUMENT_SUBMITTED,
    JOB_CANCELLED,
    TOPICS,
)


def made(name: str, replication: int = 1) -> NewTopic:
    return next(t for t in topics.wanted(TOPICS, replication) if t.name == name)


def test_with_three_copies_two_must_have_a_record_before_it_counts() -> None:
    for topic in topics.wanted(TOPICS, 3):
        assert topic.replication_factor == 3
        assert topic.topic_configs["min.insync.replicas"] == "2"
    for topic in topics.wanted(TOPICS, 2):
        assert "min.insync.replicas" not in topic.topic_configs, "one away would stop everything"


def test_more_partitions_and_another_retention_are_an_operators_choice() -> None:
    found = topics.differences(made(DOCUMENT_SUBMITTED.name), 24, {"retention.ms": "60000"})
    said = list(found)
    assert [d.harmful for d in said] == [False, False]
    assert str(said[0]) == "document.submitted.v1: partitions is 24, registered is 8"


@pytest.mark.parametrize("table", [COLLECTION_CONFIGURED.name, JOB_CANCELLED.name])
def test_a_table_of_more_than_one_partition_does_harm(table: str) -> None:
    (difference,) = topics.differences(made(table), 2, {})
    assert difference.harmful


def test_a_producers_clock_and_a_table_that_forgets_do_harm() -> None:
    (clock,) = topics.differences(
        made(DOCUMENT_SUBMITTED.name), 8, {"message.timestamp.type": "CreateTime"}
    )
    (forgets,) = topics.differences(
        made(COLLECTION_CONFIGURED.name), 1, {"cleanup.policy": "delete"}
    )
    assert clock.harmful
    assert forgets.harmful


def test_a_process_has_the_rights_that_its_work_needs_and_no_more() -> None:
    user = "User:penstock-embed"
    assert {(a.name, a.operation) for a in acls.wanted() if a.principal == user} == {
        ("embed", Operation.READ),
        (DOCUMENT_CLEARED.name, Operation.READ),
        (DOCUMENT_CLEARED.retries("embed"), Operation.READ),
        (DOCUMENT_CLEARED.dead_letters("embed"), Operation.WRITE),
        ("document.embedded.v1", Operation.WRITE),
        ("job.progressed.v1", Operation.WRITE),
        (JOB_CANCELLED.name, Operation.READ),
        (COLLECTION_CONFIGURED.name, Operation.READ),
    }


def test_every_process_has_the_group_of_its_name_and_api_alone_the_dead_letters() -> None:
    everything = acls.wanted()
    groups = {(a.principal, a.name) for a in everything if a.resource is Resource.GROUP}
    assert groups == {(f"User:penstock-{name}", name) for name in acls.processes()}
    letters = [a for a in everything if a.name.endswith(".dlq") and a.operation is Operation.READ]
    retries = [a for a in everything if a.name.endswith(".retry")]
    assert {a.principal for a in letters} == {"User:penstock-api"}
    assert {a.principal for a in retries if a.operation is Operation.WRITE} == {"User:penstock-api"}


def test_a_publisher_may_submit_documents_and_questions_and_nothing_else() -> None:
    allowed = [a for a in acls.wanted(publishers=["User:erp"]) if a.principal == "User:erp"]
    assert [(a.name, a.operation) for a in allowed] == [
        ("document.submitted.v1", Operation.WRITE), ("question.asked.v1", Operation.WRITE),
    ]  # fmt: skip


def test_kafkas_own_tool_is_given_the_same() -> None:
    acl = Acl("User:penstock-embed", Resource.GROUP, "embed", Operation.READ)
    assert acl.command("kafka:9093") == (
        "kafka-acls.sh --bootstrap-server kafka:9093 --add --allow-principal User:penstock-embed "
        "--operation Read --group embed"
    )


async def test_a_schema_without_a_password_is_named_before_anything_is_done() -> None:
    with pytest.raises(PermanentError, match="no password for schema ingest, guard"):
        await database.bootstrap(
            "postgresql://nobody@nowhere.invalid/postgres",
            {"api": "a", "retrieve": "r", "generate": "g"},
        )
