"""``danube_admin.BrokerAdmin`` and ``danube_platform.Instances``: what runs, who leads; namespaces."""

from __future__ import annotations

from typing import Final

from danube_admin_service.api.unary import unary
from danube_admin_service.cluster.load_manager import LoadManager
from danube_admin_service.cluster.view import ADMIN_KIND, GATEWAY_KIND, OWNER_KIND, LeaderRecord, age_order
from danube_common.cluster import keys
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.records import Instance, read_record, read_records
from danube_common.metadata.port import MetadataStore
from danube_common.rpc.port import UnaryHandler
from danube_proto import danube_platform_pb2 as platform
from danube_proto.danube_admin_pb2 import (
    BrokerInfo,
    BrokerListResponse,
    BrokerResponse,
    Empty,
    NamespaceListResponse,
)

NOT_FOUND: Final = "not_found"
ROLE_LEADER: Final = "Cluster_Leader"
ROLE_FOLLOWER: Final = "Cluster_Follower"
ROLE_UNKNOWN: Final = "None"
KINDS: Final = (GATEWAY_KIND, ADMIN_KIND, OWNER_KIND, "storage")
"""In the order in which they are listed."""


class BrokerAdmin:
    """Lists the running instances.

    The *brokers* of the v0.2 contract are the topic-owners, which carry the topics, and the leading admin
    instance, so that the leader is one of them.
    """

    def __init__(self, store: MetadataStore, namespaces: Namespaces, manager: LoadManager) -> None:
        self._store = store
        self._namespaces = namespaces
        self._manager = manager

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the services' methods."""
        return {
            "/danube_admin.BrokerAdmin/ListBrokers": unary(Empty, self.list_brokers),
            "/danube_admin.BrokerAdmin/GetLeaderBroker": unary(Empty, self.get_leader_broker),
            "/danube_admin.BrokerAdmin/ListNamespaces": unary(Empty, self.list_namespaces),
            "/danube_platform.Instances/ListInstances": unary(
                platform.ListInstancesRequest, self.list_instances
            ),
        }

    async def list_brokers(self, _request: Empty) -> BrokerListResponse:
        """List the living topic-owners and the leading admin instance."""
        leader, instances = await self._leader(), await self._instances()
        clients_at = next((one.address for one in instances if one.kind == GATEWAY_KIND), "")
        leader_at = next((one.address for one in instances if one.instance_id == leader), "")
        return BrokerListResponse(
            brokers=[
                BrokerInfo(
                    broker_id=one.instance_id,
                    broker_addr=clients_at if one.kind == OWNER_KIND else one.address,
                    broker_role=_role(one.instance_id, leader),
                    admin_addr=leader_at,
                    metrics_addr=one.http_url,
                    broker_status=self._manager.state(one.instance_id),
                )
                for one in instances
                if one.kind == OWNER_KIND or one.instance_id == leader
            ]
        )

    async def list_instances(self, _request: platform.ListInstancesRequest) -> platform.ListInstancesResponse:
        """List everything that runs: gateways first, then admin instances, topic-owners, storage."""
        leader = await self._leader()
        return platform.ListInstancesResponse(
            instances=[
                platform.Instance(
                    instance_id=one.instance_id,
                    kind=one.kind,
                    address=one.address,
                    http_url=one.http_url,
                    leading=one.instance_id == leader,
                    status=self._manager.state(one.instance_id),
                    started_ms=one.started_ms,
                )
                for one in await self._instances()
            ]
        )

    async def get_leader_broker(self, _request: Empty) -> BrokerResponse:
        """Return the id of the leading admin instance."""
        return BrokerResponse(leader=await self._leader() or NOT_FOUND)

    async def list_namespaces(self, _request: Empty) -> NamespaceListResponse:
        """List the namespaces, sorted."""
        return NamespaceListResponse(namespaces=await self._namespaces.names())

    async def _instances(self) -> list[Instance]:
        """The living instances by kind, those that have lived longest first."""
        found = await read_records(self._store, keys.REGISTER, Instance)
        return sorted(
            (one for one in found if one.kind in KINDS),
            key=lambda one: (KINDS.index(one.kind), age_order(one)),
        )

    async def _leader(self) -> str | None:
        leader = await read_record(self._store, keys.LEADER, LeaderRecord)
        return leader.instance_id if leader else None


def _role(instance_id: str, leader: str | None) -> str:
    if leader is None:
        return ROLE_UNKNOWN
    return ROLE_LEADER if instance_id == leader else ROLE_FOLLOWER
