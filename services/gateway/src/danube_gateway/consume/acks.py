"""Acknowledgements of consumers: answered here if this gateway delivered the message, else by the owner."""

from __future__ import annotations

import asyncio

import structlog

from danube_common.cluster.owner_client import OwnerClient
from danube_common.model.bundle import Bundle
from danube_common.model.failure_policy import REASON_CHARACTERS_MAX
from danube_common.runtime.service import Spawn
from danube_common.tracing.tracer import Tracer
from danube_common.wire.owner.acknowledgements import Nack
from danube_gateway.consume.ack_forwarder import AckForwarder, Delivered
from danube_gateway.consume.source import Source
from danube_gateway.consume.traces import TracedSource
from danube_gateway.consume.unacked import Unacked
from danube_gateway.gateway_metrics import GatewayMetrics

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Acknowledgements:
    """The acknowledgements of all bundles; each has an `AckForwarder`, made when it is first needed."""

    def __init__(
        self, owners: OwnerClient, spawn: Spawn, metrics: GatewayMetrics, tracer: Tracer | None = None
    ) -> None:
        self._owners = owners
        self._spawn = spawn
        self._metrics = metrics
        self._tracer = tracer
        self._forwarders: dict[Bundle, AckForwarder] = {}
        self._sources: dict[Delivered, Source] = {}
        self._joined: dict[object, Delivered] = {}

    @property
    def traced(self) -> bool:
        """Whether deliveries and acknowledgements have spans."""
        return self._tracer is not None

    def accept(self, delivered: Delivered, position: int) -> bool:
        """Take an acknowledgement of what a stream of this gateway delivered: it may be answered now.

        It is forwarded until an owner has confirmed it. Returns False if the owner must be asked: the message
        is acknowledged already, was not delivered here, its stream has ended, or too many are unconfirmed.
        """
        source = self._sources.get(delivered)
        return source is not None and source.accept(position)

    async def acknowledge(self, bundle: Bundle, delivered: Delivered, position: int) -> None:
        """Acknowledge a position: `accept` it, else ask the owner.

        Raises NotFound (no such subscription), LimitExceeded, Unavailable.
        """
        if not self.accept(delivered, position):
            await self._forwarder(bundle).acknowledge(delivered, position)

    async def nack(
        self,
        bundle: Bundle,
        delivered: Delivered,
        position: int,
        *,
        last: int | None = None,
        delay_ms: int = 0,
        reason: str = "",
    ) -> None:
        """Tell the owner that a message failed: it comes again, not before ``delay_ms``, or is poison.

        With ``last``, all from ``position`` to it. A position that is not in flight is ignored. An
        acknowledgement, earlier or later, outdoes it.
        Raises NotFound (no such topic or subscription), Unavailable.
        """
        topic, subscription, generation = delivered
        reason = reason[:REASON_CHARACTERS_MAX]
        request = Nack(topic, subscription, position, last or position, generation, delay_ms, reason)
        await self._owners.ask(bundle, request)

    async def confirmed(self, bundle: Bundle) -> None:
        """Wait until an owner of the bundle has confirmed what was accepted before."""
        if (forwarder := self._forwarders.get(bundle)) is not None:
            await forwarder.confirmed()

    async def drain(self, timeout_s: float) -> None:
        """Wait until everything that was accepted is confirmed, for ``timeout_s`` at most."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(forwarder.confirmed() for forwarder in self._forwarders.values()))
        except TimeoutError:
            left = sum(forwarder.unconfirmed for forwarder in self._forwarders.values())
            _log.warning("acks_not_confirmed", acks=left)

    # Streams

    def join(
        self, stream: object, bundle: Bundle, delivered: Delivered, *, reliable: bool, prefetch: bool = False
    ) -> Source:
        """Add a stream to its subscription, also if it belongs to another one or a generation before."""
        if self._joined.get(stream) not in (None, delivered):
            self.leave(stream)
        source = self._sources.get(delivered)
        if source is None:
            forwarder, unacked = self._forwarder(bundle), Unacked() if reliable else None
            if self._tracer is None:
                source = Source(delivered, forwarder, unacked)
            else:
                source = TracedSource(delivered, forwarder, unacked, self._tracer)
            self._sources[delivered] = source
        source.streams.add(stream)
        source.prefetch |= prefetch
        self._joined[stream] = delivered
        return source

    def leave(self, stream: object) -> None:
        """Forget a stream that ended. Idempotent."""
        delivered = self._joined.pop(stream, None)
        if delivered is None:
            return
        source = self._sources[delivered]
        source.streams.discard(stream)
        if not source.streams:
            del self._sources[delivered]
        elif source.unacked is not None:
            source.unacked.forget(stream)

    def _forwarder(self, bundle: Bundle) -> AckForwarder:
        forwarder = self._forwarders.get(bundle)
        if forwarder is None:
            forwarder = self._forwarders[bundle] = AckForwarder(bundle, self._owners, self._metrics)
            self._spawn(forwarder.run(), f"acks {bundle}")
        return forwarder
