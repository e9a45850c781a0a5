"""Where the messages of one worker come from: partitions that it has or is to get, and changelogs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final

from faust.types import TP

from danube_client import Client, Message
from danube_faust.source import Followed, Source, Subscribed
from danube_faust.topics import Topics

FETCH_MAX: Final = 1000
"""Messages of a partition in one fetch."""


class Sources:
    """Opens, reads and closes the sources of a worker.

    Args:
        client: an open client.
        topics: of the app.
        group: the name of the app's subscriptions.
        member: this worker's name, which no other one has.
        arrived: is set when a message has arrived.
        changed: is set when a partition was won or lost, a source failed, or changes are missing.

    Attributes:
        assigned: the partitions that Faust knows that this worker has, with the changelogs that it follows.
    """

    def __init__(
        self,
        client: Client,
        topics: Topics,
        group: str,
        member: str,
        *,
        arrived: asyncio.Event,
        changed: asyncio.Event,
    ) -> None:
        self.assigned: set[TP] = set()
        self._client = client
        self._topics = topics
        self._group = group
        self._member = member
        self._arrived = arrived
        self._changed = changed
        self._subscribed: dict[TP, Subscribed] = {}
        self._followed: dict[TP, Followed] = {}
        self._gaps: set[TP] = set()

    async def keep(self, subscribed: AbstractSet[TP], changelogs: AbstractSet[TP]) -> None:
        """Have these subscribed, follow no changelogs but these, and close everything else.

        Raises:
            ClientError: the platform refused.
        """
        gone = [tp for tp in self._subscribed if tp not in subscribed]
        await asyncio.gather(*(self._subscribed.pop(tp).close() for tp in gone))
        for tp in [tp for tp in self._followed if tp not in changelogs]:
            await self._followed.pop(tp).close()
        await asyncio.gather(*(self._subscribe(tp) for tp in subscribed if tp not in self._subscribed))

    async def _subscribe(self, tp: TP) -> None:
        source = Subscribed(self._client, self._topics.name(tp), self._notify, self._group, self._member)
        await source.open()
        self._subscribed[tp] = source

    async def close(self) -> None:
        """Commit and leave."""
        await asyncio.gather(
            *(source.close() for source in [*self._subscribed.values(), *self._followed.values()])
        )
        self._subscribed.clear()
        self._followed.clear()

    def of(self, tp: TP) -> Source:
        """Return the source of a partition; one that is not subscribed is a changelog, and is followed."""
        subscribed = self._subscribed.get(tp)
        if subscribed is not None:
            return subscribed
        if tp not in self._followed:
            self._followed[tp] = Followed(
                self._client, self._topics.name(tp), self._arrived.set, partial(self._on_gap, tp)
            )
        return self._followed[tp]

    def lacking(self, wanted: Iterable[TP]) -> set[TP]:
        """Return those that this worker does not have, as the platform says."""
        return {tp for tp in wanted if (source := self._subscribed.get(tp)) is None or not source.active}

    def is_followed(self, tp: TP) -> bool:
        """Return whether a partition is a changelog that is read."""
        return tp in self._followed

    def take(self, tps: AbstractSet[TP] | None = None) -> dict[TP, list[Message]]:
        """Return what has arrived of assigned partitions, all or some; paused changelogs go on."""
        found = {}
        for tp in self.assigned if tps is None else tps & self.assigned:
            source = self.of(tp)
            if isinstance(source, Followed):
                source.resume()
            if messages := source.take(FETCH_MAX):
                found[tp] = messages
        return found

    def pause(self, tps: Iterable[TP]) -> None:
        """Do not read changelogs until the next fetch."""
        for tp in tps:
            if (followed := self._followed.get(tp)) is not None:
                followed.pause()

    def committable(self, tp: TP, acked: Collection[int]) -> int | None:
        """Return the offset before which everything is acknowledged; None if there is none."""
        source = self._subscribed.get(tp)
        return None if source is None else source.log.committable(acked.__contains__)

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        """Acknowledge everything before offsets; return whether there was a partition to do so.

        Raises:
            ClientError: the platform refused.
            TimeoutError: it did not answer.
        """
        due = [(source, offset) for tp, offset in offsets.items() if (source := self._subscribed.get(tp))]
        await asyncio.gather(*(source.commit(offset) for source, offset in due))
        return bool(due)

    def rewind(self) -> dict[TP, int]:
        """Give everything again that is not committed; return where that is, where something is known."""
        found = {tp: source.log.rewind() for tp, source in self._subscribed.items() if tp in self.assigned}
        return {tp: offset for tp, offset in found.items() if offset is not None}

    def take_gaps(self) -> dict[TP, int]:
        """Return the changelogs of which changes were deleted unread, and the position from which on."""
        gaps, self._gaps = self._gaps, set()
        return {tp: followed.log.end for tp in gaps if (followed := self._followed.get(tp)) is not None}

    def raise_failure(self) -> None:
        """Raise what ended a source for good, if anything did."""
        for source in self._subscribed.values():
            if source.failed is not None:
                raise source.failed

    def _notify(self) -> None:
        self._arrived.set()
        if any(
            source.failed or (tp in self.assigned) != source.active for tp, source in self._subscribed.items()
        ):
            self._changed.set()

    def _on_gap(self, tp: TP) -> None:
        self._gaps.add(tp)
        self._changed.set()
