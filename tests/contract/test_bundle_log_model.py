"""Whatever is done to them, the log on JetStream and its twin in memory answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.bus.nats import NatsBus
from danube_common.log.jetstream import JetStreamLog
from danube_common.log.port import BundleLog
from danube_common.model.bundle import Bundle, Family
from danube_harness.memory.log import MemoryLog
from danube_harness.servers.nats_server import NatsServer

TIMEOUT_S = 10.0
FRAMES_MAX = 5


@dataclass(frozen=True)
class Append:
    frame_id: int
    frame: bytes


@dataclass(frozen=True)
class Purge:
    through: int


@dataclass(frozen=True)
class Read:
    from_sequence: int
    frames_max: int


Operation = Append | Purge | Read

sequences = st.integers(min_value=0, max_value=15)
operations = st.lists(
    st.one_of(
        st.builds(Append, st.integers(0, 12), st.binary(max_size=64)),
        st.builds(Purge, sequences),
        st.builds(Read, sequences, st.integers(1, FRAMES_MAX)),
    ),
    max_size=30,
)


async def answers(log: BundleLog, bundle: Bundle, performed: list[Operation]) -> list[object]:
    """What the log says to each operation, and its bounds after it."""
    said: list[object] = []
    await log.open(bundle)
    for operation in performed:
        match operation:
            case Append(frame_id, frame):
                said.append(await log.append(bundle, frame, frame_id=str(frame_id), timeout_s=TIMEOUT_S))
            case Purge(through):
                await log.purge(bundle, through)
            case Read(from_sequence, frames_max):
                said.append(await log.read(bundle, from_sequence, frames_max=frames_max, bytes_max=1 << 20))
        said.append(await log.bounds(bundle))
    return said


@dataclass
class Real:
    """A JetStream log and the loop it lives on; every example has a bundle of its own."""

    runner: asyncio.Runner
    log: JetStreamLog
    numbers: Iterator[int]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    async def start(stack: AsyncExitStack, directory: Path) -> JetStreamLog:
        server = await stack.enter_async_context(NatsServer.run(directory))
        bus = await NatsBus.connect(server.url, name="test")
        stack.push_async_callback(bus.close)
        return JetStreamLog(bus.connection, file_bytes_max=1 << 20, memory_bytes_max=1 << 20)

    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        log = runner.run(start(stack, tmp_path_factory.mktemp("nats")))
        try:
            yield Real(runner, log, count())
        finally:
            runner.run(stack.aclose())


@given(performed=operations)
def test_both_logs_answer_alike_to_any_sequence_of_operations(real: Real, performed: list[Operation]) -> None:
    bundle = Bundle(Family.FILE, next(real.numbers))
    assert real.runner.run(answers(real.log, bundle, performed)) == asyncio.run(
        answers(MemoryLog(), bundle, performed)
    )
