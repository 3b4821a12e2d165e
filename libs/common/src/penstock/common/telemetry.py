"""Trace context and metrics: one typed registry for the whole system."""

import re
import secrets
from contextvars import ContextVar
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$")
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

RECORDS = Counter("penstock_records", "Records handled, by outcome", ["topic", "group", "outcome"])
HANDLING = Histogram(
    "penstock_handling_seconds", "From handler start to published", ["topic", "group"],
    buckets=_SECONDS,
)  # fmt: skip
IN_FLIGHT = Gauge(
    "penstock_records_in_flight", "Records taken but not finished", ["topic", "group"]
)
LAG = Gauge("penstock_consumer_lag", "Records behind the end", ["topic", "group", "partition"])
RETRIES = Counter("penstock_retries", "Attempts after the first", ["topic", "group", "kind"])
PUBLISHED = Counter("penstock_published", "Events published", ["topic"])
REQUESTS = Histogram(
    "penstock_http_seconds", "HTTP requests by route and status", ["method", "route", "status"],
    buckets=_SECONDS,
)  # fmt: skip


def new_traceparent() -> str:
    """A fresh W3C trace context, sampled."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def child_traceparent(parent: str | None) -> str:
    """The same trace with a new span, or a new trace where there was none."""
    match = _TRACEPARENT.match(parent or "")
    return f"00-{match[1]}-{secrets.token_hex(8)}-01" if match else new_traceparent()


def traceparent_of(text: str | None) -> str | None:
    """A sender's trace context; what is none is not handed on, however long it is."""
    return text if _TRACEPARENT.fullmatch(text or "") else None


def set_traceparent(value: str | None) -> None:
    _current.set(value)


def current_traceparent() -> str | None:
    return _current.get()


def trace_id(traceparent: str | None) -> str | None:
    match = _TRACEPARENT.match(traceparent or "")
    return match[1] if match else None
