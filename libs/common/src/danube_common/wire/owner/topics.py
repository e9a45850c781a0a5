"""What a topic holds, and reading it without a subscription."""

from __future__ import annotations

import msgspec

from danube_common.model.subscription import StartPosition, SubscriptionType
from danube_common.wire.envelope import Done, Request


class FindTopic(Request[Done], tag="find-topic", frozen=True):
    """Ask whether the owner serves a topic. Reply: Done. Errors: NotFound."""

    topic: str


class SubscriptionDetail(msgspec.Struct, frozen=True):
    """One subscription of a `TopicDescription`.

    Attributes:
        consumers: names of the consumers that have a stream.
        mark_delete: all positions up to this one are acknowledged; 0 if none is.
        backlog: messages that are not acknowledged, delivered or not.
        backlog_exact: whether ``backlog`` is exact; otherwise it is a lower bound.
        unacked: messages delivered and not acknowledged; part of ``backlog``.
        lost: lower bound of the messages that expired before they were acknowledged, over its life.
        blocked: why messages wait (a segment in quarantine, storage that does not answer, poison), or empty.
        failed: messages that wait to be delivered again, or are poison; part of ``backlog``.
        key_filters: of the consumers that have a stream and filters of keys, by consumer name.
        holes: stretches of unacknowledged messages before acknowledged ones.
        acked_ahead: messages acknowledged beyond ``mark_delete``.
    """

    name: str
    subscription_type: SubscriptionType
    consumers: list[str]
    mark_delete: int
    backlog: int
    backlog_exact: bool
    unacked: int
    lost: int = 0
    blocked: str = ""
    prefetch: int = 0
    failed: int = 0
    key_filters: dict[str, tuple[str, ...]] = {}
    holes: int = 0
    acked_ahead: int = 0


class TopicDescription(msgspec.Struct, tag="topic-description", frozen=True):
    """A topic as its owner knows it.

    Attributes:
        producers: names of the producers that were active lately.
        log_first_sequence: the oldest sequence in the bundle's log.
        log_last_sequence: the newest sequence in the log; below the oldest if the log is empty.
        archived_through: the last sequence of the bundle that is archived in segments; 0 if none is.
    """

    topic: str
    topic_id: int
    bundle: str
    epoch: int
    producers: list[str]
    subscriptions: list[SubscriptionDetail]
    log_first_sequence: int
    log_last_sequence: int
    archived_through: int


class DescribeTopic(Request[TopicDescription], tag="describe-topic", frozen=True):
    """Describe a topic. Reply: TopicDescription. Errors: NotFound (topic)."""

    topic: str


class BoundsFound(msgspec.Struct, tag="bounds", frozen=True):
    """What a topic holds and who consumes it.

    Attributes:
        earliest: no retained message is below this position; 0 for a non-reliable topic.
        end: every stored message is below this position; 0 for a non-reliable topic.
        consumers: how many consumers have a stream, of all subscriptions together.
        subscriptions: how many there are.
    """

    earliest: int
    end: int
    consumers: int
    subscriptions: int


class FindBounds(Request[BoundsFound], tag="find-bounds", frozen=True):
    """Ask what a topic holds and who consumes it. Reply: BoundsFound. Errors: NotFound (topic)."""

    topic: str


class TopicRead(msgspec.Struct, tag="topic-read", frozen=True):
    """Messages of a topic in order.

    Attributes:
        runs: of each run the position and the offset of its first message, the number of messages, and a
            table of where messages end (as in the section of a frame) with the messages behind it.
        position: the next one to read.
        end: the position behind everything that the log has now; ``position`` may be above.
        missing: messages before ``position`` that are retained no more, or damaged: a lower bound.
    """

    runs: list[tuple[int, int, int, bytes]]
    position: int
    end: int
    missing: int = 0


class ReadTopic(Request[TopicRead], tag="read-topic", frozen=True):
    """Read messages of a reliable topic; no subscription knows of it. Reply: TopicRead.

    Errors: InvalidInput (an invalid start, or a topic that keeps no messages), NotFound (topic), Unavailable.

    Attributes:
        position: the first position to read, unless ``start`` is given.
        start: where the first request of a reading begins.
        bytes_max: about so many bytes of messages are returned, and at least one message.
    """

    topic: str
    position: int = 0
    start: StartPosition | None = None
    bytes_max: int = 1 << 20


class Floors(msgspec.Struct, tag="floors", frozen=True):
    """What the owner's journal says that the log need not keep.

    Attributes:
        floors: the lowest mark-delete of each topic's subscriptions, by topic id; absent without any.
        sequences_through: up to which log sequence it has what idempotent producers stored.
    """

    floors: dict[int, int]
    sequences_through: int = 0


class RetentionFloors(Request[Floors], tag="retention-floors", frozen=True):
    """Ask for the journaled mark-delete positions that limit retention in the bundle. Reply: Floors."""
