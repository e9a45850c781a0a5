"""Stands in for a service: announces addresses, waits for SIGTERM, tells what happened to it.

Installed by the tests as ``danube_gateway``, ``danube_topic_owner``, ``danube_storage`` and
``danube_admin_service``. ``STAND_IN_TRACE`` names the file it tells to; ``STAND_IN_<SERVICE>`` the fault.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

SERVICE = Path(__file__).parent.name.removeprefix("danube_").removesuffix("_service").replace("_", "-")
FLAGS = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
FAULT = os.environ.get(f"STAND_IN_{SERVICE.replace('-', '_').upper()}", "")


def trace(fact: str) -> None:
    with Path(os.environ["STAND_IN_TRACE"]).open("a") as file:
        file.write(json.dumps({"service": SERVICE, "fact": fact, "flags": FLAGS, "pid": os.getpid()}) + "\n")


def listen(address: str, *, shared: bool = False) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_server((host, int(port)), reuse_port=shared)


def nats_answers() -> bool:
    host, _, port = FLAGS["--nats-url"].removeprefix("nats://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        return connection.recv(4) == b"INFO"


def on_signal(number: int, _frame: object) -> None:
    trace(f"{signal.Signals(number).name}{'' if nats_answers() else ' without nats'}")
    if FAULT != "deaf":
        trace("ended")
        os._exit(0)


trace("started")
if FAULT == "crash":
    sys.exit("stand-in: it went wrong")
signal.signal(signal.SIGTERM, on_signal)
signal.signal(signal.SIGINT, on_signal)
assert nats_answers()
told = {"service": SERVICE, "instance_id": FLAGS["--instance-id"], "pid": os.getpid()}
health = listen(FLAGS["--http-addr"])
told["http_url"] = f"http://127.0.0.1:{health.getsockname()[1]}"
if "--grpc-addr" in FLAGS:
    grpc = listen(FLAGS["--grpc-addr"], shared=FLAGS.get("--grpc-reuse-port") == "true")
    told["grpc_addr"] = f"127.0.0.1:{grpc.getsockname()[1]}"
if FAULT != "never-ready":
    ready_file = Path(FLAGS["--ready-file"])
    unfinished = ready_file.with_suffix(".part")
    unfinished.write_text(json.dumps(told))
    unfinished.replace(ready_file)
refusals = 3 if FAULT == "slow" else sys.maxsize if FAULT == "unwell" else 0
while True:
    connection, _ = health.accept()
    with connection:
        connection.recv(1024)
        status = "503 Service Unavailable" if refusals > 0 else "200 OK"
        refusals -= 1
        checks = {"checks": {"sample": {"ok": False, "problem": "unwell"}}}
        connection.sendall(f"HTTP/1.0 {status}\r\n\r\n{json.dumps(checks)}".encode())
