"""Decides what the record of a name becomes when partitions are asked for. No I/O, no clock.

A name is a plain topic or a partitioned one: both are stored under one key, so a compare-and-set on that key
settles which of two concurrent creators wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from danube_common.cluster.records import PartitionedTopic, Topic, decode_definition
from danube_common.errors import AlreadyExists, InvalidInput, PartitionsDiffer
from danube_common.metadata.port import Entry
from danube_common.model.names import TopicName
from danube_common.model.schema import Schema
from danube_common.model.strategy import Strategy

PARTITIONS_MAX: Final = 100_000
"""Partitions of one topic."""
GROWTH_PAUSE_MS: Final = 1000
"""A client that creates partitions one by one pauses for less: after it, the number counts as settled."""

Definition = Topic | PartitionedTopic


@dataclass(frozen=True, slots=True)
class PartitionWish:
    """Partitions of one topic that somebody wants to create.

    Attributes:
        base: the partitioned topic.
        numbers: the partitions.
        producer: the name of the producer that asks; None for an operator.
    """

    base: TopicName
    numbers: Sequence[int]
    schema: Schema
    strategy: Strategy
    producer: str | None = None


def check_partitions(base: TopicName, numbers: Sequence[int]) -> None:
    """Check that a topic may have partitions of these numbers; raises InvalidInput."""
    if base.partition_of is not None:
        raise InvalidInput(f"{base} has the name of a partition, and partitions have no partitions")
    if (largest := max(numbers)) >= PARTITIONS_MAX:
        raise InvalidInput(
            f"a topic has at most {PARTITIONS_MAX} partitions, so none has the number {largest}"
        )


def partitioned(
    present: Definition | None, wish: PartitionWish, *, new_id: int, now_ms: int
) -> PartitionedTopic:
    """Return the record of a partitioned topic that has the partitions of ``wish``; maybe the present one.

    Raises:
        AlreadyExists: the name is that of a plain topic.
        InvalidInput: the partitions of the topic have another schema or strategy.
        PartitionsDiffer: the producer may not add partitions.
    """
    wanted = max(wish.numbers) + 1
    if isinstance(present, Topic):
        raise AlreadyExists(f"topic {wish.base} exists already, and not in partitions")
    if present is None:
        creator = None if wish.producer is None else client_of(wish.producer, wanted - 1) or ""
        return PartitionedTopic(
            str(wish.base), new_id, wanted, wish.schema, wish.strategy, now_ms, now_ms, creator
        )
    if difference := present.schema.differs_from(wish.schema) or present.strategy.differs_from(wish.strategy):
        raise InvalidInput(f"{wish.base}-part-0 differs from what was asked for another one: {difference}")
    if wanted <= present.partitions:
        return present
    creator = None
    if wish.producer is not None:
        creator = _grower(present, wish.producer, wanted, now_ms)
    return msgspec.structs.replace(present, partitions=wanted, grown_ms=now_ms, creator=creator)


def _grower(present: PartitionedTopic, producer: str, wanted: int, now_ms: int) -> str:
    """Return the creator that a topic has after a producer has added partitions. Raises PartitionsDiffer."""
    asking = client_of(producer, wanted - 1)
    if present.creator is not None and (not asking or not present.creator or asking == present.creator):
        return present.creator or asking
    raise PartitionsDiffer(
        f"topic {present.name} has {counted(present.partitions)}, and producer {producer} asks for number "
        f"{wanted - 1}, as one with at least {wanted} does; an operator can add partitions",
        settled=present.creator is None or now_ms - present.grown_ms >= GROWTH_PAUSE_MS,
    )


def client_of(producer: str, number: int) -> str:
    """Return the name that a client's user gave to a producer, of which this one is for a partition.

    Official clients put the partition's number behind it. Empty if this producer has not such a name.
    """
    name, _, suffix = producer.rpartition("-")
    return name if suffix == str(number) else ""


def counted(partitions: int) -> str:
    """Return a number of partitions in words."""
    return "1 partition" if partitions == 1 else f"{partitions} partitions"


def existing_topics(entries: Iterable[Entry]) -> tuple[list[Topic], list[PartitionedTopic]]:
    """Return the topics and partitions, and the partitioned topics, of all entries of a namespace, by name.

    What a deleted partitioned topic left is not among them.
    """
    found = [decode_definition(entry.value) for entry in entries if entry.key.endswith("/definition")]
    bases = [one for one in found if isinstance(one, PartitionedTopic)]
    present = {0, *(one.topic_id for one in bases)}
    topics = [one for one in found if isinstance(one, Topic) and one.partitioned_id in present]
    return sorted(topics, key=lambda one: one.name), sorted(bases, key=lambda one: one.name)


def parts_of(name: TopicName, topics: Iterable[Topic]) -> list[Topic]:
    """Return those of ``topics`` that are partitions of ``name``, by number."""
    parts = [topic for topic in topics if topic.topic_name.partition_of == name]
    return sorted(parts, key=lambda topic: topic.topic_name.partition_number or 0)
