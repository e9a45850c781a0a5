from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from danube_proto import danube_operations_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

EXAMINE = "/danube_operations.Doctor/Examine"
INSTANCES = "/danube_platform.Instances/ListInstances"
NOW_MS = 1_700_000_000_000
LOST = wire.Finding(
    severity=wire.Finding.PROBLEM, check="services", subject="bundle f0", problem="no owner", advice="look"
)


def answer(service: Any, *findings: wire.Finding, ahead_ms: int = 0, address: str = "") -> None:
    service.answers[EXAMINE] = wire.ExamineResponse(
        now_ms=NOW_MS + ahead_ms, findings=findings, checks=["services"]
    )
    gateway = platform.Instance(instance_id="7", kind="gateway", address=address)
    behind_a_balancer = platform.Instance(instance_id="8", kind="admin", address="http://127.0.0.1:1")
    service.answers[INSTANCES] = platform.ListInstancesResponse(instances=[gateway, behind_a_balancer])


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danube_admin_cli.doctor._now_ms", lambda: NOW_MS)


@pytest.fixture
def monitor() -> Iterator[dict[str, Any]]:
    told: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"config": told}).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        told["url"] = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield told
        server.shutdown()
        thread.join()


def test_a_sound_cluster_is_told_as_such_with_what_was_not_seen(service: Any, cli: Any) -> None:
    answer(service, address=service.endpoint)
    ended = cli("doctor")
    assert ended.code == 0
    assert "Nothing is wrong." in ended.out
    assert "sync_interval was not looked at" in ended.out


def test_a_finding_is_told_with_what_to_do_and_ends_with_code_1(service: Any, cli: Any) -> None:
    answer(service, LOST)
    ended = cli("doctor")
    assert ended.code == 1
    assert ended.out.startswith("problem  bundle f0: no owner\n         -> look\n")
    ended = cli("doctor", "-o", "json")
    assert ended.code == 1
    told = json.loads(ended.out)
    assert told["healthy"] is False
    assert told["findings"][0] == {
        "severity": "PROBLEM",
        "check": "services",
        "subject": "bundle f0",
        "problem": "no owner",
        "advice": "look",
    }


def test_a_clock_and_a_port_that_are_wrong_from_here_are_found(service: Any, cli: Any) -> None:
    answer(service, ahead_ms=-120_000, address="http://127.0.0.1:1")
    ended = cli("doctor")
    assert ended.code == 1
    assert "this machine: its clock differs by 120.0 s" in ended.out
    assert "gateway 7: http://127.0.0.1:1 cannot be reached from this machine" in ended.out


def test_nats_has_to_sync_always(service: Any, cli: Any, monitor: dict[str, Any]) -> None:
    answer(service)
    monitor["sync_interval"] = 120_000_000_000
    ended = cli("doctor", "--nats-monitor", monitor["url"])
    assert ended.code == 1
    assert "syncs its files every 120 s" in ended.out
    monitor["sync_always"] = True
    assert cli("doctor", "--nats-monitor", monitor["url"]).code == 0
    assert cli("doctor", "--nats-monitor", "nats://x").code == 2
    assert "does not answer as NATS's" in cli("doctor", "--nats-monitor", "http://127.0.0.1:1").err
