"""Inner doors: the request goes on with a service token that names tenant, key, roles, groups."""

from urllib.parse import quote

import httpx
from fastapi import Response

from penstock.api.access import Caller
from penstock.api.resources import Resources
from penstock.common.failures import TransientError
from penstock.common.telemetry import current_traceparent


async def pass_on(
    shared: Resources,
    caller: Caller,
    service: str,
    method: str,
    path: tuple[str, ...],
    *,
    body: bytes | None = None,
    query: str = "",
) -> Response:
    """
    The service's own response, bytes and status as they are.

    Raises:
        TransientError: it does not answer.
    """
    settings = shared.settings
    base = {"searcher": settings.searcher_url, "guard": settings.guard_url}[service]
    url = base.rstrip("/") + "/" + "/".join(quote(part, safe="") for part in path)
    token = caller.token(settings.service_secret.get_secret_value())
    headers = {"authorization": f"Bearer {token}", "accept": "application/json"}
    if body is not None:
        headers["content-type"] = "application/json"
    if traceparent := current_traceparent():
        headers["traceparent"] = traceparent
    try:
        answer = await shared.http.request(
            method, f"{url}?{query}" if query else url, content=body, headers=headers
        )
    except httpx.HTTPError as error:
        raise TransientError(
            f"{service} does not answer: {str(error) or type(error).__name__}"
        ) from error
    return Response(
        content=answer.content,
        status_code=answer.status_code,
        media_type=answer.headers.get("content-type"),
    )
