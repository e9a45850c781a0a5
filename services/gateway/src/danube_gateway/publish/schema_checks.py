"""Checks of payloads against their topic's schema: at once if that is cheap, else in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from danube_common.cluster.records import Topic
from danube_common.errors import LimitExceeded, SchemaViolation, Unavailable
from danube_common.model.json_schema import CHEAP_COST_MAX
from danube_common.model.schema import PayloadCheck
from danube_common.schemas.registry import RegisteredSchema
from danube_gateway.gateway_metrics import GatewayMetrics
from danube_gateway.publish.schema_worker import SchemaWorker

PENDING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Payload bytes that may wait for a process, of all topics; more are refused."""
WAIT_S_MAX: Final = 30.0
"""A payload waits this long for its turn at a process, then it is refused."""
SLOW_S: Final = 0.5
"""A topic with a check that took longer shares a process with other such topics only."""
SLOW_TOPICS_MAX: Final = 10_000
"""Slow topics that are remembered; beyond it the oldest is forgotten."""


class SchemaChecks:
    """Checks payloads. Slow checks of one topic delay no other topic whose checks are quick."""

    def __init__(self, metrics: GatewayMetrics, quick: SchemaWorker, slow: SchemaWorker) -> None:
        self._metrics = metrics
        self._workers = {False: quick, True: slow}
        self._turns = {False: asyncio.Lock(), True: asyncio.Lock()}
        self._topic_turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._slow: dict[int, None] = {}
        self._pending_bytes = 0

    def check_now(self, check: PayloadCheck, payload: bytes) -> bool:
        """Return whether the payload fits; False if only `check` can tell. Raises SchemaViolation."""
        if check.cost(payload) > CHEAP_COST_MAX:
            return False
        if check.fits(payload):
            return True
        if check.explanation_cost(payload) <= CHEAP_COST_MAX:
            raise check.explain(payload)
        return False

    async def check(
        self, topic: Topic, check: PayloadCheck, payload: bytes, registered: RegisteredSchema | None = None
    ) -> None:
        """Return when the payload was found to fit.

        Args:
            topic: topics take turns at the processes.
            check: of the topic's own schema, or of the registered one.
            payload: what to check.
            registered: the schema of the registry that the check is of.

        Raises:
            SchemaViolation: it does not fit.
            LimitExceeded: the check took too long, or too much waits for a check.
            Unavailable: the process died during the check.
        """
        if self.check_now(check, payload):
            return
        broken = check.cost(payload) <= CHEAP_COST_MAX
        try:
            await self._check_in_process(topic, payload, registered)
        except (LimitExceeded, Unavailable):
            if broken:
                raise SchemaViolation("the payload breaks the JSON schema") from None
            raise

    async def close(self) -> None:
        """Kill the processes."""
        for worker in self._workers.values():
            await worker.close()

    def forget(self, topic: Topic) -> None:
        """Forget a deleted topic."""
        self._slow.pop(topic.topic_id, None)

    async def _check_in_process(
        self, topic: Topic, payload: bytes, registered: RegisteredSchema | None
    ) -> None:
        if self._pending_bytes + len(payload) > PENDING_BYTES_MAX:
            raise LimitExceeded(
                "schema_check_pending_bytes", f"{self._pending_bytes} bytes wait for a schema check already"
            )
        self._metrics.slow_schema_checks.labels(topic.name).inc()
        self._pending_bytes += len(payload)
        try:
            async with self._turn(topic) as slow:
                worker = self._workers[slow]
                try:
                    if registered is None:
                        await worker.check(topic.name, topic.schema.definition.encode(), payload)
                    else:
                        kind, definition = registered.version.kind, registered.definition
                        await worker.check(topic.name, definition, payload, kind)
                finally:
                    if worker.check_s > SLOW_S:
                        self._note_slow(topic)
        finally:
            self._pending_bytes -= len(payload)

    def _note_slow(self, topic: Topic) -> None:
        if len(self._slow) >= SLOW_TOPICS_MAX:
            del self._slow[next(iter(self._slow))]
        self._slow[topic.topic_id] = None

    @asynccontextmanager
    async def _turn(self, topic: Topic) -> AsyncIterator[bool]:
        """Wait for a process and yield which; topics take turns, each with one payload."""
        own = self._topic_turns.setdefault(topic.topic_id, asyncio.Lock())
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(WAIT_S_MAX):
                    await held.enter_async_context(own)
                    slow = topic.topic_id in self._slow
                    await held.enter_async_context(self._turns[slow])
            except TimeoutError:
                raise LimitExceeded(
                    "schema_check_wait_s",
                    f"no schema check of topic {topic.name} began within {WAIT_S_MAX:g} s",
                ) from None
            yield slow
