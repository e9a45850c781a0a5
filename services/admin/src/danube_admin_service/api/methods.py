"""The methods of the admin port."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from danube_admin_service.api.broker_admin import BrokerAdmin
from danube_admin_service.api.cluster_admin import ClusterAdmin
from danube_admin_service.api.current_topic_admin import CurrentTopicAdmin
from danube_admin_service.api.effective_policies import EffectivePolicies
from danube_admin_service.api.errors import failure, status_of
from danube_admin_service.api.load_admin import LoadAdmin
from danube_admin_service.api.namespace_admin import NamespaceAdmin
from danube_admin_service.api.partition_admin import PartitionAdmin
from danube_admin_service.api.policy_admin import PolicyAdmin
from danube_admin_service.api.schema_registry import SchemaRegistryAdmin
from danube_admin_service.api.security_admin import SecurityAdmin
from danube_admin_service.api.subscription_settings import SubscriptionSettings
from danube_admin_service.api.topic_admin import TopicAdmin
from danube_admin_service.api.topic_details import TopicDetails
from danube_admin_service.api.topic_readiness import TopicReadiness
from danube_admin_service.cluster.load_manager import LoadManager
from danube_admin_service.cluster.view import Cluster
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.topics import Topics
from danube_common.log.port import BundleLog
from danube_common.metadata.port import MetadataStore
from danube_common.model.strategy import DEFAULT_STORAGE, StorageBackend
from danube_common.rpc.port import Methods, RpcError, StatusCode, unknown_method
from danube_common.schemas.calls import RegistryCalls
from danube_proto import danube_platform_pb2 as platform

CLIENT_PACKAGE: Final = "/danube."
PLATFORM_METHODS: Final = frozenset(
    f"/{service.full_name}/{method.name}"
    for service in platform.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)


def unknown(name: str, gateway_url: str) -> RpcError:
    """Return the status of a call to a method that the admin port does not have.

    Clients that call the admin port by mistake are told where they connect: to ``gateway_url``, if known.
    """
    if name.startswith(CLIENT_PACKAGE) or name in PLATFORM_METHODS:
        place = gateway_url or "a gateway, on port 6650 by default"
        return failure(f"this is the admin port: clients connect to {place}", code=StatusCode.UNIMPLEMENTED)
    return failure(str(unknown_method(name)), code=StatusCode.UNIMPLEMENTED)


def wall_clock_ms() -> int:
    """Return the wall clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def admin_methods(
    store: MetadataStore,
    log: BundleLog,
    owners: OwnerClient,
    cluster: Cluster,
    manager: LoadManager,
    *,
    instance_id: str = "",
    default_storage: StorageBackend = DEFAULT_STORAGE,
    now_ms: Callable[[], int] = wall_clock_ms,
) -> Methods:
    """Return the v0.2 services, policies, loads and the schema registry over one metadata store."""
    namespaces = Namespaces(store)
    topics = Topics(store, log, now_ms=now_ms)
    effective_policies = EffectivePolicies(store, namespaces, topics)
    registry = RegistryCalls(store, topics, now_ms=now_ms)
    topic_admin = TopicAdmin(topics, owners, TopicReadiness(owners), default_storage=default_storage)
    services = (
        BrokerAdmin(store, namespaces, manager),
        NamespaceAdmin(namespaces, topics, effective_policies),
        topic_admin,
        PartitionAdmin(namespaces, topics, owners, topic_admin, default_storage=default_storage),
        CurrentTopicAdmin(
            store, topics, cluster, registry.registry, topic_admin, default_storage=default_storage
        ),
        SubscriptionSettings(topics, owners),
        ClusterAdmin(store, instance_id),
        PolicyAdmin(namespaces, topics, effective_policies),
        TopicDetails(store, topics, owners, effective_policies),
        LoadAdmin(manager, cluster, topics),
        SchemaRegistryAdmin(registry),
        SecurityAdmin(store, now_ms=now_ms),
    )
    methods = Methods(on_error=status_of, unknown=lambda name: unknown(name, cluster.gateway_url))
    for service in services:
        methods.unary.update(service.methods())
    return methods
