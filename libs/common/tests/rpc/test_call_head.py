from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.rpc.call_head import HEADS_MAX, head_of
from danube_common.rpc.grpc_framing import metadata_of
from danube_common.rpc.port import Call, Methods, RpcError
from danube_harness.rpc.calls import Serve, connect

USUAL = ((b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"user-agent", b"tonic/0.9"))


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b-bin", b"grpc-timeout", b"te"]), st.just(b"YQ"))))
def test_a_head_says_what_the_headers_say(pairs: list[tuple[bytes, bytes]]) -> None:
    head = head_of(tuple(pairs))
    assert head.metadata == metadata_of(pairs)
    assert head.headers == dict(pairs)
    assert head.has_deadline is (b"grpc-timeout" in dict(pairs))


def test_the_same_headers_are_read_once() -> None:
    assert head_of(USUAL) is head_of((*USUAL,))
    assert head_of(USUAL).is_usual
    assert not head_of(USUAL[:1]).is_usual


def test_remembered_heads_are_bounded() -> None:
    for number in range(2 * HEADS_MAX):
        head_of((*USUAL, (b"authorization", b"%d" % number)))
    assert head_of.cache_info().currsize == HEADS_MAX


def test_malformed_metadata_is_refused_each_time() -> None:
    head = head_of((*USUAL, (b"x-bin", b"\xff\xff")))
    for _ in range(2):
        with pytest.raises(RpcError):
            assert head.metadata


async def test_each_call_gets_the_metadata_that_came_with_it(serve: Serve) -> None:
    async def tell(call: Call) -> bytes:
        return str(call.metadata["who"]).encode()

    _, addr = await serve(Methods({"/a.B/C": tell}))
    async with connect(addr) as channel:
        for who in ("one", "two", "one"):
            assert await channel.unary_unary("/a.B/C")(b"", metadata=(("who", who),)) == who.encode()
