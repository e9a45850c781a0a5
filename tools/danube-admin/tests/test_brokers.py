from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any

import grpc
import pytest

from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

LOADS = "/danube_platform.LoadAdmin/ListBrokerLoads"
UNLOAD = "/danube_admin.BrokerAdmin/UnloadBroker"
ACTIVATE = "/danube_admin.BrokerAdmin/ActivateBroker"
BALANCE = "/danube_admin.BrokerAdmin/GetClusterBalance"
REBALANCE = "/danube_admin.BrokerAdmin/TriggerRebalance"
LIST = "/danube_platform.Instances/ListInstances"
LEADER = "/danube_admin.BrokerAdmin/GetLeaderBroker"
NAMESPACES = "/danube_admin.BrokerAdmin/ListNamespaces"

INSTANCES = platform.ListInstancesResponse(
    instances=[
        platform.Instance(
            instance_id="5",
            kind="gateway",
            address="http://10.0.0.1:6650",
            http_url="http://10.0.0.1:9041",
            status="active",
        ),
        platform.Instance(
            instance_id="123456789012",
            kind="admin",
            address="http://b:50051",
            http_url="http://b:9040",
            leading=True,
            status="active",
        ),
        platform.Instance(instance_id="7", kind="topic-owner", http_url="http://b:1", status="draining"),
    ]
)
TOLD = platform.BrokerLoadsResponse(
    brokers=[
        platform.BrokerLoad(
            broker_id="7",
            cpu_percent=12.34,
            memory_bytes=71_900_000,
            bundles={"f0": platform.Load(), "m1": platform.Load()},
            total=platform.Load(
                topics=3, subscriptions=4, in_messages=99.6, out_messages=200, behind=1, unacked=5
            ),
        )
    ]
)


@pytest.fixture(autouse=True)
def loads(service: Any) -> None:
    service.answers[LOADS] = TOLD


def test_instances_stand_in_a_table_with_the_addresses_that_people_use(service: Any, cli: Any) -> None:
    service.answers[LIST] = INSTANCES
    ended = cli("brokers", "list")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "BROKER ID    | ROLE          | ADDRESS              | STATUS   | BUNDLES | TOPICS | SUBSCRIPTIONS"
        " | IN MSG/S | OUT MSG/S | BEHIND | UNACKED | CPU % | MEMORY MB\n"
        "5            | gateway       | http://10.0.0.1:6650 | active   | -       | -      | -            "
        " | -        | -         | -      | -       | -     | -\n"
        "123456789012 | leading admin | http://b:50051       | active   | -       | -      | -            "
        " | -        | -         | -      | -       | -     | -\n"
        "7            | topic-owner   | -                    | draining | 2       | 3      | 4            "
        " | 100      | 200       | 1      | 5       | 12.3  | 72\n"
    )


def test_a_cluster_without_instances_has_the_headings(service: Any, cli: Any) -> None:
    service.answers[LIST] = platform.ListInstancesResponse()
    assert cli("brokers", "list").out.startswith("BROKER ID | ROLE | ADDRESS | STATUS | ")


@pytest.mark.parametrize(
    "arguments", [("brokers", "list", "-o", "json"), ("--output", "json", "brokers", "list")]
)
def test_instances_as_json(service: Any, cli: Any, arguments: tuple[str, ...]) -> None:
    service.answers[LIST] = INSTANCES
    assert json.loads(cli(*arguments).out)[2] == {
        "broker_id": "7",
        "broker_role": "topic-owner",
        "broker_addr": "-",
        "broker_status": "draining",
        "metrics_addr": "http://b:1",
        "admin_addr": "http://b:50051",
        "bundles": "2",
        "topics": "3",
        "subscriptions": "4",
        "in_messages": "100",
        "out_messages": "200",
        "behind": "1",
        "unacked": "5",
        "cpu_percent": "12.3",
        "memory_mb": "72",
    }


def test_the_leader_is_quoted(service: Any, cli: Any) -> None:
    service.answers[LEADER] = wire.BrokerResponse(leader="not_found")
    assert cli("brokers", "leader-broker").out == 'Leader Broker: "not_found"\n'
    assert json.loads(cli("brokers", "leader-broker", "-o", "json").out) == {"leader": "not_found"}


def test_namespaces_are_one_per_line(service: Any, cli: Any) -> None:
    service.answers[NAMESPACES] = wire.NamespaceListResponse(namespaces=["default", "system"])
    assert cli("brokers", "namespaces").out == "Namespace: default\nNamespace: system\n"
    assert json.loads(cli("brokers", "namespaces", "-o", "json").out) == ["default", "system"]


def test_the_endpoint_is_taken_from_the_command_then_before_it_then_the_environment(
    service: Any, cli: Any
) -> None:
    service.answers[LEADER] = wire.BrokerResponse(leader="1")
    dead = "http://127.0.0.1:1"
    assert cli("brokers", "leader-broker").code == 0
    assert cli("--endpoint", dead, "brokers", "leader-broker").code == 3
    assert cli("--endpoint", dead, "brokers", "leader-broker", "--endpoint", service.endpoint).code == 0


def test_nobody_at_the_endpoint_is_one_line_and_its_own_code(cli: Any) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, and not listening: connections are refused
        endpoint = f"http://127.0.0.1:{bound.getsockname()[1]}"
        ended = cli("brokers", "list", "--endpoint", endpoint)
    assert (ended.code, ended.out, ended.err) == (3, "", f"Error: {endpoint} cannot be reached\n")


@pytest.mark.parametrize(
    "endpoint", ["ftp://host:1", "https://host", "host", "http://host:1/path", "http://host:x"]
)
def test_an_endpoint_that_is_none_is_wrong_usage(cli: Any, endpoint: str) -> None:
    ended = cli("brokers", "list", "--endpoint", endpoint)
    text = "an endpoint is http://host:port or https://host:port"
    assert (ended.code, ended.err) == (2, f"Error: {endpoint!r}: {text}\n")


def test_a_service_that_is_not_ready_has_the_code_of_an_unreachable_one(service: Any, cli: Any) -> None:
    service.answers[LIST] = (grpc.StatusCode.UNAVAILABLE, "no metadata")
    ended = cli("brokers", "list")
    assert (ended.code, ended.err) == (3, f"Error: {service.endpoint}: no metadata\n")


def test_help_has_examples_and_the_exit_codes(cli: Any) -> None:
    ended = cli("--help")
    assert ended.code == 0
    assert "  danube-admin brokers list\n" in ended.out
    assert "Exit codes: 0 done" in ended.out


def test_a_reader_that_leaves_is_no_failure(service: Any) -> None:
    service.answers[LIST] = platform.ListInstancesResponse(
        instances=[platform.Instance(instance_id="x" * 1_000_000)]
    )
    command = [sys.executable, "-W", "error", "-m", "danube_admin_cli", "brokers", "list"]
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "DANUBE_ADMIN_ENDPOINT": service.endpoint}
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment, check=True)
    os.close(writer)
    assert ended.stderr == b""


# What moves load


def test_an_unload_shows_its_progress_and_then_the_count(service: Any, cli: Any) -> None:
    done = wire.UnloadBrokerResponse(started=True, total=4, succeeded=4)
    service.series[UNLOAD] = [
        wire.UnloadBrokerResponse(started=True, total=4, succeeded=1, pending=3),
        wire.UnloadBrokerResponse(started=True, total=4, succeeded=3, pending=1),
        done,
    ]
    ended = cli("brokers", "unload", "7", "--yes", "--max-parallel", "2")
    assert (ended.code, ended.out) == (0, "started: true, total: 4, succeeded: 4, failed: 0, pending: 0\n")
    assert ended.err == "1 of 4 bundles handed over\n3 of 4 bundles handed over\n"
    asked = [request for _, request in service.requests]
    assert {(one.broker_id, one.max_parallel, one.dry_run) for one in asked} == {("7", 2, False)}
    service.answers[UNLOAD] = done
    counted = {"started": True, "total": 4, "succeeded": 4, "failed": 0, "pending": 0}
    assert json.loads(cli("brokers", "unload", "7", "-y", "-o", "json").out) == counted


def test_an_unload_that_takes_longer_fails_and_says_that_it_goes_on(service: Any, cli: Any) -> None:
    service.answers[UNLOAD] = wire.UnloadBrokerResponse(started=True, total=4, succeeded=1, pending=3)
    ended = cli("brokers", "unload", "7", "--yes", "--timeout-seconds", "0")
    assert (ended.code, ended.err) == (1, "Error: 3 bundles are not handed over yet; it goes on\n")


def test_a_dry_run_of_an_unload_is_no_failure(service: Any, cli: Any) -> None:
    service.answers[UNLOAD] = wire.UnloadBrokerResponse(total=4, pending=4)
    ended = cli("brokers", "unload", "7", "--dry-run")
    assert (ended.code, ended.out) == (0, "started: false, total: 4, succeeded: 0, failed: 0, pending: 4\n")
    assert service.requests[-1][1].dry_run


def test_a_broker_is_activated(service: Any, cli: Any) -> None:
    service.answers[ACTIVATE] = wire.ActivateBrokerResponse(success=True)
    assert cli("brokers", "activate", "7", "--reason", "mended").out == "Broker Activated: true\n"
    assert service.requests[-1][1] == wire.ActivateBrokerRequest(broker_id="7", reason="mended")


def test_the_moves_of_a_rebalance_are_listed(service: Any, cli: Any) -> None:
    move = wire.ProposedMove(topic_name="f3", from_broker=7, to_broker=8, estimated_load=0.25, reason="why")
    service.answers[REBALANCE] = wire.RebalanceResponse(success=True, proposed_moves=[move])
    ended = cli("brokers", "rebalance", "--dry-run", "--max-moves", "3")
    assert ended.out == (
        "moves_executed: 0\nBUNDLE | FROM | TO | LOAD  | REASON\nf3     | 7    | 8  | 0.250 | why\n"
    )
    assert service.requests[-1][1] == wire.RebalanceRequest(dry_run=True, max_moves=3)
    as_json = json.loads(cli("brokers", "rebalance", "--dry-run", "-o", "json").out)
    assert as_json == {
        "moves_executed": 0,
        "proposed_moves": [
            {
                "topic_name": "f3",
                "from_broker": "7",
                "to_broker": "8",
                "estimated_load": "0.250",
                "reason": "why",
            }
        ],
    }
    assert not service.requests[-1][1].HasField("max_moves")


@pytest.mark.parametrize(
    ("variation", "word"),
    [(19.0, "well balanced"), (25.0, "balanced"), (35.0, "imbalanced"), (80.0, "severely imbalanced")],
)
def test_the_balance_has_a_verdict(service: Any, cli: Any, variation: float, word: str) -> None:
    service.answers[BALANCE] = wire.ClusterBalanceResponse(
        coefficient_of_variation=variation,
        broker_count=1,
        assignment_strategy="fair",
        brokers=[wire.BrokerBalance(broker_id=7, load=0.5, topic_count=3, is_overloaded=True)],
    )
    told = json.loads(cli("brokers", "balance", "-o", "json").out)
    assert (told["verdict"], told["assignment_strategy"]) == (word, "fair")
    assert told["brokers"] == [
        {"broker_id": 7, "load": 0.5, "topic_count": 3, "is_overloaded": True, "is_underloaded": False}
    ]
    assert "7         | 0.500 | 3      | overloaded\n" in cli("brokers", "balance").out
