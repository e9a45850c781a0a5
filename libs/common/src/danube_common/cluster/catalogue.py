"""A process's live view of the cluster: topics, policies, owners and live instances.

Kept by mirrors of the metadata store, so the data path reads memory only. What was just written
by another process may be missing for a moment: `find_topic` reads through for that.
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Self

from danube_common.cluster import keys
from danube_common.cluster.owner_client import OwnerListener
from danube_common.cluster.partitioning import parts_of
from danube_common.cluster.records import (
    Claim,
    Instance,
    Layout,
    Namespace,
    PartitionedTopic,
    Topic,
    decode_definition,
    decode_record,
)
from danube_common.errors import CorruptData
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change, MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.model.ids import bundle_of
from danube_common.model.names import TopicName
from danube_common.model.policies import Policies, PolicyOverrides

CATCH_UP_TIMEOUT_S = 5.0

TopicGoneListener = Callable[[Topic], None]
"""Called with a topic that was deleted (also when it was created again under its name)."""
VacancyListener = Callable[[Bundle], None]
"""Called with a bundle whose owner gave it up, and that nobody has claimed since."""


class Catalogue:
    """Typed look-ups over the mirrors of ``/cluster/``, ``/namespaces/`` and ``/topics/``.

    Attributes:
        limits_revision: changes whenever the policies of a topic may have changed.
    """

    def __init__(self, store: MetadataStore) -> None:
        self.limits_revision = 0
        self.topics_revision = 0
        """Grows whenever a topic came, changed or went."""
        self._store = store
        self._topics: dict[str, Topic] = {}
        self._by_id: dict[int, Topic] = {}
        self._by_bundle: dict[str, dict[int, Topic]] = defaultdict(dict)
        self._definitions: dict[str, Topic | PartitionedTopic] = {}
        self._partitioned: dict[str, PartitionedTopic] = {}
        self._parts: dict[int, dict[str, Topic]] = defaultdict(dict)
        self._overrides: dict[str, PolicyOverrides] = {}
        self._namespaces: dict[str, Namespace] = {}
        self._claims: dict[str, tuple[Claim, int]] = {}
        self._instances: dict[str, Instance] = {}
        self._layout: Layout | None = None
        self._broker_policies = Policies()
        self._policies: dict[str, Policies] = {}
        self._gone_listeners: list[TopicGoneListener] = []
        self._owner_listeners: list[OwnerListener] = []
        self._vacancy_listeners: list[VacancyListener] = []
        self._mirrors: list[Mirror] = []

    @classmethod
    async def open(cls, store: MetadataStore) -> Self:
        """Return once everything stored so far was read. Raises MetadataUnavailable."""
        self = cls(store)
        for prefix, on_change in (
            (keys.CLUSTER, self._cluster_changed),
            (keys.NAMESPACES, self._namespace_changed),
            (keys.TOPICS, self._topic_changed),
        ):
            self._mirrors.append(await Mirror.open(store, prefix, on_change))
        return self

    async def close(self) -> None:
        """Stop following the store."""
        for mirror in self._mirrors:
            await mirror.close()

    def on_topic_gone(self, listener: TopicGoneListener) -> None:
        """Call back with each topic that was deleted."""
        self._gone_listeners.append(listener)

    def on_owner(self, listener: OwnerListener) -> None:
        """Call back with each bundle that has a new owner, and its epoch."""
        self._owner_listeners.append(listener)

    def on_vacancy(self, listener: VacancyListener) -> None:
        """Call back with each bundle that lost its owner."""
        self._vacancy_listeners.append(listener)

    # Look-ups

    def bundle_of_id(self, identifier: int) -> Bundle | None:
        """Return the bundle of a producer's or consumer's id; None if the cluster has no such bundle."""
        bundle = bundle_of(identifier)
        if bundle is None or self._layout is None or bundle.number >= self._layout.count(bundle.family):
            return None
        return bundle

    @property
    def layout(self) -> Layout | None:
        """The cluster's layout; None until an admin instance has written it."""
        return self._layout

    def topic(self, name: str) -> Topic | None:
        """Return the topic of this name, or None."""
        return self._topics.get(name)

    def topic_by_id(self, topic_id: int) -> Topic | None:
        """Return the topic of this id, or None."""
        return self._by_id.get(topic_id)

    async def find_topic(self, name: TopicName) -> Topic | None:
        """Return the topic, or None. Asks the store if this view does not know the topic."""
        known = self._topics.get(str(name))
        if known is not None:
            return known
        found = await self._stored(name)
        if not isinstance(found, Topic):
            return None
        if found.partitioned_id and (base := name.partition_of) is not None:
            of = await self._stored(base)
            return found if isinstance(of, PartitionedTopic) and of.topic_id == found.partitioned_id else None
        return found

    async def _stored(self, name: TopicName) -> Topic | PartitionedTopic | None:
        entry = await self._store.get(keys.topic_key(name))
        return decode_definition(entry.value) if entry else None

    def partitions(self, name: TopicName) -> list[Topic]:
        """Return the topic itself if this view knows it, else its partitions by number."""
        exact = self._topics.get(str(name))
        return [exact] if exact is not None else parts_of(name, self._topics.values())

    def matching(self, pattern: str) -> list[Topic]:
        """Return the topics whose names match a pattern with ``*`` and ``?``, by name."""
        matches = re.compile(fnmatch.translate(pattern.replace("[", "[[]"))).match
        return [topic for name, topic in sorted(self._topics.items()) if matches(name)]

    def topic_count(self, bundle: Bundle) -> int:
        """Return the number of topics in a bundle."""
        return len(self._by_bundle[str(bundle)])

    def topics_of(self, bundle: Bundle) -> list[Topic]:
        """Return the topics of a bundle, in no order."""
        return list(self._by_bundle[str(bundle)].values())

    async def see_topics(self) -> None:
        """Wait until this view holds every topic that is stored now. Raises MetadataUnavailable."""
        revision = (await self._store.list(keys.NAMESPACES)).revision
        await self._mirrors[-1].catch_up(revision, CATCH_UP_TIMEOUT_S)

    def policies(self, topic: TopicName) -> Policies:
        """Return the policies in force for a topic: its own over its namespace's over the broker's."""
        name = str(topic)
        known = self._policies.get(name)
        if known is None:
            namespace = self._namespaces.get(keys.namespace_key(topic.namespace))
            base = topic.partition_of
            known = self._broker_policies.overridden_by(
                namespace.policies if namespace else PolicyOverrides(),
                self._overrides.get(keys.topic_policy_key(base), PolicyOverrides())
                if base is not None
                else PolicyOverrides(),
                self._overrides.get(keys.topic_policy_key(topic), PolicyOverrides()),
            )
            if name in self._topics:
                self._policies[name] = known
        return known

    def epoch(self, bundle: Bundle) -> int | None:
        """Return the epoch of the bundle's owner; None while it has no owner."""
        claim = self._claims.get(str(bundle))
        return claim[1] if claim else None

    def owner(self, bundle: Bundle) -> str | None:
        """Return the instance id of the bundle's owner; None while it has no owner."""
        claim = self._claims.get(str(bundle))
        return claim[0].instance_id if claim else None

    def is_live(self, instance_id: str) -> bool:
        """Return whether a process of this id is registered."""
        return keys.instance_key(instance_id) in self._instances

    def instances(self, kind: str) -> list[Instance]:
        """Return the live instances of one kind of service, by id."""
        return sorted(
            (i for i in self._instances.values() if i.kind == kind), key=lambda instance: instance.instance_id
        )

    def instance_count(self, kind: str) -> int:
        """Return how many instances of one kind of service are live."""
        return sum(instance.kind == kind for instance in self._instances.values())

    # Changes

    def _cluster_changed(self, change: Change) -> None:
        key, value = change.key, change.value
        if key.startswith(keys.OWNERS):
            self._owner_changed(key.removeprefix(keys.OWNERS), value, change.revision)
        elif key.startswith(keys.REGISTER):
            if value is None:
                self._instances.pop(key, None)
            else:
                self._instances[key] = decode_record(Instance, value)
        elif key == keys.LAYOUT:
            self._layout = decode_record(Layout, value) if value is not None else None
        elif key == keys.BROKER_POLICIES:
            self._broker_policies = decode_record(Policies, value) if value is not None else Policies()
            self._forget_policies()

    def _forget_policies(self) -> None:
        self._policies.clear()
        self.limits_revision += 1

    def _owner_changed(self, bundle: str, value: bytes | None, revision: int) -> None:
        if value is None:
            self._claims.pop(bundle, None)
            for vacancy_listener in self._vacancy_listeners:
                vacancy_listener(Bundle.parse(bundle))
            return
        self._claims[bundle] = (decode_record(Claim, value), revision)
        for listener in self._owner_listeners:
            listener(Bundle.parse(bundle), revision)

    def _namespace_changed(self, change: Change) -> None:
        self._forget_policies()
        if change.value is None:
            self._namespaces.pop(change.key, None)
        else:
            self._namespaces[change.key] = decode_record(Namespace, change.value)

    def _topic_changed(self, change: Change) -> None:
        if change.key.endswith("/policy"):
            self._forget_policies()
            if change.value is None:
                self._overrides.pop(change.key, None)
            else:
                self._overrides[change.key] = decode_record(PolicyOverrides, change.value)
        elif change.key.endswith("/definition"):
            self._definition_changed(change)
        else:
            raise CorruptData(f"unexpected key {change.key}")

    def _definition_changed(self, change: Change) -> None:
        self.topics_revision += 1
        before = self._definitions.pop(change.key, None)
        after = decode_definition(change.value) if change.value is not None else None
        same = before is not None and after is not None and before.topic_id == after.topic_id
        if before is not None and not same:
            self._remove(change.key, before)
        if after is not None:
            self._definitions[change.key] = after
            self._add(change.key, after)

    def _add(self, key: str, definition: Topic | PartitionedTopic) -> None:
        if isinstance(definition, PartitionedTopic):
            self._partitioned[definition.name] = definition
            for part in self._parts.get(definition.topic_id, {}).values():
                self._show(part)
            return
        if definition.partitioned_id:
            self._parts[definition.partitioned_id][key] = definition
            # Keys of partitions are listed before that of their topic.
            base = definition.topic_name.partition_of
            of = self._partitioned.get(str(base))
            if of is None or of.topic_id != definition.partitioned_id:
                return
        self._show(definition)

    def _remove(self, key: str, definition: Topic | PartitionedTopic) -> None:
        if isinstance(definition, PartitionedTopic):
            self._partitioned.pop(definition.name, None)
            for part in self._parts.get(definition.topic_id, {}).values():
                self._hide(part)
            return
        if definition.partitioned_id:
            parts = self._parts[definition.partitioned_id]
            parts.pop(key, None)
            if not parts:
                del self._parts[definition.partitioned_id]
        self._hide(definition)

    def _show(self, topic: Topic) -> None:
        self._topics[topic.name] = topic
        self._by_id[topic.topic_id] = topic
        self._by_bundle[topic.bundle][topic.topic_id] = topic

    def _hide(self, topic: Topic) -> None:
        if self._by_id.pop(topic.topic_id, None) is None:
            return  # it went with its partitioned topic
        self._by_bundle[topic.bundle].pop(topic.topic_id, None)
        if (shown := self._topics.get(topic.name)) is not None and shown.topic_id == topic.topic_id:
            del self._topics[topic.name]
        self._policies.pop(topic.name, None)
        for listener in self._gone_listeners:
            listener(topic)
