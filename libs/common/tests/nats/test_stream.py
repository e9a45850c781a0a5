from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping

import pytest
from nats.aio.msg import Msg

from danube_common.errors import LogUnavailable, RequestTimeout
from danube_common.journal.jetstream import JetStreamJournal
from danube_common.log.jetstream import JetStreamLog
from danube_common.model.bundle import Bundle
from danube_common.nats.connection import Connection
from danube_common.nats.stream import Batch, Stream

BUNDLE = Bundle.parse("f0")


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
        await read([], [])


async def test_a_server_that_stopped_without_a_word_is_passed_over() -> None:
    assert sequences(await read([], [stored(1, pending=0)])) == [1]


async def test_a_refusal_is_not_taken_for_an_empty_log() -> None:
    with pytest.raises(LogUnavailable, match="408"):
        await read([status(408)])


async def test_a_stream_that_is_not_served_yet_is_asked_again() -> None:
    batch = await read([status(503)], [status(503)], [stored(1, pending=0)])
    assert sequences(batch) == [1]


class Cluster(ScriptedConnection):
    """Replicas that answer reads by the script, and a leader that knows what there is."""

    def __init__(self, first: int, last: int, *scripts: list[dict[str, str]]) -> None:
        super().__init__(*scripts)
        self.first, self.last = first, last

    async def call(
        self,
        subject: str,
        payload: bytes,  # noqa: ARG002 - one question per subject
        *,
        timeout_s: float,  # noqa: ARG002 - it answers at once
        headers: Mapping[str, str] | None = None,  # noqa: ARG002 - none are asked for
    ) -> Msg:
        state = {"first_seq": self.first, "last_seq": self.last, "first_ts": "2026-01-01T00:00:00Z"}
        answer: dict[str, object] = {"state": state}
        if subject.startswith("$JS.API.STREAM.MSG.GET"):
            headers_text = b64encode(b"NATS/1.0\r\nNats-Msg-Id: mine\r\n\r\n").decode()
            answer = {
                "message": {"seq": self.last, "data": b64encode(b"last").decode(), "hdrs": headers_text}
            }
            if self.last < self.first:
                answer = {"error": {"code": 404, "err_code": 10037, "description": "no message found"}}
        return Msg(self, data=json.dumps(answer).encode())


async def read_log(connection: Cluster, from_sequence: int) -> list[int]:
    log = JetStreamLog(connection, file_bytes_max=1, memory_bytes_max=1, replicas=3)
    entries = await log.read(BUNDLE, from_sequence, frames_max=9, bytes_max=99)
    assert connection.scripts == []
    return [entry.sequence for entry in entries]


async def test_a_replica_that_is_behind_is_not_taken_for_the_end_of_the_log() -> None:
    connection = Cluster(1, 7, [status(404)], [status(404)], [stored(7, pending=0)])
    assert await read_log(connection, 7) == [7]


async def test_the_end_of_the_log_is_the_leaders() -> None:
    assert await read_log(Cluster(1, 7, [status(404)]), 8) == []
    assert await read_log(Cluster(8, 7, [status(404)]), 1) == []


async def test_a_replay_does_not_end_before_the_leaders_last_record() -> None:
    connection = Cluster(
        1, 3, [stored(1, pending=0)], [status(404)], [stored(2, pending=1), stored(3, pending=0)]
    )
    records = [record async for record in JetStreamJournal(connection).replay(BUNDLE)]
    assert [record.sequence for record in records] == [1, 2, 3]
    assert connection.scripts == []


async def test_the_replay_of_a_journal_without_records_asks_no_replica() -> None:
    assert [record async for record in JetStreamJournal(Cluster(1, 0)).replay(BUNDLE)] == []


async def test_the_last_message_is_the_leaders_with_its_id() -> None:
    last = await Stream(Cluster(1, 5), "S").last("subject")
    assert last is not None
    assert (last.sequence, last.data, last.message_id) == (5, b"last", "mine")
