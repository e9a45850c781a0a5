"""What is measured in each round. A figure's name says its scenario; `targets` says what is asked of it."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import secrets
from pathlib import Path
from typing import Any

from tests.benchmarks.perf import KINDS, Figures, perf, pids_of, script, watched

from danube_harness.platforms.standalone import Platform

SECONDS = float(os.environ.get("DANUBE_BENCH_SECONDS", "2"))
"""Of each measurement."""
BACKLOG = int(os.environ.get("DANUBE_BENCH_BACKLOG", "20000"))
"""Messages that are consumed for the cost of consuming."""
CONSUME_S_MAX = 60
"""A backlog that is not consumed by then is measured as far as it was."""
IN_FLIGHT = (1, 64)
STORAGES = {"non-reliable": "none", "memory": "memory", "disk": "disk"}
FANOUT = (1, 10)
PACED_RATE = 300
"""Messages per second where the cost of one more subscription is measured."""
GROWN_RATE = 500
GROWN_CLIENTS = 2
"""Messages per second of each client, and clients, where one gateway and owner are compared with two."""
MEASURED = ("--warmup", 0.5, "--duration", SECONDS)


def cost(figures: Figures) -> dict[str, float]:
    """Return the CPU of each kind of process for a message, in µs."""
    usage = figures["processes"]
    return {kind: usage[kind]["cpu_us_per_message"] or 0.0 for kind in KINDS if kind in usage}


def publishing(platform: Platform, empty: str, echo: str) -> dict[str, float]:
    """Publish with 1 and 64 in flight, to bare handlers and to topics of each kind."""
    watch = watched(pids_of(platform))
    found: dict[str, float] = {}
    for in_flight in IN_FLIGHT:
        for name, address in (("empty", empty), ("echo", echo)):
            run = perf("produce", address, "--in-flight", in_flight, *MEASURED)
            found[f"publish.{name}.{in_flight}.per_s"] = run["publish"]["per_s"]
            found[f"publish.{name}.{in_flight}.p50_us"] = run["publish"]["latency_us"]["p50"]
        for name, storage in STORAGES.items():
            arguments = ("--storage", storage, "--in-flight", in_flight, *MEASURED)
            run = perf("produce", platform.gateway_addr, *arguments, watch=watch)
            found[f"publish.{name}.{in_flight}.per_s"] = run["publish"]["per_s"]
            found[f"publish.{name}.{in_flight}.p50_us"] = run["publish"]["latency_us"]["p50"]
            for kind, value in cost(run).items():
                found[f"publish.{name}.{in_flight}.{kind}_us"] = value
    return found


def end_to_end(platform: Platform) -> dict[str, float]:
    """Publish and receive one message at a time."""
    found: dict[str, float] = {}
    for name, storage in STORAGES.items():
        run = perf("e2e", platform.gateway_addr, "--storage", storage, "--lockstep", *MEASURED)
        found[f"e2e.{name}.p50_us"] = run["consume"]["end_to_end_us"]["p50"]
        found[f"e2e.{name}.p99_us"] = run["consume"]["end_to_end_us"]["p99"]
        found[f"e2e.{name}.faults"] = faults(run)
    return found


def consuming(platform: Platform) -> dict[str, float]:
    """Consume a backlog on disk by the v0.2 contract: with 256 acks in flight, and one at a time."""
    topic = f"/default/backlog-{secrets.token_hex(4)}"
    address = platform.gateway_addr
    fill = ("-t", topic, "--storage", "disk", "--warmup", 0)
    # The subscription is made first, so that the backlog is its own.
    perf("e2e", address, *fill, "-n", 1)
    perf("produce", address, *fill, "-n", BACKLOG, "--in-flight", 256)
    watch = watched(pids_of(platform))
    take = ("-t", topic, "-n", BACKLOG - BACKLOG // 10, "--duration", CONSUME_S_MAX)
    many = perf("consume", address, *take, "--acks-in-flight", 256, watch=watch)
    found = {"consume.256.per_s": many["consume"]["per_s"], "consume.256.faults": faults(many)}
    for kind, value in cost(many).items():
        found[f"consume.256.{kind}_us"] = value
    one = perf("consume", address, "-t", topic, "--duration", SECONDS, "--acks-in-flight", 1)
    found["consume.1.per_s"] = one["consume"]["acks_per_s"]
    found["consume.1.ack_p50_us"] = one["consume"]["ack_us"].get("p50", 0.0)
    return found


def fanning_out(platform: Platform) -> dict[str, float]:
    """The same flat-out load with one and ten subscriptions; at a fixed rate, what one more costs."""
    words = ",".join(map(str, FANOUT))
    watch = watched(pids_of(platform))
    address = platform.gateway_addr
    flat = perf("fanout", address, "--subscriptions", words, "--in-flight", 64, *MEASURED, watch=watch)
    paced = perf(
        *("fanout", address, "--subscriptions", words, "--rate", PACED_RATE, "--in-flight", 64, *MEASURED),
        watch=watch,
    )
    found: dict[str, float] = {}
    for run in flat["runs"]:
        count = run["subscriptions"]
        found[f"fanout.{count}.per_s"] = run["consume"]["per_s"]
        found[f"fanout.{count}.faults"] = faults(run)
    few, many = (sum(cost(run).values()) for run in paced["runs"])
    found["fanout.extra_subscription_us"] = (many - few) / (FANOUT[1] - FANOUT[0])
    return found


def growing(name: str, platform: Platform) -> dict[str, float]:
    """CPU for each message produced and consumed, with the same load whatever the number of gateways.

    Two `danube-perf`, each with a gateway of its own if there are two, and with four topics, so that all
    bundles' owners have work. The load is the same because a process's cost a message falls with its rate:
    1 + 1 takes 1.5 times the CPU at half of it.
    """
    pids = pids_of(platform)
    load = ("--topics", 4, "--rate", GROWN_RATE, "--in-flight", 64)
    arguments = (*load, "--storage", "disk", *MEASURED)

    def run(address: str, number: int) -> Any:
        watch = watched(pids) if number == 0 else ()
        return perf("topics", address, *arguments, watch=watch)["runs"][0]

    addresses = list(itertools.islice(itertools.cycle(platform.gateway_addrs), GROWN_CLIENTS))
    with concurrent.futures.ThreadPoolExecutor(GROWN_CLIENTS) as pool:
        runs = list(pool.map(run, addresses, range(GROWN_CLIENTS)))
    # One of the runs measures the processes; what they did for the others counts in proportion.
    messages = sum(one["publish"]["messages"] for one in runs)
    share = runs[0]["publish"]["messages"] / messages
    return {f"grown.{name}.cpu_us": sum(cost(runs[0]).values()) * share}


def soaking(platform: Platform, seconds: float) -> dict[str, float]:
    """Memory of each kind of process at the beginning and the end of a long flat-out run, in MiB."""
    watch = watched(pids_of(platform))
    arguments = ("--storage", "disk", "--in-flight", 64, "--warmup", 10, "--duration", seconds)
    run = perf("e2e", platform.gateway_addr, *arguments, watch=watch)
    found = {"soak.seconds": seconds, "soak.faults": faults(run)}
    for kind, usage in run["processes"].items():
        for when in ("first", "last", "most"):
            found[f"soak.{kind}.{when}_mib"] = usage[f"{when}_mib"]
    return found


def bare_jetstream(platform: Platform) -> dict[str, float]:
    """A bare publisher and consumer on the same NATS server."""
    measured = script("tests.benchmarks.jetstream_peer", platform.nats_url, SECONDS)
    return {f"jetstream.{name}": value for name, value in measured.items()}


def official(address: str, program: Path | None) -> dict[str, float]:
    """The official Rust client 0.2.0; nothing where it could not be built."""
    if program is None:
        return {}
    found: dict[str, float] = {}
    for name in ("non-reliable", "disk"):
        run = rust(program, address, "produce", name, 32)
        found[f"rust.{name}.32.per_s"] = run["publish_per_s"]
        found[f"rust.{name}.32.p50_us"] = run["publish"]["p50_us"]
    run = rust(program, address, "consume", "disk", 1)
    found["rust.consume.publish_per_s"] = run["publish_per_s"]
    found["rust.consume.per_s"] = run["consume_per_s"]
    found["rust.consume.publish_p50_us"] = run["publish"]["p50_us"]
    found["rust.consume.e2e_p50_us"] = run["end_to_end"]["p50_us"]
    found["rust.consume.faults"] = run["lost"] + run["duplicated"] + run["reordered"]
    return found


def rust(program: Path, address: str, command: str, kind: str, producers: int) -> Any:
    """Return the figures of the Rust program."""
    from tests.official.rust_bench import measure  # noqa: PLC0415 - only where it is built

    return measure(program, f"http://{address}", command, kind, producers, SECONDS)


def faults(run: Figures) -> float:
    """Return how many messages were lost, repeated or out of order."""
    integrity = run["integrity"]
    return float(integrity["lost"] + integrity["duplicated"] + integrity["reordered"])
