"""Every method of the admin port."""

from __future__ import annotations

import time
from collections.abc import Callable

from danube_admin.broker_admin import BrokerAdmin
from danube_admin.errors import status_of
from danube_admin.in_force import PoliciesInForce
from danube_admin.namespace_admin import NamespaceAdmin
from danube_admin.policy_admin import PolicyAdmin
from danube_admin.topic_admin import TopicAdmin
from danube_admin.topic_readiness import TopicReadiness
from danube_common.log.port import BundleLog
from danube_common.metadata.port import MetadataStore
from danube_common.namespaces import Namespaces
from danube_common.owner_client import OwnerClient
from danube_common.rpc.port import Methods
from danube_common.topics import Topics


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def admin_methods(
    store: MetadataStore,
    log: BundleLog,
    owners: OwnerClient,
    *,
    now_ms: Callable[[], int] = wall_clock_ms,
) -> Methods:
    """The three v0.2 services and the policy service, over one store."""
    namespaces = Namespaces(store)
    topics = Topics(store, log, now_ms=now_ms)
    in_force = PoliciesInForce(store, namespaces, topics)
    services = (
        BrokerAdmin(store, namespaces),
        NamespaceAdmin(namespaces, topics, in_force),
        TopicAdmin(namespaces, topics, owners, TopicReadiness(owners)),
        PolicyAdmin(namespaces, topics, in_force),
    )
    methods = Methods(on_error=status_of)
    for service in services:
        methods.unary.update(service.methods())
    return methods
