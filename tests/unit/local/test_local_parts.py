"""The parts of the supervisor that decide: ports, environments, pauses, what is on record."""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from penstock.common.bootstrap.database import SCHEMAS
from penstock.common.bootstrap.topics import wanted
from penstock.common.topics import COLLECTION_CONFIGURED, DOCUMENT_CHUNKED, JOB_PROGRESSED, TOPICS
from penstock.local import ports
from penstock.local.child import Backoff
from penstock.local.credentials import Credentials
from penstock.local.failures import StackError, from_os
from penstock.local.kafka import properties
from penstock.local.lag import behind
from penstock.local.postgres import dsn
from penstock.local.process import Identity, last_lines, rotate
from penstock.local.services import (
    SERVICES,
    Surroundings,
    counts,
    environment,
    instances,
    read_settings,
)
from penstock.local.state import Lock, ProcessState, ScaleRequest, StackState, State, is_running


def taken(*busy: int) -> Callable[[int], bool]:
    return lambda port: port not in busy


def test_a_default_port_in_use_moves() -> None:
    assert ports.choose("api", set_port=None, default=8080, free=taken()) == 8080
    moved = ports.choose("api", set_port=None, default=8080, free=taken(8080))
    assert moved in ports.FREE_RANGE


def test_a_port_that_was_set_is_refused_by_name() -> None:
    with pytest.raises(StackError, match=r"Port 9092, set for kafka, is in use"):
        ports.choose("kafka", set_port=9092, default=9092, free=taken(9092))
    with pytest.raises(StackError, match=r"Port 70000 for kafka is not between"):
        ports.choose("kafka", set_port=70_000, default=9092, free=taken())


def test_no_two_processes_are_given_one_port_and_each_keeps_its_own() -> None:
    """Neither listens yet when the other's is chosen: asking the machine alone is not enough."""
    given = ports.Ports(free=taken())
    found = [given.give(f"embed-{n}") for n in range(200)]
    assert len(set(found)) == 200
    assert given.give("embed-7") == found[7]
    assert given.give("api", default=8080) == 8080
    assert given.give("api-2", default=8080) in ports.FREE_RANGE
    with pytest.raises(StackError, match="Port 8080, set for kafka, is in use"):
        given.give("kafka", set_port=8080, default=9092)


def test_a_crashing_process_is_started_less_and_less_often_until_it_was_healthy() -> None:
    backoff = Backoff()
    assert [backoff.after(1) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.after(60) == 0.5
    assert backoff.after(59) == 1


def surroundings(folder: Path, **caller: str) -> Surroundings:
    return Surroundings(
        folder=folder,
        kafka="127.0.0.1:9092",
        postgres_port=5433,
        credentials=Credentials(database={s: f"secret-of-{s}" for s in SCHEMAS}),
        ports={spec.name: 1000 + n for n, spec in enumerate(SERVICES)},
        models=folder / "models",
        caller=caller,
        settings={},
    )


def environments(around: Surroundings) -> dict[str, dict[str, str]]:
    return {
        one.name: environment(one, around) for spec in SERVICES for one in instances(spec, count=1)
    }


def test_a_process_gets_the_password_of_its_own_schema_alone(tmp_path: Path) -> None:
    around = surroundings(tmp_path, PENSTOCK_DATABASE="postgresql://admin:admin@elsewhere/all")
    own = {spec.name: spec.schema_name for spec in SERVICES}
    for name, variables in environments(around).items():
        seen = {schema for schema in SCHEMAS if f"secret-of-{schema}" in str(variables)}
        assert seen == ({own[name]} - {None}), name
        assert "admin:admin" not in str(variables), name


def test_a_process_finds_its_neighbours_and_its_port(tmp_path: Path) -> None:
    around = surroundings(tmp_path)
    api = environments(around)["api"]
    assert api["PENSTOCK_SEARCHER_URL"] == f"http://127.0.0.1:{around.ports['searcher']}"
    assert api["PENSTOCK_GUARD_URL"] == f"http://127.0.0.1:{around.ports['guard-documents']}"
    assert api["PENSTOCK_PORT"] == str(around.ports["api"])
    assert len(api["PENSTOCK_SERVICE_SECRET"]) >= 32
    assert api["PENSTOCK_OPERATOR_KEY"].startswith("pk_local_")


def test_a_stack_of_ones_own_is_not_asked_for_the_password_of_another_kafka(tmp_path: Path) -> None:
    around = surroundings(tmp_path, PENSTOCK_KAFKA_SECURITY="SASL_SSL")
    for name, variables in environments(around).items():
        assert variables["PENSTOCK_KAFKA_SECURITY"] == "PLAINTEXT", name


def test_settings_of_the_caller_pass_before_the_file_and_never_over_the_stack(
    tmp_path: Path,
) -> None:
    around = replace(
        surroundings(tmp_path, PENSTOCK_CHAT_MODEL="from-caller", PENSTOCK_KAFKA="elsewhere:1"),
        settings={"PENSTOCK_CHAT_MODEL": "from-file", "PENSTOCK_CHAT_URL": "http://llm"},
    )
    answerer = environments(around)["answerer"]
    assert answerer["PENSTOCK_CHAT_MODEL"] == "from-caller"
    assert answerer["PENSTOCK_CHAT_URL"] == "http://llm"
    assert answerer["PENSTOCK_KAFKA"] == "127.0.0.1:9092"


def test_the_embedder_may_use_every_core(tmp_path: Path) -> None:
    found = environments(surroundings(tmp_path, OMP_NUM_THREADS="7"))
    assert "OMP_NUM_THREADS" not in found["embed"]
    assert found["ingest"]["OMP_NUM_THREADS"] == "1"


def test_settings_env_is_read_and_a_bad_line_named(tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    assert read_settings(file) == {}
    file.write_text('# the model\nPENSTOCK_CHAT_URL="http://x/v1"\nexport PENSTOCK_A=b=c\n\n')
    assert read_settings(file) == {"PENSTOCK_CHAT_URL": "http://x/v1", "PENSTOCK_A": "b=c"}
    file.write_text("PENSTOCK_A=1\nCHAT_URL=x\n")
    with pytest.raises(StackError, match="line 2: expected PENSTOCK_NAME=value"):
        read_settings(file)


def test_scale_repeats_a_process_and_refuses_what_cannot_be() -> None:
    found = counts(SERVICES, {"embed": 3, "answerer": 0})
    assert found == {spec.name: 1 for spec in SERVICES} | {"embed": 3, "answerer": 0}
    embed = next(spec for spec in SERVICES if spec.name == "embed")
    assert [one.name for one in instances(embed, 3)] == ["embed", "embed-2", "embed-3"]
    assert instances(embed, 0) == []
    with pytest.raises(StackError, match=r"embedder=2: there is no such process; known: api, in"):
        counts(SERVICES, {"embedder": 2})
    with pytest.raises(StackError, match="embed=65: give a count between 0 and 64"):
        counts(SERVICES, {"embed": 65})


def test_a_request_to_scale_is_read_as_written_and_a_damaged_one_named(tmp_path: Path) -> None:
    assert ScaleRequest.read(tmp_path) is None
    ScaleRequest(scale={"embed": 2}).write(tmp_path)
    assert ScaleRequest.read(tmp_path) == ScaleRequest(scale={"embed": 2})
    (tmp_path / "scale.json").write_text('{"scale": ')
    with pytest.raises(StackError, match="is damaged"):
        ScaleRequest.read(tmp_path)
    ScaleRequest.forget(tmp_path)
    assert ScaleRequest.read(tmp_path) is None


def test_stack_json_holds_what_clients_look_for_and_no_secret(tmp_path: Path) -> None:
    Credentials.load(tmp_path)
    stack = StackState(
        state=State.READY,
        api="http://127.0.0.1:8080",
        kafka="127.0.0.1:9092",
        processes={"embed": ProcessState(pid=7, started=1.5, restarts=2)},
    )
    stack.write(tmp_path)
    assert StackState.read(tmp_path) == stack
    assert [path.name for path in tmp_path.iterdir() if "stack" in path.name] == ["stack.json"]


def test_a_damaged_stack_json_is_a_sentence(tmp_path: Path) -> None:
    assert StackState.read(tmp_path) is None
    (tmp_path / "stack.json").write_text('{"state": "rea')
    with pytest.raises(StackError, match="is damaged"):
        StackState.read(tmp_path)


def test_secrets_are_made_once_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    first = Credentials.load(tmp_path)
    assert Credentials.load(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert set(first.database) == set(SCHEMAS)
    assert first.service_secret not in repr(first)


def test_a_folder_has_one_owner_and_is_free_when_the_owner_is_gone(tmp_path: Path) -> None:
    first, second = Lock(tmp_path), Lock(tmp_path)
    assert first.take()
    assert is_running(tmp_path)
    assert not second.take()
    first.release()
    assert not is_running(tmp_path)


def test_a_process_id_that_another_process_got_is_not_taken_for_ours() -> None:
    me = Identity.of(os.getpid())
    assert me.find() is not None
    assert Identity(me.pid, me.started - 100).find() is None


def test_a_log_that_grew_is_moved_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    with log.open("a") as writer:
        writer.write("old\n" * 10)
        writer.flush()
        assert not rotate(log, limit=100)
        assert rotate(log, limit=10)
        writer.write("new\n")
    assert last_lines(log) == ["new"]
    assert last_lines(tmp_path / "api.log.1", 1) == ["old"]


def test_a_full_disk_is_one_plain_sentence() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/data/stack.json")
    assert str(from_os(error, "The stack cannot run")) == (
        "The stack cannot run (/data/stack.json): the disk is full; free some space and try again."
    )


def test_every_topic_and_every_groups_dead_letters_are_created() -> None:
    created = {topic.name: topic for topic in wanted(TOPICS)}
    chunked = created[DOCUMENT_CHUNKED.name]
    assert chunked.num_partitions == DOCUMENT_CHUNKED.partitions
    assert chunked.topic_configs["message.timestamp.type"] == "LogAppendTime"
    assert chunked.topic_configs["retention.ms"] == str(DOCUMENT_CHUNKED.retention_ms)
    assert created[COLLECTION_CONFIGURED.name].topic_configs["cleanup.policy"] == "compact"
    assert "message.timestamp.type" not in created[JOB_PROGRESSED.name].topic_configs
    for topic in TOPICS:
        for group in topic.groups:
            assert created[topic.retries(group)].num_partitions == 1
            letters = created[topic.dead_letters(group)]
            assert letters.topic_configs["retention.ms"] == str(30 * 24 * 3600 * 1000)


def test_lag_counts_from_the_first_record_that_is_left() -> None:
    a, b, c = (TopicPartition("t", n) for n in range(3))
    end = {a: 10, b: 20, c: 5}
    assert behind({a: 4}, {a: 0, b: 12, c: 5}, end) == 6 + 8 + 0
    assert behind({a: 4, b: 2}, {a: 6, b: 0, c: 0}, end) == 4 + 18 + 5


def test_a_password_with_any_character_fits_in_a_dsn() -> None:
    assert dsn("u", "a/b@c:d", 5433, "x") == "postgresql://u:a%2Fb%40c%3Ad@127.0.0.1:5433/x"


def test_kafkas_configuration_survives_an_odd_folder_name() -> None:
    text = properties(Path("/tmp/my data\\é"), 9092, 9093)
    assert "log.dirs=/tmp/my data\\\\\\u00e9/data\n" in text
    assert "auto.create.topics.enable=false\n" in text
