"""What a later version has written is refused with a sentence, format by format, and never misread."""

from __future__ import annotations

import struct

import google_crc32c
import msgspec
import pytest

from danube_common.archive.records import ManifestEntry
from danube_common.cluster.records import Layout, decode_record
from danube_common.errors import CorruptData
from danube_common.segment.format import CRC, END_MAGIC, FOOTER, HEADER_BYTES, TAIL_BYTES
from danube_common.segment.reader import parse_tail
from danube_common.wire.delivery import decode_deliveries
from danube_common.wire.frame import decode_frame, encode_frame
from danube_common.wire.owner.protocol import OWNER
from danube_topic_owner.journal.events import Claimed, decode_events, encode_events

VERSION_AT = 4
"""Where the version of a frame stands, behind its magic."""
FLAGS_AT = 5


def frame() -> bytearray:
    return bytearray(encode_frame(1, 1, [(7, [b"a message"])]))


@pytest.mark.parametrize("at", [VERSION_AT, FLAGS_AT])
def test_a_frame(at: int) -> None:
    decode_frame(bytes(frame()))
    later = frame()
    later[at] += 1
    with pytest.raises(CorruptData, match=r"where version 1 without flags is known: upgrade this process"):
        decode_frame(bytes(later))


def test_a_segment() -> None:
    def tail(version: int) -> bytes:
        footer = FOOTER.pack(version, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0)
        body = footer + TAIL_BYTES.pack(len(footer) + TAIL_BYTES.size + CRC.size + len(END_MAGIC))
        return body + CRC.pack(google_crc32c.value(body)) + END_MAGIC

    with pytest.raises(CorruptData, match="a segment of version 2, where 1 is known: upgrade this process"):
        parse_tail(tail(2), len(tail(2)) + HEADER_BYTES)
    with pytest.raises(CorruptData, match="cannot have 0 blocks"):
        parse_tail(tail(1), len(tail(1)) + HEADER_BYTES)


def test_a_journal_record() -> None:
    known = msgspec.msgpack.decode(encode_events([Claimed(1, "7")]))
    later = msgspec.msgpack.encode([*known, {"type": "claimed-anew", "epoch": 2}])
    with pytest.raises(
        CorruptData, match=r"claimed-anew.*: if a later version wrote it, upgrade this topic owner"
    ):
        decode_events(later)
    known[0]["reason"] = "a field of a later version"
    assert decode_events(msgspec.msgpack.encode(known)) == [Claimed(1, "7")]


def test_a_record_of_the_metadata_store() -> None:
    later = b'{"file_bundles": 4, "memory_bundles": 2, "new": true}'
    assert decode_record(Layout, later) == Layout(4, 2)
    with pytest.raises(CorruptData, match=r"not a Layout record that this version knows: .*file_bundles"):
        decode_record(Layout, b'{"file_bundles": {"count": 4}, "memory_bundles": 2}')
    entry = b'{"bundle": "f0", "first_sequence": 1, "last_sequence": 2, "cut_ms": 0, "archiver": "1", '
    with pytest.raises(CorruptData, match=r"ManifestEntry record that this version knows: .*glacier"):
        decode_record(ManifestEntry, entry + b'"segments": [{"key": "k", "backend": "glacier"}]}')


def test_a_request_and_a_reply_on_the_bus() -> None:
    later = msgspec.msgpack.encode({"type": "forecast-topic", "topic": "/a/b"})
    with pytest.raises(
        CorruptData, match=r"not a request that an owner of this version knows: .*forecast-topic"
    ):
        OWNER.decode_request(later)
    with pytest.raises(
        CorruptData, match=r"not a reply of an owner that this version knows: .*forecast-topic"
    ):
        OWNER.decode_reply(later)


def test_a_pack_of_deliveries() -> None:
    later = struct.pack("<BI", 0xD4, 0) + bytes(64)
    with pytest.raises(CorruptData, match="format 0xd4, where 0xd2 and 0xd3 are known: upgrade gateways"):
        decode_deliveries(later)
