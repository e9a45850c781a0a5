"""Logs to standard error: one event name per fact, with service and instance on each line.

What libraries say through `logging` comes out the same way.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal, TextIO, cast

import orjson
import structlog
from structlog.typing import Processor

from danube_common.tracing.current import current_ids

FIRST_KEYS: Final = ("timestamp", "level", "event", "service", "instance")
"""What every line begins with; the rest follows as it was given."""


class LossyStream:
    """A text stream that never raises: what cannot be written, e.g. to a full disk, is counted and dropped.

    A line of log must not end the task that tells it.

    Attributes:
        lost: how many writes failed since the last one that did not.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost = 0

    def write(self, text: str) -> int:
        """Write and flush ``text``."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: it is closed
            self.lost += 1
        else:
            self.lost = 0
        return len(text)

    def flush(self) -> None:
        """Do nothing: each write is flushed."""


def configure_logs(
    service: str,
    instance_id: str,
    *,
    level: str = "info",
    log_format: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """Set up `structlog` and `logging` for the process.

    Args:
        service: bound to each line.
        instance_id: bound to each line as ``instance``.
        level: the least severe event that is written: debug, info, warning or error. Libraries are
            heard from warning on, unless it is debug.
        log_format: ``auto`` is console when the stream is a terminal and json elsewhere.
        stream: standard error unless given.
    """
    stream = stream or sys.stderr
    terminal = stream.isatty()
    console = log_format == "console" or (log_format == "auto" and terminal)
    output = LossyStream(stream)
    threshold = getattr(logging, level.upper())

    def identify(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", service)
        event.setdefault("instance", instance_id)
        for name, value in current_ids().items():
            event.setdefault(name, value)
        if output.lost:
            event["lines_lost"] = output.lost
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        identify,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=terminal)]
        if console
        else [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ]
    )
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", output)),
        cache_logger_on_first_use=False,  # a logger of a module may be used before this runs
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold if level == "debug" else max(threshold, logging.WARNING))
    logging.captureWarnings(capture=True)


def _dumps(event: dict[str, object], **_options: object) -> str:
    first = {name: event.pop(name) for name in FIRST_KEYS if name in event}
    return orjson.dumps(first | event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
