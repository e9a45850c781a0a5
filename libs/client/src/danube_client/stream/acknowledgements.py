"""What one streaming consumer acknowledges: gathered, sent under tickets, sent again after a lost stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from danube_client.stream.ack_ranges import Ranges, merged
from danube_client.stream.consumed_topic import ConsumedTopic
from danube_proto import danube_stream_pb2 as api

ACK_DELAY_S: Final = 0.02
"""An acknowledgement leaves so much later, or with ACKS others."""
ACKS: Final = 1024
TICKETS_MAX: Final = 64
"""So many sent acknowledgements may be unconfirmed; then they gather."""
RANGES_MAX: Final = 4096
"""Ranges in one acknowledgement."""


class Acknowledgements:
    """Those of all topics of one consumer.

    Attributes:
        done: what `await message.ack()` waits for: nothing.

    Args:
        prefetch: how many unacknowledged messages the platform hands out; 0 if it decides. Acknowledgements
            leave before it waits for them.
        wake: has `due` asked for.
    """

    def __init__(self, prefetch: int, wake: Callable[[], None]) -> None:
        self._flush_at = ACKS if not prefetch else max(1, min(ACKS, prefetch // 2))
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.done.set_result(None)
        self._dirty: list[ConsumedTopic] = []
        self._unflushed = 0
        self._flush_due = False
        self._nacked = False
        """Whether the next ticket is also of negative acknowledgements."""
        self._timer: asyncio.TimerHandle | None = None
        self._ticket = self._confirmed = 0
        self._flushes: dict[int, list[tuple[ConsumedTopic, Ranges, int]]] = {}
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def mark_dirty(self, state: ConsumedTopic) -> None:
        """Remember that a topic has acknowledgements that are not sent."""
        if not state.acks.count and not state.cumulative:
            self._dirty.append(state)

    def note(self, count: int = 1) -> None:
        """Count acknowledgements, and see that they leave soon."""
        self._unflushed += count
        if self._unflushed >= self._flush_at:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(ACK_DELAY_S, self.flush)

    def note_nack(self) -> None:
        """Count a negative acknowledgement, which was sent by itself: a flush waits for it, too."""
        self._nacked = True
        self.note()

    def flush(self) -> None:
        """Send what was gathered, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush_due = True
        self._wake()

    def flushed(self) -> asyncio.Future[None] | None:
        """Send what was gathered; return what is done when the platform has it, None if it has."""
        target = self._ticket + 1 if self._unflushed else self._ticket
        if target <= self._confirmed:
            return None
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((target, waiter))
        self.flush()
        return waiter

    def due(self) -> Iterator[api.ConsumeRequest]:
        """Return the acknowledgements that are to be sent now."""
        if not self._flush_due or len(self._flushes) >= TICKETS_MAX:
            return
        self._flush_due = False
        self._unflushed = 0
        requests = []
        flushed: list[tuple[ConsumedTopic, Ranges, int]] = []
        dirty, self._dirty = self._dirty, []
        for state in dirty:
            index = state.index
            if index is None:  # until the topic is added to this stream, if it ever is
                if not state.void:
                    self._dirty.append(state)
                    self._unflushed += state.acks.count
                continue
            ranges, cumulative = state.acks.take(), state.cumulative
            state.cumulative = 0
            if not ranges and not cumulative:
                continue
            flushed.append((state, ranges, cumulative))
            for first in range(0, len(ranges) or 1, RANGES_MAX):
                ack = api.Ack(topic=index, cumulative=cumulative if not first else 0)
                add = ack.ranges.add
                for low, high in ranges[first : first + RANGES_MAX]:
                    add(first=low, last=high)
                requests.append(ack)
        if not requests:
            if not self._nacked and (self._dirty or not self._waiters):
                return
            # Only its ticket counts: for a nack, or for what belongs to no topic any more.
            requests.append(api.Ack())
        self._nacked = False
        self._ticket += 1
        self._flushes[self._ticket] = flushed
        requests[-1].ticket = self._ticket
        for ack in requests:
            yield api.ConsumeRequest(ack=ack)

    def confirm(self, ticket: int, *, settled: bool) -> None:
        """Note that the platform has everything up to a ticket.

        ``settled`` says that no delivery waits here which could hold some of it again.
        """
        self._confirmed = max(self._confirmed, ticket)
        for number in [number for number in self._flushes if number <= ticket]:
            flushed = self._flushes.pop(number)
            if settled:
                for state, _, _ in flushed:
                    state.repeated = []
        due = [waiter for target, waiter in self._waiters if target <= ticket]
        self._waiters = [item for item in self._waiters if item[0] > ticket]
        for waiter in due:
            if not waiter.done():
                waiter.set_result(None)
        if self._flush_due or self._waiters:
            self.flush()

    def lose_stream(self) -> None:
        """Have everything that is not known to have arrived sent again on the next stream."""
        for flushed in self._flushes.values():
            for state, ranges, cumulative in flushed:
                self.mark_dirty(state)
                state.acks.extend(ranges)
                state.cumulative = max(state.cumulative, cumulative)
        self._flushes.clear()
        self._unflushed = 0
        for state in self._dirty:
            ranges = state.acks.take()
            state.acks.extend(ranges)
            state.repeated = merged([*state.repeated, *ranges])
            self._unflushed += state.acks.count or 1

    def end(self, error: Exception) -> None:
        """Fail those who wait."""
        if self._timer is not None:
            self._timer.cancel()
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()
        self._waiters.clear()
