"""``danube_admin.ClusterAdmin`` of the current generation, answered from leader election and membership.

There is no consensus among admin instances: the metadata store has it. ADR 0034 says what each field means.
"""

from __future__ import annotations

from danube_admin_service.api.unary import precise, unary
from danube_admin_service.cluster.leader import read_term
from danube_admin_service.cluster.view import ADMIN_KIND, LeaderRecord
from danube_common.cluster import keys
from danube_common.cluster.records import Instance, decode_record, read_record
from danube_common.errors import InvalidInput, NotFound
from danube_common.metadata.port import MetadataStore
from danube_common.rpc.port import UnaryHandler
from danube_proto import danube_admin_pb2 as wire

JOINS_BY_ITSELF = "an instance joins by itself: start it with the metadata store of this cluster"
LEAVES_BY_ITSELF = "an instance leaves by itself: stop its process"


class ClusterAdmin:
    """Tells who leads and who may. ``instance_id`` is that of the answering admin instance."""

    def __init__(self, store: MetadataStore, instance_id: str) -> None:
        self._store = store
        self._instance_id = instance_id

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the service's methods."""
        prefix = "/danube_admin.ClusterAdmin"
        return {
            f"{prefix}/ClusterStatus": unary(wire.Empty, self.status),
            f"{prefix}/AddNode": precise(wire.AddNodeRequest, self.add),
            f"{prefix}/PromoteNode": precise(wire.NodeRequest, self.promote),
            f"{prefix}/RemoveNode": precise(wire.NodeRequest, self.remove),
        }

    async def status(self, _request: wire.Empty) -> wire.ClusterStatusResponse:
        """Tell the leader, the number of its election, and the admin instances."""
        leader = await read_record(self._store, keys.LEADER, LeaderRecord)
        instances, revision = await self._instances()
        admins = [one for one in instances if one.kind == ADMIN_KIND]
        own = next((one for one in admins if one.instance_id == self._instance_id), None)
        return wire.ClusterStatusResponse(
            leader_id=int(leader.instance_id) if leader else 0,
            current_term=await read_term(self._store),
            last_applied=revision,
            voters=sorted(int(one.instance_id) for one in admins),
            self_node_id=int(self._instance_id or 0),
            raft_addr=own.address if own else "",
        )

    async def add(self, request: wire.AddNodeRequest) -> wire.AddNodeResponse:
        """Tell whether an instance is a member; it cannot be made one from here."""
        if not request.addr and not request.node_id:
            raise InvalidInput("neither addr nor node_id says which node is meant")
        for one in (await self._instances())[0]:
            if one.instance_id == str(request.node_id) or (request.addr and one.address == request.addr):
                return wire.AddNodeResponse(
                    success=True,
                    node_id=int(one.instance_id),
                    message=f"{one.kind} {one.instance_id} is a member already",
                )
        return wire.AddNodeResponse(node_id=request.node_id, message=JOINS_BY_ITSELF)

    async def promote(self, request: wire.NodeRequest) -> wire.NodeResponse:
        """Tell whether an instance takes part in the election, as every admin instance does."""
        one = await self._member(request.node_id)
        if one.kind == ADMIN_KIND:
            return wire.NodeResponse(success=True, message=f"{one.instance_id} may lead already")
        return wire.NodeResponse(message=f"{one.instance_id} is a {one.kind}: only admin instances lead")

    async def remove(self, request: wire.NodeRequest) -> wire.NodeResponse:
        """Tell how a member leaves; it cannot be removed from here."""
        await self._member(request.node_id)
        return wire.NodeResponse(message=LEAVES_BY_ITSELF)

    async def _member(self, node_id: int) -> Instance:
        for one in (await self._instances())[0]:
            if one.instance_id == str(node_id):
                return one
        raise NotFound(f"there is no node {node_id}")

    async def _instances(self) -> tuple[list[Instance], int]:
        """The living instances, and the revision of the metadata store as of which they are."""
        listing = await self._store.list(keys.REGISTER)
        return [decode_record(Instance, entry.value) for entry in listing.entries], listing.revision
