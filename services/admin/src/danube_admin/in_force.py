"""The policies in force, level over level, read from the store itself."""

from __future__ import annotations

import msgspec

from danube_common import keys
from danube_common.metadata.port import MetadataStore
from danube_common.names import TopicName
from danube_common.namespaces import Namespaces
from danube_common.policies import Policies
from danube_common.records import decode_record
from danube_common.topics import Topics


class PoliciesInForce:
    """Answers as JSON text: the eight, in the order they are declared."""

    def __init__(self, store: MetadataStore, namespaces: Namespaces, topics: Topics) -> None:
        self._store = store
        self._namespaces = namespaces
        self._topics = topics

    async def in_namespace(self, name: str) -> str:
        """What holds for topics that set nothing of their own. Raises NotFound."""
        record = await self._namespaces.get(name)
        return _text((await self._broker()).overridden_by(record.policies))

    async def of_topic(self, name: TopicName) -> str:
        """Raises NotFound."""
        namespace, own = await self._topics.policies(name)
        return _text((await self._broker()).overridden_by(namespace, own))

    async def _broker(self) -> Policies:
        entry = await self._store.get(keys.BROKER_POLICIES)
        return decode_record(Policies, entry.value) if entry else Policies()


def _text(policies: Policies) -> str:
    return msgspec.json.encode(policies).decode()
