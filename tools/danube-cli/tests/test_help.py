from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest


@pytest.mark.parametrize("command", ["produce", "consume"])
async def test_help_has_examples_and_the_exit_codes(cli: Any, command: str) -> None:
    ended = await cli(command, "--help")
    assert ended.code == 0
    assert f"  danube-cli {command} -s http://127.0.0.1:6650" in ended.out
    assert "Exit codes: 0 " in ended.out


def test_help_needs_no_slow_library() -> None:
    code = (
        "import sys\n"
        "import danube_cli.__main__\n"
        "sys.exit(bool({'grpc', 'google.protobuf', 'danube_client', 'rich'} & set(sys.modules)))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
