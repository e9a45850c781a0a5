from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from danube_cli.outcome import FAILED, OK
from danube_harness.services.stub_gateway import StubGateway
from danube_proto import danube_api_pb2 as wire

TOPIC = "/default/test_topic"
FULL = "Error: the output cannot be written: No space left on device\n"
CLOSED = "Error: the output cannot be written: Bad file descriptor\n"


async def redirected(gateway: StubGateway, arguments: str, redirections: str) -> tuple[int | None, str]:
    """The exit code and what is on stderr; stdin and stdout are /dev/null unless they are redirected."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"exec {sys.executable} -W error -m danube_cli {arguments} {redirections}"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"DANUBE_SERVICE_ADDR": gateway.address, "PATH": "/usr/bin:/bin"},
    )
    _, err = await process.communicate()
    return process.returncode, err.decode()


@pytest.mark.parametrize("command", ["--help", "--version", "produce -m x"])
@pytest.mark.parametrize(
    ("redirections", "code", "said"),
    [
        (">&-", FAILED, CLOSED),
        (">/dev/full", FAILED, FULL),
        ("2>&-", OK, ""),
        ("2>/dev/full", OK, ""),
        ("<&-", OK, ""),
        ("<&- >&- 2>&-", FAILED, ""),
        (">/dev/full 2>/dev/full", FAILED, ""),
    ],
)
async def test_output_that_cannot_be_written_is_one_line_and_a_failure(
    gateway: StubGateway, command: str, redirections: str, code: int, said: str
) -> None:
    assert await redirected(gateway, command, redirections) == (code, said)


@pytest.mark.parametrize("redirections", ["", "2>&-", "2>/dev/full", "<&- >&- 2>&-"])
async def test_wrong_usage_has_its_code_wherever_it_is_told(gateway: StubGateway, redirections: str) -> None:
    code, said = await redirected(gateway, "produce", redirections)
    assert code == 2
    assert ("Error: " in said) is not bool(redirections)


@pytest.mark.parametrize(("redirection", "said"), [(">&-", CLOSED), (">/dev/full", FULL)])
async def test_a_message_that_could_not_be_printed_is_not_acknowledged(
    gateway: StubGateway, redirection: str, said: str
) -> None:
    gateway.schemas[TOPIC] = wire.Schema(type_schema=wire.Schema.String)
    running = asyncio.create_task(redirected(gateway, "consume -m s", redirection))
    await gateway.until(lambda: bool(gateway.requests["ReceiveMessages"]))
    gateway.deliver(TOPIC, b"x")
    code, err = await running
    assert code == FAILED
    assert err == "1 message received\n" + said
    assert not gateway.requests["Ack"]


async def test_a_closed_input_is_told(gateway: StubGateway) -> None:
    code, err = await redirected(gateway, "produce --file -", "<&-")
    assert code == FAILED
    assert err.startswith(
        "Failed to send message: line 1: cannot be read: Bad file descriptor\n0 messages sent"
    )


async def test_a_reader_that_leaves_ends_the_help_quietly(gateway: StubGateway, cli: Any) -> None:
    process = await cli.start("produce", "--help")
    process.stdout._transport.close()
    assert await process.stderr.read() == b""
    await process.wait()
