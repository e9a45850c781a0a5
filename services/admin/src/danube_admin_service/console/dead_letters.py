"""Dead letters: what waits in a dead-letter topic is looked at, published again, or dropped.

Those with which something was done are behind the cursor of a subscription, which is also that of
`danube-admin dead-letters redeliver`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError, Message

from danube_admin_service.console import calls
from danube_admin_service.console.action import Action
from danube_admin_service.console.forms import Form, number
from danube_admin_service.console.gateways import Publisher
from danube_admin_service.console.peek import (
    READ_TIMEOUT_S,
    AvroSchemas,
    Shown,
    read_messages,
    shown,
    status_of_reading,
)
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.visitor import Visitor
from danube_common.errors import DanubeError, InvalidInput
from danube_common.model.names import TopicName
from danube_common.model.subscription import StartKind, StartPosition, SubscriptionType
from danube_common.rpc.port import RpcError, StatusCode
from danube_common.wire.owner.subscriptions import CreateSubscription, SubscriptionFound
from danube_proto import danube_api_pb2 as api
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_stream_pb2 as stream

SUBSCRIPTION: Final = "danube-admin-redeliver"
LETTERS_MAX: Final = 100
"""That one page shows, and one action is about."""
ADDED: Final = (
    "x-original-topic",
    "x-original-subscription",
    "x-original-topic-offset",
    "x-original-producer-id",
    "x-original-broker-addr",
    "x-poison-policy",
    "x-delivery-attempt",
    "x-failure-reason",
)
"""What a dead letter has beyond its message."""


@dataclass(frozen=True)
class Letter:
    """One dead letter."""

    message: Shown
    topic: str
    subscription: str
    attempts: str
    reason: str
    attributes: Mapping[str, str]


async def dead_letters(visitor: Visitor, sources: Sources, query: Query) -> dict[str, object]:
    """The dead letters of a topic with which nothing was done yet, oldest first."""
    name = query.get("topic", "")
    visitor.require(calls.READ, stream.ReadRequest(topic=name))
    described = await _described(visitor, name)
    topic = described.topic
    if described.owner_problem:
        raise RpcError(StatusCode.UNAVAILABLE, described.owner_problem)
    try:
        found = await read_messages(sources, TopicName.parse(topic), _start(described), LETTERS_MAX)
    except DanubeError as error:
        raise status_of_reading(error) from error
    schemas = AvroSchemas(visitor, topic)
    letters = [_letter(await shown(at, data, "auto", schemas)) for at, data in found.messages]
    return {
        "topic": topic,
        "base": str(TopicName.parse(topic).partition_of or topic),
        "letters": letters,
        "more": found.after < found.end and len(letters) == LETTERS_MAX,
        "subscription": SUBSCRIPTION,
    }


async def _described(visitor: Visitor, name: str) -> platform.TopicDescription:
    """Return a topic; of a partitioned one the first partition."""
    asked = platform.DescribeTopicRequest(topic=name)
    return (await visitor.ask(calls.DESCRIBE, asked, platform.DescribeTopicResponse)).topics[0]


def _start(topic: platform.TopicDescription) -> StartPosition:
    for each in topic.subscriptions:
        if each.name == SUBSCRIPTION and each.mark_delete:
            return StartPosition(StartKind.POSITION, each.mark_delete + 1)
    return StartPosition(StartKind.EARLIEST)


def _letter(message: Shown) -> Letter:
    attributes = dict(message.attributes)
    added = {name: attributes.pop(name, "") for name in ADDED}
    return Letter(
        message,
        added["x-original-topic"],
        added["x-original-subscription"],
        added["x-delivery-attempt"],
        added["x-failure-reason"],
        attributes,
    )


async def _redeliver(visitor: Visitor, sources: Sources, form: Form) -> str:
    """Publish dead letters to the topics they come from; the cursor follows, whatever happens between."""
    topic = form["topic"]
    waiting = await _waiting(visitor, sources, topic, number(form["through"], "a position"))
    done = 0
    passed = 0
    async with sources.gateways.open(visitor.credential) as gateway:
        publisher = Publisher(gateway)
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
    """Move the cursor behind dead letters."""
    through = number(form["through"], "a position")
    waiting = await _waiting(visitor, sources, form["topic"], through)
    if waiting:
        await _move(visitor, sources, form["topic"], waiting[-1][0])
    return f"{len(waiting)} dead letters were dropped."


async def _waiting(visitor: Visitor, sources: Sources, topic: str, through: int) -> list[tuple[int, bytes]]:
    described = await _described(visitor, topic)
    try:
        found = await read_messages(sources, TopicName.parse(topic), _start(described), LETTERS_MAX)
    except DanubeError as error:
        raise status_of_reading(error) from error
    return [(position, data) for position, data in found.messages if position <= through]


def _original(position: int, data: bytes) -> tuple[str, api.StreamMessage]:
    """Return a dead letter as it was, and its topic. Raises InvalidInput."""
    try:
        message = api.StreamMessage.FromString(data)
    except DecodeError:
        raise InvalidInput(f"what is at position {position} cannot be decoded") from None
    original = message.attributes.get("x-original-topic", "")
    if not original:
        raise InvalidInput(f"the message at position {position} is no dead letter: no topic is named in it")
    for attribute in ADDED:
        message.attributes.pop(attribute, None)
    message.ClearField("subscription_name")
    return original, message


async def _move(visitor: Visitor, sources: Sources, topic: str, passed: int) -> None:
    """Move the cursor of SUBSCRIPTION behind a position; the subscription is created if it is missing."""
    try:
        home = (await sources.topics.require(TopicName.parse(topic))).home
        creation = CreateSubscription(topic, SUBSCRIPTION, SubscriptionType.SHARED)
        await sources.owners.ask(home, creation, SubscriptionFound, timeout_s=READ_TIMEOUT_S)
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
    "redeliver": Action(
        calls.RESET, _reset, platform.ResetSubscriptionResponse, lambda _form: "", _page, work=_redeliver
    ),
    "drop-dead-letters": Action(
        calls.RESET,
        _reset,
        platform.ResetSubscriptionResponse,
        lambda _form: "",
        _page,
        confirm="topic",
        work=_drop,
    ),
}
