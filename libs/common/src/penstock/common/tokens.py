"""Short-lived signed tokens between services: they name the tenant and the key behind a request."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt

AUDIENCE = "penstock"
ROLES = frozenset({"reader", "publisher", "approver", "operator"})


class TokenError(Exception):
    """The token is missing, forged, expired or not meant for a service."""


@dataclass(frozen=True, slots=True)
class Identity:
    """On whose behalf a request is made."""

    tenant: str
    key: str
    roles: frozenset[str]
    groups: tuple[str, ...] = ()


def issue(identity: Identity, secret: str, *, ttl_s: int = 60) -> str:
    """A token for `identity`, good for `ttl_s` seconds (HS256)."""
    return jwt.encode(
        {
            "aud": AUDIENCE,
            "exp": datetime.now(UTC) + timedelta(seconds=ttl_s),
            "tenant": identity.tenant,
            "key": identity.key,
            "roles": sorted(identity.roles),
            "groups": list(identity.groups),
        },
        secret,
        algorithm="HS256",
    )


def verify(token: str, secret: str) -> Identity:
    """
    Raises:
        TokenError: it does not hold.
    """
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            audience=AUDIENCE,
            options={"require": ["exp", "aud"]},
        )
        return Identity(
            tenant=claims["tenant"],
            key=claims["key"],
            roles=frozenset(claims["roles"]),
            groups=tuple(claims["groups"]),
        )
    except (jwt.InvalidTokenError, KeyError, TypeError) as error:
        raise TokenError(f"the service token does not hold: {error}") from error
