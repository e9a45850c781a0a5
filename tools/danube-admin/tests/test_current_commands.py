"""Commands, options and output of the current generation's danube-admin, and of partitioned topics."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest

from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

CLUSTER = "/danube_admin.ClusterAdmin"
BROKER = "/danube_admin.BrokerAdmin"
TOPIC = "/danube_admin.TopicAdmin"
PARTITIONS = "/danube_platform.PartitionAdmin"


def info(name: str) -> wire.TopicInfo:
    return wire.TopicInfo(name=name, broker_id="71", delivery="Reliable")


@pytest.fixture
def listed(service: Any) -> None:
    """A namespace with a plain topic and one in two partitions."""
    topics = [info("/default/a"), *(info(f"/default/p-part-{number}") for number in range(2))]
    service.answers[f"{TOPIC}/ListNamespaceTopics"] = wire.TopicInfoListResponse(topics=topics)
    service.answers[f"{PARTITIONS}/ListPartitionedTopics"] = platform.ListPartitionedTopicsResponse(
        topics=[platform.PartitionedTopicInfo(topic="/default/p", partitions=2, reliable=True)]
    )


@pytest.mark.usefixtures("listed")
def test_a_partitioned_topic_is_listed_with_its_partitions(cli: Any) -> None:
    assert cli("topics", "list", "--namespace", "default").out.splitlines() == [
        "Topic: /default/p (2 partitions, delivery: Reliable)",
        "  Topic: /default/p-part-0 (broker_id: 71, delivery: Reliable)",
        "  Topic: /default/p-part-1 (broker_id: 71, delivery: Reliable)",
        "Topic: /default/a (broker_id: 71, delivery: Reliable)",
    ]
    rows = json.loads(cli("topics", "list", "--namespace", "default", "-o", "json").out)
    parts = ["/default/p-part-0", "/default/p-part-1"]
    assert rows == [
        {"name": "/default/p", "broker_id": "", "delivery": "Reliable", "partitions": parts},
        *({"name": name, "broker_id": "71", "delivery": "Reliable"} for name in (*parts, "/default/a")),
    ]


def test_the_topics_of_a_broker_are_listed(service: Any, cli: Any) -> None:
    service.answers[f"{TOPIC}/ListBrokerTopics"] = wire.TopicInfoListResponse(topics=[info("/default/a")])
    ended = cli("topics", "list", "--broker", "71")
    assert ended.out == "Topic: /default/a (broker_id: 71, delivery: Reliable)\n"
    for arguments in ((), ("default", "--broker", "71")):
        assert cli("topics", "list", *arguments).code == 2


@pytest.mark.parametrize("method", ["ListNamespaceTopics", "ListBrokerTopics"])
def test_what_is_unknown_is_an_error(service: Any, cli: Any, method: str) -> None:
    service.answers[f"{TOPIC}/{method}"] = (grpc.StatusCode.NOT_FOUND, "does not exist")
    option = "--broker" if "Broker" in method else "--namespace"
    ended = cli("topics", "list", option, "nothing")
    assert (ended.code, ended.err) == (1, "Error: does not exist\n")


def test_a_topic_may_be_named_with_its_namespace_beside_it(service: Any, cli: Any) -> None:
    service.answers[f"{TOPIC}/DeleteTopic"] = wire.TopicResponse(success=True)
    for arguments in (("new", "--namespace", "orders"), ("/orders/new", "--namespace", "orders")):
        assert cli("topics", "delete", *arguments, "--yes").code == 0
    assert [request.name for _, request in service.requests] == ["/orders/new"] * 2
    wrong: tuple[tuple[str, ...], ...] = (
        ("new",),
        ("/orders/new", "--namespace", "other"),
        ("a/b", "--namespace", "orders"),
    )
    for given in wrong:
        ended = cli("topics", "delete", *given)
        assert ended.code == 2
        assert "TOPIC" in ended.err


def test_a_topic_is_created_with_a_subject_and_in_partitions(service: Any, cli: Any) -> None:
    service.answers[f"{TOPIC}/CreateTopic"] = wire.TopicResponse(success=True)
    service.answers[f"{TOPIC}/CreatePartitionedTopic"] = wire.TopicResponse(success=True)
    service.answers[f"{PARTITIONS}/CreatePartitions"] = platform.CreatePartitionsResponse(success=True)
    subject = ("--schema-subject", "orders", "--dispatch-strategy", "non_reliable")
    assert cli("topics", "create", "/default/t", *subject).out == "Topic Created: true\n"
    assert cli("topics", "create", "/default/t", *subject, "--partitions", "3").code == 0
    assert cli("topics", "create", "/default/t", "--partitions", "3").code == 0
    created, parted, own = (request for _, request in service.requests)
    assert (parted.base_name, parted.partitions, parted.schema_subject) == ("/default/t", 3, "orders")
    assert (own.topic, own.partitions, own.dispatch_strategy) == ("/default/t", 3, "reliable:retention=ack")
    sent = wire.NewTopicRequestCurrent.FromString(created.SerializeToString())
    assert (sent.schema_subject, sent.dispatch_strategy) == ("orders", wire.NonReliable)
    assert cli("topics", "create", "/default/t", *subject, "--storage", "s3").code == 2


def test_a_topic_grows(service: Any, cli: Any) -> None:
    service.answers[f"{PARTITIONS}/GrowTopic"] = platform.GrowTopicResponse(success=True)
    assert cli("topics", "grow", "/default/p", "--partitions", "8").out == "Topic Grown: true\n"
    assert service.requests[0][1] == platform.GrowTopicRequest(topic="/default/p", partitions=8)


def test_a_dispatch_config_is_set_and_shown(service: Any, cli: Any) -> None:
    service.answers[f"{TOPIC}/SetSubscriptionDispatchConfig"] = wire.SubscriptionResponse(success=True)
    service.answers[f"{TOPIC}/GetSubscriptionDispatchConfig"] = wire.GetSubscriptionDispatchConfigResponse(
        dispatch_config=wire.SubscriptionDispatchConfig(max_unacked_messages=100)
    )
    where = ("/default/t", "-s", "billing")
    assert cli("topics", "set-dispatch-config", *where, "--max-unacked-messages", "100").code == 0
    assert service.requests[0][1].dispatch_config.max_unacked_messages == 100
    shown = json.loads(cli("topics", "get-dispatch-config", *where, "-o", "json").out)
    assert shown == {"topic": "/default/t", "subscription": "billing", "max_unacked_messages": 100}
    assert cli("topics", "set-dispatch-config", *where, "--max-unacked-messages", "0").code == 2


def test_the_status_of_the_cluster_is_shown(service: Any, cli: Any) -> None:
    service.answers[f"{CLUSTER}/ClusterStatus"] = wire.ClusterStatusResponse(
        leader_id=2, current_term=3, last_applied=40, voters=[1, 2], self_node_id=1, raft_addr="http://a:1"
    )
    shown = cli("cluster", "status").out
    for word in ("Leader", "2", "Term", "3", "http://a:1", "1, 2"):
        assert word in shown
    assert json.loads(cli("cluster", "status", "-o", "json").out) == {
        "leader_id": 2,
        "current_term": 3,
        "last_applied": 40,
        "voters": [1, 2],
        "learners": [],
        "self_node_id": 1,
        "raft_addr": "http://a:1",
    }


def test_the_answers_about_nodes_are_told_and_decide_the_exit_code(service: Any, cli: Any) -> None:
    service.answers[f"{CLUSTER}/AddNode"] = wire.AddNodeResponse(message="an instance joins by itself")
    service.answers[f"{CLUSTER}/PromoteNode"] = wire.NodeResponse(success=True, message="2 may lead already")
    service.answers[f"{CLUSTER}/RemoveNode"] = wire.NodeResponse(message="an instance leaves by itself")
    ended = cli("cluster", "add-node", "--node-addr", "http://a:1")
    assert (ended.code, ended.err) == (1, "Error: an instance joins by itself\n")
    ended = cli("cluster", "promote-node", "--node-id", "2")
    assert (ended.code, ended.out) == (0, "2 may lead already\n")
    assert cli("cluster", "remove-node", "--node-id", "2").code == 1


def test_namespaces_are_listed(service: Any, cli: Any) -> None:
    service.answers[f"{BROKER}/ListNamespaces"] = wire.NamespaceListResponse(namespaces=["default", "shop"])
    for group in ("namespaces", "brokers"):
        command = "list" if group == "namespaces" else "namespaces"
        assert cli(group, command).out == "Namespace: default\nNamespace: shop\n"
    assert json.loads(cli("namespaces", "list", "-o", "json").out) == ["default", "shop"]


def test_a_broker_is_named_by_an_argument_or_an_option(service: Any, cli: Any) -> None:
    service.answers[f"{BROKER}/ActivateBroker"] = wire.ActivateBrokerResponse(success=True)
    service.answers[f"{BROKER}/UnloadBroker"] = wire.UnloadBrokerResponse(total=1)
    for arguments in (("7",), ("--broker-id", "7")):
        assert cli("brokers", "activate", *arguments).code == 0
    assert cli("brokers", "unload", "--broker-id", "7", "--dry-run", "--namespaces-include", "a,b").code == 0
    assert {request.broker_id for _, request in service.requests} == {"7"}
    assert list(service.requests[-1][1].namespaces_include) == ["a", "b"]
    assert cli("brokers", "activate").code == 2
    assert cli("brokers", "activate", "7", "--broker-id", "8").code == 2
