"""All actions by name, and which of them a visitor is offered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.action import Action
from danube_admin_service.console.catalogue.actions import CATALOGUE_ACTIONS
from danube_admin_service.console.cluster.actions import CLUSTER_ACTIONS
from danube_admin_service.console.security.actions import SECURITY_ACTIONS
from danube_admin_service.console.subscriptions.actions import SUBSCRIPTION_ACTIONS
from danube_admin_service.console.subscriptions.dead_letters import DEAD_LETTER_ACTIONS
from danube_admin_service.console.topics.actions import TOPIC_ACTIONS

ACTIONS: Final[Mapping[str, Action]] = {
    **TOPIC_ACTIONS,
    **SUBSCRIPTION_ACTIONS,
    **DEAD_LETTER_ACTIONS,
    **CLUSTER_ACTIONS,
    **CATALOGUE_ACTIONS,
    **SECURITY_ACTIONS,
}


class _Sample(dict[str, str]):
    """The form of an action that is only asked about: what nobody has named is empty."""

    def __missing__(self, name: str) -> str:
        return _FILLED.get(name, "")


_FILLED: Final = {
    "policy": "max_message_size",
    "value": "0",
    "from": "earliest",
    "partitions": "0",
    "max_redelivery_count": "0",
    "poison_policy": "block",
}
"""What an action cannot do without."""


def offered(visitor: Visitor, name: str, **form: str) -> bool:
    """Return whether the visitor may do an action on what ``form`` names; else it is not offered."""
    action = ACTIONS[name]
    return visitor.may(action.method, action.request(_Sample(form)))
