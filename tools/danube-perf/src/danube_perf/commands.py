"""The five commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import msgspec
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


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What every command takes."""

    service_addr: o.Service
    duration: o.Duration = None
    messages: o.Messages = None
    streaming: o.Streaming = False
    watch: o.Watch = None
    output: o.Output = o.OutputChoice.text
    plot: o.Plot = None
    no_progress: o.NoProgress = False

    def scenario(self, topic: str | None, **more: Any) -> Scenario:
        """Return a run with ``topic``, a new one if it is None, and more fields of a `Scenario`."""
        run = o.new_run()
        return Scenario(
            address=o.address_of(self.service_addr),
            run=run,
            topics=[o.topic_of(topic, run)],
            duration_s=o.duration_of(self.duration, self.messages),
            messages=self.messages,
            streaming=self.streaming,
            **more,
        )

    def execute(self, scenarios: list[Scenario], varied: str | None = None) -> NoReturn:
        """Run the scenarios, which differ in ``varied``, and end the program."""
        raise typer.Exit(
            execute(
                scenarios,
                [(one.name, one.pids) for one in o.watched_of(self.watch)],
                varied=varied,
                as_json=self.output is o.OutputChoice.json,
                plot=self.plot,
                progress=not self.no_progress,
            )
        )


@dataclass(frozen=True, kw_only=True)
class Publishing(Asked):
    """What commands that publish take as well."""

    storage: o.Storage = o.StorageChoice.none
    size: o.Size = "1024"
    rate: o.Rate = None
    warmup: o.Warmup = 1.0
    processes: o.Processes = 1

    def scenario(self, topic: str | None, **more: Any) -> Scenario:
        """Return a run as `Asked.scenario` does, that publishes."""
        published = {
            "storage": self.storage.value,
            "size_bytes": o.size_of(self.size),
            "rate": self.rate,
            "warmup_s": self.warmup,
            "processes": self.processes,
        }
        return super().scenario(topic, **(published | more))


@dataclass(frozen=True, kw_only=True)
class Receiving(Publishing):
    """What commands that publish and receive take as well."""

    acks_in_flight: o.AcksInFlight = 64
    drain: o.Quiet = 3.0

    def scenario(self, topic: str | None, **more: Any) -> Scenario:
        """Return a run as `Publishing.scenario` does, that receives as well."""
        received = {"acks_in_flight": self.acks_in_flight, "quiet_s": self.drain}
        return super().scenario(topic, **(received | more))


def produce(
    asked: Publishing,
    topic: o.Topic = None,
    producers: o.Producers = 1,
    in_flight: o.InFlight = 1,
    connections: o.Connections = 1,
) -> None:
    """Check the options and run the command."""
    asked.execute([asked.scenario(topic, producers=producers, in_flight=in_flight, connections=connections)])


def consume(
    asked: Asked,
    topic: Annotated[str, typer.Option("--topic", "-t", metavar="TOPIC", help="/namespace/topic")],
    subscription: Annotated[
        str, typer.Option("--subscription", "-m", metavar="NAME", help="The subscription.")
    ] = "perf-0",
    consumers: o.Consumers = 1,
    acks_in_flight: o.AcksInFlight = 64,
    warmup: o.Warmup = 0.0,
) -> None:
    """Check the options and run the command."""
    scenario = asked.scenario(
        topic,
        producers=0,
        consumers=consumers,
        subscriptions=1,
        subscription=subscription,
        acks_in_flight=acks_in_flight,
        warmup_s=warmup,
        any_run=True,
    )
    asked.execute([scenario])


def e2e(
    asked: Receiving,
    topic: o.Topic = None,
    producers: o.Producers = 1,
    consumers: o.Consumers = 1,
    subscriptions: o.Subscriptions = 1,
    in_flight: o.InFlight = 1,
    lockstep: o.Lockstep = False,
    connections: o.Connections = 1,
) -> None:
    """Check the options and run the command."""
    scenario = asked.scenario(
        topic,
        producers=producers,
        consumers=consumers,
        subscriptions=subscriptions,
        in_flight=in_flight,
        lockstep=lockstep,
        connections=connections,
    )
    asked.execute([scenario])


def fanout(
    asked: Receiving,
    subscriptions: Annotated[
        str, typer.Option("--subscriptions", metavar="N,N,...", help="One run for each number.")
    ] = "1,10",
    producers: o.Producers = 1,
    in_flight: o.InFlight = 1,
) -> None:
    """Check the options and run the command."""
    scenarios = [
        asked.scenario(None, producers=producers, subscriptions=count, in_flight=in_flight)
        for count in o.counts_of(subscriptions, "--subscriptions", SUBSCRIPTIONS_MAX)
    ]
    asked.execute(scenarios, varied="subscriptions")


def topics(
    asked: Receiving,
    topics: Annotated[
        str, typer.Option("--topics", metavar="N,N,...", help="One run for each number.")
    ] = "1,10,100",
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
) -> None:
    """Check the options and run the command."""
    scenarios = []
    for count in o.counts_of(topics, "--topics", min(TOPICS_MAX, CLIENTS_MAX)):
        scenario = asked.scenario(
            None,
            producers=count,
            subscriptions=subscriptions,
            in_flight=max(in_flight // count, 1),
            processes=min(asked.processes, count),
        )
        names = [f"{scenario.topics[0]}-{number}" for number in range(count)]
        scenarios.append(msgspec.structs.replace(scenario, topics=names))
    asked.execute(scenarios, varied="topics")
