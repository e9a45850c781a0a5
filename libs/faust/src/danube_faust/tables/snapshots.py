"""Snapshots of changelogs: each key once, so that recovery need not read all changes that ever were.

The snapshots of a changelog's partition are in a topic beside it, with as many partitions. A mark, in a third
topic, says that a snapshot is whole; without one it does not count.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Final, Self, TypeVar

from faust.types import TP

from danube_client import Client, Message, Start
from danube_faust import record
from danube_faust.record import Incoming
from danube_faust.topics import Topics

RECORDS: Final = "-snapshot"
MARKS: Final = "-snapshot-marks"
BATCH: Final = 1000
"""Records of a snapshot that are written, or put into a table, at once."""
ID: Final = "snapshot"
"""The header of a record that names its snapshot."""

BEGIN_ANEW: Final = (
    "Delete the changelog, its snapshots and the app's subscription of the source, to make the table anew"
)
"""What helps when changes are lost."""

T = TypeVar("T")


class ChangelogIncomplete(Exception):
    """A changelog lacks changes that no snapshot covers: nothing may be made from it."""


class SnapshotIncomplete(Exception):
    """A snapshot lacks records that its mark counts: they were deleted."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a whole snapshot stands for. Positions belong to one partition.

    Attributes:
        snapshot: its name.
        covers: the changes before this position of the changelog are in it.
        kept_from: the changelog is kept from this position on; 0 if all of it is.
        first: the position of its first record.
        last: the position of its last record.
        count: how many records it has; with none, `first` and `last` are 0.
        written_s: when it was written, in seconds since the epoch.
        position: its own, in the topic of marks.
    """

    snapshot: str
    covers: int
    kept_from: int
    first: int
    last: int
    count: int
    written_s: float
    position: int = 0

    def to_json(self) -> str:
        """Return the payload of the mark."""
        return json.dumps(asdict(self))

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Return the mark of a message.

        Raises:
            ValueError: it is none.
        """
        try:
            return replace(cls(**json.loads(message.payload)), position=message.position)
        except TypeError as error:
            raise ValueError(f"no mark of a snapshot: {message.payload!r}") from error


class Snapshots:
    """The snapshots of an app's changelogs.

    Args:
        client: an open client.
        topics: of the app.
    """

    def __init__(self, client: Client, topics: Topics) -> None:
        self._client = client
        self._topics = topics

    async def marks(self, changelog: TP) -> list[Mark]:
        """Return the marks of a changelog's partition; the last one covers most.

        Raises:
            ValueError: the topic of marks holds something else.
            ClientError: the platform did not answer.
        """
        marks = marks_of(changelog)
        if not await self._topics.find(marks.topic):
            return []
        async with self._client.reader(self._topics.name(marks)) as reader:
            found = [Mark.from_message(message) async for message in reader]
        return sorted(found, key=lambda mark: mark.covers)

    async def newest(self, changelogs: Sequence[TP]) -> dict[TP, Mark]:
        """Return the mark that covers most of each partition that has one.

        Raises:
            ValueError: a topic of marks holds something else.
            ClientError: the platform did not answer.
        """
        found = await asyncio.gather(*(self.marks(tp) for tp in changelogs))
        return {tp: marks[-1] for tp, marks in zip(changelogs, found, strict=True) if marks}

    async def ends(self, changelogs: Sequence[TP]) -> dict[TP, int]:
        """Return what follows the newest change of each partition, which may be in a snapshot only; or 0.

        Raises:
            ClientError: the platform did not answer.
        """
        ends = await self._topics.ends(changelogs)
        newest = await self.newest(changelogs)
        return {tp: max(end, newest[tp].covers) if tp in newest else end for tp, end in ends.items()}

    async def records(self, changelog: TP, mark: Mark) -> AsyncIterator[Incoming]:
        """Yield the records of a snapshot.

        Raises:
            SnapshotIncomplete: at the end: there were fewer than there should be. Or their topic is gone.
            ClientError: the platform did not answer.
        """
        count = 0
        if mark.count:
            topic = records_of(changelog)
            if not await self._topics.find(topic.topic):
                raise SnapshotIncomplete(
                    f"topic {topic.topic}, which has the snapshots of {changelog}, is gone"
                )
            name, start = self._topics.name(topic), Start.at(mark.first)
            async with self._client.reader(name, start=start, end_position=mark.last) as reader:
                async for message in reader:
                    if message.attributes.get(ID) == mark.snapshot:
                        count += 1
                        yield record.incoming(message.payload, message.attributes, message.key)
        if count != mark.count:
            raise SnapshotIncomplete(f"{count} of {mark.count} records of {changelog} are there")

    async def write(
        self, changelog: TP, partitions: int, state: Mapping[bytes, bytes], *, covers: int, kept_from: int
    ) -> Mark:
        """Store a snapshot, and then its mark.

        Args:
            changelog: the partition.
            partitions: how many the changelog has.
            state: value by key.
            covers: see `Mark`.
            kept_from: see `Mark`.

        Raises:
            ClientError: the platform refused, or did not answer; the snapshot does not count.
        """
        topic, marks = records_of(changelog), marks_of(changelog)
        await self._topics.create(topic.topic, partitions)
        await self._topics.create(marks.topic, partitions)
        name = uuid.uuid4().hex
        first = last = 0
        async with self._client.producer(self._topics.name(topic)) as producer:
            for batch in batched(state.items(), BATCH):
                records = [record.outgoing(key, value, {ID: name}) for key, value in batch]
                answers = [await producer.post(one.payload, one.attributes, key=one.key) for one in records]
                positions = await asyncio.gather(*answers)
                first, last = first or positions[0], positions[-1]
        mark = Mark(name, covers, kept_from, first, last, len(state), time.time())
        async with self._client.producer(self._topics.name(marks)) as producer:
            await producer.send(mark.to_json())
        return mark


def check_whole(changelog: TP, oldest: Message | None) -> None:
    """Return if a changelog without a mark has all of its changes from the first one on.

    A compaction lets only those changes go that a mark covers, and never the newest ones.

    Args:
        changelog: the partition.
        oldest: its oldest change.

    Raises:
        ChangelogIncomplete: changes before the oldest one were deleted.
    """
    if oldest is not None and oldest.offset:
        raise ChangelogIncomplete(
            f"{changelog.topic} lacks the first {oldest.offset} changes of partition {changelog.partition}: a"
            f" compaction let them go, and the marks of its snapshots are gone from"
            f" {marks_of(changelog).topic}. Its table cannot be recovered. {BEGIN_ANEW}"
        )


def records_of(changelog: TP) -> TP:
    """Return where the snapshots of a changelog's partition are."""
    return TP(changelog.topic + RECORDS, changelog.partition)


def marks_of(changelog: TP) -> TP:
    """Return where the marks of these snapshots are."""
    return TP(changelog.topic + MARKS, changelog.partition)


def batched(some: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of at most so many; Python 3.11 has none."""
    rest = iter(some)
    while batch := list(islice(rest, size)):
        yield batch
