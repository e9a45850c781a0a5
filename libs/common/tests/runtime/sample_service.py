"""A service for the tests: what it does is told by its ``--mode``."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import Field

from danube_common.errors import BusUnavailable
from danube_common.runtime import service
from danube_common.runtime.config import ServiceConfig
from danube_common.runtime.service import Runtime, run


class SampleConfig(ServiceConfig):
    mode: str = Field(default="", description="what to do")
    trace: Path = Field(default=Path("/dev/null"), description="file that tells what happened")


@contextlib.asynccontextmanager
async def start(runtime: Runtime, config: SampleConfig) -> AsyncIterator[None]:
    def trace(fact: str) -> None:
        with config.trace.open("a") as file:
            file.write(f"{fact}\n")

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            trace("task ended")

    async def fail() -> None:
        raise ValueError("background trouble")

    trace("entering")
    runtime.log.info("entering")
    try:
        if config.mode == "refuse":
            raise BusUnavailable("no server at nats://x")
        if config.mode == "crash":
            raise ValueError("a fault")
        if config.mode == "never-ready":
            await asyncio.Event().wait()
        runtime.spawn(work(), "work")
        runtime.add_check(
            "sample",
            lambda: "unwell" if config.mode.endswith("unwell") else None,
            vital=config.mode != "a-bit-unwell",
        )
        runtime.announce(grpc_addr="127.0.0.1:1234")
        if config.mode == "stray":
            runtime.stray = asyncio.create_task(asyncio.Event().wait(), name="stray")  # type: ignore[attr-defined]
        if config.mode == "failing-task":
            runtime.spawn(fail(), "failing")
        yield
    finally:
        trace("leaving")
        if config.mode == "slow-stop":
            await asyncio.sleep(60)
        if config.mode == "stuck-thread":
            threading.Thread(target=time.sleep, args=(60,)).start()
        if config.mode == "late-failure":
            runtime.spawn(fail(), "failing")
            await asyncio.sleep(0)
        trace("left")


if __name__ == "__main__":
    if "stuck-thread" in sys.argv:
        vars(service)["STUCK_S"] = 0.5
    sys.exit(run("sample", SampleConfig, start))
