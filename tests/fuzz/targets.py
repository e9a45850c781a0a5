"""Every decoder of bytes from outside, with the errors that it may raise and seeds to begin with.

Where bytes have checksums these are taken for right, whatever they are: a fuzzer does not find them, and
what lies behind them is to be tried.
"""

from __future__ import annotations

import contextlib
import gzip
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import google_crc32c
import jwt
import lz4.frame  # type: ignore[import-untyped]
import zstandard
from google.protobuf.message import DecodeError
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from danube_client.errors import ClientError
from danube_client.stream.batch import unpack
from danube_common.archive.records import ArchiverLease, BundleArchive, ManifestEntry, unpack_offsets
from danube_common.cluster.records import Instance, decode_definition, decode_record
from danube_common.errors import CorruptData, InvalidInput, LimitExceeded
from danube_common.model.json_text import JsonTextError, parse_json
from danube_common.model.names import TopicName
from danube_common.nats import parser as parser_module
from danube_common.nats.parser import GatheringParser
from danube_common.rpc.grpc_framing import (
    MessageReader,
    TooLarge,
    announced_bytes,
    framed,
    metadata_of,
    timeout_s_of,
    whole_message,
)
from danube_common.rpc.port import RpcError
from danube_common.rpc.protobuf_strict import parse_strict
from danube_common.schemas.compatibility import incompatibilities, parse_definition
from danube_common.schemas.kinds import CompatibilityMode, SchemaType
from danube_common.security.api_keys import split
from danube_common.security.identity import Identity
from danube_common.security.request_field import text_field
from danube_common.security.token_keys import TokenKey, key_set, public_keys, secret_keys
from danube_common.security.tokens import TokenRefused, TokenRules, verify_token
from danube_common.segment.format import tail_bytes_of
from danube_common.segment.reader import EntryReader, parse_tail, split_entries
from danube_common.wire.archive import ARCHIVE
from danube_common.wire.delivery import decode_deliveries
from danube_common.wire.frame import decode_frame, encode_frame, frame_id_of, producer_batch_of, split_frame
from danube_common.wire.owner.notices import decode_notice
from danube_common.wire.owner.protocol import OWNER
from danube_common.wire.repair import REPAIR
from danube_common.wire.replica import REPLICA
from danube_gateway.dialects.generations import of_caller, of_consumer, of_message, of_producer
from danube_gateway.dialects.stream.batches import read_body, read_messages
from danube_gateway.dialects.stream.metadata import parse_pattern
from danube_gateway.dialects.v0_2.ack_requests import AckRequests
from danube_gateway.dialects.v0_2.sent_message import payload_place, read_sent_message
from danube_proto import danube_api_pb2 as v0_2
from danube_proto import danube_current_pb2 as current
from danube_proto import danube_stream_pb2 as stream
from danube_topic_owner.journal.events import Claimed, SubscriptionRemoved, decode_events, encode_events

CHECKSUM: Final = 0
BODY_BYTES_MAX: Final = 1 << 16
NOW_S: Final = 1_800_000_000.0

Decode = Callable[[bytes], object]


class Target(NamedTuple):
    """What is called with bytes, what it may raise, and seeds."""

    decode: Decode
    allowed: tuple[type[Exception], ...]
    seeds: Sequence[bytes]


def _without_checksums() -> None:
    google_crc32c.value = lambda *_: CHECKSUM
    google_crc32c.extend = lambda *_: CHECKSUM


def frames() -> Target:
    """What the log and the bus carry."""

    def decode(data: bytes) -> None:
        frame_id_of(data)
        producer_batch_of(data)
        split_frame(data)
        for section in decode_frame(data).sections:
            for index in range(len(section)):
                section.message(index)

    seeds = (encode_frame(1, 1, [(2, [b"a", b"bc"])]), encode_frame(5, 9, [(2, [b""]), (3, [b"x"] * 9)]))
    return Target(decode, (CorruptData,), seeds)


def deliveries() -> Target:
    """What owners send to gateways."""

    return Target(decode_deliveries, (CorruptData,), (bytes(64),))


def segments() -> Target:
    """What storage reads back from disks and buckets: the tail first, then the entries that it names."""

    def decode(data: bytes) -> None:
        with contextlib.suppress(CorruptData):
            split_entries(data)
        index = parse_tail(data, len(data))
        reader = EntryReader(index)
        reader.feed(data[: len(data) - tail_bytes_of(data)])
        reader.finish()

    return Target(decode, (CorruptData,), (bytes(256),))


def journals() -> Target:
    """What an owner replays."""

    seeds = (encode_events([Claimed(1, "7"), SubscriptionRemoved(3, "jobs")]),)
    return Target(decode_events, (CorruptData,), seeds)


def records() -> Target:
    """What the metadata store holds: topics, manifests, leases, roles and bindings."""

    kinds = (ManifestEntry, BundleArchive, ArchiverLease, Instance)
    readers: list[Decode] = [decode_definition, unpack_offsets]
    readers += [lambda data, kind=kind: decode_record(kind, data) for kind in kinds]  # type: ignore[misc]
    seeds = (b'\0{"name":"/a/b"}', b"\1" + bytes(24), b'\2{"first_sequence":1}')
    return Target(_one_of(readers), (CorruptData,), seeds)


def requests() -> Target:
    """What services ask each other, and answer."""

    readers: list[Decode] = [decode_notice]
    for protocol in (OWNER, ARCHIVE, REPAIR, REPLICA):
        readers += [protocol.decode_request, protocol.decode_reply]
    seeds = [bytes((number,)) + b"\x81\xa4type\xa4list" for number in range(len(readers))]
    return Target(_one_of(readers), (CorruptData,), seeds)


def calls() -> Target:
    """The body of a call: prefixes, compression and cuts."""

    def decode(data: bytes) -> None:
        whole_message(data, BODY_BYTES_MAX)
        announced_bytes(data, BODY_BYTES_MAX)
        reader = MessageReader(BODY_BYTES_MAX, (b"identity", b"gzip")[data[:1] >= b"\x80"])
        step = data[0] % 16 + 1 if data else 1
        for at in range(1, len(data), step):
            reader.add(data[at : at + step])
            while (message := reader.next()) is not None:
                assert len(message) <= BODY_BYTES_MAX
        reader.end()

    packed = gzip.compress(b"x" * 50)
    seeds = (b"\x05" + framed([b"one", b""]), b"\xff" + struct.pack(">BI", 1, len(packed)) + packed)
    return Target(decode, (RpcError, TooLarge), seeds)


def headers() -> Target:
    """The headers of a call."""

    def decode(data: bytes) -> None:
        with contextlib.suppress(RpcError):
            timeout_s_of(data)
        pairs = [line.partition(b":")[::2] for line in data.split(b"\n")]
        of_caller(metadata_of(pairs))

    return Target(decode, (RpcError,), (b"user-agent:tonic/0.14.1\nx-bin:AAA", b"10S", b"grpc-timeout:1m"))


def messages() -> Target:
    """What v0.2 and current clients send: the fast readers and protobuf's must agree."""

    acks = AckRequests()
    parts = (v0_2.ProducerRequest, v0_2.ConsumerRequest, current.StreamMessage, stream.PublishRequest)

    def fields(data: bytes) -> None:
        for number in (1, 2, 3):
            text_field(data, number)

    def sent(data: bytes) -> None:
        place = payload_place(data)
        message = read_sent_message(data)
        if place is not None:
            assert data[place[1] : place[2]] == message.payload

    readers: list[Decode] = [sent, acks.read, fields]
    readers += [lambda data, read=read: read(data, {}) for read in (of_message, of_producer, of_consumer)]  # type: ignore[misc]
    readers += [lambda data, part=part: parse_strict(part, data) for part in parts]  # type: ignore[misc]
    msg_id = v0_2.MsgID(producer_id=1, topic_name="/a/b", broker_addr="x")
    seeds = (
        b"\0" + v0_2.StreamMessage(request_id=3, msg_id=msg_id, payload=b"x").SerializeToString(),
        b"\1" + v0_2.AckRequest(request_id=3, msg_id=msg_id, subscription_name="s").SerializeToString(),
        b"\6" + v0_2.ProducerRequest(topic_name="/a/b", producer_name="p").SerializeToString(),
    )
    return Target(_one_of(readers), (InvalidInput,), seeds)


def batches() -> Target:
    """Batches of native streaming, compressed and not, as the gateway and as clients read them."""

    def decode(data: bytes) -> None:
        batch = stream.Batch.FromString(data)
        if batch.body_bytes > BODY_BYTES_MAX:
            return
        with contextlib.suppress(ClientError):
            unpack(batch)
        for message in read_messages(read_body(batch, BODY_BYTES_MAX)):
            assert message.payload is not None

    stored = stream.StoredMessage(payload=b"hello").SerializeToString()
    body = struct.pack("<I", len(stored)) + stored
    ways = (
        (body, stream.COMPRESSION_NONE),
        (zstandard.ZstdCompressor().compress(body), stream.COMPRESSION_ZSTD),
        (lz4.frame.compress(body), stream.COMPRESSION_LZ4),
    )
    seeds = [
        stream.Batch(messages=1, crc32c=CHECKSUM, body_bytes=len(body), body=sent, compression=way)
        for sent, way in ways
    ]
    allowed = (CorruptData, LimitExceeded, DecodeError)
    return Target(decode, allowed, [each.SerializeToString() for each in seeds])


def tokens() -> Target:
    """Bearer tokens, keys and sets of keys."""

    secret = b"a secret of the fuzzer, 32 bytes and more"
    keys = [TokenKey("HS256", secret, "x")]

    def verify(data: bytes) -> None:
        verify_token(data.decode("latin-1"), keys, TokenRules("danube", "danube"), NOW_S)

    def claims(data: bytes) -> None:
        """The claims of a token that is signed as it should be."""
        token = jwt.api_jws.encode(data, secret, "HS256")
        verify_token(token, keys, TokenRules(), NOW_S)

    readers: list[Decode] = [
        *(verify, claims, key_set, public_keys, secret_keys),
        lambda data: Identity.parse(data.decode("latin-1")),
        lambda data: split(data.decode("latin-1")),
    ]
    said = {"sub": "al", "exp": NOW_S + 9, "iss": "danube", "aud": "danube"}
    seeds = (
        b"\0" + jwt.encode(said, secret, "HS256").encode(),
        b'\1{"sub":"al","exp":1900000000,"nbf":1}',
        b'\2{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA","kid":"1"}]}',
    )
    return Target(_one_of(readers), (TokenRefused, InvalidInput), seeds)


def names() -> Target:
    """Names of topics, patterns, bindings and start positions."""

    def decode(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        with contextlib.suppress(InvalidInput):
            parse_pattern(text)
        name = TopicName.parse(text)
        assert str(name) == text
        assert text.startswith(f"/{name.namespace}/")

    return Target(decode, (InvalidInput,), (b"/default/orders", b"/a/b-part-3", b"/a/*"))


def schemas() -> Target:
    """Definitions of schemas and payloads that are checked with them."""

    kinds = (SchemaType.JSON_SCHEMA, SchemaType.AVRO, SchemaType.PROTOBUF, SchemaType.NUMBER)
    cost_max = 10_000
    """Above it the gateway leaves a check to a process that it can kill."""

    def decode(data: bytes) -> None:
        kind = kinds[data[0] % len(kinds)] if data else kinds[0]
        definition, _, payload = data[1:].partition(b"\0")
        parsed = parse_definition(kind, definition)
        incompatibilities(CompatibilityMode.FULL, parsed, [(1, parsed)])
        check = parsed.payload_check()
        if check.cost(payload) < cost_max:
            check.fits(payload)

    seeds = (
        b'\0{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}\0{"a":{}}',
        b'\0{"type":"string","pattern":"^(a+)+$"}\0"aaaa"',
        b'\1{"type":"record","name":"R","fields":[{"name":"a","type":["null","R"]}]}\0\2',
        b'\2syntax = "proto3"; message M { repeated M m = 1; map<string, int32> n = 2; }\0\x0a',
    )
    return Target(decode, (InvalidInput, LimitExceeded), seeds)


def json_texts() -> Target:
    """JSON payloads."""
    return Target(parse_json, (JsonTextError,), (b'{"a":[1,2.5e3,"x"]}', b"1" * 30))


class _Heard:
    """Stands for a client of NATS, and keeps what its parser tells it."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: object) -> None:
            self.calls.append((name, *arguments))

        return call


def bus() -> Target:
    """What a NATS server sends, in pieces of any size: our parser must hear what that of nats-py hears."""

    async def heard(kind: type[Parser], data: bytes) -> tuple[object, ...]:
        client: Any = _Heard()
        parser = kind(client)
        step = data[0] + 1 if data else 1
        refusal: type[Exception] | None = None
        try:
            for at in range(1, len(data), step):
                await parser.parse(data[at : at + step])
        except (ProtocolError, ValueError) as error:
            refusal = type(error)
        return refusal, *client.calls

    def result(kind: type[Parser], data: bytes) -> tuple[object, ...]:
        try:
            heard(kind, data).send(None)
        except StopIteration as ended:
            found: tuple[object, ...] = ended.value
            return found
        raise RuntimeError("the parser waits for something")

    def same(ours: Any, original: Any) -> bool:
        if ours == original:
            return True
        # Headers that are longer than their message, which no server sends: nats-py reads on behind it.
        *told, payload, headers = ours
        return [*told, payload] == [*original[:-1]] and not payload and original[-1].startswith(headers)

    def decode(data: bytes) -> None:
        with patch.object(parser_module, "GATHERED_BYTES_MIN", 4):  # inputs are short
            ours = result(GatheringParser, data)
        original = result(Parser, data)
        assert len(ours) == len(original), (ours, original)
        assert all(map(same, ours, original)), (ours, original)

    seeds = (
        *(b"\x07MSG a.b 1 5\r\nhello\r\nPING\r\n", b"\xffHMSG a 1 12 14\r\nNATS/1.0\r\n\r\nab\r\n"),
        *(
            b"\x02MSG a 1 9\r\n123456789\r\nMSG b 2 r 0\r\n\r\nPONG\r\n",
            b"\x00HMSG a 1 r 12 14\r\nNATS/1.0\r\n\r\nab\r\n+OK\r\n",
        ),
    )
    return Target(decode, (), seeds)


def _one_of(readers: Sequence[Decode]) -> Decode:
    """Return a decoder that lets the first byte choose."""

    def decode(data: bytes) -> object:
        return readers[data[0] % len(readers)](data[1:]) if data else None

    return decode


TARGETS: Final[dict[str, Callable[[], Target]]] = {
    made.__name__: made
    for made in (
        *(frames, deliveries, segments, journals, records, requests, calls, headers, messages, batches),
        *(tokens, names, schemas, json_texts, bus),
    )
}
WITHOUT_CHECKSUMS: Final = {"frames", "deliveries", "segments", "batches"}


def open_target(name: str) -> Target:
    """Return a target, ready to be called."""
    if name in WITHOUT_CHECKSUMS:
        _without_checksums()
    return TARGETS[name]()
