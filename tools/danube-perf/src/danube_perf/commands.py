"""The five commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from danube_perf import options as o
from danube_perf.running import EXIT_CODES, execute
from danube_perf.scenario import CLIENTS_MAX, TOPICS_MAX, Scenario

SUBSCRIPTIONS_MAX = 1000

PRODUCE_HELP = f"""Publish, and measure how fast and how soon messages are answered.

\b
Examples:
  danube-perf produce -s http://127.0.0.1:6650 --in-flight 64
  danube-perf produce -s http://127.0.0.1:6650 --storage disk --streaming --in-flight 10000
  danube-perf produce -s http://127.0.0.1:6650 --storage disk --producers 8 --in-flight 16 --size 4k
  danube-perf produce -s http://127.0.0.1:6650 --rate 2000 --in-flight 256 --duration 60 -o json > run.json

\b
{EXIT_CODES}
"""

CONSUME_HELP = f"""Receive and acknowledge what danube-perf published, and measure how fast.

The topic must exist. A new subscription begins where the platform lets it begin. Latency end to end is the
age of a message when it arrives. What a producer sent before its first message that arrives is not missed.

\b
Examples:
  danube-perf consume -s http://127.0.0.1:6650 -t /default/load --messages 40000
  danube-perf consume -s http://127.0.0.1:6650 -t /default/load -m audit --acks-in-flight 1 --duration 30

\b
{EXIT_CODES}
"""

E2E_HELP = f"""Publish and receive at one time: latency from publish to arrival, and what is lost or repeated.

\b
Examples:
  danube-perf e2e -s http://127.0.0.1:6650 --storage disk --rate 500 --in-flight 64
  danube-perf e2e -s http://127.0.0.1:6650 --in-flight 64 --subscriptions 2 --consumers 3
  danube-perf e2e -s http://127.0.0.1:6650 --lockstep --messages 1000 --plot latency.png

\b
{EXIT_CODES}
"""

FANOUT_HELP = f"""The same load with more and more subscriptions: what another subscription costs.

\b
Examples:
  danube-perf fanout -s http://127.0.0.1:6650 --subscriptions 1,10 --in-flight 64
  danube-perf fanout -s http://127.0.0.1:6650 --subscriptions 1,2,5,10 --rate 500 --watch gateway=4711

\b
{EXIT_CODES}
"""

TOPICS_HELP = f"""The same load over more and more topics: what another topic costs.

\b
Examples:
  danube-perf topics -s http://127.0.0.1:6650 --topics 1,10,100 --rate 1000
  danube-perf topics -s http://127.0.0.1:6650 --topics 1,1000 --subscriptions 0 --storage disk

\b
{EXIT_CODES}
"""


def produce(
    service_addr: o.Service,
    topic: o.Topic = None,
    storage: o.Storage = o.StorageChoice.none,
    size: o.Size = "1024",
    producers: o.Producers = 1,
    in_flight: o.InFlight = 1,
    rate: o.Rate = None,
    duration: o.Duration = None,
    messages: o.Messages = None,
    warmup: o.Warmup = 1.0,
    connections: o.Connections = 1,
    processes: o.Processes = 1,
    streaming: o.Streaming = False,
    watch: o.Watch = None,
    output: o.Output = o.OutputChoice.text,
    plot: o.Plot = None,
    no_progress: o.NoProgress = False,
) -> None:
    """Check the options and run the command."""
    run = o.new_run()
    scenario = Scenario(
        address=o.address_of(service_addr),
        run=run,
        topics=[o.topic_of(topic, run)],
        storage=storage.value,
        size_bytes=o.size_of(size),
        producers=producers,
        in_flight=in_flight,
        rate=rate,
        duration_s=o.duration_of(duration, messages),
        messages=messages,
        warmup_s=warmup,
        connections=connections,
        processes=processes,
        streaming=streaming,
    )
    _end([scenario], watch, output, plot, no_progress)


def consume(
    service_addr: o.Service,
    topic: Annotated[str, typer.Option("--topic", "-t", metavar="TOPIC", help="/namespace/topic")],
    subscription: Annotated[
        str, typer.Option("--subscription", "-m", metavar="NAME", help="The subscription.")
    ] = "perf-0",
    consumers: o.Consumers = 1,
    acks_in_flight: o.AcksInFlight = 64,
    duration: o.Duration = None,
    messages: o.Messages = None,
    warmup: o.Warmup = 0.0,
    streaming: o.Streaming = False,
    watch: o.Watch = None,
    output: o.Output = o.OutputChoice.text,
    plot: o.Plot = None,
    no_progress: o.NoProgress = False,
) -> None:
    """Check the options and run the command."""
    run = o.new_run()
    scenario = Scenario(
        address=o.address_of(service_addr),
        run=run,
        topics=[o.topic_of(topic, run)],
        producers=0,
        consumers=consumers,
        subscriptions=1,
        subscription=subscription,
        acks_in_flight=acks_in_flight,
        duration_s=o.duration_of(duration, messages),
        messages=messages,
        warmup_s=warmup,
        any_run=True,
        streaming=streaming,
    )
    _end([scenario], watch, output, plot, no_progress)


def e2e(
    service_addr: o.Service,
    topic: o.Topic = None,
    storage: o.Storage = o.StorageChoice.none,
    size: o.Size = "1024",
    producers: o.Producers = 1,
    consumers: o.Consumers = 1,
    subscriptions: o.Subscriptions = 1,
    in_flight: o.InFlight = 1,
    acks_in_flight: o.AcksInFlight = 64,
    lockstep: o.Lockstep = False,
    rate: o.Rate = None,
    duration: o.Duration = None,
    messages: o.Messages = None,
    warmup: o.Warmup = 1.0,
    drain: o.Quiet = 3.0,
    connections: o.Connections = 1,
    processes: o.Processes = 1,
    streaming: o.Streaming = False,
    watch: o.Watch = None,
    output: o.Output = o.OutputChoice.text,
    plot: o.Plot = None,
    no_progress: o.NoProgress = False,
) -> None:
    """Check the options and run the command."""
    run = o.new_run()
    scenario = Scenario(
        address=o.address_of(service_addr),
        run=run,
        topics=[o.topic_of(topic, run)],
        storage=storage.value,
        size_bytes=o.size_of(size),
        producers=producers,
        consumers=consumers,
        subscriptions=subscriptions,
        in_flight=in_flight,
        acks_in_flight=acks_in_flight,
        lockstep=lockstep,
        rate=rate,
        duration_s=o.duration_of(duration, messages),
        messages=messages,
        warmup_s=warmup,
        quiet_s=drain,
        connections=connections,
        processes=processes,
        streaming=streaming,
    )
    _end([scenario], watch, output, plot, no_progress)


def fanout(
    service_addr: o.Service,
    subscriptions: Annotated[
        str, typer.Option("--subscriptions", metavar="N,N,...", help="One run for each number.")
    ] = "1,10",
    storage: o.Storage = o.StorageChoice.none,
    size: o.Size = "1024",
    producers: o.Producers = 1,
    in_flight: o.InFlight = 1,
    acks_in_flight: o.AcksInFlight = 64,
    rate: o.Rate = None,
    duration: o.Duration = None,
    messages: o.Messages = None,
    warmup: o.Warmup = 1.0,
    drain: o.Quiet = 3.0,
    processes: o.Processes = 1,
    streaming: o.Streaming = False,
    watch: o.Watch = None,
    output: o.Output = o.OutputChoice.text,
    plot: o.Plot = None,
    no_progress: o.NoProgress = False,
) -> None:
    """Check the options and run the command."""
    scenarios = []
    for count in o.counts_of(subscriptions, "--subscriptions", SUBSCRIPTIONS_MAX):
        run = o.new_run()
        scenarios.append(
            Scenario(
                address=o.address_of(service_addr),
                run=run,
                topics=[o.topic_of(None, run)],
                storage=storage.value,
                size_bytes=o.size_of(size),
                producers=producers,
                subscriptions=count,
                in_flight=in_flight,
                acks_in_flight=acks_in_flight,
                rate=rate,
                duration_s=o.duration_of(duration, messages),
                messages=messages,
                warmup_s=warmup,
                quiet_s=drain,
                processes=processes,
                streaming=streaming,
            )
        )
    _end(scenarios, watch, output, plot, no_progress, varied="subscriptions")


def topics(
    service_addr: o.Service,
    topics: Annotated[
        str, typer.Option("--topics", metavar="N,N,...", help="One run for each number.")
    ] = "1,10,100",
    storage: o.Storage = o.StorageChoice.none,
    size: o.Size = "1024",
    subscriptions: Annotated[
        int, typer.Option("--subscriptions", metavar="N", min=0, help="Of each topic; 0 only publishes.")
    ] = 1,
    in_flight: Annotated[
        int,
        typer.Option(
            "--in-flight",
            metavar="N",
            min=1,
            max=o.IN_FLIGHT_MAX,
            help="Unanswered publishes of all topics together; each topic has one producer and at least one.",
        ),
    ] = 64,
    acks_in_flight: o.AcksInFlight = 64,
    rate: o.Rate = None,
    duration: o.Duration = None,
    messages: o.Messages = None,
    warmup: o.Warmup = 1.0,
    drain: o.Quiet = 3.0,
    processes: o.Processes = 1,
    streaming: o.Streaming = False,
    watch: o.Watch = None,
    output: o.Output = o.OutputChoice.text,
    plot: o.Plot = None,
    no_progress: o.NoProgress = False,
) -> None:
    """Check the options and run the command."""
    scenarios = []
    for count in o.counts_of(topics, "--topics", min(TOPICS_MAX, CLIENTS_MAX)):
        run = o.new_run()
        scenarios.append(
            Scenario(
                address=o.address_of(service_addr),
                run=run,
                topics=[f"{o.topic_of(None, run)}-{number}" for number in range(count)],
                storage=storage.value,
                size_bytes=o.size_of(size),
                producers=count,
                subscriptions=subscriptions,
                in_flight=max(in_flight // count, 1),
                acks_in_flight=acks_in_flight,
                rate=rate,
                duration_s=o.duration_of(duration, messages),
                messages=messages,
                warmup_s=warmup,
                quiet_s=drain,
                processes=min(processes, count),
                streaming=streaming,
            )
        )
    _end(scenarios, watch, output, plot, no_progress, varied="topics")


def _end(
    scenarios: list[Scenario],
    watch: list[str] | None,
    output: o.OutputChoice,
    plot: Path | None,
    no_progress: bool,
    **more: Any,
) -> None:
    raise typer.Exit(
        execute(
            scenarios,
            [(one.name, one.pids) for one in o.watched_of(watch)],
            varied=more.get("varied"),
            as_json=output is o.OutputChoice.json,
            plot=plot,
            progress=not no_progress,
        )
    )
