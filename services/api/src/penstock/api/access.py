"""Who calls: API keys, their tenant, roles and groups, and what each role may do."""

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import asyncpg
from fastapi import Depends, Request
from structlog.contextvars import bind_contextvars

from penstock.api.errors import Problem
from penstock.api.resources import Resources, resources
from penstock.api.settings import ApiSettings
from penstock.common.db import Database
from penstock.common.tokens import Identity, issue


class Role(StrEnum):
    READER = "reader"
    PUBLISHER = "publisher"
    APPROVER = "approver"
    OPERATOR = "operator"


LOOPBACK_KEY = "loopback"
_KEY = re.compile(r"^pk_([A-Za-z0-9]{1,32})_([A-Za-z0-9_-]{32,128})$")


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a request is made. `all_tenants`: an operator of the whole installation."""

    tenant: str
    key: str
    roles: frozenset[Role]
    groups: tuple[str, ...] = ()
    all_tenants: bool = False

    def has(self, *roles: Role) -> bool:
        return not self.roles.isdisjoint(roles)

    def sees_job(self, kind: str, key: str | None) -> bool:
        """Its own; an operator all; a publisher those of documents. Answers quote documents."""
        if self.has(Role.OPERATOR) or (key is not None and key == self.key):
            return True
        return kind != "question" and self.has(Role.PUBLISHER)

    def token(self, secret: str) -> str:
        """For an inner door, good for a minute."""
        roles = frozenset(role.value for role in self.roles)
        return issue(Identity(self.tenant, self.key, roles, self.groups), secret)


def new_key() -> tuple[str, str]:
    """A fresh id and the whole key, which is shown once."""
    key_id = secrets.token_hex(8)
    return key_id, f"pk_{key_id}_{secrets.token_urlsafe(32)}"


def split_key(text: str) -> tuple[str, str] | None:
    """Id and secret of a key, or None when it is none."""
    match = _KEY.match(text)
    return (match[1], match[2]) if match else None


def hashed(secret: str) -> bytes:
    """SHA-256 is right for a secret of 256 random bits: there is nothing to guess."""
    return hashlib.sha256(secret.encode()).digest()


def check_settings(settings: ApiSettings) -> None:
    """
    Raises:
        ValueError: the API would be open to other machines, or the operator's key is malformed.
    """
    if settings.open_on_loopback and not _is_loopback(settings.host):
        raise ValueError(
            f"PENSTOCK_OPEN_ON_LOOPBACK needs a loopback host, but PENSTOCK_HOST is "
            f"{settings.host!r}: use 127.0.0.1, or make keys and leave it out"
        )
    if settings.operator_key and split_key(settings.operator_key.get_secret_value()) is None:
        raise ValueError(
            "PENSTOCK_OPERATOR_KEY must look like pk_<id>_<secret>, the secret at least 32 "
            "characters of A-Z a-z 0-9 _ -"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_local(client: str | None, host: str, origin: str | None) -> bool:
    """A request from this machine, by a program: not a page of another site in its browser.

    Such a page's requests name that site in Origin, or, by a name that was bound to this machine
    meanwhile, in Host.
    """
    names = [client, urlsplit(f"//{host}").hostname]
    if origin is not None:
        names.append(urlsplit(origin).hostname)
    return all(name is not None and _is_loopback(name) for name in names)


async def identify(
    database: Database, settings: ApiSettings, authorization: str | None, *, local: bool
) -> Caller:
    """
    Raises:
        Problem: `unauthenticated`.
    """
    if authorization is None:
        if settings.open_on_loopback and local:
            tenant = settings.default_tenant
            return Caller(tenant, LOOPBACK_KEY, frozenset(Role), all_tenants=True)
        raise _unauthenticated("this call needs an API key: Authorization: Bearer pk_<id>_<secret>")
    scheme, _, text = authorization.partition(" ")
    named = split_key(text.strip()) if scheme.lower() == "bearer" else None
    if named is None:
        raise _unauthenticated("the Authorization header is not Bearer pk_<id>_<secret>")
    key_id, secret = named
    async with database.statements() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM api_key WHERE id = $1 AND revoked_at IS NULL", key_id
        )
    known = row["secret_hash"] if row else bytes(32)
    if not hmac.compare_digest(known, hashed(secret)) or row is None:
        raise _unauthenticated("the API key is unknown or revoked")
    return Caller(
        tenant=row["tenant"],
        key=row["id"],
        roles=frozenset(map(Role, row["roles"])),
        groups=tuple(row["groups"]),
        all_tenants=row["is_global"],
    )


async def still_holds(connection: asyncpg.Connection, caller: Caller) -> bool:
    """Whether the key has not been revoked since the request began: a stream may last for hours."""
    if caller.key == LOOPBACK_KEY:
        return True
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM api_key WHERE id = $1 AND revoked_at IS NULL)", caller.key
        )
    )


def _unauthenticated(detail: str) -> Problem:
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": "Bearer"})


def needs(*roles: Role) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who has one of the roles (none given: any key will do)."""

    async def dependency(
        request: Request, shared: Annotated[Resources, Depends(resources)]
    ) -> Caller:
        client = request.client.host if request.client else None
        headers = request.headers
        local = is_local(client, headers.get("host", ""), headers.get("origin"))
        caller = await identify(
            shared.database, shared.settings, headers.get("authorization"), local=local
        )
        bind_contextvars(tenant=caller.tenant, key=caller.key)
        if roles and not caller.has(*roles):
            wanted = " or ".join(role.value for role in roles)
            raise Problem("forbidden", f"this call needs the role {wanted}")
        return caller

    return dependency


Anyone = Annotated[Caller, Depends(needs())]
Reader = Annotated[Caller, Depends(needs(Role.READER))]
Publisher = Annotated[Caller, Depends(needs(Role.PUBLISHER))]
Keeper = Annotated[Caller, Depends(needs(Role.PUBLISHER, Role.APPROVER, Role.OPERATOR))]
Approver = Annotated[Caller, Depends(needs(Role.APPROVER, Role.OPERATOR))]
Operator = Annotated[Caller, Depends(needs(Role.OPERATOR))]
