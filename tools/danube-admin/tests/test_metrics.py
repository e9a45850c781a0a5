from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from danube_proto import danube_platform_pb2 as platform

INSTANCES = "/danube_platform.Instances/ListInstances"
TEXT = b"""# HELP danube_subscription_lag_messages Behind.
danube_subscription_lag_messages{topic="/a/b",subscription="s"} 7.0
danube_subscription_lag_messages{topic="/a/c",subscription="s"} 1.0
danube_bundles 3.0
"""


class _Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(TEXT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def owner(service: Any) -> Iterator[str]:
    """A topic owner with metrics, beside a gateway that does not answer."""
    server = HTTPServer(("127.0.0.1", 0), _Metrics)
    thread = Thread(target=server.serve_forever)
    thread.start()
    service.answers[INSTANCES] = platform.ListInstancesResponse(
        instances=[
            platform.Instance(
                instance_id="7", kind="topic-owner", http_url=f"http://127.0.0.1:{server.server_port}"
            ),
            platform.Instance(instance_id="8", kind="gateway", http_url="http://127.0.0.1:1"),
        ]
    )
    yield "7"
    server.shutdown()
    thread.join()
    server.server_close()


def test_metrics_are_found_by_name_and_label(owner: str, cli: Any) -> None:
    ended = cli("metrics", "_lag_", "--kind", "topic-owner", "--label", "/a/b", "-o", "json")
    assert ended.code == 0, ended.err
    (found,) = json.loads(ended.out)
    assert (found["instance"], found["name"]) == (owner, "danube_subscription_lag_messages")
    assert (found["labels"], found["value"]) == ('topic="/a/b",subscription="s"', "7.0")


def test_an_instance_that_does_not_answer_is_named_beside_the_metrics_of_the_others(
    owner: str, cli: Any
) -> None:
    ended = cli("metrics", ".", "-n", "2")
    assert ended.code == 1
    assert owner in ended.out
    assert "1 more" in ended.err
    assert "not reached: gateway 8 at http://127.0.0.1:1" in ended.err


@pytest.mark.usefixtures("owner")
def test_a_name_that_no_metric_has_is_an_error(cli: Any) -> None:
    ended = cli("metrics", "nosuch", "--kind", "topic-owner")
    assert (ended.code, ended.err) == (
        1,
        "Error: no metric of topic-owner is like 'nosuch' here; danube-admin metrics . shows all\n",
    )


@pytest.mark.usefixtures("owner")
def test_a_label_that_no_metric_has_is_named(cli: Any) -> None:
    ended = cli("metrics", ".", "--kind", "topic-owner", "--label", "/no/such", "-o", "json")
    assert (ended.code, json.loads(ended.out)) == (1, [])
    assert "no metric of topic-owner with '/no/such' in its labels is like '.' here" in ended.err


def test_a_pattern_that_is_none_is_wrong_usage(service: Any, cli: Any) -> None:
    assert cli("metrics", "(").code == 2
    assert service.requests == []
