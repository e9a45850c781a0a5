"""ClusterAdmin tells of election and membership as they are."""

from __future__ import annotations

from services.admin.tests.api.admin_port import CLUSTER, Admin

from danube_admin_service.cluster.leader import Term
from danube_admin_service.cluster.view import LeaderRecord
from danube_common.cluster import keys
from danube_common.cluster.records import Instance, encode_record
from danube_common.rpc.port import StatusCode
from danube_proto import danube_admin_pb2 as pb


async def register(admin: Admin, instance_id: str, kind: str, address: str) -> None:
    record = Instance(instance_id, kind, "http://h:1", address)
    await admin.store.put(keys.instance_key(instance_id), encode_record(record))


async def test_the_status_is_that_of_election_and_membership(admin: Admin) -> None:
    nobody = await admin.call(f"{CLUSTER}/ClusterStatus", pb.Empty(), pb.ClusterStatusResponse)
    assert (nobody.leader_id, nobody.current_term, list(nobody.voters)) == (0, 0, [])
    await register(admin, "1", "admin", "http://a:1")
    await register(admin, "2", "admin", "http://a:2")
    await register(admin, "71", "topic-owner", "")
    await admin.store.put(keys.TERM, encode_record(Term(3)))
    revision = await admin.store.put(keys.LEADER, encode_record(LeaderRecord("2", "n")))
    told = await admin.call(f"{CLUSTER}/ClusterStatus", pb.Empty(), pb.ClusterStatusResponse)
    assert (told.leader_id, told.current_term, told.self_node_id) == (2, 3, 1)
    assert (list(told.voters), list(told.learners)) == ([1, 2], [])
    assert told.last_applied >= revision
    assert told.raft_addr == "http://a:1"


async def test_instances_join_and_leave_by_themselves_and_the_answers_say_so(admin: Admin) -> None:
    await register(admin, "2", "admin", "http://a:2")
    await register(admin, "71", "topic-owner", "")
    before = admin.contents()
    for request, node in (
        (pb.AddNodeRequest(addr="http://a:2"), 2),
        (pb.AddNodeRequest(node_id=71), 71),
    ):
        added = await admin.call(f"{CLUSTER}/AddNode", request, pb.AddNodeResponse)
        assert (added.success, added.node_id) == (True, node)
    added = await admin.call(f"{CLUSTER}/AddNode", pb.AddNodeRequest(addr="http://b:1"), pb.AddNodeResponse)
    assert not added.success
    assert "joins by itself" in added.message
    for method, node, success, message in (
        ("PromoteNode", 2, True, "may lead already"),
        ("PromoteNode", 71, False, "only admin instances lead"),
        ("RemoveNode", 2, False, "leaves by itself"),
    ):
        told = await admin.call(f"{CLUSTER}/{method}", pb.NodeRequest(node_id=node), pb.NodeResponse)
        assert (told.success, message in told.message) == (success, True)
    for method in ("PromoteNode", "RemoveNode"):
        refusal = await admin.refused(f"{CLUSTER}/{method}", pb.NodeRequest(node_id=9))
        assert refusal.code is StatusCode.NOT_FOUND
    refusal = await admin.refused(f"{CLUSTER}/AddNode", pb.AddNodeRequest())
    assert refusal.code is StatusCode.INVALID_ARGUMENT
    assert admin.contents() == before
