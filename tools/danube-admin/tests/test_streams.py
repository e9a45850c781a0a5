from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from danube_admin_cli.outcome import FAILED, USAGE
from danube_proto import danube_admin_pb2 as wire

LIST = "topics list default"
LIST_TOPICS = "/danube_admin.TopicAdmin/ListTopics"


def redirected(arguments: str, redirections: str, endpoint: str) -> tuple[int, str]:
    """The exit code and what is on stderr; stdin and stdout are /dev/null unless they are redirected."""
    done = subprocess.run(
        ["/bin/bash", "-c", f"exec {sys.executable} -m danube_admin_cli {arguments} {redirections}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"DANUBE_ADMIN_ENDPOINT": endpoint, "PATH": "/usr/bin:/bin"},
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", ["--help", LIST])
@pytest.mark.parametrize(
    ("redirections", "code", "said"),
    [
        (">&-", FAILED, "Error: the output cannot be written: Bad file descriptor\n"),
        (">/dev/full", FAILED, "Error: the output cannot be written: No space left on device\n"),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("<&- >&- 2>&-", FAILED, ""),
    ],
)
def test_output_that_cannot_be_written_is_one_line_and_a_failure(
    service: Any, arguments: str, redirections: str, code: int, said: str
) -> None:
    service.answers[LIST_TOPICS] = wire.TopicListResponse(topics=["/default/t"])
    assert redirected(arguments, redirections, service.endpoint) == (code, said)


@pytest.mark.parametrize("redirections", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_wrong_usage_has_its_code_where_nothing_can_be_told(service: Any, redirections: str) -> None:
    assert redirected("topics list", redirections, service.endpoint) == (USAGE, "")
