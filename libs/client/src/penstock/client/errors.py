"""What can go wrong when talking to Penstock."""

from typing import Any

import httpx


class PenstockError(Exception):
    """Base of everything this client raises on purpose."""


class UnreachableError(PenstockError):
    """No answer from the API: it is not running, or the address is wrong."""


class ApiError(PenstockError):
    """The API refused. `type` is the last part of the problem's URI, `detail` a sentence."""

    def __init__(self, status: int, type: str, detail: str, body: dict[str, Any]) -> None:  # noqa: A002
        word = type if status < httpx.codes.BAD_REQUEST else f"{status} {type}"  # or a job's error
        super().__init__(f"{detail} ({word})")
        self.status = status
        self.type = type
        self.detail = detail
        self.body = body


def from_response(response: httpx.Response) -> ApiError:
    """The problem+json of a refused request; anything else is quoted as it came."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    problem = str(body.get("type", "")).rsplit("/", 1)[-1] or "http_error"
    detail = str(body.get("detail") or response.text[:500] or response.reason_phrase)
    return ApiError(response.status_code, problem, detail, body)
