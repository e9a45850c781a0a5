from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from danube_common.bus.port import Bus
from danube_common.errors import BusUnavailable
from danube_common.model.run import Run
from danube_common.wire.delivery import MAGIC, PACK_BYTES_MAX, decode_deliveries
from danube_common.wire.owner.notices import SessionEnded, decode_notice
from danube_common.wire.owner.protocol import gateway_subject
from danube_topic_owner.delivery.dispatch import Outgoing
from danube_topic_owner.delivery.outbox import Outbox

EPOCH = 5


class RecordingBus:
    """Keeps what was published, by subject; a publish may fail.

    Args:
        at_once: what is taken without a wait, one answer after the other; then nothing.
    """

    def __init__(self, at_once: Sequence[bool] = ()) -> None:
        self.at_once = list(at_once)
        self.published: dict[str, list[bytes]] = defaultdict(list)
        self.failures = 0

    def publish_at_once(self, subject: str, payload: bytes, traces: str = "") -> bool:  # noqa: ARG002
        taken = bool(self.at_once) and self.at_once.pop(0)
        if taken:
            self.published[subject].append(payload)
        return taken

    async def publish(self, subject: str, payload: bytes, traces: str = "") -> None:  # noqa: ARG002
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise BusUnavailable("not connected")
        self.published[subject].append(payload)

    def events(self, gateway: str) -> list[tuple[int, int]]:
        """(consumer id, delivery number) in order; number 0 is a notice."""
        found: list[tuple[int, int]] = []
        for data in self.published[gateway_subject(gateway)]:
            if data[0] == MAGIC:
                found += [(each.consumer_id, each.number) for each in decode_deliveries(data)]
            else:
                found.append((decode_notice(data).consumer_id, 0))
        return found


async def sent(
    bus: RecordingBus, put: list[tuple[str, int, int]], size: int = 10, *, flush_each: bool = False
) -> None:
    outbox = Outbox(cast("Bus", bus), EPOCH)
    running = asyncio.create_task(outbox.run())
    for gateway, consumer, number in put:
        if number:
            run = Run.of(number, [bytes(size)])
            outbox.deliver(Outgoing(gateway, consumer, 1, number, [run]))
        else:
            outbox.notice(gateway, SessionEnded(EPOCH, consumer, 1, "over"))
        if flush_each:
            outbox.flush()
    outbox.flush()
    for _ in range(4 * len(put) + 4):
        await asyncio.sleep(0)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.integers(0, 9)), max_size=12),
    st.lists(st.booleans(), max_size=12),
    st.booleans(),
)
def test_a_gateway_gets_deliveries_and_notices_in_order(
    put: list[tuple[str, int, int]],
    at_once: list[bool],
    flush_each: bool,
) -> None:
    bus = RecordingBus(at_once)
    asyncio.run(sent(bus, put, flush_each=flush_each))
    for gateway in "ab":
        assert bus.events(gateway) == [(consumer, number) for to, consumer, number in put if to == gateway]


async def test_what_waits_for_one_gateway_travels_together() -> None:
    bus = RecordingBus()
    await sent(bus, [("a", consumer, 1) for consumer in range(1, 11)])
    assert len(bus.published[gateway_subject("a")]) == 1
    assert len(bus.events("a")) == 10


async def test_what_travels_together_is_bounded() -> None:
    bus = RecordingBus()
    await sent(bus, [("a", 1, number) for number in range(1, 5)], size=PACK_BYTES_MAX // 2)
    assert len(bus.published[gateway_subject("a")]) == 2
    assert len(bus.events("a")) == 4


async def test_a_bus_that_is_away_stops_nothing() -> None:
    bus = RecordingBus()
    bus.failures = 1
    await sent(bus, [("a", 1, 1), ("a", 1, 0), ("a", 1, 2)])
    assert bus.events("a") == [(1, 0), (1, 2)], "the gateway sees the gap"
