"""The records stored under the keys of `keys`, as JSON."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from danube_common.errors import UNDECODABLE, CorruptData
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle, Family
from danube_common.model.names import TopicName
from danube_common.model.policies import PolicyOverrides
from danube_common.model.schema import Schema
from danube_common.model.strategy import Strategy

R = TypeVar("R", bound=msgspec.Struct)


class Layout(msgspec.Struct, frozen=True):
    """The number of bundles of each family. The numbers may grow, never shrink."""

    file_bundles: int
    memory_bundles: int

    def bundles(self) -> list[Bundle]:
        """Return all bundles, or those of one family."""
        counts = ((Family.FILE, self.file_bundles), (Family.MEMORY, self.memory_bundles))
        return [Bundle(family, number) for family, count in counts for number in range(count)]

    def count(self, family: Family) -> int:
        """Return the number of bundles of a family."""
        return self.file_bundles if family is Family.FILE else self.memory_bundles


class Instance(msgspec.Struct, frozen=True):
    """A live process. ``kind`` is gateway, topic-owner, storage or admin.

    ``backends``: what a storage instance is set up to keep segments in.
    """

    instance_id: str
    kind: str
    http_url: str
    address: str = ""
    started_ms: int = 0
    backends: tuple[str, ...] = ()


class Assignment(msgspec.Struct, frozen=True):
    """The owner that a bundle is assigned to. ``since_ms``: when, by the wall clock."""

    instance_id: str
    since_ms: int = 0


class Drain(msgspec.Struct, frozen=True):
    """A topic-owner that gets no bundles until it is activated.

    Attributes:
        bundles: how many it had when the drain began.
        parallel: how many it hands over at one time.
        since_ms: wall clock, for people.
    """

    instance_id: str
    bundles: int
    parallel: int
    since_ms: int


class Claim(msgspec.Struct, frozen=True):
    """An owner's claim of a bundle. ``nonce`` differs between two claims of one instance."""

    instance_id: str
    nonce: str


class Namespace(msgspec.Struct, frozen=True):
    """A namespace with its policies."""

    name: str
    policies: PolicyOverrides = PolicyOverrides()


class Topic(msgspec.Struct, frozen=True):
    """A topic or one partition.

    Attributes:
        name: ``/namespace/topic``.
        topic_id: unique per creation; what frames carry.
        bundle: where it belongs for life, e.g. ``f3``.
        schema: enforced on publish.
        strategy: how it is dispatched and, for reliable topics, kept.
        log_floor: the log's last sequence when the topic was created; no message of it is at or below.
        created_ms: wall clock, for people.
        partitioned_id: the id of the partitioned topic that it is a partition of; 0 for a plain topic.
            A partition exists only as long as a partitioned topic of this id does.
    """

    name: str
    topic_id: int
    bundle: str
    schema: Schema
    strategy: Strategy
    log_floor: int
    created_ms: int
    partitioned_id: int = 0

    @property
    def topic_name(self) -> TopicName:
        """The name, parsed."""
        return TopicName.parse(self.name)

    @property
    def home(self) -> Bundle:
        """The bundle, parsed."""
        return Bundle.parse(self.bundle)


class PartitionedTopic(msgspec.Struct, frozen=True, tag_field="kind", tag="partitioned"):
    """A partitioned topic. It is stored where a plain topic of its name would be: a name is one or the other.

    Attributes:
        name: ``/namespace/topic``; the partitions are ``/namespace/topic-part-0`` and so on.
        topic_id: unique per creation.
        partitions: how many it has; their numbers are below. Clients create them one by one.
        schema: that of every partition.
        strategy: that of every partition.
        created_ms: wall clock, for people.
        grown_ms: when its number of partitions was last changed.
        creator: the producer whose client created it and may add partitions; empty if none is known, then
            any may; None if an operator has set the number, then only operators may.
    """

    name: str
    topic_id: int
    partitions: int
    schema: Schema
    strategy: Strategy
    created_ms: int
    grown_ms: int
    creator: str | None = None

    @property
    def topic_name(self) -> TopicName:
        """The name, parsed."""
        return TopicName.parse(self.name)


class _Kind(msgspec.Struct, frozen=True):
    kind: str = ""


def decode_definition(data: bytes) -> Topic | PartitionedTopic:
    """Decode what is stored under a topic's key; raises CorruptData."""
    if decode_record(_Kind, data).kind:
        return decode_record(PartitionedTopic, data)
    return decode_record(Topic, data)


def encode_record(record: msgspec.Struct) -> bytes:
    """Encode a record."""
    return msgspec.json.encode(record)


async def read_record(store: MetadataStore, key: str, kind: type[R]) -> R | None:
    """Return the record of a key; None if there is none. Raises CorruptData, MetadataUnavailable."""
    entry = await store.get(key)
    return decode_record(kind, entry.value) if entry is not None else None


async def read_records(store: MetadataStore, prefix: str, kind: type[R]) -> list[R]:
    """Return the records below a prefix, in the order of their keys. Raises as `read_record` does."""
    return [decode_record(kind, entry.value) for entry in (await store.list(prefix)).entries]


def decode_record(kind: type[R], data: bytes) -> R:
    """Decode a record; raises CorruptData."""
    try:
        return msgspec.json.decode(data, type=kind)
    except UNDECODABLE as error:
        raise CorruptData(f"not a {kind.__name__} record that this version knows: {error}") from None
