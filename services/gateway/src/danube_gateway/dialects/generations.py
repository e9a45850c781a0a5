"""Decides which generation of clients a call comes from. Pure.

Both generations call the same methods on one port. The bytes decide where they differ: the layout of
``MsgID``, the dispatch strategy of a producer, key-shared subscriptions. Otherwise the metadata decides:
clients of the current generation send BROKER_URL_HEADER back after a lookup that says so, v0.2 clients
never do. What nothing decides is v0.2, as are bytes that are no protobuf: it says what is wrong with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

from danube_common.wire.protobuf_fields import Malformed, varint_at


class Generation(Enum):
    """A generation of clients."""

    V0_2 = "v0.2"
    CURRENT = "current"


Metadata = Mapping[str, str | bytes]

BROKER_URL_HEADER: Final = "x-danube-broker-url"
RECREATE_HEADER: Final = "danube-recreate"
"""Metadata of CreateProducer, beyond v0.2, that only the client of this platform sends. With ``true`` a
producer's deleted topic is created again."""

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

MSG_ID: Final = 2
"""The number of the ``msg_id`` field in all messages that have one."""
SCHEMA: Final = 4
STRATEGY: Final = 6
SUBSCRIPTION_TYPE: Final = 5
KEY_FILTERS: Final = 6
KEY_SHARED: Final = 3
SCHEMA_DATA: Final = 3
USE_LATEST: Final = 2

_LAYOUTS: Final = {
    (2, VARINT): Generation.V0_2,
    (2, LENGTH): Generation.CURRENT,
    (4, LENGTH): Generation.V0_2,
    (4, VARINT): Generation.CURRENT,
}
"""Fields of a ``MsgID`` that only one generation has with this wire type."""
_OF_SCHEMA: Final = {
    (USE_LATEST, VARINT): Generation.CURRENT,
    (SCHEMA_DATA, VARINT): Generation.CURRENT,
    (SCHEMA_DATA, LENGTH): Generation.V0_2,
    (4, VARINT): Generation.V0_2,
}
"""The same of a producer's schema. A type and a minimal version have the same bytes: v0.2."""
_CURRENT_TONIC: Final = (0, 14)
_CURRENT_GRPC_GO: Final = (1, 70)
_VARINT_PATTERN: Final = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
_USUAL: Final = re.compile(
    rb"(?:\x08%b)?\x12([\x80-\xff]?[\x00-\x7f])(?:\x08%b)?([\x10\x12])" % (_VARINT_PATTERN, _VARINT_PATTERN),
    re.DOTALL,
)
"""How clients begin a message: request_id, msg_id with its length, its field 1 and the tag of field 2."""
_USUAL_LAYOUTS: Final = {b"\x10": Generation.V0_2, b"\x12": Generation.CURRENT}
_AGENT: Final = re.compile(r"(tonic|grpc-go)/([0-9]{1,4})\.([0-9]{1,4})")
_JAVA: Final = "grpc-java-netty/"


def of_caller(metadata: Metadata) -> Generation:
    """Return the generation that the metadata tells of.

    Libraries are known by their versions: no v0.2 client was built with these.
    """
    if BROKER_URL_HEADER in metadata:
        return Generation.CURRENT
    agent = metadata.get("user-agent", "")
    if not isinstance(agent, str):
        return Generation.V0_2
    if _JAVA in agent:
        return Generation.CURRENT
    if found := _AGENT.search(agent):
        least = _CURRENT_TONIC if found[1] == "tonic" else _CURRENT_GRPC_GO
        if (int(found[2]), int(found[3])) >= least:
            return Generation.CURRENT
    return Generation.V0_2


def of_message(data: bytes, metadata: Metadata) -> Generation:
    """Return the generation of a SendMessage or an Ack, by the layout of its ``msg_id``."""
    usual = _USUAL.match(data)
    if usual is not None:  # a sixth of the time that the loop takes
        length, tag = usual.groups()
        size = length[0] if len(length) == 1 else length[0] & 0x7F | length[1] << 7
        if usual.start(2) - usual.end(1) < size:
            return _USUAL_LAYOUTS[tag]
    try:
        for number, kind, start, end in fields(data, 0, len(data)):
            if number == MSG_ID and kind == LENGTH:
                for inner, inner_kind, _, _ in fields(data, start, end):
                    if (layout := _LAYOUTS.get((inner, inner_kind))) is not None:
                        return layout
    except Malformed:
        return Generation.V0_2
    return of_caller(metadata)


def of_producer(data: bytes, metadata: Metadata) -> Generation:
    """Return the generation of a CreateProducer. v0.2 clients always send the strategy, as a message."""
    if RECREATE_HEADER in metadata:
        return Generation.V0_2
    schema: Generation | None = None
    try:
        for number, kind, start, end in fields(data, 0, len(data)):
            if number == STRATEGY:
                return Generation.V0_2 if kind == LENGTH else Generation.CURRENT
            if number == SCHEMA and kind == LENGTH:
                schema = schema or _of_schema(data, start, end)
    except Malformed:
        return Generation.V0_2
    if of_caller(metadata) is Generation.CURRENT:
        return Generation.CURRENT
    return schema or Generation.CURRENT


def inline_schema(data: bytes) -> bool:
    """Return whether a CreateProducer carries the definition of a schema, as clients before core 0.6 send it.

    Raises Malformed.
    """
    return any(
        number == SCHEMA
        and kind == LENGTH
        and any(inner[:2] == (SCHEMA_DATA, LENGTH) for inner in fields(data, start, end))
        for number, kind, start, end in fields(data, 0, len(data))
    )


def of_consumer(data: bytes, metadata: Metadata) -> Generation:
    """Return the generation of a Subscribe: its bytes differ for key-shared subscriptions only."""
    try:
        for number, kind, start, end in fields(data, 0, len(data)):
            if number == KEY_FILTERS and kind == LENGTH:
                return Generation.CURRENT
            if number == SUBSCRIPTION_TYPE and kind == VARINT and data[start:end] == bytes((KEY_SHARED,)):
                return Generation.CURRENT
    except Malformed:
        return Generation.V0_2
    return of_caller(metadata)


def _of_schema(data: bytes, start: int, end: int) -> Generation | None:
    for number, kind, _, _ in fields(data, start, end):
        if (found := _OF_SCHEMA.get((number, kind))) is not None:
            return found
    return None


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (number, wire type, start, end) of the values in ``data[at:end]``; raises Malformed."""
    while at < end:
        tag, at = varint_at(data, at, end)
        kind = tag & 7
        start = at
        if kind == VARINT:
            _, at = varint_at(data, at, end)
        elif kind == LENGTH:
            length, start = varint_at(data, at, end)
            at = start + length
        elif kind == FIXED64:
            at += 8
        elif kind == FIXED32:
            at += 4
        else:
            raise Malformed(f"wire type {kind}")
        if at > end:
            raise Malformed("a value is cut")
        yield tag >> 3, kind, start, at
