"""The table of all methods: which permission each needs, and on what. Pure.

A method that is not here is not served while authentication is on. ``BY_HANDLER`` marks the methods whose
resource only their handlers know: the topic of a producer's or consumer's id, of an acknowledged message, or
of a stream whose first message names it. Those handlers call `danube_common.rpc.port.Call.require`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from danube_common.security.authorizer import ANYWHERE, CLUSTER, Resource
from danube_common.security.request_field import text_field
from danube_common.security.roles import Permission

Finder = Callable[[bytes], Resource]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a method needs.

    Attributes:
        permission: None if none is needed.
        find: returns the resource by the request; None if the handler looks, or nothing is needed.
        public: whether a caller without credentials is served.
        audited: whether each call is recorded, not only the denied ones.
    """

    permission: Permission | None = None
    find: Finder | None = None
    public: bool = False
    audited: bool = False

    @property
    def by_handler(self) -> bool:
        """Whether the handler has to look."""
        return self.permission is not None and self.find is None


def _namespace(number: int) -> Finder:
    def find(request: bytes) -> Resource:
        return Resource(namespace=text_field(request, number))

    return find


def _topic(number: int) -> Finder:
    def find(request: bytes) -> Resource:
        return Resource(topic=text_field(request, number))

    return find


def _namespace_of_pattern(request: bytes) -> Resource:
    pattern = text_field(request, 1)
    return Resource(namespace=pattern.split("/")[1] if pattern.startswith("/") else pattern)


def _cluster(_request: bytes) -> Resource:
    return CLUSTER


def _anywhere(_request: bytes) -> Resource:
    return ANYWHERE


def _lookup(find: Finder) -> Rule:
    return Rule(Permission.LOOKUP, find)


def _manage(permission: Permission, find: Finder) -> Rule:
    return Rule(permission, find, audited=True)


def _service(name: str, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    return {f"/{name}/{method}": rule for method, rule in rules.items()}


PUBLIC: Final = Rule(public=True)
AUTHENTICATED: Final = Rule()
PRODUCE_BY_HANDLER: Final = Rule(Permission.PRODUCE)
CONSUME_BY_HANDLER: Final = Rule(Permission.CONSUME)
SEEN: Final = _lookup(_cluster)
_TOPIC_MANAGED: Final = _manage(Permission.MANAGE_TOPIC, _topic(1))
_NAMESPACE_MANAGED: Final = _manage(Permission.MANAGE_NAMESPACE, _namespace(1))
_BROKER_MANAGED: Final = _manage(Permission.MANAGE_BROKER, _cluster)
_CLUSTER_MANAGED: Final = _manage(Permission.MANAGE_CLUSTER, _cluster)
_SCHEMA_MANAGED: Final = _manage(Permission.MANAGE_SCHEMA, _cluster)
_TOPIC_SCHEMA_MANAGED: Final = _manage(Permission.MANAGE_SCHEMA, _topic(1))
_SCHEMA_READ: Final = _lookup(_anywhere)

RULES: Final[Mapping[str, Rule]] = {
    # Clients
    **_service(
        "danube.ProducerService",
        {"CreateProducer": Rule(Permission.PRODUCE, _topic(3)), "SendMessage": PRODUCE_BY_HANDLER},
    ),
    **_service(
        "danube.ConsumerService",
        {
            "Subscribe": Rule(Permission.CONSUME, _topic(2)),
            "ReceiveMessages": CONSUME_BY_HANDLER,
            "Ack": CONSUME_BY_HANDLER,
            "Nack": CONSUME_BY_HANDLER,
        },
    ),
    **_service(
        "danube.Discovery",
        {
            "TopicLookup": _lookup(_topic(2)),
            "TopicPartitions": _lookup(_topic(2)),
            "GetSchema": _lookup(_topic(2)),
        },
    ),
    "/danube.HealthCheck/HealthCheck": AUTHENTICATED,
    "/danube.StorageService/ListSegmentDescriptors": Rule(Permission.CONSUME, _topic(1)),
    "/danube.AuthService/Authenticate": PUBLIC,
    **_service(
        "danube_platform.Subscriptions",
        {
            "CreateSubscription": Rule(Permission.CONSUME, _topic(1)),
            "TellLosses": Rule(Permission.CONSUME, _topic(1)),
            # Who may consume may acknowledge everything, so a policy lets nobody do more than before. The
            # handler asks for the permission to produce on a dead-letter topic.
            "SetFailurePolicy": Rule(Permission.CONSUME, _topic(1), audited=True),
            "GetFailurePolicy": Rule(Permission.CONSUME, _topic(1)),
        },
    ),
    "/danube_platform.Topics/GetTopic": _lookup(_topic(1)),
    **_service(
        "danube.stream.v1.Streaming",
        {
            "Publish": PRODUCE_BY_HANDLER,
            "Consume": CONSUME_BY_HANDLER,
            "Read": Rule(Permission.CONSUME, _topic(1)),
            "DescribeTopic": _lookup(_topic(1)),
            "ListTopics": _lookup(_namespace_of_pattern),
        },
    ),
    # Schemas belong to no topic: whoever may look up anything may read them.
    **_service(
        "danube_schema.SchemaRegistry",
        {
            **dict.fromkeys(
                ("GetSchema", "GetLatestSchema", "ListVersions", "CheckCompatibility", "ListSubjects"),
                _SCHEMA_READ,
            ),
            **dict.fromkeys(
                ("RegisterSchema", "DeleteSchemaVersion", "SetCompatibilityMode"), _SCHEMA_MANAGED
            ),
            **dict.fromkeys(("ConfigureTopicSchema", "UpdateTopicValidationPolicy"), _TOPIC_SCHEMA_MANAGED),
            "GetTopicSchemaConfig": _lookup(_topic(1)),
        },
    ),
    # Administration
    **_service(
        "danube_admin.BrokerAdmin",
        {
            **dict.fromkeys(("ListBrokers", "GetLeaderBroker", "ListNamespaces", "GetClusterBalance"), SEEN),
            **dict.fromkeys(("UnloadBroker", "ActivateBroker", "TriggerRebalance"), _BROKER_MANAGED),
        },
    ),
    **_service(
        "danube_admin.ClusterAdmin",
        {
            "ClusterStatus": SEEN,
            **dict.fromkeys(("AddNode", "PromoteNode", "RemoveNode"), _CLUSTER_MANAGED),
        },
    ),
    **_service(
        "danube_admin.NamespaceAdmin",
        {
            **dict.fromkeys(("GetNamespaceTopics", "GetNamespacePolicies"), _lookup(_namespace(1))),
            **dict.fromkeys(("CreateNamespace", "DeleteNamespace"), _NAMESPACE_MANAGED),
        },
    ),
    **_service(
        "danube_admin.TopicAdmin",
        {
            **dict.fromkeys(("ListTopics", "ListNamespaceTopics"), _lookup(_namespace(1))),
            "ListBrokerTopics": SEEN,
            **dict.fromkeys(
                (
                    *("CreateTopic", "CreatePartitionedTopic", "DeleteTopic", "UnloadTopic", "Unsubscribe"),
                    *("SetSubscriptionFailurePolicy", "SetSubscriptionDispatchConfig"),
                ),
                _TOPIC_MANAGED,
            ),
            **dict.fromkeys(
                (
                    *("ListSubscriptions", "DescribeTopic"),
                    *("GetSubscriptionFailurePolicy", "GetSubscriptionDispatchConfig"),
                ),
                _lookup(_topic(1)),
            ),
        },
    ),
    **_service(
        "danube_admin.SecurityAdmin",
        dict.fromkeys(
            (
                *("CreateRole", "GetRole", "ListRoles", "DeleteRole"),
                *("CreateBinding", "GetBinding", "ListBindings", "ListAllBindings", "DeleteBinding"),
            ),
            _CLUSTER_MANAGED,
        ),
    ),
    **_service(
        "danube_platform.ApiKeys",
        dict.fromkeys(("CreateKey", "ListKeys", "RevokeKey"), _CLUSTER_MANAGED),
    ),
    **_service(
        "danube_platform.PolicyAdmin",
        {
            "GetNamespacePolicies": _lookup(_namespace(1)),
            "SetNamespacePolicies": _NAMESPACE_MANAGED,
            "GetTopicPolicies": _lookup(_topic(1)),
            "SetTopicPolicies": _TOPIC_MANAGED,
        },
    ),
    "/danube_platform.LoadAdmin/ListBrokerLoads": SEEN,
    "/danube_platform.Instances/ListInstances": SEEN,
    **_service(
        "danube_platform.TopicDetails",
        {
            **dict.fromkeys(("DescribeTopic", "ListSegments"), _lookup(_topic(1))),
            "ResetSubscription": _TOPIC_MANAGED,
        },
    ),
    **_service(
        "danube_platform.PartitionAdmin",
        {
            **dict.fromkeys(("CreatePartitions", "GrowTopic"), _TOPIC_MANAGED),
            "ListPartitionedTopics": _lookup(_namespace(1)),
        },
    ),
    **_service(
        "danube_operations.Backup", dict.fromkeys(("Create", "ReadSegment", "Restore"), _CLUSTER_MANAGED)
    ),
    "/danube_operations.Doctor/Examine": SEEN,
    "/danube_operations.Events/Watch": SEEN,
    # Every port: probes have no credentials, and services' names are no secret.
    **_service("grpc.health.v1.Health", dict.fromkeys(("Check", "List", "Watch"), PUBLIC)),
    **{
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo": AUTHENTICATED
        for version in ("v1", "v1alpha")
    },
}
