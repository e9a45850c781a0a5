"""Admission of producers: checks names, exclusive access and limits, and knows which producers are alive.

Pure: changes are returned as events.
"""

from __future__ import annotations

from danube_common.cluster.records import Topic
from danube_common.errors import AlreadyExists, LimitExceeded, NotFound
from danube_common.model.bundle import Bundle
from danube_common.model.policies import Policies
from danube_common.model.producer import AccessMode
from danube_topic_owner.api.admission import Admission, check_limit, unused_id
from danube_topic_owner.journal.events import Event, ProducerCreated, ProducerRemoved
from danube_topic_owner.journal.state import BundleState, ProducerState, TopicState

PRODUCER_IDLE_S = 60.0
"""A producer that neither sends nor asks for its health this long counts as gone.

Clients have no request that closes a producer; the official ones ask for its health every 5 s.
"""
PRODUCERS_PER_TOPIC_MAX = 10_000
PRODUCERS_IDLE_MAX = 1_000
"""Producers of a topic that are remembered although they are gone: tools make a new name each time."""


class Producers:
    """The producers of a bundle's topics, and when each last showed life.

    Args:
        bundle: the bundle.
        state: holds the journaled producers.
        now: the present time (monotonic seconds); every journaled producer counts as alive at that time.
    """

    def __init__(self, bundle: Bundle, state: BundleState, now: float) -> None:
        self._bundle = bundle
        self._state = state
        self._seen: dict[int, float] = {}
        self._start = now

    def admit(self, topic: Topic, name: str, mode: AccessMode, policies: Policies, now: float) -> Admission:
        """Return the existing producer of this name, or a new one.

        Raises:
            AlreadyExists: another producer has exclusive access, or exclusive access is asked for while
                other producers are alive.
            LimitExceeded: the policy ``max_producers_per_topic``, or PRODUCERS_PER_TOPIC_MAX.
        """
        known = self._known(topic.topic_id)
        own = next((p for p in known if p.name == name), None)
        others = [p for p in known if p is not own]
        alive = [p for p in others if self._is_alive(p, now)]
        self._check_access(mode, alive, topic.name)
        if own is not None and own.access_mode is mode:
            self._seen[own.producer_id] = now
            return Admission(own.producer_id, [])
        if own is None:
            shown = f"topic {topic.name} has {len(alive)} producers"
            check_limit("max_producers_per_topic", policies.max_producers_per_topic, len(alive), shown)
        idle = [p for p in others if p not in alive]
        events: list[Event] = []
        if mode is AccessMode.EXCLUSIVE or any(p.access_mode is AccessMode.EXCLUSIVE for p in idle):
            events.extend(ProducerRemoved(p.producer_id) for p in idle)
        elif len(others) >= PRODUCERS_PER_TOPIC_MAX or len(idle) >= PRODUCERS_IDLE_MAX:
            if not idle:
                raise LimitExceeded("producers_per_topic", f"topic {topic.name} has {len(others)} producers")
            oldest = min(idle, key=lambda p: self._seen.get(p.producer_id, self._start))
            events.append(ProducerRemoved(oldest.producer_id))
        parts = ("producer", topic.name, name)
        producer_id = own.producer_id if own else unused_id(self._bundle, self._state.producer, *parts)
        events.append(ProducerCreated(topic.topic_id, topic.name, producer_id, name, mode))
        self._seen[producer_id] = now
        return Admission(producer_id, events)

    def find(self, producer_id: int, now: float) -> tuple[TopicState, ProducerState]:
        """Return a producer and its topic, and note that it is alive. Raises NotFound."""
        found = self._state.producer(producer_id)
        if found is None:
            raise NotFound(f"producer {producer_id} does not exist")
        self._seen[producer_id] = now
        return found

    def touch(self, producer_ids: list[int], now: float) -> list[int]:
        """Note that producers are alive, and return the ids that do not exist."""
        unknown = [i for i in producer_ids if self._state.producer(i) is None]
        self._seen.update(dict.fromkeys(set(producer_ids).difference(unknown), now))
        return unknown

    def forget_topic(self, topic_id: int) -> None:
        """Forget the producers of a topic that is about to be removed from the state."""
        for producer in self._known(topic_id):
            self._seen.pop(producer.producer_id, None)

    def alive(self, topic_id: int, now: float) -> list[str]:
        """Return the sorted names of a topic's producers that showed life within PRODUCER_IDLE_S."""
        return sorted(p.name for p in self._known(topic_id) if self._is_alive(p, now))

    def _known(self, topic_id: int) -> list[ProducerState]:
        topic = self._state.topics.get(topic_id)
        return list(topic.producers.values()) if topic else []

    def _is_alive(self, producer: ProducerState, now: float) -> bool:
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
