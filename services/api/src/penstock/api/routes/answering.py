"""How work is answered: 202 and a job, or, for whoever prefers to wait, the ended job."""

import base64
import binascii
import re
from typing import Annotated, Any

import orjson
from fastapi import Header

from penstock.api import jobs
from penstock.api.access import Caller
from penstock.api.errors import Problem
from penstock.api.models import ProblemBody
from penstock.api.resources import Resources
from penstock.api.states import JobState
from penstock.common.http import JSON

LONGEST_WAIT_S = 60
MOST_PER_PAGE = 200

IdempotencyKey = Annotated[
    str | None, Header(description="The same key and request again: the same job, made once.")
]
Prefer = Annotated[
    str | None, Header(description="`wait=N`: up to N seconds (most 60) for the job to end.")
]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem, see docs/errors.md",
        "model": ProblemBody,
        "content": {"application/problem+json": {}},
    }
}

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})")


def wanted_wait(prefer: str | None) -> int:
    """Seconds from `Prefer: wait=N`, bounded; other preferences are ignored, as RFC 7240 wants."""
    match = _WAIT.search(prefer or "")
    return min(int(match[1]), LONGEST_WAIT_S) if match else 0


async def answer_job(shared: Resources, caller: Caller, job: str, prefer: str | None) -> JSON:
    """202 and the job with its `Location`; 200 when it ended while the client waited."""
    seconds = wanted_wait(prefer)
    found = await jobs.wait(shared, caller, job, seconds)
    ended = seconds > 0 and JobState(found["state"]).final
    headers = {"Location": f"/v1/jobs/{job}"}
    if seconds:
        headers["Preference-Applied"] = f"wait={seconds}"
    return JSON(found, status_code=200 if ended else 202, headers=headers)


def cursor(*values: Any) -> str:
    """Opaque to clients: where the next page begins."""
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


def read_cursor(text: str | None, *types: type) -> list[Any] | None:
    """
    What a cursor holds, checked against the types it must have.

    Raises:
        Problem: it is none of ours.
    """
    if text is None:
        return None
    try:
        values = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError) as error:
        raise _bad_cursor() from error
    fits = isinstance(values, list) and len(values) == len(types)
    if not fits or not all(isinstance(v, t) for v, t in zip(values, types, strict=True)):
        raise _bad_cursor()
    return list(values)


def _bad_cursor() -> Problem:
    return Problem("invalid", "cursor: take `next` from a page as it is, or leave it out")
