"""One producer under load: sends by its schedule, with a bounded number of unanswered messages."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from danube_perf.contract import Publisher
from danube_perf.latency import Latencies
from danube_perf.payload import Clock, stamped
from danube_perf.plan import REASONS_MAX, REFUSED_MAX, ProducerPlan, Start
from danube_perf.schedule import Schedule
from danube_perf.streaming import StreamPublisher

PAUSE_S: Final = 0.1
"""A producer whose message was refused sends the next one after so long."""


class Load:
    """Sends the messages of one producer.

    Attributes:
        answered: measured messages that were answered with OK.
        refused: the numbers that were not, see `plan.Produced`.
        refusals: why, with counts.
        last_ns: when the last measured answer came.
        ended: set when all was sent and answered.
    """

    def __init__(
        self,
        plan: ProducerPlan,
        publisher: Publisher | StreamPublisher,
        run: int,
        rest: bytes,
        in_flight: int,
        clock: Clock,
    ) -> None:
        self.answered = 0
        self.failed = 0
        self.refused: list[int] = []
        self.refusals: Counter[str] = Counter()
        self.last_ns = 0
        self.ended = asyncio.Event()
        self._plan = plan
        self._publisher = publisher
        self._run = run
        self._rest = rest
        self._in_flight_max = in_flight
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._open: set[int] = set()
        self._measured = 0
        self.schedule = Schedule(0, plan.rate)
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._lockstep = False
        self._undelivered = False
        self._note: Callable[[int], None] = lambda _ns: None

    def begin(self, start: Start, latencies: Latencies) -> None:
        """Send from ``begin_ns`` on."""
        self.schedule = Schedule(start.begin_ns + int(self._plan.offset_s * 1e9), self._plan.rate)
        self._start = start
        self._note = latencies.note
        self._wait((start.begin_ns - self._clock.now_ns()) / 1e9)

    @property
    def number(self) -> int:
        """The producer's number in the run."""
        return self._plan.number

    @property
    def sent(self) -> int:
        """How many numbers were used."""
        return self.schedule.sent

    def wait_for_deliveries(self) -> None:
        """Send each message only after `delivered` was called for the last one."""
        self._lockstep = True

    def delivered(self) -> None:
        """Take note that the last message was received and acknowledged."""
        self._undelivered = False
        if not self._stopped:
            self._pump()

    def stop(self) -> None:
        """Send no more; `ended` is set when all answers are there."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._open:
            self.ended.set()

    def give_up(self) -> None:
        """Take what has no answer as refused."""
        for number in sorted(self._open):
            self._refuse(number, "no answer before the end")
        self._open.clear()
        self.ended.set()

    def _wait(self, seconds: float) -> None:
        if self._timer is None and not self._stopped:
            self._timer = self._loop.call_later(max(seconds, 0.0), self._woken)

    def _woken(self) -> None:
        self._timer = None
        self._pump()

    def _pump(self) -> None:
        """Send what is due and has room."""
        start, schedule = self._start, self.schedule
        if self._undelivered or (self._lockstep and self._open):
            return
        while not self._stopped and len(self._open) < self._in_flight_max and self._timer is None:
            now_ns = self._clock.now_ns()
            if start.end_ns is not None and now_ns >= start.end_ns:
                self.stop()
                return
            number = schedule.sent
            due_ns = schedule.take(now_ns)
            if due_ns is None:
                self._wait((schedule.due_ns() - now_ns) / 1e9)
                return
            measured = due_ns >= start.measure_ns
            if measured:
                self._measured += 1
            self._open.add(number)
            self._undelivered = self._lockstep
            if self._measured == self._plan.messages:
                self._stopped = True
            self._send(number, due_ns, measured=measured)
            if self._undelivered:
                return

    def _send(self, number: int, due_ns: int, *, measured: bool) -> None:
        def answered(status: int, text: str) -> None:
            self._open.discard(number)
            if status:
                self._refuse(number, text or f"gRPC status {status}")
            elif measured:
                now_ns = self._clock.now_ns()
                self.answered += 1
                self.last_ns = now_ns
                self._note(now_ns - due_ns)
            if self._stopped:
                if not self._open:
                    self.ended.set()
            else:
                self._pump()

        payload = stamped(self._run, self._plan.number, number, due_ns, self._rest)
        self._publisher.publish(number, payload, due_ns, answered)

    def _refuse(self, number: int, reason: str) -> None:
        self.failed += 1
        if len(self.refused) < REFUSED_MAX:
            self.refused.append(number)
        if reason in self.refusals or len(self.refusals) < REASONS_MAX:
            self.refusals[reason] += 1
        else:
            self.refusals["other reasons"] += 1
        self._wait(PAUSE_S)
