from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from danube_common.cluster.records import Topic
from danube_common.errors import LimitExceeded, SchemaViolation, Unavailable
from danube_common.model.schema import Schema, SchemaKind, payload_check
from danube_common.model.strategy import Strategy
from danube_common.runtime.metrics import Metrics
from danube_gateway.gateway_metrics import GatewayMetrics
from danube_gateway.publish import schema_checks
from danube_gateway.publish.schema_checks import SchemaChecks
from danube_gateway.publish.schema_worker import SchemaWorker

pytestmark = pytest.mark.server  # each test starts processes
CHECK_S_MAX = 1.0
ENDLESS_S = 60.0
"""No test lasts so long."""
OPERATORS = ["add", "sub", "mul", "div", "pow", "mod"]
EXPRESSION = {
    "$defs": {
        "expression": {
            "anyOf": [
                {"type": "number"},
                *(
                    {
                        "type": "object",
                        "properties": {
                            "op": {"const": op},
                            "args": {"type": "array", "items": {"$ref": "#/$defs/expression"}},
                        },
                        "required": ["op", "args"],
                        "additionalProperties": False,
                    }
                    for op in OPERATORS
                ),
            ]
        }
    },
    "$ref": "#/$defs/expression",
}
"""To tell why a value breaks it, the library builds a tree that is exponential in the value's depth."""
CYCLE = {
    "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{k}"} for k in range(7)]} for i in range(7)},
    "$ref": "#/$defs/d0",
}
"""A check of any value takes hours. New topics may not have it; this is a topic from before."""
BACKTRACKING = {"pattern": "(?=a)(a+)+$"}


def topic_of(definition: Any, topic_id: int = 1) -> Topic:
    schema = Schema("s", SchemaKind.JSON, json.dumps(definition))
    return Topic(f"/default/t{topic_id}", topic_id, "f0", schema, Strategy(), 0, 0)


class Scene:
    def __init__(self, quick_check_s_max: float, slow_check_s_max: float) -> None:
        self.quick, self.slow = SchemaWorker(quick_check_s_max), SchemaWorker(slow_check_s_max)
        self.checks = SchemaChecks(GatewayMetrics(Metrics("gateway", "1")), self.quick, self.slow)

    async def check(self, topic: Topic, payload: bytes) -> None:
        await self.checks.check(topic, payload_check(topic.schema), payload)


@contextlib.asynccontextmanager
async def open_scene(
    quick_check_s_max: float = CHECK_S_MAX, slow_check_s_max: float = CHECK_S_MAX
) -> AsyncIterator[Scene]:
    scene = Scene(quick_check_s_max, slow_check_s_max)
    yield scene
    await scene.checks.close()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with open_scene() as scene:
        yield scene


def expression(depth: int, leaf: Any) -> Any:
    for _ in range(depth):
        leaf = {"op": "mod", "args": [leaf, 1]}
    return leaf


@pytest.mark.parametrize("depth", [0, 2, 4, 8, 30, 60])
async def test_a_wrong_leaf_of_a_recursive_schema_is_refused_at_any_depth(scene: Scene, depth: int) -> None:
    topic = topic_of(EXPRESSION)
    async with asyncio.timeout(20):
        await scene.check(topic, json.dumps(expression(depth, 7)).encode())
        with pytest.raises(SchemaViolation, match="breaks the JSON schema"):
            await scene.check(topic, json.dumps(expression(depth, "x")).encode())


async def test_a_check_without_end_is_given_up_and_says_so(scene: Scene) -> None:
    endless = topic_of(CYCLE)
    for _ in range(2):  # in the process of all topics, then in that of slow ones
        with pytest.raises(LimitExceeded, match="the schema check of topic /default/t1 took longer than 1 s"):
            await scene.check(endless, b"1")


async def test_a_check_without_end_delays_no_other_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_checks, "CHEAP_COST_MAX", -1)
    endless, other = topic_of(CYCLE, 1), topic_of({}, 2)
    async with open_scene(slow_check_s_max=ENDLESS_S) as scene:
        with pytest.raises(LimitExceeded):
            await scene.check(endless, b"1")
        checked = asyncio.create_task(scene.check(endless, b"1"))
        while scene.slow.pid is None and not checked.done():  # noqa: ASYNC110 - a start has no event
            await asyncio.sleep(0.01)
        await scene.check(other, b"[]")
        assert not checked.done()
        checked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checked


async def test_the_event_loop_is_free_during_a_costly_check(scene: Scene) -> None:
    objects = topic_of({"items": {"enum": [{"a": number} for number in range(900)]}})
    checking = asyncio.create_task(scene.check(objects, json.dumps([{"a": 899}] * 3000).encode()))
    steps = 0
    while not checking.done():
        await asyncio.sleep(0.001)
        steps += 1
    assert steps > 20
    with contextlib.suppress(LimitExceeded):  # on a slow machine
        await checking


@pytest.mark.parametrize(
    ("definition", "payload"),
    [
        (BACKTRACKING, json.dumps("a" * 30_000 + "!")),
        (
            {"additionalProperties": False, "patternProperties": {"^(?!x)(a+)+$": True}},
            json.dumps({"a" * 40 + "!": 1}),
        ),
        ({"type": "array", "unevaluatedItems": False}, json.dumps([1] * 1000)),
        ({"items": {"type": "string"}}, json.dumps([1] * 100_000)),
        ({"format": "regex", "$schema": "http://json-schema.org/draft-07/schema#"}, json.dumps("(")),
        ({}, "[" * 129 + "]" * 129),
        ({}, "[" * 100_000),
        ({"maximum": 1}, "9" * 2000),
    ],
)
async def test_what_does_not_fit_is_refused_in_time(scene: Scene, definition: Any, payload: str) -> None:
    async with asyncio.timeout(20):
        with pytest.raises((SchemaViolation, LimitExceeded)):
            await scene.check(topic_of(definition), payload.encode())


async def test_a_small_payload_of_a_simple_schema_needs_no_process(scene: Scene) -> None:
    topic = topic_of({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]})
    await scene.check(topic, b'{"age": 3}')
    with pytest.raises(SchemaViolation, match='at \'/age\': "x" is not of type "integer"'):
        await scene.check(topic, b'{"age": "x"}')
    assert scene.quick.pid is None


async def test_a_large_payload_of_a_simple_schema_is_checked_in_a_process() -> None:
    topic, payload = topic_of({}), b"[" + b"[]," * 100_000 + b"[]]"
    async with open_scene(quick_check_s_max=ENDLESS_S) as scene:
        await scene.check(topic, payload)
        assert scene.quick.pid is not None


async def test_the_verdict_and_the_reason_are_the_same_in_a_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_checks, "CHEAP_COST_MAX", -1)
    topic = topic_of({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]})
    await scene.check(topic, b'{"age": 3}')
    for payload, reason in (
        (b'{"age": "x"}', "at '/age'"),
        (b"{", "not JSON"),
        (b"{}", "a required"),
    ):
        with pytest.raises(SchemaViolation, match=reason):
            await scene.check(topic, payload)
    assert scene.quick.pid is not None


async def test_a_process_that_died_is_replaced(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_checks, "CHEAP_COST_MAX", -1)
    topic = topic_of({"type": "integer"})
    await scene.check(topic, b"1")
    pid = scene.quick.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable):
        await scene.check(topic, b"1")
    await scene.check(topic, b"1")
    assert scene.quick.pid != pid


async def test_a_caller_that_gives_up_leaves_no_answer_behind(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_checks, "CHEAP_COST_MAX", -1)
    topic = topic_of({"type": "integer"})
    await scene.check(topic, b"1")
    given_up = asyncio.create_task(scene.check(topic, b'"no integer"'))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    await scene.check(topic, b"1")


async def test_what_waits_for_a_check_is_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_checks, "CHEAP_COST_MAX", -1)
    monkeypatch.setattr(schema_checks, "PENDING_BYTES_MAX", 10)
    topic = topic_of({})
    first = asyncio.create_task(scene.check(topic, b"[1,2,3,4]"))
    await asyncio.sleep(0)
    with pytest.raises(LimitExceeded, match="9 bytes wait for a schema check already"):
        await scene.check(topic, b"11")
    await first
    await scene.check(topic, b"11")
