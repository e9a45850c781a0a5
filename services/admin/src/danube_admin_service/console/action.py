"""What a form of the console does: one call of the admin port, with the permission of that call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from google.protobuf.message import Message

from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.forms import Form
from danube_admin_service.console.sources import Sources
from danube_common.errors import InvalidInput
from danube_common.rpc.port import RpcError, StatusCode

Target = tuple[str, dict[str, str]]
"""The page to show next: its path and parameters."""


class Unconfirmed(Exception):
    """A dangerous action was not confirmed by the name of what it is done to."""


@dataclass(frozen=True)
class Action:
    """An action.

    Attributes:
        request: makes the request from the form.
        done: tells what was done.
        target: the page that is shown after it.
        confirm: the field whose value has to be typed once more; empty if the action is not dangerous.
        secret: returns what of the encoded answer is shown once, and never again.
        work: does the action instead of the call, whose permission it needs; returns what was done.
    """

    method: str
    request: Callable[[Form], Message]
    done: Callable[[Form], str]
    target: Callable[[Form], Target]
    confirm: str = ""
    secret: Callable[[bytes], str] | None = None
    work: Callable[[Visitor, Sources, Form], Awaitable[str]] | None = None


@dataclass(frozen=True)
class Outcome:
    """What to show after an action. ``secret`` is empty if there is none."""

    target: Target
    done: str
    secret: str = ""


async def carry_out(action: Action, visitor: Visitor, sources: Sources, form: Form) -> Outcome:
    """Do it. Raises Unconfirmed, RpcError."""
    if action.confirm and form.get("confirm", "").strip() != form.get(action.confirm, ""):
        raise Unconfirmed(f"nothing was done: type {form.get(action.confirm, '')} to confirm")
    try:
        request = action.request(form)
        if action.work is not None:
            visitor.require(action.method, request)
            return Outcome(action.target(form), await action.work(visitor, sources, form))
    except (InvalidInput, ValueError, KeyError) as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"the form cannot be used: {error}") from None
    answer = await visitor.call(action.method, request)
    secret = action.secret(answer) if action.secret is not None else ""
    return Outcome(action.target(form), action.done(form), secret)


def page(path: str) -> Callable[[Form], Target]:
    """Return the target that is always this page."""
    return lambda _form: (path, {})


def topic_page(form: Form) -> Target:
    """Return the page of the form's topic."""
    return "/topic", {"name": form["topic"]}


def subscription_page(form: Form) -> Target:
    """Return the page of the form's subscription."""
    return "/subscription", {"topic": form["topic"], "name": form["subscription"]}
