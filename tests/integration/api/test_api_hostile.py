"""What a hostile caller may send: every answer is a problem that says why, none is a bug of ours."""

from typing import Any
from uuid import uuid4

import pytest

pytestmark = pytest.mark.connected


def nested(depth: int) -> str:
    """JSON objects inside each other."""
    return '{"a":' * depth + "1" + "}" * depth


def ask(**more: Any) -> dict[str, Any]:
    return {"method": "POST", "url": "/v1/questions"} | more


def publish(body: str) -> dict[str, Any]:
    headers = {"content-type": "application/json"}
    return {"method": "POST", "url": "/v1/documents", "content": body, "headers": headers}


def upload(name: str = "a.txt", **fields: str) -> dict[str, Any]:
    files = {"files": (name, b"text")}
    return {"method": "POST", "url": "/v1/documents", "files": files, "data": fields}


JSON = {"content-type": "application/json"}
HOSTILE: dict[str, dict[str, Any]] = {
    "a surrogate in a filter": ask(
        content=rb'{"question":"q","filter":{"a":"\ud800"}}', headers=JSON
    ),
    "a surrogate in a filter's name": ask(
        content=rb'{"question":"q","filter":{"\ud800":"a"}}', headers=JSON
    ),
    "a surrogate in a question": ask(content=rb'{"question":"\ud800"}', headers=JSON),
    "no number in a filter": ask(content=b'{"question":"q","filter":{"a":NaN}}', headers=JSON),
    "a huge number in a filter": ask(
        content=b'{"question":"q","filter":{"a":1' + b"0" * 400 + b"}}", headers=JSON
    ),
    "a number of 5,000 digits": ask(
        content=b'{"question":"q","filter":{"a":' + b"9" * 5000 + b"}}", headers=JSON
    ),
    "deep JSON": ask(content=(b"[" * 50_000), headers=JSON),
    "a long conversation": ask(
        json={"question": "q", "conversation": [{"role": "user", "content": "x" * 9_000}] * 100}
    ),
    "NUL in a filter": ask(json={"question": "q", "filter": {"a\0": "b\0"}}),
    "NUL in a collection": ask(json={"question": "q", "collection": "\0"}),
    "a deadline that is no number": ask(content=b'{"question":"q","deadline_s":NaN}', headers=JSON),
    "huge numbers in metadata": publish(
        '{"documents":[{"text":"t","metadata":{"n":1' + "0" * 30 + "}}]}"
    ),
    "deep metadata": publish('{"documents":[{"text":"t","metadata":' + nested(150) + "}]}"),
    "deep metadata of a file": upload(metadata=nested(300)),
    "bottomless metadata of a file": upload(metadata=nested(900)),
    "metadata that is a list": upload(metadata="[1]"),
    "a surrogate in a text": publish(r'{"documents":[{"text":"\ud800"}]}'),
    "a NUL in an id": publish(r'{"documents":[{"id":"a\u0000","text":"t"}]}'),
    "an endless id": publish('{"documents":[{"id":"' + "a" * 10_000 + '","text":"t"}]}'),
    "a field that is unknown": upload(whatever="x"),
    "a file without a name": {"method": "POST", "url": "/v1/documents",
                              "files": {"files": ("", b"x")}},
    "no boundary": {"method": "POST", "url": "/v1/documents", "content": b"x",
                    "headers": {"content-type": "multipart/form-data"}},
    "a strange boundary": {"method": "POST", "url": "/v1/documents", "content": b"x",
                           "headers": {"content-type": "multipart/form-data; boundary=" + "x" * 999}},
    "a part without an end": {"method": "POST", "url": "/v1/documents",
                              "content": b'--x\r\ncontent-disposition: form-data; name="files"',
                              "headers": {"content-type": "multipart/form-data; boundary=x"}},
    "an endless header": {"method": "POST", "url": "/v1/documents",
                          "content": b"--x\r\ncontent-disposition: " + b"a" * 300_000,
                          "headers": {"content-type": "multipart/form-data; boundary=x"}},
    "NUL in a job": {"method": "GET", "url": "/v1/jobs/%00"},
    "no UTF-8 in a job": {"method": "GET", "url": "/v1/jobs/%ff%fe"},
    "NUL in a document": {"method": "GET", "url": "/v1/documents/a%00"},
    "a delete of NUL": {"method": "DELETE", "url": "/v1/documents/a%00"},
    "a delete of nothing": {"method": "DELETE", "url": "/v1/documents/"},
    "a delete of an endless id": {"method": "DELETE", "url": "/v1/documents/" + "a" * 10_000},
    "an event id beyond all": {"method": "GET", "url": "/v1/jobs/{job}/events",
                               "headers": {"last-event-id": "9" * 30}},
    "an event id of 5,000 digits": {"method": "GET", "url": "/v1/jobs/{job}/events",
                                    "headers": {"last-event-id": "9" * 5000}},
    "a dead letter of 5,000 digits": {
        "method": "GET",
        "url": "/v1/dead-letters/document.submitted.v1.ingest.dlq:0:" + "9" * 5000},
    "a dead letter beyond all": {
        "method": "GET",
        "url": "/v1/dead-letters/document.submitted.v1.ingest.dlq:0:" + "9" * 30},
    "a cursor of NUL": {"method": "GET", "url": "/v1/documents?cursor=WyJcdTAwMDAiXQ"},
    "a cursor out of time": {
        "method": "GET", "url": "/v1/jobs?cursor=WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzIzOjU5IiwgImEiXQ"},
    "an endless idempotency key": ask(
        json={"question": "q"}, headers={"idempotency-key": "a" * 300}
    ),
    "a key's endless tenant": {"method": "POST", "url": "/v1/keys",
                               "json": {"name": "a", "roles": ["reader"], "tenant": "x" * 5000}},
    "a tenant with a slash": {"method": "POST", "url": "/v1/keys",
                              "json": {"name": "a", "roles": ["reader"], "tenant": "a/b"}},
    "an endless body": ask(content=b" " * 2_000_000, headers=JSON),
    "a comment of NUL": {"method": "POST", "url": "/v1/quarantine/a/decision",
                         "json": {"decision": "release", "comment": "a\0"}},
    "a chunk of a huge size": {"method": "POST", "url": "/v1/collections",
                               "json": {"name": "a", "max_chunks": 10**30}},
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
async def test_what_is_hostile_is_refused_with_a_reason(world: Any, kind: str) -> None:
    request = dict(HOSTILE[kind])
    if "{job}" in request["url"]:
        request["url"] = request["url"].replace("{job}", await world.ask())
    answer = await world.client.request(**request)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("attempt", ["9" * 100, "9" * 5_000, "²", "-1", "x"])
async def test_a_forged_attempt_hides_no_other_dead_letter(world: Any, attempt: str) -> None:
    """A record keeps its headers when it is dead-lettered, whatever its sender wrote there."""
    tenant = f"forger-{uuid4().hex[:6]}"
    headers = [("ce_tenant", tenant.encode()), ("ce_attempt", attempt.encode())]
    name = "document.submitted.v1.ingest.dlq"
    place = await world.publisher.send(name, f"{tenant}/d".encode(), b"{}", headers)
    letter = f"{name}:{place.partition}:{place.offset}"
    shown = await world.get(f"/v1/dead-letters/{letter}")
    assert (shown["attempt"], shown["tenant"]) == (1, tenant)
    assert (await world.client.delete(f"/v1/dead-letters/{letter}")).status_code == 200
