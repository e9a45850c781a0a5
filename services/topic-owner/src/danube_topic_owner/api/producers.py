"""Who may produce: producers by name, the exclusive place, liveness. Pure: answers are events."""

from __future__ import annotations

from dataclasses import dataclass

from danube_common.errors import AlreadyExists, LimitExceeded, NotFound
from danube_common.model.bundle import Bundle
from danube_common.model.ids import make_id
from danube_common.model.policies import Policies
from danube_common.model.producer import AccessMode
from danube_topic_owner.delivery.dispatch import check_limit
from danube_topic_owner.journal.events import Event, ProducerCreated, ProducerRemoved
from danube_topic_owner.journal.state import BundleState, ProducerState, TopicState

PRODUCER_IDLE_S = 60.0
"""A producer that neither sends nor asks for its health this long no longer holds a place.

The contract has no way to close a producer, and official clients ping every 5 s.
"""
PRODUCERS_PER_TOPIC_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Admission:
    """The producer's id and what to journal before it is answered."""

    producer_id: int
    events: list[Event]


class Producers:
    """Liveness by id, and the rules of admission."""

    def __init__(self, bundle: Bundle, state: BundleState, now: float) -> None:
        self._bundle = bundle
        self._state = state
        self._seen: dict[int, float] = {}
        self._start = now

    def admit(
        self, topic_id: int, topic: str, name: str, mode: AccessMode, policies: Policies, now: float
    ) -> Admission:
        """A producer by name: the one there is, or a new one.

        Raises:
            AlreadyExists: another has the topic to itself, or this one asks for that and is not alone.
            LimitExceeded: ``max_producers_per_topic``.
        """
        state = self._state.topics.get(topic_id) or TopicState(topic_id, topic)
        own = next((p for p in state.producers.values() if p.name == name), None)
        others = [p for p in state.producers.values() if p is not own]
        alive = [p for p in others if self._alive(p, now)]
        self._check_access(mode, alive, topic)
        if own is not None and own.access_mode is mode:
            self._seen[own.producer_id] = now
            return Admission(own.producer_id, [])
        if own is None:
            check_limit(
                "max_producers_per_topic",
                policies.max_producers_per_topic,
                len(alive),
                f"topic {topic} has {len(alive)} producers",
            )
        idle = [p for p in others if p not in alive]
        events: list[Event] = []
        if mode is AccessMode.EXCLUSIVE or any(p.access_mode is AccessMode.EXCLUSIVE for p in idle):
            events.extend(ProducerRemoved(p.producer_id) for p in idle)
        elif len(others) >= PRODUCERS_PER_TOPIC_MAX:
            if not idle:
                raise LimitExceeded("producers_per_topic", f"topic {topic} has {len(others)} producers")
            oldest = min(idle, key=lambda p: self._seen.get(p.producer_id, self._start))
            events.append(ProducerRemoved(oldest.producer_id))
        producer_id = own.producer_id if own is not None else self._new_id(topic, name)
        events.append(ProducerCreated(topic_id, topic, producer_id, name, mode))
        self._seen[producer_id] = now
        return Admission(producer_id, events)

    def find(self, producer_id: int, now: float) -> tuple[TopicState, ProducerState]:
        """The producer of an id; asking shows that it is alive. Raises NotFound."""
        found = self._state.producer(producer_id)
        if found is None:
            raise NotFound(f"producer {producer_id} does not exist")
        self._seen[producer_id] = now
        return found

    def touch(self, producer_ids: list[int], now: float) -> list[int]:
        """Note life; the ids that are unknown."""
        known = [i for i in producer_ids if self._state.producer(i) is not None]
        self._seen.update(dict.fromkeys(known, now))
        return [i for i in producer_ids if self._state.producer(i) is None]

    def forget_topic(self, topic_id: int) -> None:
        """Forget when the producers of a topic, which is being deleted, showed life."""
        if (topic := self._state.topics.get(topic_id)) is not None:
            for producer_id in topic.producers:
                self._seen.pop(producer_id, None)

    def alive_count(self, topic_id: int, now: float) -> int:
        topic = self._state.topics.get(topic_id)
        return sum(self._alive(p, now) for p in topic.producers.values()) if topic else 0

    def alive_names(self, topic_id: int, now: float) -> list[str]:
        topic = self._state.topics.get(topic_id)
        return sorted(p.name for p in topic.producers.values() if self._alive(p, now)) if topic else []

    def _alive(self, producer: ProducerState, now: float) -> bool:
        return now - self._seen.get(producer.producer_id, self._start) < PRODUCER_IDLE_S

    @staticmethod
    def _check_access(mode: AccessMode, alive: list[ProducerState], topic: str) -> None:
        for other in alive:
            if other.access_mode is AccessMode.EXCLUSIVE:
                raise AlreadyExists(f"producer {other.name!r} has exclusive access to topic {topic}")
        if mode is AccessMode.EXCLUSIVE and alive:
            raise AlreadyExists(
                f"topic {topic} has other producers, {alive[0].name!r} for one: no exclusive access"
            )

    def _new_id(self, topic: str, name: str) -> int:
        probe = 0
        while self._state.producer(candidate := make_id(self._bundle, "producer", topic, name, probe=probe)):
            probe += 1
        return candidate
