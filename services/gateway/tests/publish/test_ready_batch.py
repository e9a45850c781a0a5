from __future__ import annotations

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st

from danube_common.wire.frame import decode_frame, encode_frame, encode_section
from danube_gateway.publish.ready_batch import Body, section_of_bodies
from danube_harness.traffic.publish_stream import body_of

BATCHES = st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=5), min_size=1, max_size=4)


@given(BATCHES)
def test_batches_that_wait_together_make_the_frame_of_their_messages(batches: list[list[bytes]]) -> None:
    bodies = []
    for messages in batches:
        data = body_of(messages)
        ends = decode_frame(encode_frame(1, 1, [(7, messages)])).sections[0].ends
        bodies.append(Body(data, google_crc32c.value(data), ends))
    every = [message for messages in batches for message in messages]
    assert encode_section(3, 4, section_of_bodies(7, bodies)) == encode_frame(3, 4, [(7, every)])
