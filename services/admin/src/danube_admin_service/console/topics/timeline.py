"""Where the messages of a topic lie in time: segments, the log, what retention deletes, the cursors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from danube_admin_service.console.live.figures import age, count, size
from danube_admin_service.console.live.scrape import Lag
from danube_common.model.position import sequence_of
from danube_proto import danube_platform_pb2 as platform

BARS_MAX: Final = 200
CURSORS_MAX: Final = 12
WIDTH_MIN: Final = 0.4
"""Percent of the drawing: a bar that is shorter could not be seen."""


@dataclass(frozen=True)
class Bar:
    """Some messages. ``x`` and ``width`` are percent of the drawing; ``kind`` is disk, s3, shared or log."""

    kind: str
    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A moment: a cursor, or how far back retention keeps messages."""

    name: str
    x: float
    text: str


@dataclass(frozen=True)
class Timeline:
    """A drawing whose left end is ``from_ms`` and whose right end is now.

    Attributes:
        retention: what is left of it is to be deleted; None if it is not within the drawing.
        more_cursors: how many are not drawn.
    """

    topic: str
    from_ms: int
    to_ms: int
    bars: tuple[Bar, ...]
    cursors: tuple[Mark, ...]
    retention: Mark | None
    more_cursors: int


def timeline(
    topic: platform.TopicDescription,
    segments: Iterable[platform.Segment],
    lags: Mapping[tuple[str, str], Lag],
    now_ms: int,
) -> Timeline | None:
    """Return the drawing of a reliable topic; None if there is nothing to draw."""
    if not topic.reliable:
        return None
    kept = [one for one in segments if not one.delete_after_ms and one.newest_ms][-BARS_MAX:]
    in_log = topic.log_last_sequence >= topic.log_first_sequence and topic.log_last_sequence > 0
    archived_ms = max((one.newest_ms for one in kept), default=0)
    starts = [one.oldest_ms for one in kept]
    ages = [lags[topic.topic, each.name].age_s for each in topic.subscriptions if each.backlog]
    log_from_ms = archived_ms or max(now_ms - int(1000 * max(ages, default=0.0)), topic.created_ms)
    if in_log:
        starts.append(log_from_ms)
    if not starts:
        return None
    scale = _Scale(min(starts), max(now_ms, archived_ms))
    bars = [_segment(scale, one) for one in kept]
    if in_log:
        sequences = f"sequences {count(topic.log_first_sequence)} to {count(topic.log_last_sequence)}"
        bars.append(scale.bar("log", log_from_ms, now_ms, f"the bundle's log: {sequences}"))
    cursors = [
        _cursor(scale, topic, each, lags[topic.topic, each.name], kept)
        for each in topic.subscriptions[:CURSORS_MAX]
    ]
    return Timeline(
        topic.topic,
        scale.from_ms,
        scale.to_ms,
        tuple(bars),
        tuple(cursors),
        _retention(scale, topic, now_ms),
        max(len(topic.subscriptions) - CURSORS_MAX, 0),
    )


@dataclass(frozen=True)
class _Scale:
    from_ms: int
    to_ms: int

    def x(self, at_ms: float) -> float:
        span = max(self.to_ms - self.from_ms, 1)
        return min(max(100 * (at_ms - self.from_ms) / span, 0.0), 100.0)

    def bar(self, kind: str, from_ms: int, to_ms: int, text: str) -> Bar:
        left, right = self.x(from_ms), self.x(to_ms)
        width = max(right - left, WIDTH_MIN)
        return Bar(kind, min(left, 100 - width), width, text)


def _segment(scale: _Scale, one: platform.Segment) -> Bar:
    what = f"{one.storage}{', shared' if one.shared else ''}"
    text = f"{what}: {count(one.messages)} messages, {size(one.size_bytes)}"
    kind = "shared" if one.shared else "s3" if one.storage == "s3" else "disk"
    return scale.bar(kind, one.oldest_ms, one.newest_ms, text)


def _cursor(
    scale: _Scale,
    topic: platform.TopicDescription,
    one: platform.SubscriptionDescription,
    lag: Lag,
    segments: Sequence[platform.Segment],
) -> Mark:
    """Where the next message is that is not acknowledged, as far as can be told."""
    if not one.backlog:
        return Mark(one.name, 100.0, "has acknowledged everything")
    behind = f"{'' if one.backlog_exact else '≥ '}{count(one.backlog)} messages behind"
    for each in segments:
        if one.mark_delete < each.last_position:
            span = max(each.last_position - each.first_position, 1)
            share = min(max((one.mark_delete - each.first_position) / span, 0.0), 1.0)
            return Mark(one.name, scale.x(each.oldest_ms + share * (each.newest_ms - each.oldest_ms)), behind)
    if lag.age_s:
        return Mark(
            one.name, scale.x(scale.to_ms - 1000 * lag.age_s), f"{behind}, the oldest {age(lag.age_s)}"
        )
    log_from_ms = max((each.newest_ms for each in segments), default=scale.from_ms)
    sequences = max(topic.log_last_sequence - topic.log_first_sequence, 1)
    share = min(max((sequence_of(one.mark_delete) - topic.log_first_sequence) / sequences, 0.0), 1.0)
    return Mark(one.name, scale.x(log_from_ms + share * (scale.to_ms - log_from_ms)), behind)


def _retention(scale: _Scale, topic: platform.TopicDescription, now_ms: int) -> Mark | None:
    if topic.retention != "expire" or not topic.retention_period_s:
        return None
    at_ms = now_ms - 1000 * topic.retention_period_s
    if at_ms < scale.from_ms:
        return None
    return Mark("retention", scale.x(at_ms), f"kept for {age(topic.retention_period_s)}")
