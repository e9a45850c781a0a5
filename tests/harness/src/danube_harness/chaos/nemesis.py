"""The faults: each hurts one target, heals it, and returns when the target serves again.

A new fault is a `Nemesis`, an entry in `NEMESES` and a `Hazard` in `hazards`.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from danube_harness.chaos.backing import TROUBLES
from danube_harness.chaos.chaos_cluster import ChaosCluster, kind_of
from danube_harness.chaos.copies import flip_byte, lose_disk
from danube_harness.chaos.plan import Hazard
from danube_harness.faults.tcp_proxy import Flow, TcpProxy

LEASE_S = 5.0
PAST_THE_LEASE_S = (LEASE_S + 1.5, LEASE_S + 4.0)
OUTAGE_S = (2.0, LEASE_S + 4.0)
"""From shorter to longer than a lease: with and without a takeover."""
SHORT_S = (1.0, 4.0)
DELAY_S = (0.02, 0.3)
TORN_BYTES_MAX = 300

Nemesis = Callable[[ChaosCluster, str, float, random.Random], Awaitable[None]]
"""Called with the cluster, the target, how many seconds to last, and the run's source of random numbers."""


async def kill(cluster: ChaosCluster, target: str, _lasts_s: float, _chance: random.Random) -> None:
    """SIGKILL; returns when the process that the supervisor starts instead serves."""
    await cluster.until_ready(target)
    pid = cluster.pid(target)
    cluster.signal(target, signal.SIGKILL)
    await cluster.until_ready(target, not_pid=pid)


async def pause(cluster: ChaosCluster, target: str, lasts_s: float, _chance: random.Random) -> None:
    """SIGSTOP, and SIGCONT to the same process."""
    await cluster.until_ready(target)
    cluster.signal(target, signal.SIGSTOP)
    try:
        await asyncio.sleep(lasts_s)
    finally:
        cluster.signal(target, signal.SIGCONT)
    await cluster.until_ready(target)


async def tear(cluster: ChaosCluster, target: str, _lasts_s: float, chance: random.Random) -> None:
    """Kill NATS as a power cut in the middle of writes does: each stream's newest block gets a torn end.

    NATS syncs before it acknowledges, so nothing acknowledged is torn.
    """
    store = cluster.directory.nats / "store"
    cluster.before_start[target] = partial(append_torn_writes, store, chance)
    await kill(cluster, target, 0.0, chance)


async def lose(cluster: ChaosCluster, target: str, _lasts_s: float, chance: random.Random) -> None:
    """Kill a storage instance; it starts again with an empty disk."""
    cluster.before_start[target] = partial(lose_disk, cluster, target)
    await kill(cluster, target, 0.0, chance)


async def rot(cluster: ChaosCluster, target: str, _lasts_s: float, chance: random.Random) -> None:
    """Flip a byte of a segment on an instance's disk; reads and the scrub notice it."""
    await asyncio.to_thread(flip_byte, cluster, target, chance)


def append_torn_writes(store: Path, chance: random.Random) -> int:
    """Append to each stream's newest block a record cut short, zeros or noise; returns how many blocks."""
    blocks = [
        max(messages.glob("*.blk"), key=lambda block: int(block.stem), default=None)
        for messages in sorted(store.rglob("msgs"))
    ]
    torn = [block for block in blocks if block is not None]
    for block in torn:
        size = chance.randint(1, TORN_BYTES_MAX)
        start_of_a_record = block.read_bytes()[:size]
        tail = chance.choice([start_of_a_record, bytes(size), chance.randbytes(size)])
        with block.open("ab") as file:
            file.write(tail)
    return len(torn)


def on_line(
    line: Callable[[ChaosCluster, str], TcpProxy], hurt: Callable[[TcpProxy, random.Random], None]
) -> Nemesis:
    """A fault of the proxy that ``line`` gives for a target; the proxy is healed at the end."""

    async def nemesis(cluster: ChaosCluster, target: str, lasts_s: float, chance: random.Random) -> None:
        proxy = line(cluster, target)
        hurt(proxy, chance)
        try:
            await asyncio.sleep(lasts_s)
        finally:
            proxy.heal()
        await cluster.until_ready(target)

    return nemesis


def reset(proxy: TcpProxy, _chance: random.Random) -> None:
    """End every connection by RST."""
    proxy.cut(reset=True)


def part(proxy: TcpProxy, _chance: random.Random) -> None:
    """Partition: both directions wait, new connections lead nowhere."""
    proxy.part()


def deafen(proxy: TcpProxy, _chance: random.Random) -> None:
    """Whoever connects through the proxy receives nothing until the fault ends."""
    proxy.down.flow = Flow.HOLD


def mute(proxy: TcpProxy, _chance: random.Random) -> None:
    """Nothing that is sent by whoever connects through the proxy arrives until the fault ends."""
    proxy.up.flow = Flow.HOLD


def swallow(proxy: TcpProxy, chance: random.Random) -> None:
    """The bytes of one direction are lost."""
    chance.choice([proxy.up, proxy.down]).flow = Flow.SWALLOW


def slow(proxy: TcpProxy, chance: random.Random) -> None:
    """Both directions are delayed."""
    proxy.up.delay_s, proxy.down.delay_s = chance.uniform(*DELAY_S), chance.uniform(*DELAY_S)


_LINE_FAULTS: Mapping[str, tuple[Callable[[TcpProxy, random.Random], None], tuple[float, float]]] = {
    "reset": (reset, (0.0, 0.0)),
    "part": (part, OUTAGE_S),
    "deafen": (deafen, OUTAGE_S),
    "mute": (mute, OUTAGE_S),
    "swallow": (swallow, SHORT_S),
    "slow": (slow, OUTAGE_S),
}
_LINES: Mapping[str, Callable[[ChaosCluster, str], TcpProxy]] = {
    "from NATS:": lambda cluster, target: cluster.nats_lines[target],
    "from clients:": lambda cluster, target: cluster.client_lines[target],
}


def of_backing(fault: str) -> Nemesis:
    """A fault of S3 or of the disk under the storage service."""

    async def nemesis(cluster: ChaosCluster, _target: str, lasts_s: float, chance: random.Random) -> None:
        await cluster.backing.trouble(fault, lasts_s, chance)

    return nemesis


NEMESES: Mapping[str, Nemesis] = {
    "kill": kill,
    "tear the logs of": tear,
    "pause": pause,
    "lose the disk of": lose,
    "rot a byte of": rot,
    **{
        f"{fault} {words}": on_line(line, hurt)
        for words, line in _LINES.items()
        for fault, (hurt, _) in _LINE_FAULTS.items()
    },
    **{fault: of_backing(fault) for fault in TROUBLES},
}
"""Each fault by the words that stand before its target."""


def hazards(cluster: ChaosCluster) -> list[Hazard]:
    """Every fault that may happen to the programs of a cluster."""
    by_kind: dict[str, list[str]] = {}
    for name in cluster.names:
        by_kind.setdefault(kind_of(name), []).append(name)
    found = [Hazard("kill", names, core=kind != "admin") for kind, names in by_kind.items()]
    found.append(Hazard("tear the logs of", by_kind["nats"], core=True))
    # Always the same instance: the others keep an intact copy of each segment.
    unlucky = by_kind["storage"][-1:]
    found += [Hazard(fault, unlucky, core=True) for fault in ("lose the disk of", "rot a byte of")]
    found += [
        Hazard("pause", names, SHORT_S if kind == "nats" else PAST_THE_LEASE_S, core=kind == "topic-owner")
        for kind, names in by_kind.items()
    ]
    for fault, (_, lasts_s) in _LINE_FAULTS.items():
        found += [
            Hazard(f"{fault} from NATS:", names, lasts_s, core=fault == "part" and kind != "admin")
            for kind, names in by_kind.items()
            if kind != "nats"
        ]
        found.append(Hazard(f"{fault} from clients:", by_kind["gateway"], lasts_s, core=fault == "part"))
    return found + cluster.backing.hazards()
