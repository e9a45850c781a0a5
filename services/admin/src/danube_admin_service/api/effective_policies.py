"""The policies in force: those of the topic, the namespace and the broker, the nearest first."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from danube_common.cluster import keys
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.records import read_record
from danube_common.cluster.topics import Topics
from danube_common.metadata.port import MetadataStore
from danube_common.model.names import TopicName
from danube_common.model.policies import Policies


class EffectivePolicies:
    """Reads policies from the metadata store; answers are in the order in which policies are declared."""

    def __init__(self, store: MetadataStore, namespaces: Namespaces, topics: Topics) -> None:
        self._store = store
        self._namespaces = namespaces
        self._topics = topics

    async def in_namespace(self, name: str) -> Policies:
        """Return the policies of topics that set none of their own. Raises NotFound."""
        record = await self._namespaces.get(name)
        return (await self._broker()).overridden_by(record.policies)

    async def of_topic(self, name: TopicName) -> Policies:
        """Return the policies of a topic. Raises NotFound."""
        namespace, own = await self._topics.policies(name)
        return (await self._broker()).overridden_by(namespace, own)

    async def _broker(self) -> Policies:
        return await read_record(self._store, keys.BROKER_POLICIES, Policies) or Policies()


def json_text(policies: Policies, names: Collection[str] = Policies.__struct_fields__) -> str:
    """Return a JSON object of the policies that are in ``names``."""
    values = msgspec.structs.asdict(policies)
    return msgspec.json.encode({name: values[name] for name in names}).decode()
