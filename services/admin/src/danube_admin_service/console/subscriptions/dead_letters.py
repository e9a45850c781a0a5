"""Dead letters: what waits in a dead-letter topic is looked at, published again, or dropped.

Those with which something was done are behind the cursor of a subscription, which is also that of
`danube-admin dead-letters redeliver`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError, Message

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.gateways import Publisher
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.action import Action
from danube_admin_service.console.forms import Form, number
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.topics.peek import (
    AvroSchemas,
    Found,
    Shown,
    read_messages,
    shown,
    status_of_reading,
)
from danube_common.errors import DanubeError, InvalidInput
from danube_common.model.names import TopicName
from danube_common.model.subscription import StartKind, StartPosition, SubscriptionType
from danube_common.rpc.port import RpcError, StatusCode
from danube_common.wire import dead_letter as names
from danube_common.wire.owner.subscriptions import CreateSubscription
from danube_proto import danube_api_pb2 as api
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_stream_pb2 as stream

SUBSCRIPTION: Final = "danube-admin-redeliver"
LETTERS_MAX: Final = 100
"""That one page shows, and one action is about; of a partitioned topic each partition has its share."""
SHARE_MIN: Final = 10
"""What each partition has at least."""


@dataclass(frozen=True)
class Letter:
    """One dead letter; ``place`` is the topic or partition that holds it, with its position."""

    message: Shown
    place: str
    topic: str
    subscription: str
    attempts: str
    reason: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Waiting:
    """The oldest dead letters of one topic or partition with which nothing was done.

    Attributes:
        found: None if they could not be read.
        problem: why.
    """

    topic: str
    found: Found | None
    problem: str = ""

    @property
    def messages(self) -> list[tuple[int, bytes]]:
        """Each with its position."""
        return self.found.messages if self.found is not None else []


async def dead_letters(visitor: Visitor, sources: Sources, query: Query) -> dict[str, object]:
    """The dead letters of a topic with which nothing was done yet, oldest first in each partition."""
    name = query.get("topic", "")
    visitor.require(calls.READ, stream.ReadRequest(topic=name))
    waiting = await _waiting(visitor, sources, name)
    schemas = AvroSchemas(visitor, name)
    letters = [
        _letter(one.topic, await shown(at, data, "auto", schemas))
        for one in waiting
        for at, data in one.messages
    ]
    return {
        "topic": name,
        "partitioned": [one.topic for one in waiting] != [name],
        "letters": letters,
        "through": ",".join(_place(one.topic, one.messages[-1][0]) for one in waiting if one.messages),
        "problems": [(one.topic, one.problem) for one in waiting if one.problem],
        "more": any(one.found is not None and one.found.after < one.found.end for one in waiting),
        "subscription": SUBSCRIPTION,
    }


async def _waiting(visitor: Visitor, sources: Sources, name: str) -> list[Waiting]:
    """Read a topic, or all partitions of one. Raises RpcError: no owner of any answers."""
    asked = platform.DescribeTopicRequest(topic=name)
    topics = (await visitor.ask(calls.DESCRIBE, asked, platform.DescribeTopicResponse)).topics
    share = max(LETTERS_MAX // len(topics), SHARE_MIN)
    waiting = await asyncio.gather(*(_waiting_in(sources, one, share) for one in topics))
    if all(one.problem for one in waiting):
        raise RpcError(StatusCode.UNAVAILABLE, waiting[0].problem)
    return list(waiting)


async def _waiting_in(sources: Sources, topic: platform.TopicDescription, limit: int) -> Waiting:
    if topic.owner_problem:
        return Waiting(topic.topic, None, topic.owner_problem)
    try:
        name = TopicName.parse(topic.topic)
        return Waiting(topic.topic, await read_messages(sources, name, _start(topic), limit))
    except DanubeError as error:
        return Waiting(topic.topic, None, status_of_reading(error).message)


def _start(topic: platform.TopicDescription) -> StartPosition:
    for each in topic.subscriptions:
        if each.name == SUBSCRIPTION and each.mark_delete:
            return StartPosition(StartKind.POSITION, each.mark_delete + 1)
    return StartPosition(StartKind.EARLIEST)


def _letter(place: str, message: Shown) -> Letter:
    attributes = dict(message.attributes)
    added = {name: attributes.pop(name, "") for name in names.ADDED}
    return Letter(
        message,
        _place(place, message.position),
        added[names.ORIGINAL_TOPIC],
        added[names.ORIGINAL_SUBSCRIPTION],
        added[names.ATTEMPTS],
        added[names.REASON],
        attributes,
    )


def _place(topic: str, position: int) -> str:
    return f"{topic}={position}"


def _places(text: str) -> dict[str, int]:
    """Return up to which position a form is about each topic or partition. Raises InvalidInput."""
    found = {}
    for one in text.split(","):
        topic, _, position = one.rpartition("=")
        found[topic] = number(position, "a position")
    return found


async def _redeliver(visitor: Visitor, sources: Sources, form: Form) -> str:
    """Publish dead letters to the topics they come from; the cursors follow, whatever happens between."""
    done = 0
    chosen = await _chosen(visitor, sources, form)
    async with sources.gateways.open(visitor.credential) as gateway:
        publisher = Publisher(gateway)
        for topic, waiting in chosen:
            passed = 0
            try:
                for position, data in waiting:
                    original, message = _original(position, data)
                    await publisher.publish(original, message)
                    done, passed = done + 1, position
            finally:
                if passed:
                    await _move(visitor, sources, topic, passed)
    return f"{done} dead letters were published again."


async def _drop(visitor: Visitor, sources: Sources, form: Form) -> str:
    """Move the cursors behind dead letters."""
    chosen = await _chosen(visitor, sources, form)
    for topic, waiting in chosen:
        await _move(visitor, sources, topic, waiting[-1][0])
    return f"{sum(len(waiting) for _, waiting in chosen)} dead letters were dropped."


async def _chosen(
    visitor: Visitor, sources: Sources, form: Form
) -> Sequence[tuple[str, list[tuple[int, bytes]]]]:
    """Return what a form is about, by topic or partition, without those of which nothing is chosen."""
    places = _places(form["through"])
    chosen = []
    for one in await _waiting(visitor, sources, form["topic"]):
        through = places.get(one.topic, -1)
        if messages := [(position, data) for position, data in one.messages if position <= through]:
            chosen.append((one.topic, messages))
    return chosen


def _original(position: int, data: bytes) -> tuple[str, api.StreamMessage]:
    """Return a dead letter as it was, and its topic. Raises InvalidInput."""
    try:
        message = api.StreamMessage.FromString(data)
    except DecodeError:
        raise InvalidInput(f"what is at position {position} cannot be decoded") from None
    original = message.attributes.get(names.ORIGINAL_TOPIC, "")
    if not original:
        raise InvalidInput(f"the message at position {position} is no dead letter: no topic is named in it")
    for attribute in names.ADDED:
        message.attributes.pop(attribute, None)
    message.ClearField("subscription_name")
    return original, message


async def _move(visitor: Visitor, sources: Sources, topic: str, passed: int) -> None:
    """Move the cursor of SUBSCRIPTION behind a position; the subscription is created if it is missing."""
    try:
        home = (await sources.topics.require(TopicName.parse(topic))).home
        creation = CreateSubscription(topic, SUBSCRIPTION, SubscriptionType.SHARED)
        await sources.owners.ask(home, creation)
    except DanubeError as error:
        raise status_of_reading(error) from error
    start = platform.SubscriptionStart(kind=platform.SubscriptionStart.POSITION, value=passed + 1)
    request = platform.ResetSubscriptionRequest(topic=topic, subscription=SUBSCRIPTION, start=start)
    await visitor.ask(calls.RESET, request, platform.ResetSubscriptionResponse)


def _reset(form: Form) -> Message:
    return platform.ResetSubscriptionRequest(topic=form["topic"], subscription=SUBSCRIPTION)


def _page(form: Form) -> tuple[str, dict[str, str]]:
    return "/dead-letters", {"topic": form["topic"]}


DEAD_LETTER_ACTIONS: Final[Mapping[str, Action]] = {
    "redeliver": Action(calls.RESET, _reset, lambda _form: "", _page, work=_redeliver),
    "drop-dead-letters": Action(
        calls.RESET,
        _reset,
        lambda _form: "",
        _page,
        confirm="topic",
        work=_drop,
    ),
}
