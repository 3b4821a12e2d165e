"""Every door between services, found from the processes themselves and not from a list."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from pydantic import SecretStr
from starlette.routing import Mount, Route

from penstock.api.app import Api
from penstock.api.settings import ApiSettings
from penstock.common.service import Service
from penstock.common.tokens import AUDIENCE, Identity, issue
from penstock.embed.app import build as embed
from penstock.embed.settings import EmbedSettings
from penstock.generate.app import answerer
from penstock.generate.settings import GenerateSettings
from penstock.guard.app import PROCESSES as GUARDS
from penstock.guard.settings import GuardSettings
from penstock.ingest.app import build as ingest
from penstock.ingest.settings import IngestSettings
from penstock.local.services import SERVICES
from penstock.retrieve.app import PROCESSES as RETRIEVERS
from penstock.retrieve.settings import RetrieveSettings

SECRET = "s" * 32
OPEN = {"/healthz", "/readyz", "/metrics"}
ADA = Identity("acme", "k1", frozenset({"reader", "publisher", "approver", "operator"}))


def processes() -> Iterator[Service]:
    """Every process that there is, not started."""
    common: dict[str, Any] = {"service_secret": SecretStr(SECRET)}
    stored = common | {"database": SecretStr("postgresql://nowhere")}
    yield Api(ApiSettings(**stored, blobs=Path("blobs"))).service()
    yield embed(EmbedSettings(**common))
    yield ingest(IngestSettings(**stored, blobs=Path("blobs")))
    yield answerer(GenerateSettings(**stored))
    yield from (make(GuardSettings(**stored)) for make in GUARDS.values())
    yield from (make(RetrieveSettings(**stored)) for make in RETRIEVERS.values())


def doors(service: Service) -> Iterator[tuple[str, str]]:
    """Method and path of every route but the open ones; the API's own calls have keys instead."""
    for route in service.app.routes:
        if isinstance(route, Mount):
            assert service.name == "api"
            continue
        assert isinstance(route, Route), f"{service.name}: {route} is not looked at here"
        if route.path not in OPEN:
            path = route.path.replace("{document:path}", "d").replace("{id}", "i")
            assert "{" not in path, "give this parameter a value"
            yield from ((method, path) for method in route.methods or ())


def bad_tokens() -> dict[str, str | None]:
    claims = {"aud": AUDIENCE, "exp": 4_000_000_000, "tenant": "acme", "key": "k",
              "roles": ["operator"], "groups": []}  # fmt: skip
    timeless = {name: value for name, value in claims.items() if name != "exp"}
    return {
        "none": None,
        "empty": "Bearer ",
        "basic": "Basic " + issue(ADA, SECRET),
        "an API key": "Bearer pk_local_" + "x" * 48,
        "another secret": "Bearer " + issue(ADA, SECRET[:-1] + "t"),
        "expired": "Bearer " + issue(ADA, SECRET, ttl_s=-1),
        "unsigned": "Bearer " + jwt.encode(claims, "", algorithm="none"),
        "for ever": "Bearer " + jwt.encode(timeless, SECRET, algorithm="HS256"),
        "for others": "Bearer " + jwt.encode(claims | {"aud": "x"}, SECRET, algorithm="HS256"),
        "another algorithm": "Bearer " + jwt.encode(claims, SECRET * 2, algorithm="HS512"),
    }


def test_every_process_of_the_stack_is_looked_at() -> None:
    """A process that is added is looked at too."""
    assert {service.name for service in processes()} == {spec.name for spec in SERVICES}


@pytest.mark.parametrize("name", [spec.name for spec in SERVICES])
async def test_no_door_opens_without_a_service_token(name: str) -> None:
    """Whoever reaches a port of a service still reads nothing, whatever the method or the token."""
    service = next(one for one in processes() if one.name == name)
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://inner") as client:
        for method, path in doors(service):
            for kind, token in bad_tokens().items():
                headers = {"authorization": token} if token is not None else {}
                answer = await client.request(method, path, headers=headers)
                assert answer.status_code == 401, (method, path, kind, answer.text)


def test_the_inner_doors_are_those_of_searcher_and_guard() -> None:
    """So that the test above cannot pass by finding none."""
    found = {service.name: set(doors(service)) for service in processes()}
    assert {name for name, of in found.items() if of} == {"searcher", "guard-documents"}
    assert ("POST", "/v1/search") in found["searcher"]
    assert ("POST", "/v1/quarantine/i/decision") in found["guard-documents"]
