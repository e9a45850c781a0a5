"""One run: traffic, faults by plan, the time to catch up, and the verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from danube_harness.chaos.archived import look
from danube_harness.chaos.chaos_cluster import DISK_BYTES_MAX, ChaosCluster, Size
from danube_harness.chaos.copies import until_whole
from danube_harness.chaos.nemesis import NEMESES, hazards
from danube_harness.chaos.outcome import Outcome, Struck
from danube_harness.chaos.plan import Hazard, Strike, plan
from danube_harness.chaos.refusing import refuse
from danube_harness.traffic.clients import TOPICS, Topic
from danube_harness.traffic.load import Load

RATE = 800.0
"""Messages a second to one topic, over and above some ten to each of the others. Each is delivered twice."""
DISK_BYTES_PER_S = 1 << 20
"""More than the traffic leaves on disk, so that it is full only when a fault says so."""
RETURN_S_MAX = 60.0
"""How long after its own time a fault may take until what it hurt serves again."""
CATCH_UP_S_MAX = 120.0
QUIET_S = 1.0
"""So long without another message, repeats included, the readers go on after they have everything."""
COPIES = 2
WHOLE_S_MAX = 90.0
"""How long after the traffic some segment may still lack a copy."""
ARCHIVE_EARLY: Mapping[str, Sequence[str]] = {
    "storage": (
        *("--seal-age-s", "3", "--own-segment-bytes-min", "20000", "--replicas", f"{COPIES}"),
        *("--retention-interval-s", "3", "--delete-delay-s", "5"),
        *("--scrub-period-s", "15", "--store-away-s", "2"),
    )
}
"""Messages leave the log for segments all the time, and what is not needed any more is soon deleted."""


async def run(
    directory: Path,
    *,
    seed: int,
    duration_s: float,
    topics: Sequence[Topic] = TOPICS,
    size: Size | None = None,
    arguments: Mapping[str, Sequence[str]] = ARCHIVE_EARLY,
    hazards_of: Callable[[ChaosCluster], list[Hazard]] = hazards,
    tell: Callable[[str], object],
) -> Outcome:
    """Run a platform in ``directory`` through the faults that ``seed`` chooses; returns what came of it.

    Args:
        directory: gets the platform's data and logs.
        seed: decides which faults come, whom they meet and when.
        duration_s: of the faults; starting and catching up come on top.
        topics: the traffic.
        size: how many of each service.
        arguments: further arguments for the services, by kind.
        hazards_of: which faults there are.
        tell: takes a line about each fault as it happens.
    """
    disk_bytes_max = DISK_BYTES_MAX + int(duration_s * DISK_BYTES_PER_S)
    async with ChaosCluster.run(
        directory, size, arguments=arguments, disk_bytes_max=disk_bytes_max
    ) as cluster:
        strikes = plan(seed, duration_s, hazards_of(cluster))
        outcome = Outcome(seed=seed, duration_s=duration_s)
        if cluster.backing.no_disk:
            outcome.left_out = (
                f"NO DISK CAN BE FILLED HERE, nothing is proved of it: {cluster.backing.no_disk}"
            )
        async with Load.run(
            cluster.gateway_urls, topics, duration_s=duration_s, addresses=_addresses
        ) as load:
            outcome.writers, outcome.subscriptions = load.writers, load.subscriptions
            await refuse(cluster.admin_addrs, load.subscriptions)
            outcome.began = time.monotonic()
            outcome.struck = await _strike(cluster, strikes, random.Random(seed), outcome.began, tell)
            await asyncio.sleep(max(0.0, outcome.began + duration_s - time.monotonic()))
            tell("the faults are over")
            await load.stop_writing()
            outcome.healed = time.monotonic()
            await load.caught_up(CATCH_UP_S_MAX, quiet_s=QUIET_S)
            outcome.ended = time.monotonic()
            outcome.unsettled = {one.name: sorted(load.unsettled(one)) for one in load.subscriptions}
        outcome.not_whole = await until_whole(cluster, COPIES, WHOLE_S_MAX)
        outcome.archived = await look(cluster)
        outcome.launcher = list(cluster.said)
    return outcome


async def _strike(
    cluster: ChaosCluster,
    strikes: Sequence[Strike],
    chance: random.Random,
    began: float,
    tell: Callable[[str], object],
) -> list[Struck]:
    async def meet(strike: Strike, own_chance: random.Random) -> Struck:
        await asyncio.sleep(max(0.0, began + strike.at_s - time.monotonic()))
        tell(str(strike))
        at = time.monotonic()
        try:
            async with asyncio.timeout(strike.lasts_s + RETURN_S_MAX):
                await NEMESES[strike.fault](cluster, strike.target, strike.lasts_s, own_chance)
        except TimeoutError:
            return Struck(strike, at, None)
        return Struck(strike, at, time.monotonic())

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(meet(strike, random.Random(chance.getrandbits(64)))) for strike in strikes]
    return [task.result() for task in tasks]


def _addresses(urls: Sequence[str], number: int) -> list[str]:
    """Gateways in turn; every second client of each knows the others too, and goes there when it is lost.

    If all did, the first fault would leave one gateway without clients for the rest of the run.
    """
    turn, home = divmod(number, len(urls))
    return [urls[home]] if turn % 2 else [*urls[home:], *urls[:home]]
