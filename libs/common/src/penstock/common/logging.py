"""structlog: JSON lines, or colours on a terminal; every line names its process."""

import logging
import sys

import structlog


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
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
    structlog.contextvars.bind_contextvars(process=process)
