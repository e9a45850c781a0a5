from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from danube_client import Schema
from danube_harness.services.stub_gateway import UNREACHABLE, Consumer, Failure, StubGateway
from danube_proto import danube_api_pb2 as wire

TOPIC = "/default/test_topic"


def payloads(gateway: StubGateway, topic: str = TOPIC) -> list[bytes]:
    return [
        message.payload for message in sorted(gateway.accepted[topic], key=lambda m: m.msg_id.sequence_id)
    ]


async def test_a_message_is_sent_with_the_documented_defaults(gateway: StubGateway, cli: Any) -> None:
    ended = await cli("produce", "-m", "grüße")
    assert (ended.code, ended.out, ended.err) == (0, "Message sent successfully with ID: 0\n", "")
    assert payloads(gateway) == ["grüße".encode()]
    (request,) = gateway.requests["CreateProducer"]
    assert request.producer_name
    assert request.schema.type_schema == wire.Schema.String
    assert request.dispatch_strategy.strategy == wire.Reliable
    assert request.dispatch_strategy.reliable_options.retention_policy == wire.RetainUntilAck


@pytest.mark.parametrize(
    ("arguments", "policy", "period_s"),
    [
        (("--reliable",), wire.RetainUntilAck, 3600),
        (("--storage", "disk"), wire.RetainUntilAck, 3600),
        (("--retention", "expire"), wire.RetainUntilExpire, 3600),
        (("--reliable", "--retention-period", "60"), wire.RetainUntilExpire, 60),
    ],
)
async def test_messages_expire_only_if_that_is_asked_for(
    gateway: StubGateway, cli: Any, arguments: tuple[str, ...], policy: int, period_s: int
) -> None:
    assert (await cli("produce", "-m", "x", *arguments)).code == 0
    options = gateway.requests["CreateProducer"][0].dispatch_strategy.reliable_options
    assert (options.retention_policy, options.retention_period) == (policy, period_s)


async def test_what_nobody_receives_is_told(gateway: StubGateway, cli: Any) -> None:
    ended = await cli("produce", "-m", "x", "--non-reliable")
    assert (ended.code, ended.out) == (0, "Message sent successfully with ID: 0\n")
    assert ended.err == (
        f"Warning: {TOPIC} is non-reliable and has no consumer now: what is sent reaches nobody, and nothing"
        " is kept for later.\n"
    )
    gateway.consumers[TOPIC, "s", "c"] = Consumer(1000, TOPIC, "c", "s")
    process = await cli.start("produce", "--file", "-", "--non-reliable")
    process.stdin.write(b"x\n")
    await gateway.until(lambda: len(gateway.accepted[TOPIC]) == 2)
    gateway.consumers.clear()
    _, err = await process.communicate(b"")
    assert b"no consumer now" not in err
    assert b"had no consumer at the end" in err


async def test_a_topic_in_partitions_keeps_their_number(gateway: StubGateway, cli: Any) -> None:
    gateway.schemas.update({f"{TOPIC}-part-{part}": wire.Schema() for part in range(3)})
    ended = await cli("produce", "-m", "x", "-p", "5")
    assert (ended.code, ended.err) == (1, f"Error: topic {TOPIC} has 3 partitions, not 5 partitions\n")
    assert (await cli("produce", "-m", "x", "-c", "3")).code == 0
    assert [len(gateway.accepted[f"{TOPIC}-part-{part}"]) for part in range(3)] == [1, 1, 1]
    assert TOPIC not in gateway.schemas


async def test_a_topic_deleted_under_way_ends_the_command(gateway: StubGateway, cli: Any) -> None:
    process = await cli.start("produce", "--file", "-")
    process.stdin.write(b"x\n")
    await gateway.until(lambda: len(gateway.accepted[TOPIC]) == 1)
    gateway.delete_topic(TOPIC)
    _, err = await process.communicate(b"y\n")
    assert process.returncode == 1
    assert f"Failed to send message: line 2: topic {TOPIC} was deleted\n".encode() in err
    assert TOPIC not in gateway.schemas


@pytest.mark.parametrize("named", [True, False])
async def test_int64_lines_of_a_dos_file_are_numbers(gateway: StubGateway, cli: Any, named: bool) -> None:
    gateway.schemas[TOPIC] = wire.Schema(type_schema=wire.Schema.Int64)
    arguments = ("-y", "int64") if named else ()
    ended = await cli("produce", "--file", "-", *arguments, stdin=b"1\r\n 12\r\n-3\n\r\n")
    assert ended.code == 1
    assert payloads(gateway) == [b"1", b"-3"]
    second, last, _ = ended.err.splitlines()
    assert second == "Failed to send message: line 2: not a 64-bit integer in decimal: ' 12'"
    assert last == "Failed to send message: line 4: not a 64-bit integer in decimal: ''"


async def test_text_lines_of_a_dos_file_are_sent_as_they_are(gateway: StubGateway, cli: Any) -> None:
    assert (await cli("produce", "--file", "-", stdin=b"a\r\n")).code == 0
    assert payloads(gateway) == [b"a\r"]


async def test_a_line_that_is_too_long_is_named_and_what_went_before_is_sent(
    gateway: StubGateway, cli: Any
) -> None:
    began = time.monotonic()
    ended = await cli("produce", "--file", "-", stdin=b"a\nb\n" + b"x" * (70 << 20) + b"\nc\n")
    assert time.monotonic() - began < 15
    assert ended.code == 1
    first, last = ended.err.splitlines()
    assert first == "Failed to send message: line 3: longer than 67108864 bytes"
    assert last.startswith("2 messages sent in ")
    assert payloads(gateway) == [b"a", b"b"]


async def test_a_json_schema_may_be_in_a_file(gateway: StubGateway, cli: Any, tmp_path: Path) -> None:
    schema = json.dumps({"enum": list(range(40_000))})
    file = tmp_path / "schema.json"
    file.write_text(schema)
    assert len(schema) > 128 * 1024
    ended = await cli("produce", "-m", "1", "-y", "json", "--json-schema", f"@{file}")
    assert (ended.code, ended.err) == (0, "")
    assert gateway.requests["CreateProducer"][0].schema.schema_data.decode() == schema


async def test_a_subject_without_a_name_is_no_leave_to_send_anything(gateway: StubGateway, cli: Any) -> None:
    ended = await cli("produce", "-m", "1", "--schema-subject", "")
    assert ended.code == 2
    assert "Invalid value for '--schema-subject': give a subject's name, and no --schema" in ended.err
    assert not gateway.accepted[TOPIC]
    with pytest.raises(ValueError, match="has a name"):
        Schema.registered("")


async def test_a_topic_that_exists_is_taken_as_it_is(gateway: StubGateway, cli: Any) -> None:
    gateway.schemas[TOPIC] = wire.Schema(type_schema=wire.Schema.Int64)
    assert (await cli("produce", "-m", "12")).code == 0
    (request,) = gateway.requests["CreateProducer"]
    assert not request.HasField("schema")
    assert not request.HasField("dispatch_strategy")


async def test_every_flag_reaches_the_platform(gateway: StubGateway, cli: Any) -> None:
    ended = await cli(
        *("produce", "-s", gateway.address, "-n", "p", "-t", "/default/j", "-y", "json"),
        *(
            "--json-schema",
            '{"type":"object"}',
            "-m",
            '{"a":1}',
            "-a",
            " k1 : v1 ,k2:v:2",
            "-p",
            "2",
            "-c",
            "3",
        ),
        *("--reliable", "--storage", "disk", "--segment-size", "10", "--retention", "ack"),
        *("--retention-period", "7200", "--in-flight", "2"),
    )
    assert ended.code == 0
    assert ended.out == "".join(f"Message sent successfully with ID: {number}\n" for number in (0, 0, 1))
    request = gateway.requests["CreateProducer"][0]
    assert request.schema == wire.Schema(
        name="my_app", schema_data=b'{"type":"object"}', type_schema=wire.Schema.JSON
    )
    assert request.dispatch_strategy.reliable_options == wire.ReliableOptions(
        segment_size=10,
        storage_backend=wire.DISK,
        storage_path="/tmp/danube",  # noqa: S108 - the documented default
        retention_policy=wire.RetainUntilAck,
        retention_period=7200,
    )
    assert sorted(gateway.producers) == [("/default/j-part-0", "p-0"), ("/default/j-part-1", "p-1")]
    assert dict(gateway.accepted["/default/j-part-1"][0].attributes) == {"k1": "v1", "k2": "v:2"}


@pytest.mark.parametrize("storage", [None, "memory"])
async def test_where_segments_live_is_left_to_the_platform_unless_it_is_said(
    gateway: StubGateway, cli: Any, storage: str | None
) -> None:
    named = () if storage is None else ("--storage", storage)
    assert (await cli("produce", "-m", "x", "--reliable", *named)).code == 0
    options = gateway.requests["CreateProducer"][0].dispatch_strategy.reliable_options
    assert options.HasField("storage_backend") is (storage is not None)


async def test_an_int64_travels_as_decimal_text(gateway: StubGateway, cli: Any) -> None:
    assert (await cli("produce", "-y", "int64", "-m", "-42")).code == 0
    assert payloads(gateway) == [b"-42"]


async def test_each_line_of_a_file_is_a_message(gateway: StubGateway, cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    lines = [b"first", b"", "dritte ü".encode(), *(b"%d" % number for number in range(500)), b"no newline"]
    file.write_bytes(b"\n".join(lines))
    ended = await cli("produce", "--file", str(file))
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("504 messages sent in ")
    assert payloads(gateway) == lines


async def test_each_line_of_stdin_is_a_message_at_once(gateway: StubGateway, cli: Any) -> None:
    process = await cli.start("produce", "--file", "-")
    process.stdin.write(b"first\nsec")
    await gateway.until(lambda: payloads(gateway) == [b"first"])
    process.stdin.write(b"ond\n")
    await gateway.until(lambda: payloads(gateway) == [b"first", b"second"])
    _, err = await process.communicate(b"")
    assert process.returncode == 0
    assert err.startswith(b"2 messages sent in ")


async def test_lines_that_break_the_schema_are_reported_and_the_rest_is_sent(
    gateway: StubGateway, cli: Any
) -> None:
    ended = await cli(
        "produce", "--file", "-", "-y", "json", "--json-schema", "{}", stdin=b'{"a":1}\nno\n[2]\n'
    )
    assert ended.code == 1
    assert payloads(gateway) == [b'{"a":1}', b"[2]"]
    first, last = ended.err.splitlines()
    assert first.startswith("Failed to send message: line 2: not JSON")
    assert last.startswith("2 messages sent in ")
    assert last.endswith(", 1 failed")


async def test_a_refused_message_is_reported_and_the_rest_is_sent(gateway: StubGateway, cli: Any) -> None:
    refusal = Failure(StatusCode.INVALID_ARGUMENT, wire.UNKNOWN_ERROR, "too long\nby far")
    gateway.failures["SendMessage"].extend([None, refusal])
    ended = await cli("produce", "-m", "x", "-c", "3", "--in-flight", "1")
    assert ended.code == 1
    assert ended.out == "Message sent successfully with ID: 0\nMessage sent successfully with ID: 2\n"
    assert "Failed to send message: too long by far\n" in ended.err


async def test_a_passing_failure_is_not_seen(gateway: StubGateway, cli: Any) -> None:
    gateway.failures["SendMessage"].append(UNREACHABLE)
    ended = await cli("produce", "-m", "x")
    assert (ended.code, ended.out, ended.err) == (0, "Message sent successfully with ID: 0\n", "")


async def test_messages_are_spaced_by_the_interval(gateway: StubGateway, cli: Any) -> None:
    assert (await cli("produce", "-m", "x", "-c", "3", "-i", "100")).code == 0
    times = [message.publish_time for message in gateway.accepted[TOPIC]]
    assert times[1] - times[0] >= 99
    assert times[2] - times[1] >= 99


async def test_a_refused_producer_is_one_line(gateway: StubGateway, cli: Any) -> None:
    gateway.failures["CreateProducer"].append(
        Failure(StatusCode.INVALID_ARGUMENT, wire.INVALID_TOPIC_NAME, "the topic has no name")
    )
    ended = await cli("produce", "-m", "x")
    assert (ended.code, ended.out, ended.err) == (1, "", "Error: the topic has no name\n")


async def test_nobody_at_the_address_is_one_line_and_its_own_code(gateway: StubGateway, cli: Any) -> None:
    await gateway.stop()
    ended = await cli("produce", "-m", "x")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == f"Error: {gateway.address} cannot be reached\n"


async def test_an_interrupt_ends_with_a_summary_of_what_was_sent(gateway: StubGateway, cli: Any) -> None:
    process = await cli.start("produce", "--file", "-")
    process.stdin.write(b"a\nb\n")
    await gateway.until(lambda: len(gateway.accepted[TOPIC]) == 2)
    process.send_signal(signal.SIGINT)
    err = await process.stderr.read()
    assert await process.wait() == 130
    assert err.startswith(b"2 messages sent in ")
    assert err.count(b"\n") == 1


async def test_an_interrupt_behind_the_last_message_has_the_summary_too(
    gateway: StubGateway, cli: Any
) -> None:
    asked = (
        "TopicPartitions"  # whether anybody heard it: asked before the first message and behind the last one
    )
    gateway.gates[asked] = asyncio.Event()
    gateway.gates[asked].set()
    process = await cli.start("produce", "--file", "-")
    process.stdin.write(b"a\nb\n")
    await gateway.until(lambda: len(gateway.accepted[TOPIC]) == 2)
    gateway.gates[asked].clear()
    before = len(gateway.requests[asked])
    process.stdin.close()
    await gateway.until(lambda: len(gateway.requests[asked]) > before)
    process.send_signal(signal.SIGINT)
    err = await process.stderr.read()
    assert await process.wait() == 130
    assert err.startswith(b"2 messages sent in ")


async def test_a_reader_that_leaves_is_no_failure(gateway: StubGateway, cli: Any) -> None:
    process = await cli.start("produce", "-m", "x", "-c", "1000000")
    await process.stdout.readline()
    process.stdout._transport.close()
    err = await process.stderr.read()
    assert await process.wait() == 0
    assert b"rror" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-m", "x", "--file", "-"),
        ("--file", "-", "-c", "2"),
        ("--file", "/does/not/exist"),
        ("-m", "x", "-i", "99"),
        ("-m", "x", "-c", "0"),
        ("-m", "x", "-p", "0"),
        ("-m", "x", "-a", "key"),
        ("-m", "x", "-a", ":value"),
        ("-m", "x", "-y", "avro"),
        ("-m", "{}", "-y", "json"),
        ("-m", "{}", "-y", "json", "--json-schema", "{"),
        ("-m", "{}", "-y", "json", "--json-schema", "@/does/not/exist"),
        ("-m", "{}", "--json-schema", "{}"),
        ("-m", "{}", "-y", "string", "--json-schema", "{}"),
        ("-m", "{}", "--schema-subject", "orders", "--json-schema", "{}"),
        ("-m", "x", "--non-reliable", "--storage", "disk"),
        ("-m", "x", "--input", "csv"),
        ("-m", '{"a": 1}', "--key", "k", "--key-field", "a"),
        ("-m", '{"a": 1}', "--key-field", "b"),
        ("-m", '{"a": []}', "--key-field", "a"),
        ("-m", "{", "-y", "json", "--json-schema", "{}"),
        ("-m", "1.5", "-y", "int64"),
        ("-m", str(2**63), "-y", "int64"),
        ("-m", b"\xff", "-y", "string"),
    ],
)
async def test_wrong_usage_is_told_before_anything_is_sent(
    gateway: StubGateway, cli: Any, arguments: tuple[str, ...]
) -> None:
    ended = await cli("produce", *arguments)
    assert ended.code == 2
    assert "Error: " in ended.err.splitlines()[-1]
    assert not gateway.requests


async def test_an_address_that_is_none_is_one_line(cli: Any) -> None:
    ended = await cli("produce", "-s", "ftp://host:1", "-m", "x")
    assert ended.code == 2
    assert ended.err.splitlines()[-1] == "Error: 'ftp://host:1': only http:// and https:// are spoken"
