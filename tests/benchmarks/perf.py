"""Runs `danube-perf` and other measuring programs as processes, and platforms and bare servers for them."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from danube_harness.platforms.standalone import Platform
from danube_proto import danube_api_pb2 as api

ROOT = Path(__file__).resolve().parents[2]
PROGRAM_S_MAX = 1800.0
SEND = "/danube.ProducerService/SendMessage"
PREFIX_BYTES = 5
"""Of a message of gRPC."""
H2LOAD_WARMUP_S = 1
KINDS = ("gateway", "topic-owner", "nats")
"""The processes whose CPU is told."""

Figures = Mapping[str, Any]


def perf(command: str, address: str, *arguments: object, watch: Sequence[str] = ()) -> Any:
    """Return the JSON of a run; one that lost messages or was refused some has its figures as well.

    Raises:
        RuntimeError: it could not run; the text is what it said.
    """
    program = Path(sysconfig.get_path("scripts")) / "danube-perf"
    words = [
        str(program),
        command,
        "-s",
        address,
        "-o",
        "json",
        "--no-progress",
        *map(str, arguments),
        *watch,
    ]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=PROGRAM_S_MAX, check=False)
    if not ended.stdout:
        raise RuntimeError(f"danube-perf {command} ended with {ended.returncode}: {ended.stderr}")
    return json.loads(ended.stdout)


def script(module: str, *arguments: object) -> Any:
    """Return the JSON that a program of the benchmarks prints."""
    words = [sys.executable, "-m", module, *map(str, arguments)]
    ended = subprocess.run(
        words, capture_output=True, text=True, timeout=PROGRAM_S_MAX, check=False, cwd=ROOT
    )
    if ended.returncode:
        raise RuntimeError(f"{module} ended with {ended.returncode}: {ended.stderr}")
    return json.loads(ended.stdout)


def watched(pids: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the options that measure processes."""
    return [word for name, found in pids.items() for pid in found for word in ("--watch", f"{name}={pid}")]


def pids_of(platform: Platform) -> dict[str, list[int]]:
    """Return the processes of a platform whose CPU is told."""
    return {kind: platform.pids(kind) for kind in KINDS}


@contextlib.contextmanager
def bare(kind: str) -> Iterator[str]:
    """Run `echo_server`; gives its address."""
    words = [sys.executable, "-m", "tests.benchmarks.echo_server", kind]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().decode().strip()
        finally:
            process.kill()


def producer_id(address: str, topic: str) -> int:
    """Return the id of the producer of `danube-perf` on a topic that it made."""
    with grpc.insecure_channel(address) as channel:
        create: Any = channel.unary_unary("/danube.ProducerService/CreateProducer")
        request = api.ProducerRequest(request_id=1, producer_name="perf-0", topic_name=topic)
        answer = create(request.SerializeToString(), timeout=30.0)
    return api.ProducerResponse.FromString(answer).producer_id


def h2load(address: str, storage: str, in_flight: int, seconds: float, directory: Path) -> float | None:
    """Return SendMessage calls per second of `h2load` on one connection; None where it is not installed.

    It sends one message again and again, so the topic is to be one that no consumer reads.
    """
    program = shutil.which("h2load")
    if program is None:
        return None
    topic = f"/default/h2load-{secrets.token_hex(4)}"
    created = perf("produce", address, "-t", topic, "-n", 1, "--warmup", 0, "--storage", storage)
    assert created["publish"]["messages"] == 1
    message = api.StreamMessage(
        request_id=1,
        msg_id=api.MsgID(sequence_id=1, producer_id=producer_id(address, topic), topic_name=topic),
        payload=bytes(1024),
        producer_name="perf-0",
    ).SerializeToString()
    with grpc.insecure_channel(address) as channel:
        send: Any = channel.unary_unary(SEND)
        answer = send(message, timeout=30.0)  # raises for any status but OK
    body = directory / "message"
    body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    words = [program, "-c", "1", "-m", str(in_flight)]
    words += ["-d", str(body), "-H", "te: trailers", "-H", "content-type: application/grpc"]
    words.append(f"http://{address}{SEND}")
    for duration_s in (H2LOAD_WARMUP_S, max(round(seconds), 1)):
        words_now = [*words, "-D", str(duration_s)]
        ended = subprocess.run(words_now, capture_output=True, text=True, timeout=PROGRAM_S_MAX, check=False)
        if ended.returncode:
            raise RuntimeError(f"h2load ended with {ended.returncode}: {ended.stdout}{ended.stderr}")
        per_s = h2load_rate(ended.stdout, PREFIX_BYTES + len(answer))
    return per_s


def h2load_rate(output: str, answer_bytes: int) -> float:
    """Return the calls per second of a run of h2load whose calls were all answered with one message.

    An error of gRPC is a HTTP status of 200 like a success, but has no message: the bytes tell.

    Raises:
        RuntimeError: calls failed.
    """
    lines = {line.partition(" ")[0].rstrip(":"): line for line in output.splitlines() if line}
    per_s = float(lines["finished"].split(",")[1].split()[0])
    done = int(lines["requests"].split(",")[2].split()[0])
    data = int(lines["traffic"].rpartition("(")[2].partition(")")[0])
    if not done or data < done * answer_bytes:
        raise RuntimeError(f"of {done} calls of h2load only {data // answer_bytes} succeeded")
    return per_s
