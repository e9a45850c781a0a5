"""The methods of the admin port over stores in memory, for tests of each service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from danube_admin_service.api.errors import ERROR_TRAILER
from danube_common.cluster import keys
from danube_common.cluster.records import Layout, Topic, decode_record
from danube_common.metadata.port import Entry
from danube_common.model.names import TopicName
from danube_common.rpc.port import Call, Methods, RpcError, answered
from danube_harness.memory.bus import MemoryHub
from danube_harness.memory.log import MemoryLog
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.services.fake_owner import FakeOwner
from danube_proto import danube_admin_pb2 as pb
from danube_proto.danube_api_pb2 import (
    ErrorMessage,
)

LAYOUT = Layout(file_bundles=4, memory_bundles=2)
NOW_MS = 1_700_000_000_000
BROKER = "/danube_admin.BrokerAdmin"
CLUSTER = "/danube_admin.ClusterAdmin"
NAMESPACE = "/danube_admin.NamespaceAdmin"
TOPIC = "/danube_admin.TopicAdmin"
POLICY = "/danube_platform.PolicyAdmin"
PARTITIONS = "/danube_platform.PartitionAdmin/CreatePartitions"
GROW = "/danube_platform.PartitionAdmin/GrowTopic"
LIST_PARTITIONED = "/danube_platform.PartitionAdmin/ListPartitionedTopics"
DETAILS = "/danube_platform.TopicDetails"

A = TypeVar("A", bound=Message)


@dataclass
class Admin:
    """The handlers over stores in memory."""

    store: MemoryMetadata
    log: MemoryLog
    hub: MemoryHub
    methods: Methods
    owner: FakeOwner

    async def attempt(self, method: str, request: Message | bytes) -> bytes | RpcError:
        """As the server does it: what is raised becomes a status."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        try:
            return await answered(self.methods.unary[method], Call(method, data))
        except Exception as error:
            status = error if isinstance(error, RpcError) else self.methods.on_error(error)
            if status is None:
                raise
            return status

    async def call(self, method: str, request: Message | bytes, answer: type[A]) -> A:
        """The answer of a call that must succeed."""
        outcome = await self.attempt(method, request)
        assert isinstance(outcome, bytes), outcome
        return answer.FromString(outcome)

    async def refused(self, method: str, request: Message | bytes) -> RpcError:
        """The status of a call that must fail, and must change nothing."""
        before = self.contents()
        outcome = await self.attempt(method, request)
        assert isinstance(outcome, RpcError), method
        assert self.contents() == before
        return outcome

    async def create_topic(self, name: str, **given: str) -> Topic:
        request = pb.NewTopicRequest(name=name, **{"schema_type": "bytes", **given})
        assert (await self.call(f"{TOPIC}/CreateTopic", request, pb.TopicResponse)).success
        return await self.topic(name)

    async def topic(self, name: str) -> Topic:
        entry = await self.store.get(keys.topic_key(TopicName.parse(name)))
        assert entry is not None
        return decode_record(Topic, entry.value)

    def contents(self) -> tuple[Entry, ...]:
        return self.store.state.listing("/").entries


def error_message(status: RpcError) -> ErrorMessage:
    trailer = status.trailers[ERROR_TRAILER]
    assert isinstance(trailer, bytes)
    return ErrorMessage.FromString(trailer)
