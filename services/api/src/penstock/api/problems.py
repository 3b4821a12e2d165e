"""Every error leaves as a problem (RFC 9457): one place turns exceptions into responses."""

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from penstock.api.errors import TYPES, Problem
from penstock.common.failures import PermanentError, TransientError
from penstock.common.http import problem

log = structlog.get_logger()

_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def install(app: FastAPI) -> None:
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(PermanentError, _permanent)
    app.add_exception_handler(TransientError, _transient)
    app.add_exception_handler(Exception, _bug)


def invalid(errors: Sequence[Any]) -> Problem:
    """What pydantic found, each with the name of its field."""
    named = [{"field": field(error["loc"]), "message": _message(error)} for error in errors]
    first = named[0]
    more = f" (and {len(named) - 1} more)" if len(named) > 1 else ""
    return Problem("invalid", f"{first['field']}: {first['message']}{more}", errors=named)


def field(location: Sequence[str | int]) -> str:
    """`documents.0.text`, without FastAPI's `body` or `query`; the whole body has no name."""
    parts = [str(part) for part in location]
    if parts[:1] == ["body"] or (len(parts) > 1 and parts[0] in ("query", "path", "header")):
        del parts[0]
    return ".".join(parts) or "the request"


def _message(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _respond(error: Problem) -> Response:
    return problem(
        error.error.status, error.error.name, error.detail, headers=error.headers, **error.more
    )


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _respond(error)


async def _not_valid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _respond(invalid(error.errors()))


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    name = _BY_STATUS.get(error.status_code, "invalid")
    return problem(error.status_code, name, str(error.detail), headers=dict(error.headers or {}))


async def _permanent(_: Request, error: Exception) -> Response:
    assert isinstance(error, PermanentError)
    name = error.type if error.type in TYPES else "invalid"
    return _respond(Problem(name, str(error)))


async def _transient(_: Request, error: Exception) -> Response:
    log.warning("request_unavailable", error=str(error))
    return _respond(Problem("unavailable", str(error), headers={"Retry-After": "1"}))


async def _bug(_: Request, error: Exception) -> Response:
    log.error("request_failed", exc_info=error)
    return _respond(Problem("internal", "this is a bug; it has been logged"))
