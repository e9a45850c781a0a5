"""The pages: what each is made from, and to whom it is offered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.catalogue import namespaces, schemas
from danube_admin_service.console.cluster import overview
from danube_admin_service.console.security import page as security_page
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.subscriptions import page as subscription_page
from danube_admin_service.console.subscriptions.dead_letters import dead_letters
from danube_admin_service.console.topics import listing
from danube_admin_service.console.topics import page as topic_page
from danube_admin_service.console.topics.peek import peek
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_schema_pb2 as schema

Build = Callable[[Visitor, Sources, Query], Awaitable[dict[str, object]]]


@dataclass(frozen=True)
class Page:
    """A page: its template and what it is made from.

    Attributes:
        live: whether the marked part of it changes by itself.
        section: the page of the navigation that it belongs to.
        asked_by_form: whether what it is asked for may be too long for an address.
    """

    title: str
    template: str
    build: Build
    live: bool = True
    section: str = ""
    asked_by_form: bool = False


PAGES: Final[Mapping[str, Page]] = {
    "/": Page("Overview", "overview.html", overview.overview),
    "/topics": Page("Topics", "topics.html", listing.topics),
    "/topic": Page("Topic", "topic.html", topic_page.topic, section="/topics"),
    "/subscription": Page(
        "Subscription", "subscription.html", subscription_page.subscription, section="/topics"
    ),
    "/peek": Page("Messages", "peek.html", peek, live=False, section="/topics"),
    "/dead-letters": Page("Dead letters", "dead_letters.html", dead_letters, live=False, section="/topics"),
    "/cluster": Page("Cluster", "cluster.html", overview.cluster),
    "/namespaces": Page("Namespaces", "namespaces.html", namespaces.namespaces, live=False),
    "/schemas": Page("Schemas", "schemas.html", schemas.schemas, live=False, asked_by_form=True),
    "/schema": Page(
        "Schema", "schema.html", schemas.subject, live=False, section="/schemas", asked_by_form=True
    ),
    "/security": Page("Security", "security.html", security_page.security, live=False),
    "/audit": Page("Audit", "audit.html", security_page.audit),
}
NAVIGATION: Final[Mapping[str, Callable[[Visitor], bool]]] = {
    "/": lambda visitor: visitor.may(calls.INSTANCES, platform.ListInstancesRequest()),
    "/topics": lambda _visitor: True,
    "/cluster": lambda visitor: visitor.may(calls.INSTANCES, platform.ListInstancesRequest()),
    "/namespaces": lambda _visitor: True,
    "/schemas": lambda visitor: visitor.may(f"{calls.REGISTRY}/ListSubjects", schema.ListSubjectsRequest()),
    "/security": lambda visitor: visitor.may(f"{calls.SECURITY}/ListRoles", admin.Empty()),
    "/audit": lambda visitor: visitor.may(calls.LIST_KEYS, platform.ListKeysRequest()),
}
"""Which pages are offered to whom."""
