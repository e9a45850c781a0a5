"""Consumers as a user runs them, and what they have written to their files so far."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from tests.acceptance.flights import number_of

from danube_harness.process_death import die_with_parent
from danube_harness.traffic.history import Receipt

CLI = Path(sysconfig.get_path("scripts")) / "danube-cli"
ADMIN = CLI.with_name("danube-admin")
END_TIMEOUT_S = 20.0
INTERRUPTED = 130
POLL_INTERVAL_S = 0.02


def start(
    arguments: Sequence[str | Path],
    *,
    stdin: int | None = subprocess.DEVNULL,
    stdout: BinaryIO,
    stderr: BinaryIO,
) -> subprocess.Popen[bytes]:
    """A command-line tool as a process that dies with this one."""
    return subprocess.Popen(
        [*arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - only plain calls, see there
    )


class Reader:
    """One ``danube-cli consume --raw`` whose output goes to a file.

    Attributes:
        name: the consumer's name.
        receipts: what it has received, as far as `look` has read.
    """

    def __init__(self, name: str, arguments: Sequence[str], directory: Path, lines: Sequence[bytes]) -> None:
        self.name = name
        self.receipts: list[Receipt] = []
        self._lines = lines
        self._rest = b""
        self._output_file = directory / f"{name}.jsonl"
        self._errors_file = directory / f"{name}.err"
        with self._output_file.open("wb") as output, self._errors_file.open("wb") as errors:
            self._process = start(
                [CLI, "consume", *arguments, "-n", name, "--raw"], stdout=output, stderr=errors
            )
        self._output = self._output_file.open("rb")

    def look(self) -> list[Receipt]:
        """Read what was written since; returns the new receipts."""
        *lines, self._rest = (self._rest + self._output.read()).split(b"\n")
        new = [self._receipt(line) for line in lines]
        self.receipts.extend(new)
        return new

    def check_runs(self) -> None:
        """A consumer that gave up cannot receive the rest."""
        status = self._process.poll()
        assert status is None, f"{self.name} ended with {status}: {self.errors}"

    def interrupt(self) -> None:
        """Ctrl-C, and what it writes on its way out."""
        self._process.send_signal(signal.SIGINT)
        try:
            status = self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self.look()
        self._output.close()
        assert status == INTERRUPTED, f"{self.name} ended with {status}: {self.errors}"
        assert not self._rest, f"{self.name} wrote half a line"

    def kill(self) -> None:
        """At once; for the end of a test that failed."""
        self._process.kill()
        self._process.wait()
        self._output.close()

    @property
    def errors(self) -> str:
        """What it complained about."""
        return self._errors_file.read_text()

    def _receipt(self, line: bytes) -> Receipt:
        number = number_of(line)
        if 1 <= number <= len(self._lines) and line == self._lines[number - 1]:
            return "flights", number
        return f"changed: {line[:200]!r}", number


class Subscription:
    """The readers that share a subscription, and when they got on.

    Attributes:
        name: of the subscription.
    """

    def __init__(self, name: str, readers: Sequence[Reader]) -> None:
        self.name = name
        self.readers = readers
        self._got: set[Receipt] = set()
        self._progressed: list[float] = []

    @property
    def received(self) -> int:
        """Different messages so far."""
        return len(self._got)

    def look(self, now: float) -> None:
        """Take in what the readers wrote; ``now`` is monotonic."""
        before = len(self._got)
        for reader in self.readers:
            self._got.update(reader.look())
        if len(self._got) > before:
            self._progressed.append(now)

    def silence_s(self, since: float, until: float) -> float:
        """The longest time between two of these without a message that was not there before."""
        moments = [since, *(moment for moment in self._progressed if since < moment <= until)]
        return max(
            (later - earlier for earlier, later in itertools.pairwise(moments)),
            default=until - since,
        )


def watch(
    subscriptions: Sequence[Subscription],
    deadline: float,
    *,
    until: int,
    on_progress: Callable[[int], None] = lambda _received: None,
) -> None:
    """Follow the readers until each subscription has ``until`` different messages.

    Args:
        subscriptions: all of them.
        deadline: monotonic; TimeoutError after it, with what each has by then.
        until: different messages.
        on_progress: called again and again with what the slowest has.
    """
    while True:
        now = time.monotonic()
        for subscription in subscriptions:
            subscription.look(now)
            for reader in subscription.readers:
                reader.check_runs()
        slowest = min(subscription.received for subscription in subscriptions)
        on_progress(slowest)
        if slowest >= until:
            return
        if now > deadline:
            raise TimeoutError(
                ", ".join(f"{one.name} has {one.received} of {until}" for one in subscriptions)
            )
        time.sleep(POLL_INTERVAL_S)  # files of other processes have no event of their own
