"""What is known of every request: its trace, its time, one line in the log when it fails."""

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from penstock.common.telemetry import (
    REQUESTS,
    child_traceparent,
    set_traceparent,
    trace_id,
)

log = structlog.get_logger()

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""A client may call its method anything; every name that is kept as a label stays for good."""


class Observed:
    """Pure ASGI, so that a stream is not held back and a client that leaves is noticed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        traceparent = child_traceparent(given or None)
        set_traceparent(traceparent)
        started = time.perf_counter()
        status = 500

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"traceparent", traceparent.encode())]
                message = {**message, "headers": headers}
            await send(message)

        with bound_contextvars(trace_id=trace_id(traceparent)):
            try:
                await self._app(scope, receive, observe)
            finally:
                route = getattr(scope.get("route"), "path", "unknown")
                seconds = time.perf_counter() - started
                method = scope["method"] if scope["method"] in _METHODS else "other"
                REQUESTS.labels(method, route, status).observe(seconds)
                if status >= 500:
                    log.warning("request_not_served", route=route, status=status)
