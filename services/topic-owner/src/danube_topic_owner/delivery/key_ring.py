"""Which consumer of a key-shared subscription gets a key: consistent hashing, and filters. Pure.

The hash and the ring are those of the current generation of clients (docs/wire/current.md).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from danube_common.model.subscription import key_matches
from danube_common.wire.protobuf_fields import last_texts

NODES_PER_CONSUMER: Final = 100
KEY_BYTES_MAX: Final = 1024
"""Keys that begin with the same bytes up to this length are one key."""
KEYS_CACHED_MAX: Final = 10_000
"""Keys whose consumer is remembered; at the bound all are forgotten."""
CONSUMERS_CACHED_MAX: Final = 1_000
LENGTHS_CACHED_MAX: Final = 4_096
MESSAGES_AT_ONCE: Final = 64
"""Messages that are parsed together: more take longer, since their copy leaves the processor's cache."""
BYTES_AT_ONCE: Final = 128 * 1024
"""Messages of more bytes are parsed one by one: to copy them takes longer than that saves."""

ROUTING_KEY: Final = 10
"""Fields of a StreamMessage in every generation of the client contract."""
PRODUCER_NAME: Final = 5
_FIELD_OF_MANY: Final = b"\x0a"
"""Tag of field 1, whose values have a length."""

_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_MASK_64: Final = (1 << 64) - 1
_MASK_32: Final = (1 << 32) - 1


def _types() -> Sequence[type[Any]]:
    """Return a message type that has the two fields of a StreamMessage which make its key, as bytes.

    And one that has many of these. Protobuf reads one message in a fifth of the time that `last_texts` takes,
    and many together in four fifths of the time that they take one by one.
    """
    file = descriptor_pb2.FileDescriptorProto(name="keyed.proto", syntax="proto3")
    types = descriptor_pb2.FieldDescriptorProto
    keyed = file.message_type.add(name="Keyed")
    for name, number in (("producer_name", PRODUCER_NAME), ("routing_key", ROUTING_KEY)):
        keyed.field.add(name=name, number=number, type=types.TYPE_BYTES, label=types.LABEL_OPTIONAL)
    many = {"type": types.TYPE_MESSAGE, "type_name": ".Keyed", "label": types.LABEL_REPEATED}
    file.message_type.add(name="Many").field.add(name="messages", number=1, **many)
    pool = DescriptorPool()
    pool.Add(file)
    return [GetMessageClass(pool.FindMessageTypeByName(name)) for name in ("Keyed", "Many")]


_Keyed, _Many = _types()


def key_of(message: bytes) -> bytes:
    """Return the key of a serialized StreamMessage: its routing key, or else its producer's name."""
    try:
        found = _Keyed.FromString(message)
    except DecodeError:
        return last_texts(message, ROUTING_KEY, PRODUCER_NAME)[:KEY_BYTES_MAX]
    key: bytes = found.routing_key or found.producer_name
    return key[:KEY_BYTES_MAX]


def keys_of(messages: Sequence[bytes]) -> list[bytes]:
    """Return the `key_of` each message."""
    keys: list[bytes] = []
    for start in range(0, len(messages), MESSAGES_AT_ONCE):
        some = messages[start : start + MESSAGES_AT_ONCE]
        if sum(map(len, some)) > BYTES_AT_ONCE:
            keys += map(key_of, some)
            continue
        data = b"".join([part for message in some for part in (_lead(len(message)), message)])
        try:
            found = _Many.FromString(data).messages
        except DecodeError:
            keys += map(key_of, some)
        else:
            keys += [(each.routing_key or each.producer_name)[:KEY_BYTES_MAX] for each in found]
    return keys


@lru_cache(LENGTHS_CACHED_MAX)
def _lead(length: int) -> bytes:
    """Return what stands before one of `_Many`: the field, and its length as a varint."""
    lead = bytearray(_FIELD_OF_MANY)
    while length > 0x7F:
        lead.append(length & 0x7F | 0x80)
        length >>= 7
    lead.append(length)
    return bytes(lead)


def hash_of(data: bytes) -> int:
    """Return the place on the ring: FNV-1a of 64 bits, folded to 32 bits, and murmur3's finalizer."""
    value = _FNV_OFFSET
    for byte in data:
        value = ((value ^ byte) * _FNV_PRIME) & _MASK_64
    value = (value >> 32) ^ (value & _MASK_32)
    value ^= value >> 16
    value = (value * 0x85EBCA6B) & _MASK_32
    value ^= value >> 13
    value = (value * 0xC2B2AE35) & _MASK_32
    return value ^ value >> 16


class KeyRing:
    """Assigns keys to consumers.

    Consumers with a filter that matches a key get it; if there is none, those without filters. Among them the
    ring decides: a consumer that joins or leaves takes or gives only its own share of the keys.

    Args:
        consumers: ids of the consumers, each with its filters.
    """

    def __init__(self, consumers: Iterable[tuple[int, tuple[str, ...]]]) -> None:
        self._filters = dict(consumers)
        nodes = sorted((place, each) for each in self._filters for place in _nodes(each))
        self._places = [place for place, _ in nodes]
        self._ids = [each for _, each in nodes]
        self._open = {each for each, filters in self._filters.items() if not filters}
        self._known: dict[bytes, int | None] = {}

    def consumer_of(self, key: bytes) -> int | None:
        """Return the id of the consumer that gets a key; None if no filter matches it."""
        try:
            return self._known[key]
        except KeyError:
            if len(self._known) >= KEYS_CACHED_MAX:
                self._known.clear()
            found = self._known[key] = self._find(key)
            return found

    def _find(self, key: bytes) -> int | None:
        candidates = self._open
        if len(candidates) < len(self._filters):
            text = key.decode(errors="replace")
            candidates = {
                each
                for each, filters in self._filters.items()
                if any(key_matches(one, text) for one in filters)
            } or candidates
        if not candidates:
            return None
        ids = self._ids
        at = bisect_left(self._places, hash_of(key)) % len(ids)
        while ids[at] not in candidates:
            at = (at + 1) % len(ids)
        return ids[at]


@lru_cache(CONSUMERS_CACHED_MAX)
def _nodes(consumer_id: int) -> tuple[int, ...]:
    return tuple(hash_of(f"{consumer_id}-{node}".encode()) for node in range(NODES_PER_CONSUMER))
