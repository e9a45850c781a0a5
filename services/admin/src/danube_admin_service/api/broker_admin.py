"""``danube_admin.BrokerAdmin``: brokers, the leader, namespaces."""

from __future__ import annotations

from typing import Final

from danube_admin_service.api.unary import unary
from danube_admin_service.cluster.load_manager import LoadManager
from danube_admin_service.cluster.view import OWNER_KIND, LeaderRecord
from danube_common.cluster import keys
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.records import Instance, decode_record
from danube_common.metadata.port import MetadataStore
from danube_common.rpc.port import UnaryHandler
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


class BrokerAdmin:
    """Lists brokers. A broker of the v0.2 contract is a topic-owner; the leader is an admin instance."""

    def __init__(self, store: MetadataStore, namespaces: Namespaces, manager: LoadManager) -> None:
        self._store = store
        self._namespaces = namespaces
        self._manager = manager

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the service's methods."""
        return {
            "/danube_admin.BrokerAdmin/ListBrokers": unary(Empty, self.list_brokers),
            "/danube_admin.BrokerAdmin/GetLeaderBroker": unary(Empty, self.get_leader_broker),
            "/danube_admin.BrokerAdmin/ListNamespaces": unary(Empty, self.list_namespaces),
        }

    async def list_brokers(self, _request: Empty) -> BrokerListResponse:
        """List the living topic-owners."""
        leader = await self._leader()
        listing = await self._store.list(keys.REGISTER)
        instances = (decode_record(Instance, entry.value) for entry in listing.entries)
        return BrokerListResponse(
            brokers=[
                BrokerInfo(
                    broker_id=one.instance_id,
                    broker_addr=one.http_url,
                    broker_role=_role(one.instance_id, leader),
                    metrics_addr=one.http_url,
                    broker_status=self._manager.state(one.instance_id),
                )
                for one in instances
                if one.kind == OWNER_KIND
            ]
        )

    async def get_leader_broker(self, _request: Empty) -> BrokerResponse:
        """Return the id of the leading admin instance."""
        return BrokerResponse(leader=await self._leader() or NOT_FOUND)

    async def list_namespaces(self, _request: Empty) -> NamespaceListResponse:
        """List the namespaces, sorted."""
        return NamespaceListResponse(namespaces=await self._namespaces.names())

    async def _leader(self) -> str | None:
        entry = await self._store.get(keys.LEADER)
        return decode_record(LeaderRecord, entry.value).instance_id if entry else None


def _role(instance_id: str, leader: str | None) -> str:
    if leader is None:
        return ROLE_UNKNOWN
    return ROLE_LEADER if instance_id == leader else ROLE_FOLLOWER
