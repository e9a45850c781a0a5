"""The names of the methods that pages and forms call, or whose permission they need."""

from __future__ import annotations

from typing import Final

ACTIVATE_BROKER: Final = "/danube_admin.BrokerAdmin/ActivateBroker"
BALANCE: Final = "/danube_admin.BrokerAdmin/GetClusterBalance"
REBALANCE: Final = "/danube_admin.BrokerAdmin/TriggerRebalance"
UNLOAD_BROKER: Final = "/danube_admin.BrokerAdmin/UnloadBroker"
NAMESPACE: Final = "/danube_admin.NamespaceAdmin"
SECURITY: Final = "/danube_admin.SecurityAdmin"
TOPIC: Final = "/danube_admin.TopicAdmin"
FAILURE_POLICY: Final = f"{TOPIC}/GetSubscriptionFailurePolicy"
LIST_TOPICS: Final = f"{TOPIC}/ListNamespaceTopics"
INSTANCES: Final = "/danube_platform.Instances/ListInstances"
LIST_KEYS: Final = "/danube_platform.ApiKeys/ListKeys"
LOADS: Final = "/danube_platform.LoadAdmin/ListBrokerLoads"
NAMESPACE_POLICIES: Final = "/danube_platform.PolicyAdmin/GetNamespacePolicies"
SET_NAMESPACE_POLICIES: Final = "/danube_platform.PolicyAdmin/SetNamespacePolicies"
SET_TOPIC_POLICIES: Final = "/danube_platform.PolicyAdmin/SetTopicPolicies"
DESCRIBE: Final = "/danube_platform.TopicDetails/DescribeTopic"
RESET: Final = "/danube_platform.TopicDetails/ResetSubscription"
SEGMENTS: Final = "/danube_platform.TopicDetails/ListSegments"
REGISTRY: Final = "/danube_schema.SchemaRegistry"
SUBJECT: Final = f"{REGISTRY}/GetTopicSchemaConfig"
READ: Final = "/danube.stream.v1.Streaming/Read"
"""Of the client port: who may read a topic may look at its messages."""
