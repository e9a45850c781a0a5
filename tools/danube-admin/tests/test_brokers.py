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

LIST = "/danube_admin.BrokerAdmin/ListBrokers"
LEADER = "/danube_admin.BrokerAdmin/GetLeaderBroker"
NAMESPACES = "/danube_admin.BrokerAdmin/ListNamespaces"

BROKERS = wire.BrokerListResponse(
    brokers=[
        wire.BrokerInfo(broker_id="7", broker_addr="http://10.0.0.1:6650", broker_role="Cluster_Leader"),
        wire.BrokerInfo(broker_id="123456789012", broker_addr="http://b:1", broker_role="Cluster_Follower"),
    ]
)


def test_brokers_stand_in_a_table_without_lines(service: Any, cli: Any) -> None:
    service.answers[LIST] = BROKERS
    ended = cli("brokers", "list")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "BROKER ID    | BROKER ADDRESS       | BROKER ROLE\n"
        "7            | http://10.0.0.1:6650 | Cluster_Leader\n"
        "123456789012 | http://b:1           | Cluster_Follower\n"
    )


def test_a_cluster_without_brokers_has_the_headings(service: Any, cli: Any) -> None:
    service.answers[LIST] = wire.BrokerListResponse()
    assert cli("brokers", "list").out == "BROKER ID | BROKER ADDRESS | BROKER ROLE\n"


@pytest.mark.parametrize(
    "arguments", [("brokers", "list", "-o", "json"), ("--output", "json", "brokers", "list")]
)
def test_brokers_as_json(service: Any, cli: Any, arguments: tuple[str, ...]) -> None:
    service.answers[LIST] = BROKERS
    assert json.loads(cli(*arguments).out)[0] == {
        "broker_id": "7",
        "broker_addr": "http://10.0.0.1:6650",
        "broker_role": "Cluster_Leader",
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


@pytest.mark.parametrize("endpoint", ["https://host:1", "host", "http://host:1/path", "http://host:x"])
def test_an_endpoint_that_is_none_is_wrong_usage(cli: Any, endpoint: str) -> None:
    ended = cli("brokers", "list", "--endpoint", endpoint)
    assert (ended.code, ended.err) == (2, f"Error: {endpoint!r}: an endpoint is http://host:port\n")


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
    service.answers[LIST] = wire.BrokerListResponse(brokers=[wire.BrokerInfo(broker_id="x" * 1_000_000)])
    command = [sys.executable, "-W", "error", "-m", "danube_admin_cli", "brokers", "list"]
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "DANUBE_ADMIN_ENDPOINT": service.endpoint}
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment, check=True)
    os.close(writer)
    assert ended.stderr == b""
