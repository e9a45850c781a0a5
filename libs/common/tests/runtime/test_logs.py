from __future__ import annotations

import errno
import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog

from danube_common.runtime.logs import configure_logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def written(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_fact_is_one_json_line_with_service_and_instance() -> None:
    out = io.StringIO()
    configure_logs("gateway", "7", log_format="auto", stream=out)
    log = structlog.get_logger("x")
    log.info("opened", topic="/default/t", size=3, raw=b"\xff")
    log.debug("not at this level")
    try:
        raise ValueError("why\nthen")
    except ValueError:
        log.exception("failed")
    opened, failed = written(out)
    assert opened | {"timestamp": ""} == {
        "event": "opened",
        "topic": "/default/t",
        "size": 3,
        "raw": "b'\\xff'",
        "service": "gateway",
        "instance": "7",
        "level": "info",
        "timestamp": "",
    }
    assert failed["level"] == "error"
    assert "ValueError: why" in str(failed["exception"])


def test_libraries_are_heard_from_warning_on_in_the_same_form() -> None:
    out = io.StringIO()
    configure_logs("gateway", "7", log_format="json", stream=out)
    logging.getLogger("nats").info("chatter")
    logging.getLogger("nats").warning("lost %s", "it")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    lost, old = written(out)
    assert (lost["event"], lost["logger"], lost["service"]) == ("lost it", "nats", "gateway")
    assert "old" in str(old["event"])


def test_console_lines_are_for_people() -> None:
    out = io.StringIO()
    configure_logs("gateway", "7", log_format="console", stream=out)
    structlog.get_logger().info("opened", topic="t")
    assert "opened" in out.getvalue()
    assert "topic=t" in out.getvalue()
    assert not out.getvalue().startswith("{")


class FullDisk(io.StringIO):
    """Refuses writes while it is full."""

    full = False

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_full_disk_fails_no_caller_and_the_lost_lines_are_counted() -> None:
    out = FullDisk()
    configure_logs("gateway", "7", log_format="json", stream=out)
    log = structlog.get_logger()
    log.info("before")
    out.full = True
    log.info("lost")
    logging.getLogger("nats").warning("lost too")
    out.full = False
    log.info("after")
    log.info("later")
    before, after, later = written(out)
    assert (before["event"], after["event"], after["lines_lost"]) == ("before", "after", 2)
    assert later["event"] == "later"
    assert "lines_lost" not in later


def test_a_closed_stream_fails_no_caller() -> None:
    out = io.StringIO()
    configure_logs("gateway", "7", log_format="json", stream=out)
    out.close()
    structlog.get_logger().info("nobody reads it")
