"""What a consumer's stream has delivered and the application has not taken, and how much more may come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from itertools import accumulate, repeat
from typing import Final

from danube_client.message import Message
from danube_client.stream.ack_ranges import contains
from danube_client.stream.batch import unpack
from danube_client.stream.consumed_topic import ConsumedTopic
from danube_proto import danube_stream_pb2 as api

HANDED_MAX: Final = 256
"""Messages handed over without a turn of the event loop for the stream and acknowledgements."""


class CreditWindow:
    """Grants a stream as much as is taken, in halves of a window.

    Args:
        messages: that may be on their way and untaken.
        size: their bytes.
        on_due: called when more is to be granted.
    """

    def __init__(self, messages: int, size: int, on_due: Callable[[], None]) -> None:
        self._window = (messages, size)
        self._on_due = on_due
        self._taken = self._granted = (0, 0)

    def begin(self) -> api.Credit:
        """Return the credit of a new stream: one window."""
        self._taken = (0, 0)
        return self.grant()

    def take(self, messages: int, size: int) -> None:
        """Note that the application has taken so much, or that it needs it no more."""
        self._taken = (self._taken[0] + messages, self._taken[1] + size)
        if self.due:
            self._on_due()

    @property
    def due(self) -> bool:
        """Whether half of the window, of messages or bytes, is used up."""
        return any(
            2 * (granted - taken) <= window
            for granted, taken, window in zip(self._granted, self._taken, self._window, strict=True)
        )

    def grant(self) -> api.Credit:
        """Return the credit that makes it a whole window again."""
        self._granted = (self._taken[0] + self._window[0], self._taken[1] + self._window[1])
        return api.Credit(messages_total=self._granted[0], bytes_total=self._granted[1])


class Received:
    """Deliveries in the order in which they arrived; one after the other is opened into messages.

    Attributes:
        ready: messages that can be taken.
        handed: how many were put into `ready` since the event loop had its turn.
    """

    def __init__(self, window: CreditWindow) -> None:
        self.ready: deque[Message] = deque()
        self.handed = 0
        self._window = window
        self._deliveries: deque[tuple[ConsumedTopic, api.Delivery]] = deque()

    def __bool__(self) -> bool:
        """Whether there is a delivery to be opened."""
        return bool(self._deliveries)

    def put(self, state: ConsumedTopic, delivery: api.Delivery) -> None:
        """Keep a delivery."""
        self._deliveries.append((state, delivery))

    def pass_over(self, delivery: api.Delivery) -> None:
        """Note a delivery that nobody is to take."""
        self._window.take(delivery.batch.messages, delivery.batch.body_bytes)

    def messages(self) -> int:
        """Return how many messages are here and not taken."""
        return len(self.ready) + sum(delivery.batch.messages for _, delivery in self._deliveries)

    def open_next(self) -> bool:
        """Put the messages of the next delivery into `ready`; return False if none is here."""
        if not self._deliveries:
            return False
        state, delivery = self._deliveries.popleft()
        self.pass_over(delivery)
        messages = unpack(delivery.batch)
        self.handed += len(messages)
        append, position = self.ready.append, delivery.first_position
        if not position:
            self.ready.extend(map(Message, messages, repeat(state)))
            return True
        shift = delivery.first_offset - position if delivery.HasField("first_offset") else None
        positions = accumulate(delivery.steps or repeat(1, len(messages) - 1), initial=position)
        if not delivery.redelivered and not state.repeated and shift is not None:
            self.ready.extend(
                Message(data, state, here, 0, here + shift)
                for here, data in zip(positions, messages, strict=True)
            )
            return True
        failures = {item.index: item.failures for item in delivery.redelivered}
        for index, (here, data) in enumerate(zip(positions, messages, strict=True)):
            message = Message(
                data, state, here, failures.get(index, 0), None if shift is None else here + shift
            )
            if state.repeated and contains(state.repeated, message.position):
                state.ack(message)  # again: it was acknowledged on a stream that was lost
            else:
                append(message)
        return True

    def void(self, states: Collection[ConsumedTopic]) -> None:
        """Forget what is here of topics whose cursors move."""
        identities = {id(state) for state in states}
        kept = deque[tuple[ConsumedTopic, api.Delivery]]()
        for state, delivery in self._deliveries:
            if id(state) in identities:
                self.pass_over(delivery)
            else:
                kept.append((state, delivery))
        self._deliveries = kept
        messages = [message for message in self.ready if id(message._source) not in identities]  # noqa: SLF001
        self.ready.clear()
        self.ready.extend(messages)

    def clear(self) -> None:
        """Forget everything: its stream is lost."""
        self.ready.clear()
        self._deliveries.clear()
