"""Judges the facts about a cluster: each finding says what is wrong and what to do. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

KINDS: Final = ("gateway", "topic-owner", "storage", "admin")
CLOCK_MS_MAX: Final = 500
"""Clocks that differ by more make retention, ages and expiry of tokens differ by as much."""
DISK_FREE_PART_MIN: Final = 0.1
DISK_FREE_BYTES_MIN: Final = 1 << 30
FULL_PART_WARNED: Final = 0.8
OPEN_FILES_MIN: Final = 4096
CERTIFICATE_MS_WARNED: Final = 30 * 24 * 3600 * 1000
CERTIFICATE_MS_LEFT_MIN: Final = 3 * 24 * 3600 * 1000
UNACKED_WARNED: Final = 40_000
"""Of the 50 000 delivered messages that a subscription may leave unacknowledged."""
NATS_VERSION_MIN: Final = (2, 11)


class Severity(IntEnum):
    """How bad a finding is, as on the wire."""

    UNSEEN = 1
    WARNING = 2
    PROBLEM = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with what, and what to do."""

    severity: Severity
    check: str
    subject: str
    problem: str
    advice: str


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A registered process. All but the first three are None if it does not tell them.

    Attributes:
        clock_ahead_ms: of the admin instance's clock.
    """

    kind: str
    instance_id: str
    http_url: str
    version: str | None = None
    clock_ahead_ms: int | None = None
    open_files_max: int | None = None
    disk_free_bytes: int | None = None
    disk_bytes: int | None = None
    certificate_expires_ms: int | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.kind} {self.instance_id}"


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """A stream of JetStream; ``replicas_away`` are offline or behind."""

    name: str
    size_bytes: int
    bytes_max: int
    replicas: int = 1
    replicas_away: int = 0


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """Counts of segments: with a holder away, readable nowhere, with a damaged copy, in another store."""

    holder_away: int = 0
    unreadable: int = 0
    damaged: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """A subscription that was looked at."""

    topic: str
    name: str
    unacked: int
    blocked: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was seen.

    Attributes:
        own_version: of the admin instance that looks.
        unowned: bundles that no topic owner has claimed.
        nats_version: of the server that the admin instance is connected to.
        nats_clock_ahead_ms: of the admin instance's clock.
        topics_skipped: how many were not looked at: there are too many, or their owner was silent.
    """

    now_ms: int
    own_version: str
    processes: Sequence[ProcessFacts] = ()
    has_leader: bool = True
    unowned: Sequence[str] = ()
    nats_version: str = ""
    nats_clock_ahead_ms: int = 0
    streams: Sequence[StreamFacts] = ()
    segments: SegmentFacts = SegmentFacts()
    subscriptions: Sequence[SubscriptionFacts] = ()
    topics_skipped: int = 0


def examine(facts: Facts) -> list[Finding]:
    """Return all findings, the worst first."""
    found = [finding for check in CHECKS.values() for finding in check(facts)]
    return sorted(found, key=lambda finding: (-finding.severity, finding.check, finding.subject))


def _services(facts: Facts) -> Iterator[Finding]:
    running = Counter(process.kind for process in facts.processes)
    for kind in KINDS:
        if not running[kind]:
            yield Finding(
                Severity.PROBLEM, "services", kind, f"no {kind} runs", f"start danube-{_program(kind)}"
            )
    if not facts.has_leader:
        yield Finding(
            Severity.PROBLEM,
            "services",
            "admin",
            "no admin instance leads",
            "look whether the admin instances reach the metadata store (/readyz)",
        )
    for bundle in facts.unowned:
        yield Finding(
            Severity.PROBLEM,
            "services",
            f"bundle {bundle}",
            "no topic owner serves it, so its topics deliver nothing",
            "look at the logs of the topic owners and at their /readyz",
        )
    for process in facts.processes:
        if process.version is None:
            yield Finding(
                Severity.UNSEEN,
                "services",
                process.name,
                f"it does not answer at {process.http_url}",
                "let it serve health where admin instances reach it (--http-addr), or look at it yourself",
            )


def _versions(facts: Facts) -> Iterator[Finding]:
    for process in facts.processes:
        if process.version is not None and process.version != facts.own_version:
            yield Finding(
                Severity.WARNING,
                "versions",
                process.name,
                f"it is version {process.version}, this admin instance is {facts.own_version}",
                "finish the upgrade: docs/operations/upgrade.md",
            )
    numbers = facts.nats_version.split(".")[:2]
    if all(one.isdigit() for one in numbers) and tuple(map(int, numbers)) < NATS_VERSION_MIN:
        wanted = ".".join(map(str, NATS_VERSION_MIN))
        yield Finding(
            Severity.PROBLEM,
            "versions",
            "nats",
            f"the server is version {facts.nats_version}",
            f"upgrade NATS to {wanted} or newer",
        )


def _clocks(facts: Facts) -> Iterator[Finding]:
    seen = [(one.name, one.clock_ahead_ms) for one in facts.processes if one.clock_ahead_ms is not None]
    for name, ahead_ms in (*seen, ("nats", facts.nats_clock_ahead_ms)):
        if abs(ahead_ms) > CLOCK_MS_MAX:
            side = "ahead of" if ahead_ms > 0 else "behind"
            yield Finding(
                Severity.WARNING,
                "clocks",
                name,
                f"its clock is {abs(ahead_ms) / 1000:.1f} s {side} this admin instance's",
                "run an NTP client on all machines",
            )


def _disks(facts: Facts) -> Iterator[Finding]:
    for process in facts.processes:
        free, total = process.disk_free_bytes, process.disk_bytes
        if free is None or not total:
            continue
        if free < DISK_FREE_BYTES_MIN or free < total * DISK_FREE_PART_MIN:
            yield Finding(
                Severity.PROBLEM if free < DISK_FREE_BYTES_MIN else Severity.WARNING,
                "disks",
                process.name,
                f"{free >> 20} MiB of {total >> 20} MiB are free where its segments are",
                "make room, use a larger disk, or shorten retention: docs/operations/retention.md",
            )


def _bounds(facts: Facts) -> Iterator[Finding]:
    for stream in facts.streams:
        if stream.bytes_max > 0 and stream.size_bytes >= stream.bytes_max * FULL_PART_WARNED:
            journal = stream.name == "DANUBE_JOURNAL"
            yield Finding(
                Severity.WARNING,
                "bounds",
                stream.name,
                f"it has {stream.size_bytes >> 20} of at most {stream.bytes_max >> 20} MiB",
                "raise --journal-bytes-max, and look for subscriptions with very many unacknowledged messages"
                if journal
                else "look why storage does not archive it (its /readyz and logs), or raise its bound",
            )
    for one in facts.subscriptions:
        if one.blocked:
            yield Finding(
                Severity.WARNING,
                "subscriptions",
                f"{one.topic} {one.name}",
                f"its delivery waits: {one.blocked}",
                "docs/operations/failed-messages.md",
            )
        elif one.unacked >= UNACKED_WARNED:
            yield Finding(
                Severity.WARNING,
                "subscriptions",
                f"{one.topic} {one.name}",
                f"{one.unacked} messages are delivered and not acknowledged",
                "look why its consumers do not acknowledge: at 50000 its delivery waits",
            )
    if facts.topics_skipped:
        yield Finding(
            Severity.UNSEEN,
            "subscriptions",
            f"{facts.topics_skipped} topics",
            "their subscriptions were not looked at",
            "danube-admin topics describe TOPIC shows those of one topic",
        )


def _copies(facts: Facts) -> Iterator[Finding]:
    for stream in facts.streams:
        if stream.replicas_away:
            yield Finding(
                Severity.WARNING,
                "copies",
                stream.name,
                f"{stream.replicas_away} of its {stream.replicas} replicas are away or behind",
                "look at the NATS servers that are not running or not caught up",
            )
    segments = facts.segments
    for count, severity, problem, advice in (
        (
            segments.unreadable,
            Severity.PROBLEM,
            "cannot be read: every copy is damaged or on an instance that is away",
            "start the storage instances that have them, or docs/operations/damaged-segments.md",
        ),
        (
            segments.holder_away,
            Severity.WARNING,
            "are under-replicated: an instance that holds a copy is away",
            "start it again; after replica_absent_s they are copied anew",
        ),
        (
            segments.damaged,
            Severity.WARNING,
            "have a damaged copy",
            "docs/operations/damaged-segments.md",
        ),
        (
            segments.waiting,
            Severity.WARNING,
            "wait on another store, because theirs did not answer",
            "look whether S3 and the disks of storage answer (/readyz of storage)",
        ),
    ):
        if count:
            yield Finding(severity, "copies", f"{count} segments", problem, advice)


def _limits(facts: Facts) -> Iterator[Finding]:
    for process in facts.processes:
        files = process.open_files_max
        if files is not None and 0 <= files < OPEN_FILES_MIN:
            yield Finding(
                Severity.WARNING,
                "limits",
                process.name,
                f"it may open only {files} files and connections",
                "raise the limit: ulimit -n 65536, or LimitNOFILE=65536 in its unit",
            )


def _certificates(facts: Facts) -> Iterator[Finding]:
    for process in facts.processes:
        if process.certificate_expires_ms is None:
            continue
        left_ms = process.certificate_expires_ms - facts.now_ms
        if left_ms < CERTIFICATE_MS_WARNED:
            days = left_ms // (24 * 3600 * 1000)
            yield Finding(
                Severity.PROBLEM if left_ms < CERTIFICATE_MS_LEFT_MIN else Severity.WARNING,
                "certificates",
                process.name,
                "its certificate has expired" if left_ms <= 0 else f"its certificate expires in {days} days",
                "renew it: docs/operations/security.md",
            )


CHECKS: Final[Mapping[str, Callable[[Facts], Iterator[Finding]]]] = {
    "services": _services,
    "versions": _versions,
    "clocks": _clocks,
    "disks": _disks,
    "bounds and subscriptions": _bounds,
    "copies": _copies,
    "limits": _limits,
    "certificates": _certificates,
}
"""Everything that is looked at."""


def _program(kind: str) -> str:
    return "admin-service" if kind == "admin" else kind
