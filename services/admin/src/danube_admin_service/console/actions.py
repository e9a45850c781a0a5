"""What the console's forms do: each is one call of the admin port, with the permission of that call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import Message

from danube_admin_service.console import calls
from danube_admin_service.console.visitor import Visitor
from danube_common.errors import InvalidInput
from danube_common.rpc.port import RpcError, StatusCode
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_schema_pb2 as schema

DRAIN_WAIT_S: Final = 0
"""The page shows how far a drain is; the form does not wait for it."""
DRAINED_AT_ONCE: Final = 1

Form = Mapping[str, str]
Target = tuple[str, dict[str, str]]
"""The page to show next: its path and parameters."""


class Unconfirmed(Exception):
    """A dangerous action was not confirmed by the name of what it is done to."""


@dataclass(frozen=True)
class Action:
    """An action.

    Attributes:
        request: makes the request from the form.
        answer: the type of what the call answers.
        done: tells what was done.
        target: the page that is shown after it.
        confirm: the field whose value has to be typed once more; empty if the action is not dangerous.
    """

    method: str
    request: Callable[[Form], Message]
    answer: type[Message]
    done: Callable[[Form], str]
    target: Callable[[Form], Target]
    confirm: str = ""


async def carry_out(action: Action, visitor: Visitor, form: Form) -> Target:
    """Do it; return the page to show. Raises Unconfirmed, RpcError."""
    if action.confirm and form.get("confirm", "").strip() != form.get(action.confirm, ""):
        raise Unconfirmed(f"nothing was done: type {form.get(action.confirm, '')} to confirm")
    try:
        request = action.request(form)
    except (InvalidInput, ValueError, KeyError) as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"the form cannot be used: {error}") from None
    await visitor.ask(action.method, request, action.answer)
    path, query = action.target(form)
    return path, {**query, "done": action.done(form)}


_SAMPLE: Final = {"policy": "max_message_size", "value": "0", "from": "earliest", "type": "", "strategy": ""}


def offered(visitor: Visitor, name: str, **form: str) -> bool:
    """Return whether the visitor may do an action on what ``form`` names; else it is not offered."""
    action = ACTIONS[name]
    named = dict.fromkeys(("topic", "subscription", "namespace", "instance", "subject", "definition"), "")
    return visitor.may(action.method, action.request({**named, **_SAMPLE, **form}))


def number(text: str, name: str) -> int:
    """Read a number of a form. Raises InvalidInput."""
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(f"{name} is a number from 0 on, not {text[:40]!r}")
    return int(text)


def start_of(form: Form) -> platform.SubscriptionStart:
    """Return where a reading or a subscription is to start. Raises InvalidInput."""
    kind = form.get("from", "earliest")
    try:
        start = platform.SubscriptionStart(kind=kind.upper())
    except ValueError:
        raise InvalidInput(f"{kind[:40]!r} is no place to start") from None
    value = form.get("value", "").strip()
    if kind == "time":
        start.value = moment_ms(value)
    elif kind not in ("earliest", "latest"):
        start.value = number(value, kind)
    return start


def moment_ms(text: str) -> int:
    """Read a time: 2026-01-31 12:30 in UTC, or milliseconds since the epoch. Raises InvalidInput."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        parsed = datetime.fromisoformat(text)
        return int(parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise InvalidInput(f"a time is like 2026-01-31 12:30 (UTC), not {text[:40]!r}") from None


def _policies(form: Form) -> platform.Policies:
    """The one policy of the form."""
    name = form["policy"]
    if name not in platform.Policies.DESCRIPTOR.fields_by_name:
        raise InvalidInput(f"there is no policy {name[:40]!r}")
    return platform.Policies(**{name: number(form["value"].strip(), name)})


def _topic_page(form: Form) -> Target:
    return "/topic", {"name": form["topic"]}


def _subscription_page(form: Form) -> Target:
    return "/subscription", {"topic": form["topic"], "name": form["subscription"]}


def _page(path: str) -> Callable[[Form], Target]:
    return lambda _form: (path, {})


ACTIONS: Final[Mapping[str, Action]] = {
    "create-topic": Action(
        f"{calls.TOPIC}/CreateTopic",
        lambda form: admin.NewTopicRequest(
            name=form["topic"].strip(), schema_type="bytes", dispatch_strategy=form["strategy"]
        ),
        admin.TopicResponse,
        lambda form: f"Topic {form['topic'].strip()} was created.",
        lambda form: ("/topic", {"name": form["topic"].strip()}),
    ),
    "unload-topic": Action(
        f"{calls.TOPIC}/UnloadTopic",
        lambda form: admin.TopicRequest(name=form["topic"]),
        admin.TopicResponse,
        lambda _form: "The topic's bundle has moved to another topic owner.",
        _topic_page,
    ),
    "delete-topic": Action(
        f"{calls.TOPIC}/DeleteTopic",
        lambda form: admin.TopicRequest(name=form["topic"]),
        admin.TopicResponse,
        lambda form: f"Topic {form['topic']} was deleted.",
        _page("/topics"),
        confirm="topic",
    ),
    "set-topic-policy": Action(
        calls.SET_TOPIC_POLICIES,
        lambda form: platform.SetTopicPoliciesRequest(topic=form["topic"], policies=_policies(form)),
        platform.PoliciesResponse,
        lambda form: f"{form['policy']} is now {form['value'].strip()}.",
        _topic_page,
    ),
    "unsubscribe": Action(
        f"{calls.TOPIC}/Unsubscribe",
        lambda form: admin.SubscriptionRequest(topic=form["topic"], subscription=form["subscription"]),
        admin.SubscriptionResponse,
        lambda form: f"Subscription {form['subscription']} was deleted.",
        _topic_page,
        confirm="subscription",
    ),
    "reset-subscription": Action(
        calls.RESET,
        lambda form: platform.ResetSubscriptionRequest(
            topic=form["topic"], subscription=form["subscription"], start=start_of(form)
        ),
        platform.ResetSubscriptionResponse,
        lambda form: f"The cursor of {form['subscription']} was moved.",
        _subscription_page,
        confirm="subscription",
    ),
    "drain": Action(
        calls.UNLOAD_BROKER,
        lambda form: admin.UnloadBrokerRequest(
            broker_id=form["instance"], max_parallel=DRAINED_AT_ONCE, timeout_seconds=DRAIN_WAIT_S
        ),
        admin.UnloadBrokerResponse,
        lambda form: f"Topic owner {form['instance']} is losing its bundles.",
        _page("/cluster"),
        confirm="instance",
    ),
    "activate": Action(
        calls.ACTIVATE_BROKER,
        lambda form: admin.ActivateBrokerRequest(broker_id=form["instance"]),
        admin.ActivateBrokerResponse,
        lambda form: f"Topic owner {form['instance']} may have bundles again.",
        _page("/cluster"),
    ),
    "rebalance": Action(
        calls.REBALANCE,
        lambda _form: admin.RebalanceRequest(),
        admin.RebalanceResponse,
        lambda _form: "The bundles were rebalanced.",
        _page("/cluster"),
    ),
    "create-namespace": Action(
        f"{calls.NAMESPACE}/CreateNamespace",
        lambda form: admin.NamespaceRequest(name=form["namespace"].strip()),
        admin.NamespaceResponse,
        lambda form: f"Namespace {form['namespace'].strip()} was created.",
        _page("/namespaces"),
    ),
    "delete-namespace": Action(
        f"{calls.NAMESPACE}/DeleteNamespace",
        lambda form: admin.NamespaceRequest(name=form["namespace"]),
        admin.NamespaceResponse,
        lambda form: f"Namespace {form['namespace']} was deleted.",
        _page("/namespaces"),
        confirm="namespace",
    ),
    "set-namespace-policy": Action(
        calls.SET_NAMESPACE_POLICIES,
        lambda form: platform.SetNamespacePoliciesRequest(
            namespace=form["namespace"], policies=_policies(form)
        ),
        platform.PoliciesResponse,
        lambda form: f"{form['policy']} of {form['namespace']} is now {form['value'].strip()}.",
        _page("/namespaces"),
    ),
    "register-schema": Action(
        f"{calls.REGISTRY}/RegisterSchema",
        lambda form: schema.RegisterSchemaRequest(
            subject=form["subject"].strip(),
            schema_type=form["type"],
            schema_definition=form["definition"].encode(),
        ),
        schema.RegisterSchemaResponse,
        lambda form: f"The schema of {form['subject'].strip()} is registered.",
        lambda form: ("/schema", {"name": form["subject"].strip()}),
    ),
}
