from __future__ import annotations

import asyncio
import base64
import json
import signal
from typing import Any

import pytest
from grpc import StatusCode

from danube_harness.services.stub_gateway import NOT_READY, UNREACHABLE, Failure, StubGateway
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

TOPIC = "/default/test_topic"


@pytest.fixture(autouse=True)
def topic(gateway: StubGateway) -> None:
    gateway.schemas[TOPIC] = wire.Schema(type_schema=wire.Schema.String)


async def subscribed(gateway: StubGateway, running: asyncio.Task[Any]) -> None:
    """Returns once the command receives; fails with what it said if it ends before that."""
    receiving = asyncio.create_task(gateway.until(lambda: bool(gateway.requests["ReceiveMessages"])))
    await asyncio.wait([receiving, running], return_when=asyncio.FIRST_COMPLETED)
    assert receiving.done(), running.result()


async def shown(gateway: StubGateway, cli: Any, *arguments: str, payloads: list[bytes], **fields: Any) -> Any:
    """What the command shows of these messages, and how it ends when they are acknowledged or refused."""
    running = asyncio.create_task(cli("consume", "-m", "s", "--max", str(len(payloads)), *arguments))
    await subscribed(gateway, running)
    for payload in payloads:
        gateway.deliver(TOPIC, payload, **fields)
    return await running


async def test_text_is_shown_as_the_first_generation_shows_it(gateway: StubGateway, cli: Any) -> None:
    ended = await shown(gateway, cli, payloads=["grüße".encode(), b""], attributes={"k2": "v2", "k1": "v1"})
    assert ended.code == 0
    assert ended.out == (
        "Received bytes message: 0, with payload: grüße, with attributes: k1=v1, k2=v2\n"
        "Received bytes message: 0, with payload: , with attributes: k1=v1, k2=v2\n"
    )
    assert ended.err.startswith("2 messages received in ")
    assert len(gateway.requests["Ack"]) == 2


async def test_the_flags_reach_the_platform(gateway: StubGateway, cli: Any) -> None:
    gateway.schemas["/default/other"] = wire.Schema(type_schema=wire.Schema.String)
    ended = await cli(
        *("consume", "-s", gateway.address, "-t", "/default/other", "-m", "s", "-n", "c"),
        *("--sub-type", "fail-over", "--exit-at-end", "--quiet-time", "0.1"),
    )
    assert ended.code == 0
    assert ended.err == "0 messages received\n"
    (request,) = gateway.requests["Subscribe"]
    assert (request.topic_name, request.subscription, request.consumer_name) == ("/default/other", "s", "c")
    assert request.subscription_type == wire.ConsumerRequest.Failover


@pytest.mark.parametrize(
    ("kind", "payload", "text"),
    [
        (wire.Schema.Bytes, b"\x00text\xff", "\x00text\\xff"),
        (wire.Schema.String, b"text", "text"),
        (wire.Schema.Int64, b"-9223372036854775808", "-9223372036854775808"),
        (
            wire.Schema.JSON,
            b'{"a": 1e400,"a":123456789012345678901}',
            '{"a": 1e400,"a":123456789012345678901}',
        ),
    ],
)
async def test_each_schema_has_its_form(
    gateway: StubGateway, cli: Any, kind: wire.Schema.TypeSchema, payload: bytes, text: str
) -> None:
    gateway.schemas[TOPIC] = wire.Schema(type_schema=kind)
    ended = await shown(gateway, cli, payloads=[payload])
    assert ended.out == f"Received bytes message: 0, with payload: {text}\n"


@pytest.mark.parametrize(
    ("kind", "payload", "reason", "escaped"),
    [
        (wire.Schema.String, b"\xff\x1b", "not UTF-8 text", "\\xff\\x1b"),
        (wire.Schema.Int64, b"12\r", "not a 64-bit integer in decimal: '12\\r'", "12\\r"),
        (wire.Schema.Int64, b"\x00\x00\x00\x00\x00\x00\x00\x07", "not a 64-bit", "\\x00" * 7 + "\\x07"),
        (wire.Schema.Int64, b"9223372036854775808", "beyond 64 bits", "9223372036854775808"),
        (wire.Schema.JSON, b"", "an empty payload is not JSON", ""),
        (wire.Schema.JSON, b"{\n", "not JSON", "{\\n"),
        (wire.Schema.JSON, b"[" * 100_000, "not JSON", "[" * 100_000),
    ],
)
async def test_a_message_that_does_not_fit_is_shown_escaped_and_passed(
    gateway: StubGateway, cli: Any, kind: wire.Schema.TypeSchema, payload: bytes, reason: str, escaped: str
) -> None:
    gateway.schemas[TOPIC] = wire.Schema(type_schema=kind)
    ended = await shown(gateway, cli, payloads=[payload, b"1"])
    assert ended.code == 5
    assert ended.err.startswith(f"Error processing message: {reason}")
    assert ended.out.splitlines() == [
        f"Received bytes message: 0, with payload: {text}" for text in (escaped, "1")
    ]
    assert [ack.request_id for ack in gateway.requests["Ack"]] == [1, 2]


@pytest.mark.parametrize(
    ("choice", "out", "acknowledged"), [("skip", ["1", "2"], [1, 2, 3]), ("stop", ["1"], [1])]
)
async def test_a_message_that_does_not_fit_is_skipped_or_ends_the_command(
    gateway: StubGateway, cli: Any, choice: str, out: list[str], acknowledged: list[int]
) -> None:
    gateway.schemas[TOPIC] = wire.Schema(type_schema=wire.Schema.Int64)
    ended = await shown(gateway, cli, "--on-error", choice, payloads=[b"1", b"x", b"2"])
    assert ended.code == 5
    assert [line.rpartition(" ")[2] for line in ended.out.splitlines()] == out
    assert "Error processing message: not a 64-bit integer in decimal: 'x'\n" in ended.err
    assert [ack.request_id for ack in gateway.requests["Ack"]] == acknowledged


async def test_1200_misfits_hold_up_nothing(gateway: StubGateway, cli: Any) -> None:
    gateway.schemas[TOPIC] = wire.Schema(type_schema=wire.Schema.Int64)
    ended = await shown(gateway, cli, "-o", "json", payloads=[b"%d\r" % number for number in range(1200)])
    assert ended.code == 5
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [base64.b64decode(line["payload_base64"]) for line in lines] == [b"%d\r" % n for n in range(1200)]
    assert lines[0]["error"] == "not a 64-bit integer in decimal: '0\\r'"
    assert len(gateway.requests["Ack"]) == 1200


@pytest.mark.parametrize("depth", [2, 255, 1000])
async def test_json_is_shown_as_it_came_in_every_form(gateway: StubGateway, cli: Any, depth: int) -> None:
    gateway.schemas[TOPIC] = wire.Schema(type_schema=wire.Schema.JSON)
    deep = b"[" * depth + b'{"a" :1,\r"a":2, "b":18446744073709551617}' + b"]" * depth
    text = await shown(gateway, cli, payloads=[deep])
    assert text.code == 0
    assert text.out == f"Received bytes message: 0, with payload: {deep.decode()}\n"
    gateway.requests.clear()
    ended = await shown(gateway, cli, "-o", "json", payloads=[deep])
    assert ended.code == 0
    assert ended.out.count("\n") == 1
    assert "\r" not in ended.out
    assert deep.decode().replace("\r", " ") in ended.out


async def test_json_output_is_one_object_per_line(gateway: StubGateway, cli: Any) -> None:
    gateway.schemas[TOPIC] = wire.Schema(type_schema=wire.Schema.JSON)
    big = b'{"id":123456789012345678901234567890}'
    ended = await shown(
        gateway,
        cli,
        *("-o", "json"),
        payloads=[big, b'{\n"a": 1}'],
        attributes={"k": "v"},
        producer_name="p",
        publish_time=7,
    )
    first, second = ended.out.splitlines()
    assert big.decode() in first
    assert json.loads(second) == {
        "topic": TOPIC,
        "producer": "p",
        "position": None,
        "sequence_id": 0,
        "key": None,
        "publish_time": "1970-01-01T00:00:00.007Z",
        "publish_time_ms": 7,
        "attributes": {"k": "v"},
        "payload": {"a": 1},
    }


async def test_json_output_keeps_bytes_that_are_no_text(gateway: StubGateway, cli: Any) -> None:
    gateway.schemas[TOPIC] = wire.Schema(type_schema=wire.Schema.Bytes)
    ended = await shown(gateway, cli, "-o", "json", payloads=[b"\xff\xfe", b"text"])
    first, second = map(json.loads, ended.out.splitlines())
    assert first["payload_base64"] == "//4="
    assert second["payload"] == "text"


async def test_raw_output_is_the_payload_whatever_it_is(gateway: StubGateway, cli: Any) -> None:
    ended = await shown(gateway, cli, "--raw", payloads=[b"a\tb", b"", b"{"])
    assert ended.out == "a\tb\n\n{\n"
    assert len(gateway.requests["Ack"]) == 3


async def test_messages_are_shown_while_more_are_awaited(gateway: StubGateway, cli: Any) -> None:
    process = await cli.start("consume", "-m", "s", "--raw")
    ended = asyncio.create_task(process.wait())
    await subscribed(gateway, ended)
    gateway.deliver(TOPIC, b"now")
    assert await process.stdout.readline() == b"now\n"
    await gateway.until(lambda: len(gateway.requests["Ack"]) == 1)
    process.send_signal(signal.SIGINT)
    err = await process.stderr.read()
    assert await ended == 130
    assert err == b"1 message received\n"


async def test_the_end_is_when_nothing_has_come_for_a_while(gateway: StubGateway, cli: Any) -> None:
    running = asyncio.create_task(cli("consume", "-m", "s", "--raw", "--exit-at-end", "--quiet-time", "0.5"))
    await subscribed(gateway, running)
    for number in range(200):
        gateway.deliver(TOPIC, b"%d" % number)
    ended = await running
    assert ended.code == 0
    assert ended.out == "".join(f"{number}\n" for number in range(200))
    assert len(gateway.requests["Ack"]) == 200


async def test_a_lost_stream_is_taken_up_again(gateway: StubGateway, cli: Any) -> None:
    running = asyncio.create_task(cli("consume", "-m", "s", "--raw", "--max", "2"))
    await subscribed(gateway, running)
    gateway.deliver(TOPIC, b"0")
    gateway.end_streams(UNREACHABLE)
    await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 2)
    gateway.deliver(TOPIC, b"1")
    ended = await running
    assert (ended.code, ended.out) == (0, "0\n1\n")


async def test_being_away_and_back_is_told_in_one_line_each(gateway: StubGateway, cli: Any) -> None:
    running = asyncio.create_task(cli("consume", "-m", "s", "--raw", "--max", "1"))
    await subscribed(gateway, running)
    gateway.failures["Subscribe"].extend([NOT_READY] * 3)
    gateway.end_streams(NOT_READY)
    await gateway.until(lambda: len(gateway.requests["ReceiveMessages"]) == 2)
    gateway.deliver(TOPIC, b"1")
    ended = await running
    assert ended.code == 0
    away, back, _ = ended.err.splitlines()
    assert away == f"Away from {TOPIC}: as scripted. Trying to come back."
    assert back.startswith(f"Back at {TOPIC} after ")


async def test_silence_while_away_is_no_end(gateway: StubGateway, cli: Any) -> None:
    running = asyncio.create_task(cli("consume", "-m", "s", "--raw", "--exit-at-end", "--quiet-time", "0.2"))
    await subscribed(gateway, running)
    gateway.gates["Subscribe"] = asyncio.Event()
    gateway.end_streams(UNREACHABLE)
    await gateway.until(lambda: len(gateway.requests["Subscribe"]) == 2)
    await asyncio.sleep(0.5)
    assert not running.done()
    gateway.gates["Subscribe"].set()
    gateway.deliver(TOPIC, b"1")
    ended = await running
    assert (ended.code, ended.out) == (0, "1\n")


@pytest.mark.parametrize(("how", "code"), [(UNREACHABLE, 3), (None, 1)])
async def test_coming_back_can_be_opted_out_of(
    gateway: StubGateway, cli: Any, how: Failure | None, code: int
) -> None:
    running = asyncio.create_task(cli("consume", "-m", "s", "--no-reconnect"))
    await subscribed(gateway, running)
    gateway.end_streams(how)
    assert (await running).code == code
    assert len(gateway.requests["Subscribe"]) == 1


async def test_a_consumer_whose_name_is_taken_over_ends_with_the_reason(
    gateway: StubGateway, cli: Any
) -> None:
    running = asyncio.create_task(cli("consume", "-m", "s"))
    await subscribed(gateway, running)
    gateway.end_streams(
        Failure(
            StatusCode.PERMISSION_DENIED, wire.SUBSCRIBE_PERMISSION_DENIED, "another client took over as 'c'"
        )
    )
    ended = await running
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == "Error: another client took over as 'c'"
    assert len(gateway.requests["Subscribe"]) == 1


async def test_a_deleted_topic_ends_the_command(gateway: StubGateway, cli: Any) -> None:
    running = asyncio.create_task(cli("consume", "-m", "s"))
    await subscribed(gateway, running)
    gateway.delete_topic(TOPIC)
    ended = await running
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == f"Error: topic {TOPIC} was deleted"


async def test_what_expired_unread_is_told_and_has_its_own_code(gateway: StubGateway, cli: Any) -> None:
    gateway.lost[TOPIC, "s"] = 12
    arguments = ("consume", "-m", "s", "--exit-at-end", "--quiet-time", "0.1")
    ended = await cli(*arguments)
    assert ended.code == 4
    assert f"12 messages of {TOPIC} expired before subscription s read them.\n" in ended.err
    again = await cli(*arguments)
    assert (again.code, again.err) == (0, "0 messages received\n")


async def test_what_a_non_reliable_topic_dropped_is_told(gateway: StubGateway, cli: Any) -> None:
    gateway.strategies[TOPIC] = wire.TopicDispatchStrategy(strategy=wire.NonReliable)
    gateway.lost[TOPIC, "s"] = 1
    ended = await cli("consume", "-m", "s", "--exit-at-end", "--quiet-time", "0.1")
    assert ended.code == 4
    assert f"1 message of {TOPIC} found no room at subscription s.\n" in ended.err


async def test_a_name_is_generated_and_the_prefetch_is_asked_for(gateway: StubGateway, cli: Any) -> None:
    for _ in range(2):
        await cli("consume", "-m", "s", "--prefetch", "1", "--exit-at-end", "--quiet-time", "0.1")
    names = {request.consumer_name for request in gateway.requests["Subscribe"]}
    assert len(names) == 2
    assert gateway.prefetches == ["1", "1"]


async def test_a_failed_acknowledgement_is_told(gateway: StubGateway, cli: Any) -> None:
    gateway.failures["Ack"].append(Failure(StatusCode.INTERNAL, message="no such subscription"))
    ended = await shown(gateway, cli, "--raw", payloads=[b"x"])
    assert "Failed to acknowledge message: no such subscription\n" in ended.err


async def test_a_reader_that_leaves_is_no_failure(gateway: StubGateway, cli: Any) -> None:
    process = await cli.start("consume", "-m", "s", "--raw")
    ended = asyncio.create_task(process.wait())
    await subscribed(gateway, ended)
    process.stdout._transport.close()
    gateway.deliver(TOPIC, b"x")
    assert await ended == 0
    assert b"Error" not in await process.stderr.read()
    assert not gateway.requests["Ack"]


async def test_an_unknown_topic_is_one_line(cli: Any) -> None:
    ended = await cli("consume", "-m", "s", "-t", "/default/none")
    assert (ended.code, ended.out, ended.err) == (1, "", "Error: no such topic\n")


async def test_nobody_at_the_address_has_its_own_code(gateway: StubGateway, cli: Any) -> None:
    await gateway.stop()
    ended = await cli("consume", "-m", "s")
    assert (ended.code, ended.err) == (3, f"Error: {gateway.address} cannot be reached\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-m", "s", "--sub-type", "failover"),
        ("-m", "s", "--max", "0"),
        ("-m", "s", "--prefetch", "0"),
        ("-m", "s", "--on-error", "retry"),
        ("-m", "s", "--raw", "-o", "json"),
        ("-m", "s", "--exit-at-end", "--quiet-time", "0"),
        ("-m", "s", "--quiet-time", "1"),
        ("-m", "s", "--raw", "--on-error", "stop"),
        ("-m", "s", "-f", "%p", "--on-error", "skip"),
        ("-m", "s", "-o", "length-prefixed", "--on-error", "stop"),
        ("-m", "s", "--key-filter", "k*"),
    ],
)
async def test_wrong_usage_is_told_before_anything_is_asked(
    gateway: StubGateway, cli: Any, arguments: tuple[str, ...]
) -> None:
    ended = await cli("consume", *arguments)
    assert ended.code == 2
    assert "Error: " in ended.err.splitlines()[-1]
    assert not gateway.requests


async def test_a_new_subscription_begins_where_from_says(gateway: StubGateway, cli: Any) -> None:
    for expected in ("", "Subscription s exists already: it goes on where it was, not at --from.\n"):
        ended = await cli("consume", "-m", "s", "--from", "-7", "--exit-at-end", "--quiet-time", "0.1")
        assert (ended.code, ended.err) == (0, expected + "0 messages received\n")
    assert gateway.subscriptions[TOPIC, "s"] == platform.SubscriptionStart(
        kind=platform.SubscriptionStart.LAST, value=7
    )


async def test_a_start_that_is_none_is_wrong_usage(gateway: StubGateway, cli: Any) -> None:
    ended = await cli("consume", "-m", "s", "--from", "yesterday")
    assert ended.code == 2
    assert "'yesterday' is none of" in " ".join(ended.err.replace("│", " ").split())
    assert not gateway.requests
