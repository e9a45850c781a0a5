from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from danube_harness.services.stub_gateway import Failure, StubGateway
from danube_perf.__main__ import app
from danube_proto import danube_api_pb2 as wire

NOW = ("--warmup", "0", "-o", "json")
SHORT = ("--warmup", "0.1", "--duration", "0.4", "-o", "json")


@pytest.mark.parametrize("command", ["produce", "consume", "e2e", "fanout", "topics"])
def test_help_has_examples_and_the_exit_codes(command: str) -> None:
    ended = CliRunner().invoke(app, [command, "--help"])
    assert ended.exit_code == 0
    assert f"  danube-perf {command} -s http://127.0.0.1:6650" in ended.output
    assert "Exit codes: 0 " in ended.output


async def test_e2e_tells_rates_latencies_and_that_nothing_is_missing(perf: Any, gateway: StubGateway) -> None:
    ended = await perf("e2e", "--storage", "disk", "--in-flight", "4", "--subscriptions", "2", *SHORT)
    assert ended.code == 0, ended.err
    found = ended.json
    publish, consume, integrity = found["publish"], found["consume"], found["integrity"]
    assert publish["messages"] > 0
    assert publish["latency_us"]["count"] == publish["messages"]
    assert publish["latency_us"]["p50"] <= publish["latency_us"]["p99"] <= publish["latency_us"]["max"]
    assert consume["messages"] == 2 * publish["messages"]
    assert consume["end_to_end_us"]["count"] == consume["messages"]
    assert consume["ack_us"]["count"] > 0
    assert integrity["received"] == 2 * integrity["sent"]
    # Not their order: the stub keeps calls as the front hands them over, a gateway as they were sent.
    assert integrity["lost"] == integrity["duplicated"] == 0
    assert found["durability"].startswith("synced to disk")
    assert found["machine"]["cores"] > 0
    [(topic, messages)] = gateway.accepted.items()
    assert gateway.strategies[topic].reliable_options.storage_backend == wire.DISK
    assert {len(message.payload) for message in messages} == {1024}
    assert len(gateway.requests["Ack"]) == 2 * len(messages)
    ack = gateway.requests["Ack"][0]
    assert ack.request_id > 0
    assert ack.msg_id.topic_name == topic
    assert ack.subscription_name.startswith("perf-")


async def test_in_lockstep_no_message_is_sent_before_the_last_one_is_acknowledged(
    perf: Any, gateway: StubGateway
) -> None:
    gate = gateway.gates["Ack"] = asyncio.Event()
    process = await perf.start(
        "e2e", "--lockstep", "-n", "5", "--in-flight", "4", "--warmup", "0", "-o", "json"
    )
    await gateway.until(lambda: bool(gateway.requests["Ack"]))
    assert len(gateway.requests["SendMessage"]) == 1
    gate.set()
    out, err = await process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["consume"]["messages"] == 5


async def test_a_number_of_messages_ends_the_run(perf: Any, gateway: StubGateway) -> None:
    ended = await perf("produce", "-n", "25", "--producers", "3", "--warmup", "0", "-o", "json")
    assert (ended.code, ended.json["publish"]["messages"]) == (0, 25)
    assert sum(map(len, gateway.accepted.values())) == 25


async def test_under_a_rate_a_pause_of_the_platform_is_in_the_latencies(
    perf: Any, gateway: StubGateway
) -> None:
    gate = asyncio.Event()
    # The first message is held for 0.6 s, and with one in flight everything that is due meanwhile waits.
    gateway.failures["SendMessage"].extend([None])
    gateway.gates["SendMessage"] = gate
    arguments = ("--rate", "50", "--warmup", "0", "-n", "50", "-o", "json", "--no-progress")
    process = await perf.start("produce", *arguments)
    await gateway.until(lambda: bool(gateway.requests["SendMessage"]))
    await asyncio.sleep(0.6)
    gate.set()
    out, err = await process.communicate()
    assert process.returncode == 0, err
    found = json.loads(out)["publish"]
    # 30 messages were due during the pause. Counted from when they were sent, one would be slow.
    assert found["latency_us"]["p50"] > 10_000
    assert found["latency_us"]["max"] >= 590_000
    assert found["behind_ms"] >= 500


async def test_a_loss_a_repetition_and_a_late_message_are_told(perf: Any, gateway: StubGateway) -> None:
    deliver = gateway._deliver

    def disturbed(topic: str, message: wire.StreamMessage) -> None:
        number = len(gateway.accepted[topic])
        held = disturbances.pop(topic, None) if number == 4 else None
        if number == 2:
            disturbances[topic] = message  # number 2 comes after number 4
        elif number != 6:  # number 6 never comes
            deliver(topic, message)
        if held is not None:
            deliver(topic, held)
        if number == 8:
            deliver(topic, message)

    disturbances: dict[str, wire.StreamMessage] = {}
    gateway._deliver = disturbed  # type: ignore[method-assign]
    ended = await perf("e2e", "-n", "20", "--warmup", "0", "--drain", "0.3", "-o", "json")
    assert ended.code == 4
    assert {name: ended.json["integrity"][name] for name in ("lost", "duplicated", "reordered")} == {
        "lost": 1,
        "duplicated": 1,
        "reordered": 1,
    }


async def test_a_refused_message_is_told_and_is_no_loss(perf: Any, gateway: StubGateway) -> None:
    refusal = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, message="too fast")
    gateway.failures["SendMessage"].extend([None, refusal])
    ended = await perf("e2e", "-n", "10", "--warmup", "0", "-o", "json")
    assert ended.code == 1
    assert ended.json["publish"]["refusals"] == {"too fast": 1}
    assert ended.json["integrity"]["lost"] == 0


async def test_consume_takes_so_many_and_acknowledges_each(perf: Any, gateway: StubGateway) -> None:
    produced = await perf("produce", "-t", "/default/a", "-n", "5", "--warmup", "0")
    assert produced.code == 0
    process = await perf.start("consume", "-t", "/default/a", "-n", "8", "-o", "json")
    await gateway.until(lambda: any(one.name for one in gateway.consumers.values()))
    for message in gateway.accepted["/default/a"] * 3:
        gateway.deliver("/default/a", message.payload)
    gateway.deliver("/default/a", b"of somebody else")
    out, err = await process.communicate()
    assert process.returncode == 0, err
    found = json.loads(out)
    assert found["consume"]["messages"] == 8
    assert found["integrity"]["duplicated"] == 3
    assert len(gateway.requests["Ack"]) == 8


async def test_an_interrupt_ends_the_run_with_the_results_so_far(perf: Any, gateway: StubGateway) -> None:
    process = await perf.start("e2e", "--duration", "600", "--warmup", "0", "-o", "json")
    await gateway.until(lambda: len(gateway.requests["Ack"]) > 20)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    found = json.loads(out)
    assert found["interrupted"] is True
    assert found["consume"]["messages"] > 20
    assert found["integrity"]["lost"] == 0


async def test_a_lost_connection_ends_the_run_with_the_results_so_far(
    perf: Any, gateway: StubGateway
) -> None:
    process = await perf.start("produce", "--duration", "600", "--warmup", "0", "-o", "json")
    await gateway.until(lambda: len(gateway.requests["SendMessage"]) > 20)
    await gateway.stop()
    out, err = await process.communicate()
    assert process.returncode == 3, err
    assert b"Traceback" not in err
    assert json.loads(out)["publish"]["messages"] > 10
    assert b"the connection" in err


async def test_several_processes_and_watched_ones(perf: Any) -> None:
    arguments = ("--processes", "2", "--watch", f"me={os.getpid()}", "--subscriptions", "1,2", *SHORT)
    ended = await perf("fanout", *arguments)
    assert ended.code == 0, ended.err
    one, two = ended.json["runs"]
    assert (one["subscriptions"], two["subscriptions"]) == (1, 2)
    assert two["processes"]["me"]["cpu_us_per_message"] > 0
    assert two["integrity"]["received"] == 2 * two["integrity"]["sent"]
    assert "subscriptions: 2" in ended.err


async def test_topics_prints_a_row_for_each_number(perf: Any) -> None:
    ended = await perf("topics", "--topics", "1,3", "--warmup", "0", "-n", "9")
    assert ended.code == 0, ended.err
    rows = [line.split()[0] for line in ended.out.splitlines()[:3]]
    assert rows == ["topics", "1", "3"]


WRONG = {
    "no size": (("produce", "--size", "many"), "'--size'"),
    "too small": (("produce", "--size", "31"), "'--size'"),
    "no url": (("produce", "-s", "http://x"), "is not like http://127.0.0.1:6650"),
    "no topic": (("produce", "-t", "news"), "is not like /default/news"),
    "no list": (("fanout", "--subscriptions", "1,,2"), "'--subscriptions'"),
    "no process": (("produce", "--watch", "x=999999999"), "no process 999999999 runs here"),
    "no rate": (("produce", "--rate", "0"), "'--rate'"),
    "too many processes": (("produce", "--processes", "9"), "9 processes are more than"),
    "too few messages": (("produce", "-n", "2", "--producers", "3"), "fewer than one for each"),
    "lockstep": (("e2e", "--lockstep", "--producers", "2"), "--lockstep needs one producer"),
    "no picture": (("produce", "--plot", "x.jpg"), "does not end with .png"),
    "no folder": (("produce", "--plot", "/nowhere/x.png"), "there is no folder /nowhere"),
}


@pytest.mark.parametrize(("arguments", "text"), WRONG.values(), ids=WRONG)
def test_wrong_usage_is_told_before_anything_runs(arguments: tuple[str, ...], text: str) -> None:
    # Nobody listens there: whatever ran would say so, with 3.
    ended = CliRunner().invoke(app, [arguments[0], "-s", "127.0.0.1:1", *arguments[1:]])
    assert ended.exit_code in (1, 2)
    assert text in " ".join(ended.output.split())


async def test_what_cannot_begin_says_why(perf: Any, gateway: StubGateway) -> None:
    nobody = await perf("produce", "-s", "127.0.0.1:1")
    assert (nobody.code, nobody.out) == (3, "")
    assert "127.0.0.1:1 cannot be reached: Connection refused" in nobody.err
    gateway.failures["Subscribe"].append(Failure(grpc.StatusCode.NOT_FOUND, message="no such topic"))
    missing = await perf("consume", "-t", "/default/missing")
    assert (missing.code, missing.err) == (1, "Error: no such topic\n")
