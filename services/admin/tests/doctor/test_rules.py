from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from danube_admin_service.doctor.events import Event, fault_events
from danube_admin_service.doctor.rules import (
    KINDS,
    Facts,
    Finding,
    ProcessFacts,
    SegmentFacts,
    Severity,
    StreamFacts,
    SubscriptionFacts,
    examine,
)

DAY_MS = 24 * 3600 * 1000
NOW_MS = 1_000 * DAY_MS
GIB = 1 << 30
SOUND = ProcessFacts(
    "storage",
    "1",
    "http://h:1",
    version="1",
    clock_ahead_ms=500,
    open_files_max=4096,
    disk_free_bytes=10 * GIB,
    disk_bytes=100 * GIB,
    certificate_expires_ms=NOW_MS + 30 * DAY_MS,
)
OTHERS = tuple(replace(SOUND, kind=kind) for kind in KINDS if kind != "storage")


def facts(process: ProcessFacts = SOUND, **changed: object) -> Facts:
    sound = Facts(
        NOW_MS,
        "1",
        (process, *OTHERS),
        nats_version="2.11.4",
        streams=(StreamFacts("DANUBE_JOURNAL", 79, 100, replicas=3),),
        subscriptions=(SubscriptionFacts("/a/b", "s", 39_999, ""),),
    )
    return replace(sound, **changed)  # type: ignore[arg-type]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert examine(facts()) == []


@pytest.mark.parametrize(
    ("process", "severity", "problem"),
    [
        (replace(SOUND, clock_ahead_ms=1500), Severity.WARNING, "1.5 s ahead of"),
        (replace(SOUND, clock_ahead_ms=-2000), Severity.WARNING, "2.0 s behind"),
        (replace(SOUND, version="2"), Severity.WARNING, "it is version 2, this admin instance is 1"),
        (replace(SOUND, open_files_max=1024), Severity.WARNING, "only 1024 files"),
        (replace(SOUND, disk_free_bytes=9 * GIB), Severity.WARNING, "9216 MiB of 102400 MiB are free"),
        (replace(SOUND, disk_free_bytes=GIB - 1), Severity.PROBLEM, "1023 MiB of 102400 MiB are free"),
        (
            replace(SOUND, certificate_expires_ms=NOW_MS + 29 * DAY_MS),
            Severity.WARNING,
            "its certificate expires in 29 days",
        ),
        (replace(SOUND, certificate_expires_ms=NOW_MS), Severity.PROBLEM, "its certificate has expired"),
        (ProcessFacts("storage", "1", "http://h:1"), Severity.UNSEEN, "does not answer at http://h:1"),
    ],
)
def test_what_is_wrong_with_a_process_is_found(
    process: ProcessFacts, severity: Severity, problem: str
) -> None:
    (found,) = examine(facts(process))
    assert (found.severity, found.subject) == (severity, "storage 1")
    assert problem in found.problem
    assert found.advice


@pytest.mark.parametrize(
    ("changed", "severity", "subject", "problem"),
    [
        ({"processes": (SOUND, *OTHERS[:2])}, Severity.PROBLEM, "admin", "no admin runs"),
        ({"has_leader": False}, Severity.PROBLEM, "admin", "no admin instance leads"),
        ({"unowned": ("f1",)}, Severity.PROBLEM, "bundle f1", "no topic owner serves it"),
        ({"nats_version": "2.10.9"}, Severity.PROBLEM, "nats", "version 2.10.9"),
        ({"nats_clock_ahead_ms": 900}, Severity.WARNING, "nats", "0.9 s ahead"),
        (
            {"streams": (StreamFacts("DANUBE_LOG_f0", 80 << 20, 100 << 20),)},
            Severity.WARNING,
            "DANUBE_LOG_f0",
            "80 of at most 100 MiB",
        ),
        (
            {"streams": (StreamFacts("DANUBE_LOG_f0", 0, 1, replicas=3, replicas_away=1),)},
            Severity.WARNING,
            "DANUBE_LOG_f0",
            "1 of its 3 replicas",
        ),
        ({"segments": SegmentFacts(holder_away=2)}, Severity.WARNING, "2 segments", "under-replicated"),
        ({"segments": SegmentFacts(unreadable=1)}, Severity.PROBLEM, "1 segments", "cannot be read"),
        ({"segments": SegmentFacts(damaged=1)}, Severity.WARNING, "1 segments", "damaged copy"),
        ({"segments": SegmentFacts(waiting=1)}, Severity.WARNING, "1 segments", "wait on another store"),
        (
            {"subscriptions": (SubscriptionFacts("/a/b", "s", 0, "poison"),)},
            Severity.WARNING,
            "/a/b s",
            "its delivery waits: poison",
        ),
        (
            {"subscriptions": (SubscriptionFacts("/a/b", "s", 40_000, ""),)},
            Severity.WARNING,
            "/a/b s",
            "40000 messages are delivered and not acknowledged",
        ),
        ({"topics_skipped": 3}, Severity.UNSEEN, "3 topics", "were not looked at"),
    ],
)
def test_what_is_wrong_with_the_cluster_is_found(
    changed: dict[str, Any], severity: Severity, subject: str, problem: str
) -> None:
    (found,) = examine(facts(**changed))
    assert (found.severity, found.subject) == (severity, subject)
    assert problem in found.problem


def test_the_worst_comes_first() -> None:
    found = examine(facts(replace(SOUND, clock_ahead_ms=900), unowned=("f0",), topics_skipped=1))
    assert [one.severity for one in found] == [Severity.PROBLEM, Severity.WARNING, Severity.UNSEEN]


def test_a_fault_is_told_once_when_it_comes_and_once_when_it_ends() -> None:
    fault = Finding(Severity.WARNING, "clocks", "nats", "its clock is 1.0 s ahead", "run NTP")
    worse = replace(fault, problem="its clock is 2.0 s ahead")
    unseen = replace(fault, severity=Severity.UNSEEN, subject="x")
    assert fault_events([], [fault, unseen]) == [Event("fault", "nats", "its clock is 1.0 s ahead. run NTP")]
    assert fault_events([fault], [worse]) == []
    assert fault_events([worse], []) == [Event("fault-ended", "nats", "no longer: its clock is 2.0 s ahead")]
