"""Sends deliveries and notices to gateways, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from danube_common.bus.port import Bus
from danube_common.errors import BusUnavailable
from danube_common.wire.delivery import Pack
from danube_common.wire.owner.notices import SessionEnded, encode_notice
from danube_common.wire.owner.protocol import gateway_subject
from danube_topic_owner.delivery.dispatch import Outgoing
from danube_topic_owner.delivery.traces import DeliveryTraces


class Outbox:
    """Queues of deliveries and notices by gateway, bounded by the credit of the sessions.

    Deliveries to one gateway that wait together travel together, and share the messages they have in common:
    a gateway gets a message once, to how many subscriptions it may go. A gateway notices a delivery that the
    bus lost by the gap in delivery numbers, and asks for it again.
    """

    def __init__(self, bus: Bus, epoch: int, traces: DeliveryTraces | None = None) -> None:
        self._traces = traces
        self._bus = bus
        self._epoch = epoch
        self._queues: dict[str, deque[Outgoing | SessionEnded]] = {}
        self._wake = asyncio.Event()
        self._unsent: tuple[str, bytes, str] | None = None
        """Subject, bytes and traces that the bus did not take at once; everything else waits behind them."""
        self.messages_sent = 0
        self.bytes_sent = 0

    def deliver(self, outgoing: Outgoing) -> None:
        """Queue a delivery, to be sent with `flush`."""
        self.messages_sent += outgoing.messages
        self.bytes_sent += outgoing.bytes
        self._put(outgoing.gateway, outgoing)

    def notice(self, gateway: str, notice: SessionEnded) -> None:
        """Queue a notice for a gateway."""
        self._put(gateway, notice)
        self._wake.set()

    def flush(self) -> None:
        """Send what is queued; what the bus does not take at once is left to `run`."""
        while self._queues and self._unsent is None:
            gateway, queue = next(iter(self._queues.items()))
            subject, (data, traces) = gateway_subject(gateway), self._next(queue)
            if not queue:
                del self._queues[gateway]
            if not self._bus.publish_at_once(subject, data, traces):
                self._unsent = subject, data, traces
                self._wake.set()

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.flush()
            while self._unsent is not None:
                with suppress(BusUnavailable):
                    await self._bus.publish(*self._unsent)
                self._unsent = None
                self.flush()

    def _next(self, queue: deque[Outgoing | SessionEnded]) -> tuple[bytes, str]:
        """Take a notice or deliveries, as many as fit one pack, from a queue, and encode both."""
        pack = None
        sent: list[Outgoing] = []
        while queue:
            first = queue[0]
            if isinstance(first, SessionEnded):
                if pack is not None:
                    break
                queue.popleft()
                return encode_notice(first), ""
            if pack is None:
                pack = Pack(self._epoch)
            if not pack.add(first.consumer_id, first.session, first.number, first.runs, first.failures):
                break
            queue.popleft()
            sent.append(first)
        if pack is None:
            raise IndexError("nothing waits for the gateway")
        return pack.encode(), self._traces.sent(sent) if self._traces else ""

    def _put(self, gateway: str, message: Outgoing | SessionEnded) -> None:
        self._queues.setdefault(gateway, deque()).append(message)
