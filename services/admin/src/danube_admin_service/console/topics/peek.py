"""Looks at the messages of a topic. No subscription knows of it, and no cursor moves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.forms import start_of
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.topics.payloads import SHOWN_AS, Readable, hex_text, readable
from danube_common.errors import CorruptData, DanubeError, InvalidInput, NotFound
from danube_common.model.names import TopicName
from danube_common.model.subscription import StartKind, StartPosition
from danube_common.rpc.port import RpcError, StatusCode
from danube_common.wire.frame import RawSection, decode_checked_section
from danube_common.wire.owner.topics import ReadTopic
from danube_proto import danube_schema_pb2 as schema
from danube_proto import danube_stream_pb2 as stream
from danube_proto.danube_api_pb2 import StreamMessage

MESSAGES_MAX: Final = 100
MESSAGES_DEFAULT: Final = 10
READS_MAX: Final = 20
"""Requests of one page to the topic's owner."""


@dataclass(frozen=True)
class Shown:
    """One message, as it is shown."""

    position: int
    published_ms: int
    producer: str
    key: str
    attributes: Mapping[str, str]
    size: int
    payload: Readable


@dataclass(frozen=True)
class Found:
    """Messages by position.

    Attributes:
        end: the end of the topic.
        missing: how many before these are not kept any more.
        after: where to go on.
    """

    messages: list[tuple[int, bytes]]
    end: int
    missing: int
    after: int


async def peek(visitor: Visitor, sources: Sources, query: Query) -> dict[str, object]:
    """Messages of one topic or partition."""
    visitor.require(calls.READ, stream.ReadRequest(topic=query.get("topic", "")))
    shown_as = query.get("as", "auto")
    try:
        topic = TopicName.parse(query.get("topic", ""))
        limit = _limit(query.get("n", ""))
        found = await read_messages(sources, topic, start_position(query, limit), limit)
        names = [one.name for one in await sources.topics.named(topic.partition_of or topic)]
    except DanubeError as error:
        raise status_of_reading(error) from error
    schemas = AvroSchemas(visitor, str(topic))
    return {
        "topic": str(topic),
        "base": str(topic.partition_of or topic),
        "partitions": names if topic.partition_of else [],
        "from": query.get("from", "last"),
        "value": query.get("value", ""),
        "n": limit,
        "as": shown_as if shown_as in SHOWN_AS else "auto",
        "messages": [await shown(position, data, shown_as, schemas) for position, data in found.messages],
        "missing": found.missing,
        "after": found.after if found.after < found.end else 0,
    }


def status_of_reading(error: DanubeError) -> RpcError:
    """Return what the visitor is told. Raises CorruptData, which is a defect."""
    match error:
        case NotFound():
            return RpcError(StatusCode.NOT_FOUND, str(error))
        case InvalidInput():
            return RpcError(StatusCode.INVALID_ARGUMENT, str(error))
        case CorruptData():
            raise error
        case _:
            return RpcError(StatusCode.UNAVAILABLE, str(error))


def start_position(query: Query, limit: int) -> StartPosition:
    """Return where to begin; without a wish, with the newest messages. Raises InvalidInput."""
    if query.get("from", "last") in ("last", ""):
        return StartPosition(StartKind.LAST, limit)
    start = start_of(query)
    return StartPosition(StartKind(type(start).Kind.Name(start.kind).lower()), start.value)


async def read_messages(sources: Sources, name: TopicName, start: StartPosition, limit: int) -> Found:
    """Read messages of one topic or partition. Raises DanubeError."""
    topics = await sources.topics.named(name)
    topic = topics[0]
    if topic.name != str(name):
        raise InvalidInput(f"topic {name} is partitioned: look at one of its partitions, as {topic.name}")
    messages: list[tuple[int, bytes]] = []
    missing = 0
    request = ReadTopic(topic.name, start=start)
    for _ in range(READS_MAX):
        read = await sources.owners.ask(topic.home, request)
        missing += read.missing
        for first, _offset, count, body in read.runs:
            messages += decode_checked_section(RawSection(0, count, body, 0)).run(first).entries()
        if len(messages) > limit:
            return Found(messages[:limit], read.end, missing, messages[limit][0])
        request = ReadTopic(topic.name, read.position)
        if read.position >= read.end or len(messages) == limit:
            break
    return Found(messages, read.end, missing, read.position)


def _limit(text: str) -> int:
    if not text:
        return MESSAGES_DEFAULT
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= MESSAGES_MAX:
        raise InvalidInput(f"1 to {MESSAGES_MAX} messages are shown, not {text[:20]!r}")
    return int(text)


class AvroSchemas:
    """Finds the Avro schemas of the messages of a topic; each is asked for once. For one page."""

    def __init__(self, visitor: Visitor, topic: str) -> None:
        self._visitor = visitor
        self._topic = topic
        self._known: dict[tuple[int, int | None], bytes | None] = {}
        self._default: int | None = None

    async def of(self, message: StreamMessage) -> bytes | None:
        """Return the definition; None if the message has no Avro schema that the visitor may read."""
        version = message.schema_version if message.HasField("schema_version") else None
        schema_id = message.schema_id if message.HasField("schema_id") else await self._subject()
        key = schema_id, version
        if key not in self._known:
            self._known[key] = await self._read(schema_id, version) if schema_id else None
        return self._known[key]

    async def _subject(self) -> int:
        if self._default is None:
            asked = schema.GetTopicSchemaConfigRequest(topic_name=self._topic)
            self._default = 0
            if self._visitor.may(calls.SUBJECT, asked):
                found = await self._visitor.ask(calls.SUBJECT, asked, schema.GetTopicSchemaConfigResponse)
                self._default = found.schema_id
        return self._default

    async def _read(self, schema_id: int, version: int | None) -> bytes | None:
        asked = schema.GetSchemaRequest(schema_id=schema_id, version=version)
        if not self._visitor.may(calls.GET_SCHEMA, asked):
            return None
        try:
            found = await self._visitor.ask(calls.GET_SCHEMA, asked, schema.GetSchemaResponse)
        except RpcError as error:
            if error.code is StatusCode.NOT_FOUND:
                return None
            raise
        return found.schema_definition if found.schema_type == "avro" else None


async def shown(position: int, data: bytes, shown_as: str, schemas: AvroSchemas) -> Shown:
    """Return a stored message as it is shown."""
    try:
        message = StreamMessage.FromString(data)
    except DecodeError:
        return Shown(position, 0, "", "", {}, len(data), Readable("hex", hex_text(data[:256])))
    avro = await schemas.of(message) if shown_as in ("auto", "avro") else None
    return Shown(
        position,
        message.publish_time,
        message.producer_name,
        message.routing_key,
        dict(message.attributes),
        len(message.payload),
        await asyncio.to_thread(readable, message.payload, shown_as, avro),
    )
