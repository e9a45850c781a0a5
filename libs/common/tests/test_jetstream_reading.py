from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from nats.aio.msg import Msg

from danube_common.bus.nats_connection import Connection
from danube_common.errors import LogUnavailable, RequestTimeout
from danube_common.jetstream import Batch, Stream


def stored(sequence: int, *, pending: int, previous: int | None = None) -> dict[str, str]:
    return {
        "Nats-Sequence": str(sequence),
        "Nats-Last-Sequence": str(sequence - 1 if previous is None else previous),
        "Nats-Num-Pending": str(pending),
    }


def status(code: int, **headers: str) -> dict[str, str]:
    return {"Status": str(code)} | {name.replace("_", "-"): value for name, value in headers.items()}


class ScriptedConnection(Connection):
    """Answers each direct get with the next script, then is silent."""

    def __init__(self, *scripts: list[dict[str, str]]) -> None:
        super().__init__()
        self.scripts = list(scripts)

    async def collect(
        self,
        subject: str,  # noqa: ARG002 - the script answers anything
        payload: bytes,  # noqa: ARG002 - the script answers anything
        take: Callable[[Msg], bool],
        *,
        timeout_s: float,  # noqa: ARG002 - the script answers anything
        headers: Mapping[str, str] | None = None,  # noqa: ARG002 - the script answers anything
    ) -> None:
        for answer in self.scripts.pop(0):
            if take(Msg(self, data=answer.get("Nats-Sequence", "").encode(), headers=answer)):
                return
        raise RequestTimeout("silence")


async def read(*scripts: list[dict[str, str]], messages_max: int = 3) -> Batch:
    stream = Stream(ScriptedConnection(*scripts), "S")
    return await stream.read("subject", 1, messages_max=messages_max, bytes_max=1000)


def sequences(batch: Batch) -> list[int]:
    return [message.sequence for message in batch.messages]


async def test_a_full_batch_needs_no_closing_status() -> None:
    batch = await read([stored(1, pending=5), stored(2, pending=4), stored(3, pending=3)])
    assert sequences(batch) == [1, 2, 3]
    assert not batch.complete


async def test_the_last_message_needs_no_closing_status() -> None:
    batch = await read([stored(1, pending=1), stored(2, pending=0)])
    assert sequences(batch) == [1, 2]
    assert batch.complete


async def test_a_batch_that_the_byte_bound_closed_is_not_complete() -> None:
    batch = await read([stored(1, pending=2), status(204, Nats_Num_Pending="2")])
    assert sequences(batch) == [1]
    assert not batch.complete


async def test_what_arrived_before_silence_is_kept() -> None:
    batch = await read([stored(1, pending=2), stored(2, pending=1)])
    assert sequences(batch) == [1, 2]
    assert not batch.complete


async def test_a_batch_ends_before_a_message_that_did_not_arrive() -> None:
    batch = await read([stored(1, pending=2), stored(3, pending=0)])
    assert sequences(batch) == [1]
    assert not batch.complete


async def test_a_subjects_own_order_may_have_gaps() -> None:
    batch = await read([stored(4, pending=1, previous=0), stored(9, pending=0, previous=4)])
    assert sequences(batch) == [4, 9]
    assert batch.complete


async def test_no_message_is_a_complete_answer() -> None:
    assert await read([status(404)]) == Batch([], complete=True)


async def test_silence_is_not_taken_for_an_empty_log() -> None:
    with pytest.raises(LogUnavailable):
        await read([])


async def test_a_refusal_is_not_taken_for_an_empty_log() -> None:
    with pytest.raises(LogUnavailable, match="408"):
        await read([status(408)])


async def test_a_stream_that_is_not_served_yet_is_asked_again() -> None:
    batch = await read([status(503)], [status(503)], [stored(1, pending=0)])
    assert sequences(batch) == [1]
