"""Sends deliveries and notices to gateways, in order."""

from __future__ import annotations

import asyncio
from collections import deque

from danube_common.bus.port import Bus
from danube_common.errors import BusUnavailable
from danube_common.wire.delivery import encode_delivery
from danube_common.wire.owner import SessionEnded, encode_notice, gateway_subject
from danube_topic_owner.delivery.dispatch import Outgoing


class Outbox:
    """Queue of deliveries and notices, bounded by the credit of the sessions.

    A gateway notices a delivery that the bus lost by the gap in delivery numbers, and asks for it again.
    """

    def __init__(self, bus: Bus, epoch: int) -> None:
        self._bus = bus
        self._epoch = epoch
        self._queue: deque[tuple[str, bytes]] = deque()
        self._wake = asyncio.Event()
        self.messages_sent = 0
        self.bytes_sent = 0

    def deliver(self, outgoing: Outgoing) -> None:
        """Queue a delivery."""
        data = encode_delivery(
            self._epoch, outgoing.consumer_id, outgoing.session, outgoing.number, outgoing.runs
        )
        self.messages_sent += sum(map(len, outgoing.runs))
        self.bytes_sent += len(data)
        self._put(outgoing.gateway, data)

    def notice(self, gateway: str, notice: SessionEnded) -> None:
        """Queue a notice for a gateway."""
        self._put(gateway, encode_notice(notice))

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                gateway, data = self._queue.popleft()
                try:
                    await self._bus.publish(gateway_subject(gateway), data)
                except BusUnavailable:
                    continue

    def _put(self, gateway: str, data: bytes) -> None:
        self._queue.append((gateway, data))
        self._wake.set()
