from __future__ import annotations

from services.admin.tests.api.admin_port import BROKER, Admin

from danube_admin_service.cluster.view import LeaderRecord
from danube_common.cluster import keys
from danube_common.cluster.membership import register
from danube_common.cluster.records import Instance, encode_record
from danube_proto import danube_admin_pb2 as pb


def an_instance(instance_id: str, kind: str) -> Instance:
    return Instance(instance_id, kind, f"http://127.0.0.1:{instance_id}")


async def test_brokers_are_the_topic_owners_and_nobody_else(admin: Admin) -> None:
    for instance_id, kind in (("71", "topic-owner"), ("72", "topic-owner"), ("80", "gateway")):
        await register(admin.store, an_instance(instance_id, kind))
    answer = await admin.call(f"{BROKER}/ListBrokers", pb.Empty(), pb.BrokerListResponse)
    assert [(b.broker_id, b.broker_addr, b.broker_role) for b in answer.brokers] == [
        ("71", "http://127.0.0.1:71", "None"),
        ("72", "http://127.0.0.1:72", "None"),
    ]


async def test_a_brokers_role_says_whether_somebody_leads(admin: Admin) -> None:
    await register(admin.store, an_instance("71", "topic-owner"))
    await register(admin.store, an_instance("72", "topic-owner"))
    await admin.store.put(keys.LEADER, encode_record(LeaderRecord("72", "nonce")))
    answer = await admin.call(f"{BROKER}/ListBrokers", pb.Empty(), pb.BrokerListResponse)
    assert [b.broker_role for b in answer.brokers] == ["Cluster_Follower", "Cluster_Leader"]


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
