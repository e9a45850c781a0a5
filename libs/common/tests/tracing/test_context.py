"""A context goes with a message as an attribute, and is found again in whatever bytes hold the message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.tracing.context import FOUND_MAX, TraceContext, find_contexts, parse_context, with_context
from danube_proto import danube_api_pb2 as api
from danube_proto import danube_current_pb2 as current

CONTEXTS = st.builds(
    TraceContext, st.integers(1, (1 << 128) - 1), st.integers(1, (1 << 64) - 1), st.booleans()
)


@given(CONTEXTS, st.binary(max_size=200))
def test_what_is_added_is_an_attribute_of_both_generations_and_is_found(
    context: TraceContext, payload: bytes
) -> None:
    for kind in (api.StreamMessage, current.StreamMessage):
        message = kind(payload=payload, attributes={"k": "v"})
        traced = with_context(message.SerializeToString(), context)
        read = kind.FromString(traced)
        assert dict(read.attributes) == {"k": "v", "traceparent": str(context)}
        assert [one for _, one in find_contexts(b"before" + traced + b"behind")] == [context]
        assert [one for _, one in find_contexts(read.SerializeToString())] == [context]


@given(st.binary(max_size=300))
def test_bytes_without_the_attribute_have_no_context(data: bytes) -> None:
    assert find_contexts(data) == []


def test_the_contexts_that_are_looked_for_in_a_batch_are_bounded() -> None:
    one = with_context(b"", TraceContext(1, 2))
    assert len(find_contexts(one * (FOUND_MAX + 5))) == FOUND_MAX
    assert find_contexts(one, 0, len(one) - 1) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01-more",
    ],
)
def test_a_text_that_is_none_is_no_context(text: str) -> None:
    assert parse_context(text) is None
