from __future__ import annotations

from services.admin.tests.api.admin_port import BROKER, Admin

from danube_admin_service.cluster.view import LeaderRecord
from danube_common.cluster import keys
from danube_common.cluster.membership import register
from danube_common.cluster.records import Instance, encode_record
from danube_proto import danube_admin_pb2 as pb
from danube_proto import danube_platform_pb2 as platform

INSTANCES = [
    Instance("83", "admin", "http://h:1", "http://a:50052", started_ms=2),
    Instance("82", "admin", "http://h:2", "http://a:50051", started_ms=3),
    Instance("71", "topic-owner", "http://h:3"),
    Instance("72", "topic-owner", "http://h:4"),
    Instance("61", "gateway", "http://h:5", "http://g:6652", started_ms=9),
    Instance("62", "gateway", "http://h:6", "http://g:6651", started_ms=8),
    Instance("90", "storage", "http://h:7", backends=("disk",)),
]


async def listed(admin: Admin) -> list[pb.BrokerInfo]:
    return list((await admin.call(f"{BROKER}/ListBrokers", pb.Empty(), pb.BrokerListResponse)).brokers)


async def test_brokers_are_the_topic_owners_where_clients_reach_them_and_the_leading_admin(
    admin: Admin,
) -> None:
    for instance in INSTANCES:
        await register(admin.store, instance)
    await admin.store.put(keys.LEADER, encode_record(LeaderRecord("82", "nonce")))
    brokers = await listed(admin)
    assert [(b.broker_id, b.broker_addr, b.broker_role, b.metrics_addr) for b in brokers] == [
        ("82", "http://a:50051", "Cluster_Leader", "http://h:2"),
        ("71", "http://g:6651", "Cluster_Follower", "http://h:3"),
        ("72", "http://g:6651", "Cluster_Follower", "http://h:4"),
    ]
    assert {b.admin_addr for b in brokers} == {"http://a:50051"}
    leader = await admin.call(f"{BROKER}/GetLeaderBroker", pb.Empty(), pb.BrokerResponse)
    assert [b.broker_id for b in brokers if b.broker_role == "Cluster_Leader"] == [leader.leader]


async def test_a_brokers_role_says_that_nobody_leads(admin: Admin) -> None:
    for instance in INSTANCES:
        await register(admin.store, instance)
    assert {b.broker_role for b in await listed(admin)} == {"None"}


async def test_without_a_gateway_a_broker_has_no_address(admin: Admin) -> None:
    await register(admin.store, Instance("71", "topic-owner", "http://h:3"))
    assert [b.broker_addr for b in await listed(admin)] == [""]


async def test_all_instances_are_listed_by_kind_and_age_and_one_leads(admin: Admin) -> None:
    for instance in INSTANCES:
        await register(admin.store, instance)
    await admin.store.put(keys.LEADER, encode_record(LeaderRecord("82", "nonce")))
    answer = await admin.call(
        "/danube_platform.Instances/ListInstances",
        platform.ListInstancesRequest(),
        platform.ListInstancesResponse,
    )
    assert [(one.instance_id, one.kind, one.address, one.leading) for one in answer.instances] == [
        ("62", "gateway", "http://g:6651", False),
        ("61", "gateway", "http://g:6652", False),
        ("83", "admin", "http://a:50052", False),
        ("82", "admin", "http://a:50051", True),
        ("71", "topic-owner", "", False),
        ("72", "topic-owner", "", False),
        ("90", "storage", "", False),
    ]
    assert {one.status for one in answer.instances} == {"active"}


async def test_the_leader_is_named_or_not_found(admin: Admin) -> None:
    method = f"{BROKER}/GetLeaderBroker"
    assert (await admin.call(method, pb.Empty(), pb.BrokerResponse)).leader == "not_found"
    await admin.store.put(keys.LEADER, encode_record(LeaderRecord("9", "nonce")))
    assert (await admin.call(method, pb.Empty(), pb.BrokerResponse)).leader == "9"


async def test_each_namespace_is_listed_once_however_many_topics_it_has(admin: Admin) -> None:
    await admin.create_topic("/default/a")
    await admin.create_topic("/default/b")
    answer = await admin.call(f"{BROKER}/ListNamespaces", pb.Empty(), pb.NamespaceListResponse)
    assert list(answer.namespaces) == ["default", "system"]
