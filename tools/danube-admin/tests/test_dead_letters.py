from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from danube_proto import danube_platform_pb2 as platform

INSTANCES = "/danube_platform.Instances/ListInstances"


@pytest.mark.parametrize("command", ["browse", "redeliver"])
def test_without_a_gateway_nothing_can_be_read(service: Any, cli: Any, command: str) -> None:
    service.answers[INSTANCES] = platform.ListInstancesResponse(
        instances=[platform.Instance(instance_id="1", kind="admin", address="http://127.0.0.1:1")]
    )
    ended = cli("dead-letters", command, "/default/dead")
    assert (ended.code, ended.err) == (3, "Error: no gateway is running\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("browse", "no slash"),
        ("browse", "/default/dead", "-n", "0"),
        ("browse", "/default/dead", "-n", "1001"),
        ("browse", "/default/dead", "--gateway", "https://there"),
        ("redeliver", "/default/dead", "--to", "no slash"),
    ],
)
def test_bad_input_asks_for_nothing(service: Any, cli: Any, arguments: tuple[str, ...]) -> None:
    assert cli("dead-letters", *arguments).code == 2
    assert service.requests == []


def test_the_start_of_the_tool_needs_no_slow_library() -> None:
    """And gRPC is told to be silent before it is loaded."""
    code = (
        "import sys\n"
        "import danube_admin_cli.__main__\n"
        "sys.exit(bool({'grpc', 'danube_client', 'rich'} & set(sys.modules)))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
