"""structlog: JSON lines, or colours on a terminal; every line names its process."""

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import StringIO

import structlog
from structlog.contextvars import bind_contextvars, unbind_contextvars

from penstock.common.envelope import Envelope
from penstock.common.telemetry import child_traceparent, trace_id


class _Lossy(StringIO):
    """Standard error, where a full disk costs the line and not the record that it tells of."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def configure(process: str, level: str = "info") -> None:
    """Set up logging for this process; the standard library's loggers go the same way."""
    numeric = logging.getLevelNamesMapping().get(level.upper())
    if numeric is None:
        raise ValueError(f"PENSTOCK_LOG_LEVEL is {level!r}; use debug, info, warning or error")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr.isatty()
    final: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    tail = [] if terminal else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, *tail, final],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(_Lossy()),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail, final
            ],
        )
    )  # fmt: skip
    logging.basicConfig(handlers=[handler], level=max(numeric, logging.WARNING), force=True)
    bind_contextvars(process=process)


def bind_call(topic: str, envelopes: Sequence[Envelope]) -> str | None:
    """Put on every log line from here whose records a handler has in hand.

    Returns the trace that follows from one record; of several, each event follows its own.
    """
    bind_contextvars(topic=topic, records=len(envelopes))
    if len(envelopes) > 1:
        bind_contextvars(trace_ids=sorted({trace_id(e.traceparent) or "" for e in envelopes}))
        return None
    unbind_contextvars("trace_ids")
    (envelope,) = envelopes
    traceparent = child_traceparent(envelope.traceparent)
    bind_contextvars(
        tenant=envelope.tenant,
        job=envelope.job,
        subject=envelope.subject,
        trace_id=trace_id(traceparent),
    )
    return traceparent
