from __future__ import annotations

import json
import socketserver
import threading
from typing import Any

import grpc
import pytest

from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

SERVICE = "/danube_admin.NamespaceAdmin"
SET = "/danube_platform.PolicyAdmin/SetNamespacePolicies"
GET = "/danube_platform.PolicyAdmin/GetNamespacePolicies"


@pytest.mark.parametrize(
    ("command", "method", "label"),
    [
        (("create", "ns"), "CreateNamespace", "Namespace Created"),
        (("delete", "ns", "--yes"), "DeleteNamespace", "Namespace Deleted"),
    ],
)
def test_creating_and_deleting_say_what_they_did(
    service: Any, cli: Any, command: tuple[str, ...], method: str, label: str
) -> None:
    service.answers[f"{SERVICE}/{method}"] = wire.NamespaceResponse(success=True)
    ended = cli("namespaces", *command)
    assert (ended.code, ended.out, ended.err) == (0, f"{label}: true\n", "")
    assert service.requests == [(f"{SERVICE}/{method}", wire.NamespaceRequest(name="ns"))]
    assert json.loads(cli("namespaces", *command, "-o", "json").out) == {"success": True}


def test_what_was_not_done_is_a_failure(service: Any, cli: Any) -> None:
    service.answers[f"{SERVICE}/DeleteNamespace"] = wire.NamespaceResponse(success=False)
    ended = cli("namespaces", "delete", "ns", "--yes")
    assert (ended.code, ended.out) == (1, "Namespace Deleted: false\n")
    assert ended.err == "Error: the admin service says it did not do it\n"


def test_a_refusal_is_the_service_s_own_sentence(service: Any, cli: Any) -> None:
    service.answers[f"{SERVICE}/DeleteNamespace"] = (grpc.StatusCode.NOT_FOUND, "ns still has\ntopics")
    ended = cli("namespaces", "delete", "ns", "--yes")
    assert (ended.code, ended.out, ended.err) == (1, "", "Error: ns still has topics\n")


def test_topics_are_one_per_line(service: Any, cli: Any) -> None:
    service.answers[f"{SERVICE}/GetNamespaceTopics"] = wire.TopicListResponse(topics=["ns/a", "ns/b"])
    assert cli("namespaces", "topics", "ns").out == "Topic: ns/a\nTopic: ns/b\n"


def test_policies_stand_under_their_labels(service: Any, cli: Any) -> None:
    policies = {"max_producers_per_topic": 1, "max_publish_rate": 0, "max_message_size": 10485760}
    service.answers[GET] = platform.PoliciesResponse(policies=json.dumps(policies))
    assert cli("namespaces", "policies", "ns").out == (
        "Policies Configuration:\n"
        "-----------------------\n"
        "Max Producers per Topic: 1\n"
        "Max Subscriptions per Topic: Not Set\n"
        "Max Consumers per Topic: Not Set\n"
        "Max Consumers per Subscription: Not Set\n"
        "Max publish rate: 0\n"
        "The dispatch rate: Not Set\n"
        "Dispatch rate for subscription: Not Set\n"
        "Max message size: 10485760\n"
        "Max retained MB: Not Set\n"
        "-----------------------\n"
    )
    assert json.loads(cli("namespaces", "policies", "ns", "-o", "json").out) == policies


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_policies_that_are_none_are_one_line(service: Any, cli: Any, text: str) -> None:
    service.answers[GET] = platform.PoliciesResponse(policies=text)
    ended = cli("namespaces", "policies", "ns")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Error: the admin service sent policies that are not a JSON object")


def test_setting_policies_tells_zero_from_not_given(service: Any, cli: Any) -> None:
    service.answers[SET] = platform.PoliciesResponse(policies='{"max_publish_rate": 10}')
    ended = cli("namespaces", "set-policies", "ns", "--max-publish-rate", "10", "--max-message-size", "0")
    assert ended.code == 0
    assert "Max publish rate: 10\n" in ended.out
    ((_, request),) = service.requests
    assert request == platform.SetNamespacePoliciesRequest(
        namespace="ns", policies=platform.Policies(max_publish_rate=10, max_message_size=0)
    )
    assert [field.name for field, _ in request.policies.ListFields()] == [
        "max_publish_rate",
        "max_message_size",
    ]


def test_each_policy_has_its_option(service: Any, cli: Any) -> None:
    service.answers[SET] = platform.PoliciesResponse(policies="{}")
    names = [field.name for field in platform.Policies.DESCRIPTOR.fields]
    options = [text for n, name in enumerate(names) for text in (f"--{name.replace('_', '-')}", str(n))]
    assert cli("namespaces", "set-policies", "ns", *options).code == 0
    ((_, request),) = service.requests
    assert request.policies == platform.Policies(**{name: n for n, name in enumerate(names)})


def test_clearing_asks_to_forget_what_was_set_before(service: Any, cli: Any) -> None:
    service.answers[SET] = platform.PoliciesResponse(policies="{}")
    assert cli("namespaces", "set-policies", "ns", "--clear").code == 0
    ((_, request),) = service.requests
    assert request.clear
    assert request.policies == platform.Policies()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--max-publish-rate", "-1"),
        ("--max-publish-rate", "4294967296"),
    ],
)
def test_wrong_policies_are_told_before_anything_is_asked(
    service: Any, cli: Any, arguments: tuple[str, ...]
) -> None:
    ended = cli("namespaces", "set-policies", "ns", *arguments)
    assert ended.code == 2
    assert "Error: " in ended.err.splitlines()[-1]
    assert not service.requests


def test_a_service_without_the_extension_is_named(service: Any, cli: Any) -> None:
    ended = cli("namespaces", "set-policies", "ns", "--clear")
    assert (ended.code, ended.err) == (1, f"Error: {service.endpoint} does not offer {SET}\n")


def test_a_service_at_another_port_is_told_in_its_own_words(service: Any, cli: Any) -> None:
    said = "this is the client port: danube-admin connects to http://127.0.0.1:50051"
    service.answers[f"{SERVICE}/CreateNamespace"] = (grpc.StatusCode.UNIMPLEMENTED, said)
    ended = cli("namespaces", "create", "ns")
    assert (ended.code, ended.err) == (1, f"Error: {service.endpoint}: {said}\n")


def test_a_port_that_does_not_speak_grpc_is_told(cli: Any) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Http1) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        ended = cli("namespaces", "create", "ns", "--endpoint", endpoint)
        server.shutdown()
    assert (ended.code, ended.err) == (
        3,
        f"Error: {endpoint} is not the admin port: something answers there that does not speak gRPC\n",
    )


def test_a_port_that_speaks_http_2_but_not_grpc_is_told(service: Any, cli: Any) -> None:
    said = "Received http2 header with status: 415"
    service.answers[f"{SERVICE}/CreateNamespace"] = (grpc.StatusCode.UNKNOWN, said)
    ended = cli("namespaces", "create", "ns")
    told = f"{service.endpoint} is not the admin port: something answers there that does not speak gRPC"
    assert (ended.code, ended.err) == (3, f"Error: {told}\n")


def test_a_proxy_whose_servers_are_away_is_not_told_as_another_port(service: Any, cli: Any) -> None:
    said = "Received http2 header with status: 503"
    service.answers[f"{SERVICE}/CreateNamespace"] = (grpc.StatusCode.UNAVAILABLE, said)
    ended = cli("namespaces", "create", "ns")
    assert (ended.code, ended.err) == (3, f"Error: {service.endpoint}: {said}\n")


class Http1(socketserver.BaseRequestHandler):
    """Refuses whatever comes, as a web server refuses HTTP/2."""

    def handle(self) -> None:
        self.request.recv(1024)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
