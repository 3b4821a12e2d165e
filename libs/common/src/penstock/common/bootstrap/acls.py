"""Who may read and write what, from the register of topics: one Kafka user per process."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest_v1, DescribeAclsRequest
from aiokafka.protocol.api import Request

from penstock.common.bootstrap.topics import administration
from penstock.common.events import Event
from penstock.common.failures import PermanentError
from penstock.common.settings import KafkaSettings
from penstock.common.topics import TOPICS, Topic

ANYONE = "anyone"
"""In the register: publishers that are not Penstock's own."""
PRINCIPAL = "User:penstock-{process}"
_REDRIVER = "api"
"""Reads every dead letter and writes every retry."""
_ANY, _ALLOW, _LITERAL = 1, 3, 3
_SECURITY_DISABLED = 54
"""Kafka's error code; aiokafka has no name for it."""


class Resource(IntEnum):
    """Numbers of Kafka's protocol."""

    TOPIC = 2
    GROUP = 3


class Operation(IntEnum):
    """Numbers of Kafka's protocol. Either one includes Describe."""

    READ = 3
    WRITE = 4


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One user may do one thing, from any host."""

    principal: str
    resource: Resource
    name: str
    operation: Operation

    def command(self, bootstrap: str) -> str:
        """The same for Kafka's own tool."""
        return (
            f"kafka-acls.sh --bootstrap-server {bootstrap} --add --allow-principal "
            f"{self.principal} --operation {self.operation.name.title()} "
            f"--{self.resource.name.lower()} {self.name}"
        )


def processes(topics: Iterable[Topic[Event]] = TOPICS) -> list[str]:
    """Every process that the register names; each is also the name of its consumer group."""
    named = {name for t in topics for name in (*t.producers, *t.groups, *t.readers)}
    return sorted(named - {ANYONE})


def wanted(
    topics: Sequence[Topic[Event]] = TOPICS,
    *,
    principal: str = PRINCIPAL,
    publishers: Sequence[str] = (),
) -> list[Acl]:
    """The least that every process, and every publisher beside them, has to be allowed."""
    found = set()
    for process in processes(topics):
        user = principal.format(process=process)
        found.add(Acl(user, Resource.GROUP, process, Operation.READ))
        for name, operation in _rights(process, topics):
            found.add(Acl(user, Resource.TOPIC, name, operation))
    for user in publishers:
        for topic in topics:
            if ANYONE in topic.producers:
                found.add(Acl(user, Resource.TOPIC, topic.name, Operation.WRITE))
    return sorted(found)


def _rights(process: str, topics: Iterable[Topic[Event]]) -> Iterator[tuple[str, Operation]]:
    for topic in topics:
        if process in topic.producers:
            yield topic.name, Operation.WRITE
        if process in (*topic.groups, *topic.readers):
            yield topic.name, Operation.READ
        if process in topic.groups:
            yield topic.retries(process), Operation.READ
            yield topic.dead_letters(process), Operation.WRITE
        if process == _REDRIVER:
            for group in topic.groups:
                yield topic.dead_letters(group), Operation.READ
                yield topic.retries(group), Operation.WRITE


async def allow(
    settings: KafkaSettings, acls: Sequence[Acl], *, dry_run: bool = False
) -> list[Acl]:
    """Add those that are missing; which ones were. Takes no right away. Idempotent.

    Raises:
        TransientError: the brokers cannot be reached.
        PermanentError: they have no authorizer, or refuse.
    """
    async with administration(settings) as admin:
        have = await _existing(admin)
        missing = [acl for acl in acls if acl not in have]
        if missing and not dry_run:
            await _create(admin, missing)
    return missing


async def _existing(admin: AIOKafkaAdminClient) -> set[Acl]:
    request = DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY)
    answer = await _ask(admin, request)
    _raise_if_refused(answer.error_code, answer.error_message)
    known = {resource.value for resource in Resource}, {op.value for op in Operation}
    return {
        Acl(principal, Resource(resource), name, Operation(operation))
        for resource, name, pattern, entries in answer.resources
        for principal, host, operation, permission in entries
        if (pattern, host, permission) == (_LITERAL, "*", _ALLOW)
        and resource in known[0]
        and operation in known[1]
    }


class _CreateAcls(Request[CreateAclsRequest_v1]):  # type: ignore[misc]
    """Many at once; aiokafka's own carries one."""

    API_KEY = 30

    def __init__(self, acls: Sequence[Acl]) -> None:
        self._acls = acls

    def build(self, request_struct_class: type[CreateAclsRequest_v1]) -> CreateAclsRequest_v1:
        return request_struct_class(
            [
                (a.resource, a.name, _LITERAL, a.principal, "*", a.operation, _ALLOW)
                for a in self._acls
            ]
        )


async def _create(admin: AIOKafkaAdminClient, acls: Sequence[Acl]) -> None:
    answer = await _ask(admin, _CreateAcls(acls))
    for code, message in answer.creation_responses:
        _raise_if_refused(code, message)


async def _ask(admin: AIOKafkaAdminClient, request: Any) -> Any:
    return await admin._send_request(request)  # noqa: SLF001  (it has no method for ACLs)


def _raise_if_refused(code: int, message: str | None) -> None:
    if not code:
        return
    if code == _SECURITY_DISABLED:
        raise PermanentError(
            "the brokers have no authorizer: set authorizer.class.name to "
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer, or leave the ACLs out"
        )
    raise PermanentError(f"Kafka refuses the ACLs: {message or for_code(code).__name__}")
