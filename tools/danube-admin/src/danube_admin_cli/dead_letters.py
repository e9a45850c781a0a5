"""``danube-admin dead-letters``."""

from __future__ import annotations

import base64
import secrets
from typing import Annotated, Any

import typer

from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.gateway import Gateway, gateway
from danube_admin_cli.outcome import give_up
from danube_admin_cli.printing import show_json, show_table
from danube_admin_cli.topic_options import Topic, topic_name
from danube_proto import danube_api_pb2 as api
from danube_terminal.choices import Form
from danube_terminal.plain import moment

commands = Commands()

BROWSE_MAX = 1000
"""What a consumer gets without acknowledging."""
REDELIVER_MAX = 1_000_000
PAYLOAD_CHARACTERS = 60
SUBSCRIPTION = "danube-admin-redeliver"

COLUMNS = {
    "position": "POSITION",
    "published": "PUBLISHED",
    "original_topic": "TOPIC",
    "original_subscription": "SUBSCRIPTION",
    "attempts": "ATTEMPTS",
    "reason": "REASON",
    "payload": "PAYLOAD",
}
BROWSE_HELP = """Show the messages of a dead-letter topic and of all its partitions, oldest first, and leave
them there.

Reads through a gateway, with a subscription of its own that is deleted afterwards.

\b
Examples:
  danube-admin dead-letters browse /default/orders-failed
  danube-admin dead-letters browse /default/orders-failed -n 1000 -o json | jq -r '.[].reason' | sort
"""
REDELIVER_HELP = f"""Publish dead letters to the topics that they come from, oldest first, one partition
after the other.

Each is published as it was, without the attributes that a dead letter has, then acknowledged in the
subscription {SUBSCRIPTION} of the dead-letter topic: the next call goes on behind it. All subscriptions of
the original topic get the message again, not only the one in which it failed.

\b
Examples:
  danube-admin dead-letters redeliver /default/orders-failed -n 1
  danube-admin dead-letters redeliver /default/orders-failed --to /default/orders-again
"""


def _topic_or_none(text: str | None) -> str | None:
    return topic_name(text) if text is not None else None


GatewayUrl = Annotated[
    str | None,
    typer.Option("--gateway", metavar="URL", help="A gateway; default one that the admin service knows."),
]


@commands.command("browse", help_text=BROWSE_HELP)
def browse(
    session: Session,
    topic: Topic,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=BROWSE_MAX, help="How many at most, of each partition.")
    ] = 20,
    gateway_url: GatewayUrl = None,
) -> None:
    """Show the messages of a dead-letter topic, and leave them there."""
    found: list[dict[str, Any]] = []
    subscription = f"danube-admin-browse-{secrets.token_hex(4)}"
    with gateway(session.call, gateway_url, session.security) as client:
        for name in client.topics(topic):
            try:
                found += [_shown(message) for message in client.read(name, subscription, limit)]
            finally:
                client.unsubscribe(name, subscription)
    found.sort(key=lambda each: int(each["published_ms"]))
    if session.form is Form.json:
        show_json(found)
        return
    rows = [
        {field: _cell(each.get(field, "")) for field in COLUMNS}
        | {"published": moment(each["published_ms"]), "payload": _cell(_payload(each))}
        for each in found
    ]
    show_table(Form.table, COLUMNS, rows)


@commands.command("redeliver", help_text=REDELIVER_HELP)
def redeliver(
    session: Session,
    topic: Topic,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=REDELIVER_MAX, help="How many at most.")
    ] = REDELIVER_MAX,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="TOPIC", callback=_topic_or_none, help="Publish all to this topic instead."
        ),
    ] = None,
    gateway_url: GatewayUrl = None,
) -> None:
    """Publish dead letters to the topics that they come from."""
    from danube_client import dead_letter as names  # noqa: PLC0415 - slow to import, help needs nothing of it

    done = 0
    with gateway(session.call, gateway_url, session.security) as client:
        publisher = _Publisher(client)
        for name in client.topics(topic):
            for message in client.read(name, SUBSCRIPTION, limit - done):
                original = to or message.attributes.get(names.ORIGINAL_TOPIC, "")
                if not original:
                    give_up(f"{name} has a message that is no dead letter, at {message.request_id}: use --to")
                publisher.publish(original, message)
                client.acknowledge(message, SUBSCRIPTION)
                done += 1
            if done >= limit:
                break
    if session.form is Form.json:
        show_json({"redelivered": done})
    else:
        typer.echo(f"Redelivered: {done}")


class _Publisher:
    """Publishes messages as they are, with a producer for each topic."""

    def __init__(self, client: Gateway) -> None:
        self._client = client
        self._name = f"danube-admin-{secrets.token_hex(4)}"
        self._producers: dict[str, int] = {}
        self._numbers: dict[str, int] = {}

    def publish(self, topic: str, dead_letter: api.StreamMessage) -> None:
        """Publish what ``dead_letter`` was; returns when it is stored."""
        from danube_client import dead_letter as names  # noqa: PLC0415 - slow to import, help needs nothing of it

        if topic not in self._producers:
            request = api.ProducerRequest(topic_name=topic, producer_name=self._name)
            created = self._client.call(
                "/danube.ProducerService/CreateProducer", request, api.ProducerResponse
            )
            self._producers[topic] = created.producer_id
        number = self._numbers[topic] = self._numbers.get(topic, 0) + 1
        message = api.StreamMessage()
        message.CopyFrom(dead_letter)  # with the fields of later generations
        for attribute in names.ADDED:
            message.attributes.pop(attribute, None)
        message.ClearField("subscription_name")
        message.msg_id.Clear()
        message.msg_id.MergeFrom(
            api.MsgID(sequence_id=number, producer_id=self._producers[topic], topic_name=topic)
        )
        message.request_id = number
        self._client.call("/danube.ProducerService/SendMessage", message, api.MessageResponse)


def _shown(message: api.StreamMessage) -> dict[str, Any]:
    from danube_client import dead_letter as names  # noqa: PLC0415 - slow to import, help needs nothing of it

    attributes = dict(message.attributes)
    origin = {name: attributes.pop(name, "") for name in names.ADDED}
    shown: dict[str, Any] = {
        "topic": message.msg_id.topic_name,
        "position": message.request_id,
        "published_ms": message.publish_time,
        "producer": message.producer_name,
        "original_topic": origin[names.ORIGINAL_TOPIC],
        "original_subscription": origin[names.ORIGINAL_SUBSCRIPTION],
        "original_position": origin[names.ORIGINAL_OFFSET],
        "attempts": origin[names.ATTEMPTS],
        "reason": origin[names.REASON],
        "attributes": attributes,
    }
    try:
        return shown | {"payload": message.payload.decode()}
    except UnicodeDecodeError:
        return shown | {"payload_base64": base64.b64encode(message.payload).decode()}


def _payload(shown: dict[str, Any]) -> str:
    return str(shown["payload"]) if "payload" in shown else f"base64:{shown['payload_base64']}"


def _cell(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= PAYLOAD_CHARACTERS else f"{text[:PAYLOAD_CHARACTERS]}..."
