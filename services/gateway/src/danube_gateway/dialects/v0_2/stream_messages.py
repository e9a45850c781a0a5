"""Messages as consumers of the v0.2 contract get them: a run at a time, with their gRPC prefixes. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from danube_common.model.position import INDEX_BITS, MESSAGES_PER_SECTION_MAX
from danube_common.model.run import Run
from danube_common.rpc.grpc_framing import PREFIX
from danube_common.wire.protobuf_fields import varint
from danube_gateway.dialects.v0_2.model import REQUEST_ID_TAG

_INDEXES = tuple(
    REQUEST_ID_TAG + bytes((index & 0x7F | 0x80, index >> 7 | 0x80))
    for index in range(MESSAGES_PER_SECTION_MAX)
)
"""The field request_id up to the bits that all positions of a section have in common."""


def stream_messages(runs: Iterable[Run], fields: bytes) -> bytes:
    """Return the messages of runs for one consumer, back to back with their gRPC prefixes.

    ``fields`` are appended to each (`danube_gateway.dialects.v0_2.model.delivery_fields`): appended protobuf
    fields replace equal ones before them. The position goes into request_id, which clients echo in Ack;
    everything else stays as produced. Non-reliable messages keep their request_id.
    """
    parts: list[bytes] = []
    prefix = PREFIX.pack
    for run in runs:
        data, start, ends = run.data, run.start, run.ends[run.low : run.high]
        if not run.first:
            more = len(fields)
            for end in ends:
                parts += (prefix(0, end - start + more), data[start:end], fields)
                start = end
            continue
        # The index is the low two groups of seven bits of the varint; the positions share the others.
        common = varint(run.first >> INDEX_BITS) + fields
        more = len(REQUEST_ID_TAG) + 2 + len(common)
        index = run.first & (MESSAGES_PER_SECTION_MAX - 1)
        for end, tag in zip(ends, _INDEXES[index : index + len(ends)], strict=True):
            parts += (prefix(0, end - start + more), data[start:end], tag, common)
            start = end
    return b"".join(parts)
