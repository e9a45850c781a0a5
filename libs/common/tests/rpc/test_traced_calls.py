"""What is logged in a call carries the call's id and its trace, and a call that is traced is a span."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from danube_common.rpc.port import ID_CHARACTERS_MAX, Call, Methods, answered
from danube_common.rpc.traced_calls import trace_calls
from danube_common.runtime.logs import configure_logs
from danube_common.tracing.current import enter_call
from danube_common.tracing.tracer import Span, Tracer

TRACED = {"traceparent": f"00-{7:032x}-{8:016x}-01"}


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.mark.parametrize("tracing", [False, True])
async def test_lines_of_log_carry_the_ids_of_their_call(tracing: bool) -> None:
    spans, written = list[Span](), io.StringIO()
    configure_logs("s", "i", log_format="json", stream=written)
    log = structlog.get_logger()

    async def handler(call: Call) -> bytes:
        log.info("said")
        if call.request:
            raise ValueError("bad")
        return b""

    methods = Methods(unary={"/a.Admin/Do": handler, "/a.Admin/Message": handler})
    if tracing:
        trace_calls(methods, Tracer(0.0, spans.append), but=["/a.Admin/Message"])
        assert methods.unary["/a.Admin/Do"] is not handler
    assert methods.unary["/a.Admin/Message"] is handler

    async def serve(call: Call) -> None:
        enter_call(call)
        await answered(methods.unary[call.method], call)

    await asyncio.create_task(
        serve(Call("/a.Admin/Do", b"", {"x-request-id": "ticket-" + "9" * 100, **TRACED}))
    )
    await asyncio.create_task(serve(Call("/a.Admin/Message", b"")))
    with pytest.raises(ValueError, match="bad"):
        await asyncio.create_task(serve(Call("/a.Admin/Do", b"!", TRACED)))
    log.info("later")
    given, made, failed, later = map(json.loads, written.getvalue().splitlines())
    assert given["call"] == ("ticket-" + "9" * 100)[:ID_CHARACTERS_MAX]
    assert made["call"]
    assert "trace_id" not in made
    assert given["trace_id"] == failed["trace_id"] == f"{7:032x}"
    assert ("span_id" in given) is tracing
    assert "call" not in later
    told = [("Do", ""), ("Do", "ValueError: bad")] if tracing else []
    assert [(span.name, span.error) for span in spans] == told
