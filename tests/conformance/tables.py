"""The wire contract as tables, written by hand and independent of the ``.proto`` files.

A field is ``number: (name, type)``. Types are those of protobuf; ``enum X``, ``message X``,
``repeated T`` and ``map`` (of string to string) besides.
"""

from __future__ import annotations

from collections.abc import Mapping

Fields = Mapping[int, tuple[str, str]]

DANUBE_MESSAGES: Mapping[str, Fields] = {
    "ReliableOptions": {
        1: ("segment_size", "uint64"),
        2: ("storage_backend", "enum StorageBackend"),
        3: ("storage_path", "string"),
        4: ("retention_policy", "enum RetentionPolicy"),
        5: ("retention_period", "uint64"),
    },
    "TopicDispatchStrategy": {
        1: ("strategy", "enum DispatchStrategy"),
        2: ("reliable_options", "message ReliableOptions"),
    },
    "ProducerRequest": {
        1: ("request_id", "uint64"),
        2: ("producer_name", "string"),
        3: ("topic_name", "string"),
        4: ("schema", "message Schema"),
        5: ("producer_access_mode", "enum ProducerAccessMode"),
        6: ("dispatch_strategy", "message TopicDispatchStrategy"),
    },
    "ProducerResponse": {
        1: ("request_id", "uint64"),
        2: ("producer_id", "uint64"),
        3: ("producer_name", "string"),
    },
    "MessageResponse": {1: ("request_id", "uint64"), 2: ("sequence_id", "uint64")},
    "ConsumerRequest": {
        1: ("request_id", "uint64"),
        2: ("topic_name", "string"),
        3: ("consumer_name", "string"),
        4: ("subscription", "string"),
        5: ("subscription_type", "enum ConsumerRequest.SubscriptionType"),
    },
    "ConsumerResponse": {
        1: ("request_id", "uint64"),
        2: ("consumer_id", "uint64"),
        3: ("consumer_name", "string"),
    },
    "ReceiveRequest": {1: ("request_id", "uint64"), 2: ("consumer_id", "uint64")},
    "StreamMessage": {
        1: ("request_id", "uint64"),
        2: ("msg_id", "message MsgID"),
        3: ("payload", "bytes"),
        4: ("publish_time", "uint64"),
        5: ("producer_name", "string"),
        6: ("subscription_name", "string"),
        7: ("attributes", "map"),
        8: ("schema_id", "uint64"),
        9: ("schema_version", "uint32"),
        10: ("routing_key", "string"),
    },
    "MsgID": {
        1: ("sequence_id", "uint64"),
        2: ("producer_id", "uint64"),
        3: ("topic_name", "string"),
        4: ("broker_addr", "string"),
    },
    "AckRequest": {
        1: ("request_id", "uint64"),
        2: ("msg_id", "message MsgID"),
        3: ("subscription_name", "string"),
    },
    "AckResponse": {1: ("request_id", "uint64")},
    "TopicLookupRequest": {1: ("request_id", "uint64"), 2: ("topic", "string")},
    "TopicLookupResponse": {
        3: ("request_id", "uint64"),
        4: ("response_type", "enum TopicLookupResponse.LookupType"),
        5: ("brokerServiceUrl", "string"),
        6: ("broker_url", "string"),
        7: ("proxy", "bool"),
    },
    "TopicPartitionsResponse": {1: ("request_id", "uint64"), 2: ("partitions", "repeated string")},
    "SchemaRequest": {1: ("request_id", "uint64"), 2: ("topic", "string")},
    "SchemaResponse": {1: ("request_id", "uint64"), 2: ("schema", "message Schema")},
    "Schema": {
        1: ("name", "string"),
        3: ("schema_data", "bytes"),
        4: ("type_schema", "enum Schema.TypeSchema"),
    },
    "HealthCheckRequest": {
        1: ("request_id", "uint64"),
        2: ("client", "enum HealthCheckRequest.ClientType"),
        3: ("id", "uint64"),
    },
    "HealthCheckResponse": {1: ("status", "enum HealthCheckResponse.ClientStatus")},
    "ErrorMessage": {
        1: ("error_type", "enum ErrorType"),
        2: ("error_message", "string"),
        3: ("redirect_to", "string"),
    },
}

DANUBE_ENUMS: Mapping[str, Mapping[str, int]] = {
    "ProducerAccessMode": {"Shared": 0, "Exclusive": 1},
    "StorageBackend": {"IN_MEMORY": 0, "DISK": 1, "S3": 2},
    "DispatchStrategy": {"NonReliable": 0, "Reliable": 1},
    "RetentionPolicy": {"RetainUntilAck": 0, "RetainUntilExpire": 1},
    "ConsumerRequest.SubscriptionType": {"Exclusive": 0, "Shared": 1, "Failover": 2},
    "TopicLookupResponse.LookupType": {"Redirect": 0, "Connect": 1, "Failed": 2},
    "Schema.TypeSchema": {"Bytes": 0, "String": 1, "Int64": 2, "JSON": 3},
    "HealthCheckRequest.ClientType": {"Producer": 0, "Consumer": 1},
    "HealthCheckResponse.ClientStatus": {"OK": 0, "CLOSE": 1},
    "ErrorType": {
        "UNKNOWN_ERROR": 0,
        "INVALID_TOPIC_NAME": 1,
        "TOPIC_NOT_FOUND": 2,
        "SERVICE_NOT_READY": 3,
        "PRODUCER_ALREADY_EXISTS": 4,
        "SUBSCRIBE_PERMISSION_DENIED": 5,
        "SUBSCRIPTION_NOT_FOUND": 6,
    },
}

ADMIN_MESSAGES: Mapping[str, Fields] = {
    "Empty": {},
    "NamespaceRequest": {1: ("name", "string")},
    "TopicRequest": {1: ("name", "string")},
    "NamespaceResponse": {1: ("success", "bool")},
    "TopicResponse": {1: ("success", "bool")},
    "SubscriptionResponse": {1: ("success", "bool")},
    "NewTopicRequest": {
        1: ("name", "string"),
        2: ("schema_type", "string"),
        3: ("schema_data", "string"),
        4: ("dispatch_strategy", "string"),
    },
    "SubscriptionRequest": {1: ("topic", "string"), 2: ("subscription", "string")},
    "BrokerListResponse": {1: ("brokers", "repeated message BrokerInfo")},
    "BrokerInfo": {
        1: ("broker_id", "string"),
        2: ("broker_addr", "string"),
        3: ("broker_role", "string"),
        # From here on: the current generation, as all of CURRENT_ADMIN_MESSAGES.
        4: ("admin_addr", "string"),
        5: ("metrics_addr", "string"),
        6: ("broker_status", "string"),
    },
    "BrokerResponse": {1: ("leader", "string")},
    "NamespaceListResponse": {1: ("namespaces", "repeated string")},
    "TopicListResponse": {1: ("topics", "repeated string")},
    "PolicyResponse": {1: ("policies", "string")},
    "SubscriptionListResponse": {1: ("subscriptions", "repeated string")},
}

CURRENT_ADMIN_ENUMS: Mapping[str, Mapping[str, int]] = {
    "DispatchStrategy": {"NonReliable": 0, "Reliable": 1},
    "BackoffStrategy": {"Fixed": 0, "Exponential": 1},
    "PoisonPolicy": {"DeadLetter": 0, "Block": 1, "Drop": 2},
}
CURRENT_ADMIN_MESSAGES: Mapping[str, Fields] = {
    "UnloadBrokerRequest": {
        1: ("broker_id", "string"),
        2: ("max_parallel", "uint32"),
        3: ("namespaces_include", "repeated string"),
        4: ("namespaces_exclude", "repeated string"),
        5: ("dry_run", "bool"),
        6: ("timeout_seconds", "uint32"),
    },
    "UnloadBrokerResponse": {
        1: ("started", "bool"),
        2: ("total", "uint32"),
        3: ("succeeded", "uint32"),
        4: ("failed", "uint32"),
        5: ("pending", "uint32"),
        6: ("failed_topics", "repeated string"),
    },
    "ActivateBrokerRequest": {1: ("broker_id", "string"), 2: ("reason", "string")},
    "ActivateBrokerResponse": {1: ("success", "bool")},
    "ClusterBalanceRequest": {},
    "ClusterBalanceResponse": {
        1: ("coefficient_of_variation", "double"),
        2: ("mean_load", "double"),
        3: ("max_load", "double"),
        4: ("min_load", "double"),
        5: ("std_deviation", "double"),
        6: ("broker_count", "uint32"),
        7: ("brokers", "repeated message BrokerBalance"),
        8: ("assignment_strategy", "string"),
    },
    "BrokerBalance": {
        1: ("broker_id", "uint64"),
        2: ("load", "double"),
        3: ("topic_count", "uint32"),
        4: ("is_overloaded", "bool"),
        5: ("is_underloaded", "bool"),
    },
    "RebalanceRequest": {1: ("dry_run", "bool"), 2: ("max_moves", "uint32")},
    "RebalanceResponse": {
        1: ("success", "bool"),
        2: ("moves_executed", "uint32"),
        3: ("proposed_moves", "repeated message ProposedMove"),
        4: ("error_message", "string"),
    },
    "ProposedMove": {
        1: ("topic_name", "string"),
        2: ("from_broker", "uint64"),
        3: ("to_broker", "uint64"),
        4: ("estimated_load", "double"),
        5: ("reason", "string"),
    },
    "SubscriptionFailurePolicy": {
        1: ("max_redelivery_count", "uint32"),
        2: ("ack_timeout_ms", "uint64"),
        3: ("base_redelivery_delay_ms", "uint64"),
        4: ("max_redelivery_delay_ms", "uint64"),
        5: ("backoff_strategy", "enum BackoffStrategy"),
        6: ("dead_letter_topic", "string"),
        7: ("poison_policy", "enum PoisonPolicy"),
    },
    "SetSubscriptionFailurePolicyRequest": {
        1: ("topic", "string"),
        2: ("subscription", "string"),
        3: ("failure_policy", "message SubscriptionFailurePolicy"),
    },
    "NewTopicRequestCurrent": {
        1: ("name", "string"),
        2: ("schema_subject", "string"),
        3: ("dispatch_strategy", "enum DispatchStrategy"),
    },
    "PartitionedTopicRequest": {
        1: ("base_name", "string"),
        2: ("partitions", "uint32"),
        3: ("schema_subject", "string"),
        4: ("dispatch_strategy", "enum DispatchStrategy"),
    },
    "SubscriptionDispatchConfig": {1: ("max_unacked_messages", "uint32")},
    "SetSubscriptionDispatchConfigRequest": {
        1: ("topic", "string"),
        2: ("subscription", "string"),
        3: ("dispatch_config", "message SubscriptionDispatchConfig"),
    },
    "GetSubscriptionDispatchConfigResponse": {
        1: ("dispatch_config", "message SubscriptionDispatchConfig"),
    },
    "ClusterStatusResponse": {
        1: ("leader_id", "uint64"),
        2: ("current_term", "uint64"),
        3: ("last_applied", "uint64"),
        4: ("voters", "repeated uint64"),
        5: ("learners", "repeated uint64"),
        6: ("self_node_id", "uint64"),
        7: ("raft_addr", "string"),
    },
    "AddNodeRequest": {1: ("addr", "string"), 2: ("node_id", "uint64")},
    "AddNodeResponse": {1: ("success", "bool"), 2: ("node_id", "uint64"), 3: ("message", "string")},
    "NodeRequest": {1: ("node_id", "uint64")},
    "NodeResponse": {1: ("success", "bool"), 2: ("message", "string")},
    "BrokerRequest": {1: ("broker_id", "string")},
    "TopicInfo": {1: ("name", "string"), 2: ("broker_id", "string"), 3: ("delivery", "string")},
    "TopicInfoListResponse": {1: ("topics", "repeated message TopicInfo")},
    "DescribeTopicResponse": {
        1: ("name", "string"),
        2: ("subscriptions", "repeated string"),
        3: ("broker_id", "string"),
        4: ("delivery", "string"),
        5: ("schema_subject", "string"),
        6: ("schema_id", "uint64"),
        7: ("schema_version", "uint32"),
        8: ("schema_type", "string"),
        9: ("compatibility_mode", "string"),
    },
    "RoleDefinition": {1: ("name", "string"), 2: ("permissions", "repeated string"), 3: ("system", "bool")},
    "BindingDefinition": {
        1: ("id", "string"),
        2: ("principal_type", "string"),
        3: ("principal_name", "string"),
        4: ("role_names", "repeated string"),
        5: ("scope", "string"),
        6: ("resource_name", "string"),
    },
    "CreateRoleRequest": {1: ("role", "message RoleDefinition")},
    "RoleRequest": {1: ("name", "string")},
    "RoleResponse": {1: ("role", "message RoleDefinition")},
    "RoleListResponse": {1: ("roles", "repeated message RoleDefinition")},
    "CreateBindingRequest": {1: ("binding", "message BindingDefinition")},
    "BindingRequest": {1: ("scope", "string"), 2: ("resource_name", "string"), 3: ("binding_id", "string")},
    "ListBindingsRequest": {1: ("scope", "string"), 2: ("resource_name", "string")},
    "BindingResponse": {1: ("binding", "message BindingDefinition")},
    "BindingListResponse": {1: ("bindings", "repeated message BindingDefinition")},
    "SecurityResponse": {1: ("success", "bool")},
    "GetSubscriptionFailurePolicyResponse": {
        1: ("failure_policy", "message SubscriptionFailurePolicy"),
        2: ("subscription_type", "int32"),
    },
}

MESSAGES: Mapping[str, Mapping[str, Fields]] = {
    "danube": DANUBE_MESSAGES,
    "danube_admin": {**ADMIN_MESSAGES, **CURRENT_ADMIN_MESSAGES},
}
ENUMS: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    "danube": DANUBE_ENUMS,
    "danube_admin": CURRENT_ADMIN_ENUMS,
}

METHODS: Mapping[str, tuple[str, str]] = {
    "/danube.ProducerService/CreateProducer": ("ProducerRequest", "ProducerResponse"),
    "/danube.ProducerService/SendMessage": ("StreamMessage", "MessageResponse"),
    "/danube.ConsumerService/Subscribe": ("ConsumerRequest", "ConsumerResponse"),
    "/danube.ConsumerService/ReceiveMessages": ("ReceiveRequest", "stream StreamMessage"),
    "/danube.ConsumerService/Ack": ("AckRequest", "AckResponse"),
    "/danube.Discovery/TopicLookup": ("TopicLookupRequest", "TopicLookupResponse"),
    "/danube.Discovery/TopicPartitions": ("TopicLookupRequest", "TopicPartitionsResponse"),
    "/danube.Discovery/GetSchema": ("SchemaRequest", "SchemaResponse"),
    "/danube.HealthCheck/HealthCheck": ("HealthCheckRequest", "HealthCheckResponse"),
    "/danube_admin.BrokerAdmin/ListBrokers": ("Empty", "BrokerListResponse"),
    "/danube_admin.BrokerAdmin/GetLeaderBroker": ("Empty", "BrokerResponse"),
    "/danube_admin.BrokerAdmin/ListNamespaces": ("Empty", "NamespaceListResponse"),
    "/danube_admin.NamespaceAdmin/GetNamespaceTopics": ("NamespaceRequest", "TopicListResponse"),
    "/danube_admin.NamespaceAdmin/GetNamespacePolicies": ("NamespaceRequest", "PolicyResponse"),
    "/danube_admin.NamespaceAdmin/CreateNamespace": ("NamespaceRequest", "NamespaceResponse"),
    "/danube_admin.NamespaceAdmin/DeleteNamespace": ("NamespaceRequest", "NamespaceResponse"),
    "/danube_admin.TopicAdmin/ListTopics": ("NamespaceRequest", "TopicListResponse"),
    "/danube_admin.TopicAdmin/CreateTopic": ("NewTopicRequest", "TopicResponse"),
    "/danube_admin.TopicAdmin/DeleteTopic": ("TopicRequest", "TopicResponse"),
    "/danube_admin.TopicAdmin/ListSubscriptions": ("TopicRequest", "SubscriptionListResponse"),
    "/danube_admin.TopicAdmin/Unsubscribe": ("SubscriptionRequest", "SubscriptionResponse"),
}
CURRENT_METHODS: Mapping[str, tuple[str, str]] = {
    "/danube_admin.BrokerAdmin/UnloadBroker": ("UnloadBrokerRequest", "UnloadBrokerResponse"),
    "/danube_admin.BrokerAdmin/ActivateBroker": ("ActivateBrokerRequest", "ActivateBrokerResponse"),
    "/danube_admin.BrokerAdmin/GetClusterBalance": ("ClusterBalanceRequest", "ClusterBalanceResponse"),
    "/danube_admin.BrokerAdmin/TriggerRebalance": ("RebalanceRequest", "RebalanceResponse"),
    "/danube_admin.ClusterAdmin/ClusterStatus": ("Empty", "ClusterStatusResponse"),
    "/danube_admin.ClusterAdmin/AddNode": ("AddNodeRequest", "AddNodeResponse"),
    "/danube_admin.ClusterAdmin/PromoteNode": ("NodeRequest", "NodeResponse"),
    "/danube_admin.ClusterAdmin/RemoveNode": ("NodeRequest", "NodeResponse"),
    "/danube_admin.TopicAdmin/SetSubscriptionDispatchConfig": (
        "SetSubscriptionDispatchConfigRequest",
        "SubscriptionResponse",
    ),
    "/danube_admin.TopicAdmin/GetSubscriptionDispatchConfig": (
        "SubscriptionRequest",
        "GetSubscriptionDispatchConfigResponse",
    ),
    "/danube_admin.TopicAdmin/UnloadTopic": ("TopicRequest", "TopicResponse"),
    "/danube_admin.SecurityAdmin/CreateRole": ("CreateRoleRequest", "SecurityResponse"),
    "/danube_admin.SecurityAdmin/GetRole": ("RoleRequest", "RoleResponse"),
    "/danube_admin.SecurityAdmin/ListRoles": ("Empty", "RoleListResponse"),
    "/danube_admin.SecurityAdmin/DeleteRole": ("RoleRequest", "SecurityResponse"),
    "/danube_admin.SecurityAdmin/CreateBinding": ("CreateBindingRequest", "SecurityResponse"),
    "/danube_admin.SecurityAdmin/GetBinding": ("BindingRequest", "BindingResponse"),
    "/danube_admin.SecurityAdmin/ListBindings": ("ListBindingsRequest", "BindingListResponse"),
    "/danube_admin.SecurityAdmin/ListAllBindings": ("Empty", "BindingListResponse"),
    "/danube_admin.SecurityAdmin/DeleteBinding": ("BindingRequest", "SecurityResponse"),
    "/danube_admin.TopicAdmin/ListNamespaceTopics": ("NamespaceRequest", "TopicInfoListResponse"),
    "/danube_admin.TopicAdmin/ListBrokerTopics": ("BrokerRequest", "TopicInfoListResponse"),
    "/danube_admin.TopicAdmin/CreatePartitionedTopic": ("PartitionedTopicRequest", "TopicResponse"),
    "/danube_admin.TopicAdmin/DescribeTopic": ("TopicRequest", "DescribeTopicResponse"),
    "/danube_admin.TopicAdmin/SetSubscriptionFailurePolicy": (
        "SetSubscriptionFailurePolicyRequest",
        "SubscriptionResponse",
    ),
    "/danube_admin.TopicAdmin/GetSubscriptionFailurePolicy": (
        "SubscriptionRequest",
        "GetSubscriptionFailurePolicyResponse",
    ),
}

STREAM = "/danube.ConsumerService/ReceiveMessages"

POLICY_NAMES = (
    "max_producers_per_topic",
    "max_subscriptions_per_topic",
    "max_consumers_per_topic",
    "max_consumers_per_subscription",
    "max_publish_rate",
    "max_dispatch_rate",
    "max_subscription_dispatch_rate",
    "max_message_size",
)
MAX_MESSAGE_BYTES = 4_000_000
