"""HTTP between services: problem+json (RFC 9457) and doors that ask for a service token."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from penstock.common.tokens import Identity, TokenError, verify

PROBLEMS = "https://penstock.dev/errors/"

Endpoint = Callable[[Request, Identity], Awaitable[Response]]


class JSON(Response):
    """A JSON response written by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class ProblemJSON(JSON):
    media_type = "application/problem+json"


def problem(
    status: int,
    type: str,  # noqa: A002  (RFC 9457's own word)
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Response:
    """An error as RFC 9457 wants it; `type` is the last part of its URI."""
    title = type.replace("_", " ").capitalize()
    body = {"type": PROBLEMS + type, "title": title, "status": status, "detail": detail, **more}
    return ProblemJSON(body, status_code=status, headers=headers)


def guarded(endpoint: Endpoint, secret: SecretStr) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that is reached with a valid service token only."""

    async def door(request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return problem(401, "service_token_missing", "this door needs a service token")
        try:
            identity = verify(token, secret.get_secret_value())
        except TokenError as error:
            return problem(401, "service_token_invalid", str(error))
        return await endpoint(request, identity)

    return door
