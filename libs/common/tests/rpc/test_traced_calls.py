"""What is logged in a call carries the call's id and its trace."""

from __future__ import annotations

import pytest
import structlog
from structlog.testing import LogCapture

from danube_common.rpc.port import Call, Methods, answered
from danube_common.rpc.traced_calls import ID_CHARACTERS_MAX, add_call_ids
from danube_common.tracing.tracer import Span, Tracer

TRACED = {"traceparent": f"00-{7:032x}-{8:016x}-01"}


@pytest.mark.parametrize("tracing", [False, True])
async def test_lines_of_log_carry_the_ids_of_their_call(tracing: bool) -> None:
    spans, lines = list[Span](), LogCapture()
    tracer = Tracer(0.0, spans.append) if tracing else None
    log = structlog.wrap_logger(None, processors=[structlog.contextvars.merge_contextvars, lines])

    async def handler(call: Call) -> bytes:
        log.info("said")
        if call.request:
            raise ValueError("bad")
        return b""

    methods = Methods(unary={"/a.Admin/Do": handler, "/a.Admin/Message": handler})
    add_call_ids(methods, tracer, but=["/a.Admin/Message"])
    do = methods.unary["/a.Admin/Do"]
    await answered(do, Call("/a.Admin/Do", b"", {"x-request-id": "ticket-" + "9" * 100, **TRACED}))
    await answered(do, Call("/a.Admin/Do", b""))
    with pytest.raises(ValueError, match="bad"):
        await answered(do, Call("/a.Admin/Do", b"!", TRACED))
    assert methods.unary["/a.Admin/Message"] is handler
    given, made, failed = lines.entries
    assert given["call"] == ("ticket-" + "9" * 100)[:ID_CHARACTERS_MAX]
    assert made["call"]
    assert "trace_id" not in made
    assert given.get("trace_id") == failed.get("trace_id") == (f"{7:032x}" if tracing else None)
    told = [("Do", ""), ("Do", "ValueError: bad")] if tracing else []
    assert [(span.name, span.error) for span in spans] == told
    assert structlog.contextvars.get_contextvars() == {}
