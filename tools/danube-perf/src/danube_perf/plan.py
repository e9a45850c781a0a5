"""What a run does, and what its processes tell each other about it: JSON lines."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Storage = Literal["none", "memory", "disk", "s3"]

DURABILITY: Final[dict[str, str]] = {
    "none": "nothing is kept: answered when it is on its way to the owner of the topic",
    "memory": "in the memory of the log server when it is answered",
    "disk": "synced to disk by the log server when it is answered",
    "s3": "synced to disk by the log server when it is answered, archived to S3 later",
}
"""What an answered publish means, by storage."""


REFUSED_MAX: Final = 10_000
"""Refused numbers of a producer that are remembered; further ones that do not come count as lost."""
REASONS_MAX: Final = 20
"""Different reasons of refusals that are told apart."""


class ProducerPlan(msgspec.Struct, frozen=True):
    """One producer: its topic, its number in the run, and its share of the load.

    Under a rate its first message is due ``offset_s`` after the beginning, so that producers take turns.
    """

    topic: str
    number: int
    offset_s: float
    rate: float | None
    messages: int | None


class ConsumerPlan(msgspec.Struct, frozen=True):
    """One consumer of a subscription."""

    topic: str
    subscription: str
    name: str
    shared: bool


class WorkerPlan(msgspec.Struct, frozen=True):
    """What one process does.

    Attributes:
        address: ``host:port``.
        run: stands in each payload.
        connections: how many the producers share; each consumer has one of its own.
        in_flight: unanswered publishes of each producer.
        acks_in_flight: unanswered acknowledgements of each consumer.
        any_run: whether the consumers take the messages of all runs, whose numbers begin anywhere.
        lockstep: whether the producer waits until its last message was received and acknowledged.
        streaming: whether native streaming is used, by the client library.
        receive_max: measured messages after which the consumers together take no more.
    """

    address: str
    run: int
    size_bytes: int
    storage: Storage
    producers: list[ProducerPlan]
    consumers: list[ConsumerPlan]
    connections: int = 1
    in_flight: int = 1
    acks_in_flight: int = 64
    any_run: bool = False
    receive_max: int | None = None
    lockstep: bool = False
    streaming: bool = False
    tick_s: float = 1.0


class Start(msgspec.Struct, tag=True):
    """Begin; what is due from ``measure_ns`` on is measured, producers send until ``end_ns``."""

    begin_ns: int
    measure_ns: int
    end_ns: int | None


class Stop(msgspec.Struct, tag=True):
    """Send no more, and await the answers."""


class Finish(msgspec.Struct, tag=True):
    """Tell the result once all that was sent has come, or nothing more comes for ``quiet_s``.

    Attributes:
        sent: how many numbers each producer used.
        topics: the producers of each topic.
        refused: the numbers whose publish failed: whether they come is open, so they cannot be lost.
    """

    sent: dict[int, int]
    topics: dict[str, list[int]]
    refused: dict[int, list[int]]
    quiet_s: float


class Ready(msgspec.Struct, tag=True):
    """Producers and consumers are attached."""


class Tick(msgspec.Struct, tag=True):
    """What was done in the last interval, by all producers and consumers of the process."""

    produced: int
    refused: int
    received: int
    publish: bytes
    ack: bytes
    end_to_end: bytes


class Produced(msgspec.Struct, tag=True):
    """The producers have ended.

    Attributes:
        sent: how many numbers each used.
        refused: the numbers whose publish failed, at most `REFUSED_MAX` of a producer.
        refusals: why, with counts.
        behind_ns: the most that a message was sent after it was due.
        last_ns: when the last measured answer came.
    """

    sent: dict[int, int]
    refused: dict[int, list[int]]
    refusals: dict[str, int]
    behind_ns: int
    last_ns: int


class Result(msgspec.Struct, tag=True):
    """The consumers have ended; counts are of the whole run, warm-up included.

    Attributes:
        foreign: messages that this tool's run did not make.
        last_ns: when the last measured message came.
        acked_ns: when the last measured acknowledgement was answered.
        cpu_s: CPU time of the process while it measured.
    """

    received: int
    lost: int
    duplicated: int
    reordered: int
    foreign: int
    failed_acks: dict[str, int]
    last_ns: int
    acked_ns: int
    cpu_s: float


class Failed(msgspec.Struct, tag=True):
    """The process cannot go on."""

    text: str
    unreachable: bool


Order = Start | Stop | Finish
Report = Ready | Tick | Produced | Result | Failed

orders = msgspec.json.Decoder(Order)
reports = msgspec.json.Decoder(Report)
plans = msgspec.json.Decoder(WorkerPlan)
encode = msgspec.json.Encoder().encode
