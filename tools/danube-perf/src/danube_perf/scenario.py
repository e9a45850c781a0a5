"""From what a user asks for to what each process does. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from danube_perf.plan import ConsumerPlan, ProducerPlan, Storage, WorkerPlan

TOPICS_MAX: Final = 10_000
CLIENTS_MAX: Final = 10_000
"""Producers, and consumers, of one run."""


class Scenario(msgspec.Struct, frozen=True):
    """One run.

    Attributes:
        topics: their names; producers are spread over them.
        producers: of all topics together.
        consumers: of each subscription; several share it.
        subscriptions: of each topic.
        in_flight: unanswered publishes of each producer.
        rate: messages per second of all producers together; None is flat out.
        duration_s: measured after the warm-up; None runs until ``messages`` are there.
        messages: measured messages of all producers together, or of all consumers if there is no producer.
        subscription: the name of the only subscription; None names them by their numbers.
        any_run: see `WorkerPlan`.
        lockstep: see `WorkerPlan`.
        streaming: see `WorkerPlan`.
    """

    address: str
    run: int
    topics: list[str]
    producers: int = 1
    consumers: int = 1
    subscriptions: int = 0
    in_flight: int = 1
    acks_in_flight: int = 64
    connections: int = 1
    size_bytes: int = 1024
    storage: Storage = "none"
    rate: float | None = None
    duration_s: float | None = 10.0
    messages: int | None = None
    warmup_s: float = 1.0
    quiet_s: float = 3.0
    processes: int = 1
    subscription: str | None = None
    any_run: bool = False
    lockstep: bool = False
    streaming: bool = False

    def problem(self) -> str | None:
        """Return what is wrong with it, in a sentence; None if nothing is."""
        readers = len(self.topics) * self.subscriptions * self.consumers
        if max(self.producers, readers) > CLIENTS_MAX:
            return f"{self.producers} producers and {readers} consumers are more than {CLIENTS_MAX}"
        if self.producers and self.producers < len(self.topics):
            return f"{self.producers} producers cannot send to {len(self.topics)} topics"
        if self.producers and self.messages is not None and self.messages < self.producers:
            return f"{self.messages} messages are fewer than one for each of {self.producers} producers"
        if self.lockstep and (self.producers, readers, self.processes) != (1, 1, 1):
            return "--lockstep needs one producer and one consumer in one process"
        if self.processes > self.producers + readers:
            return f"{self.processes} processes are more than there are clients: {self.producers + readers}"
        return None

    def producers_of(self) -> dict[str, list[int]]:
        """Return the numbers of the producers of each topic."""
        found: dict[str, list[int]] = {topic: [] for topic in self.topics}
        for number in range(self.producers):
            found[self.topics[number % len(self.topics)]].append(number)
        return found

    def workers(self) -> list[WorkerPlan]:
        """Return what each process does; the consumers of a subscription are in one process."""
        producers: list[list[ProducerPlan]] = [[] for _ in range(self.processes)]
        consumers: list[list[ConsumerPlan]] = [[] for _ in range(self.processes)]
        rate = None if self.rate is None else self.rate / max(self.producers, 1)
        for number in range(self.producers):
            share = None
            if self.messages is not None:
                share = self.messages // self.producers + (number < self.messages % self.producers)
            offset_s = 0.0 if self.rate is None else number / self.rate
            topic = self.topics[number % len(self.topics)]
            producers[number % self.processes].append(ProducerPlan(topic, number, offset_s, rate, share))
        place = 0
        for topic in self.topics:
            for number in range(self.subscriptions):
                # From the last process on, so that two processes part producers and consumers.
                worker = consumers[-1 - place % self.processes]
                place += 1
                subscription = self.subscription or f"perf-{number}"
                for reader in range(self.consumers):
                    name = f"perf-{self.run:08x}-{reader}"
                    worker.append(ConsumerPlan(topic, subscription, name, shared=self.consumers > 1))
        return [
            WorkerPlan(
                address=self.address,
                run=self.run,
                size_bytes=self.size_bytes,
                storage=self.storage,
                producers=sending,
                consumers=receiving,
                connections=min(self.connections, max(len(sending), 1)),
                in_flight=self.in_flight,
                acks_in_flight=self.acks_in_flight,
                any_run=self.any_run,
                lockstep=self.lockstep,
                streaming=self.streaming,
                receive_max=None if self.producers else self.messages,
            )
            for sending, receiving in zip(producers, consumers, strict=True)
        ]
