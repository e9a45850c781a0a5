"""Limits, ids and results that the admission of producers and consumers shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from danube_common.errors import LimitExceeded
from danube_common.model.bundle import Bundle
from danube_common.model.ids import make_id
from danube_topic_owner.journal.events import Event


@dataclass(frozen=True, slots=True)
class Admission:
    """The id of a producer or consumer, and the events to journal before the reply."""

    id: int
    events: list[Event]


def check_limit(name: str, limit: int, present: int, what: str) -> None:
    """Raise LimitExceeded if one more than ``present`` exceeds ``limit``; a limit of 0 is none."""
    if limit and present >= limit:
        raise LimitExceeded(name, f"{name} is {limit}: {what}")


def unused_id(bundle: Bundle, taken: Callable[[int], object | None], *parts: str) -> int:
    """Return an id of the bundle that is derived from ``parts`` and for which ``taken`` gives None."""
    probe = 0
    while taken(candidate := make_id(bundle, *parts, probe=probe)) is not None:
        probe += 1
    return candidate
