"""Looks at the messages of a topic. No subscription knows of it, and no cursor moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from google.protobuf.message import DecodeError

from danube_admin_service.console import calls
from danube_admin_service.console.actions import start_of
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.visitor import Visitor
from danube_common.errors import CorruptData, DanubeError, InvalidInput, NotFound
from danube_common.model.names import TopicName
from danube_common.model.subscription import StartKind, StartPosition
from danube_common.rpc.port import RpcError, StatusCode
from danube_common.wire.frame import RawSection, decode_checked_section
from danube_common.wire.owner import ReadTopic, TopicRead
from danube_proto import danube_stream_pb2 as stream
from danube_proto.danube_api_pb2 import StreamMessage

MESSAGES_MAX: Final = 100
MESSAGES_DEFAULT: Final = 10
PAYLOAD_BYTES_SHOWN: Final = 4096
READS_MAX: Final = 20
"""Requests of one page to the topic's owner."""
READ_TIMEOUT_S: Final = 5.0
SHOWN_AS: Final = ("auto", "text", "json", "hex")


@dataclass(frozen=True)
class Shown:
    """One message, as it is shown."""

    position: int
    published_ms: int
    producer: str
    attributes: Mapping[str, str]
    size: int
    text: str
    cut: bool


async def peek(visitor: Visitor, sources: Sources, query: Query) -> dict[str, object]:
    """Messages of one topic or partition."""
    visitor.require(calls.READ, stream.ReadRequest(topic=query.get("topic", "")))
    shown_as = query.get("as", "auto")
    try:
        topic = TopicName.parse(query.get("topic", ""))
        limit = _limit(query.get("n", ""))
        messages, end, missing, after = await _read(sources, topic, start_position(query, limit), limit)
    except NotFound as error:
        raise RpcError(StatusCode.NOT_FOUND, str(error)) from None
    except InvalidInput as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from None
    except CorruptData:
        raise
    except DanubeError as error:
        raise RpcError(StatusCode.UNAVAILABLE, str(error)) from None
    return {
        "topic": str(topic),
        "base": str(topic.partition_of or topic),
        "from": query.get("from", "last"),
        "value": query.get("value", ""),
        "n": limit,
        "as": shown_as if shown_as in SHOWN_AS else "auto",
        "messages": [_shown(position, data, shown_as) for position, data in messages],
        "missing": missing,
        "after": after if after < end else 0,
    }


def start_position(query: Query, limit: int) -> StartPosition:
    """Return where to begin; without a wish, with the newest messages. Raises InvalidInput."""
    if query.get("from", "last") in ("last", ""):
        return StartPosition(StartKind.LAST, limit)
    start = start_of(query)
    return StartPosition(StartKind(type(start).Kind.Name(start.kind).lower()), start.value)


async def _read(
    sources: Sources, name: TopicName, start: StartPosition, limit: int
) -> tuple[list[tuple[int, bytes]], int, int, int]:
    """Return messages by position, the end of the topic, how many are missing, and where to go on."""
    topics = await sources.topics.named(name)
    topic = topics[0]
    if topic.name != str(name):
        raise InvalidInput(f"topic {name} is partitioned: look at one of its partitions, as {topic.name}")
    messages: list[tuple[int, bytes]] = []
    missing = 0
    request = ReadTopic(topic.name, start=start)
    for _ in range(READS_MAX):
        read = await sources.owners.ask(topic.home, request, TopicRead, timeout_s=READ_TIMEOUT_S)
        missing += read.missing
        for first, _offset, count, body in read.runs:
            messages += decode_checked_section(RawSection(0, count, body, 0)).run(first).entries()
        if len(messages) > limit:
            return messages[:limit], read.end, missing, messages[limit][0]
        request = ReadTopic(topic.name, read.position)
        if read.position >= read.end or len(messages) == limit:
            break
    return messages, read.end, missing, read.position


def _limit(text: str) -> int:
    if not text:
        return MESSAGES_DEFAULT
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= MESSAGES_MAX:
        raise InvalidInput(f"1 to {MESSAGES_MAX} messages are shown, not {text[:20]!r}")
    return int(text)


def _shown(position: int, data: bytes, shown_as: str) -> Shown:
    try:
        message = StreamMessage.FromString(data)
    except DecodeError:
        return Shown(position, 0, "", {}, len(data), hex_text(data[:PAYLOAD_BYTES_SHOWN]), cut=False)
    payload = message.payload
    return Shown(
        position,
        message.publish_time,
        message.producer_name,
        dict(message.attributes),
        len(payload),
        readable(payload[:PAYLOAD_BYTES_SHOWN], shown_as),
        cut=len(payload) > PAYLOAD_BYTES_SHOWN,
    )


def readable(payload: bytes, shown_as: str) -> str:
    """Return a payload as JSON, text or hexadecimal; ``auto`` takes the first of them that fits."""
    if shown_as in ("auto", "json"):
        try:
            return orjson.dumps(orjson.loads(payload), option=orjson.OPT_INDENT_2).decode()
        except orjson.JSONDecodeError:
            if shown_as == "json":
                return "(not JSON)\n" + payload.decode(errors="replace")
    if shown_as == "text":
        return payload.decode(errors="replace")
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return hex_text(payload)
    is_text = shown_as == "auto" and all(each.isprintable() or each in "\r\n\t" for each in text)
    return text if is_text else hex_text(payload)


def hex_text(data: bytes) -> str:
    """Return bytes in lines of 16: offset, hexadecimal, and what is printable."""
    lines = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:06x}  {row.hex(' '):<47}  {printable}")
    return "\n".join(lines)
