"""Logs: one JSON object a line on stderr, or plain lines where a person reads them."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(level: int = logging.WARNING) -> None:
    """Send what `structlog` and the standard library say to stderr.

    Tracebacks of foreign errors are left out: they may quote their input.
    """
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=False)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_traceback,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Asked anew each time: whoever runs this may have put another stderr in place.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr)


def _without_traceback(
    _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event.pop("exc_info", None)
    return event
