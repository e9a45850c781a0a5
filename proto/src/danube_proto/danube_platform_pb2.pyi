from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Policies(_message.Message):
    __slots__ = ("max_producers_per_topic", "max_subscriptions_per_topic", "max_consumers_per_topic", "max_consumers_per_subscription", "max_publish_rate", "max_dispatch_rate", "max_subscription_dispatch_rate", "max_message_size", "max_retained_mb")
    MAX_PRODUCERS_PER_TOPIC_FIELD_NUMBER: _ClassVar[int]
    MAX_SUBSCRIPTIONS_PER_TOPIC_FIELD_NUMBER: _ClassVar[int]
    MAX_CONSUMERS_PER_TOPIC_FIELD_NUMBER: _ClassVar[int]
    MAX_CONSUMERS_PER_SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MAX_PUBLISH_RATE_FIELD_NUMBER: _ClassVar[int]
    MAX_DISPATCH_RATE_FIELD_NUMBER: _ClassVar[int]
    MAX_SUBSCRIPTION_DISPATCH_RATE_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_RETAINED_MB_FIELD_NUMBER: _ClassVar[int]
    max_producers_per_topic: int
    max_subscriptions_per_topic: int
    max_consumers_per_topic: int
    max_consumers_per_subscription: int
    max_publish_rate: int
    max_dispatch_rate: int
    max_subscription_dispatch_rate: int
    max_message_size: int
    max_retained_mb: int
    def __init__(self, max_producers_per_topic: _Optional[int] = ..., max_subscriptions_per_topic: _Optional[int] = ..., max_consumers_per_topic: _Optional[int] = ..., max_consumers_per_subscription: _Optional[int] = ..., max_publish_rate: _Optional[int] = ..., max_dispatch_rate: _Optional[int] = ..., max_subscription_dispatch_rate: _Optional[int] = ..., max_message_size: _Optional[int] = ..., max_retained_mb: _Optional[int] = ...) -> None: ...

class GetNamespacePoliciesRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class SetNamespacePoliciesRequest(_message.Message):
    __slots__ = ("namespace", "policies", "clear")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    policies: Policies
    clear: bool
    def __init__(self, namespace: _Optional[str] = ..., policies: _Optional[_Union[Policies, _Mapping[str, object]]] = ..., clear: _Optional[bool] = ...) -> None: ...

class GetTopicPoliciesRequest(_message.Message):
    __slots__ = ("topic",)
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic: str
    def __init__(self, topic: _Optional[str] = ...) -> None: ...

class SetTopicPoliciesRequest(_message.Message):
    __slots__ = ("topic", "policies", "clear")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    topic: str
    policies: Policies
    clear: bool
    def __init__(self, topic: _Optional[str] = ..., policies: _Optional[_Union[Policies, _Mapping[str, object]]] = ..., clear: _Optional[bool] = ...) -> None: ...

class PoliciesResponse(_message.Message):
    __slots__ = ("policies",)
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    policies: str
    def __init__(self, policies: _Optional[str] = ...) -> None: ...

class BrokerLoadsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BrokerLoadsResponse(_message.Message):
    __slots__ = ("brokers",)
    BROKERS_FIELD_NUMBER: _ClassVar[int]
    brokers: _containers.RepeatedCompositeFieldContainer[BrokerLoad]
    def __init__(self, brokers: _Optional[_Iterable[_Union[BrokerLoad, _Mapping[str, object]]]] = ...) -> None: ...

class BrokerLoad(_message.Message):
    __slots__ = ("broker_id", "at_ms", "cpu_percent", "memory_bytes", "memory_percent", "bundles", "total")
    class BundlesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Load
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Load, _Mapping[str, object]]] = ...) -> None: ...
    BROKER_ID_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PERCENT_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    broker_id: str
    at_ms: int
    cpu_percent: float
    memory_bytes: int
    memory_percent: float
    bundles: _containers.MessageMap[str, Load]
    total: Load
    def __init__(self, broker_id: _Optional[str] = ..., at_ms: _Optional[int] = ..., cpu_percent: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., memory_percent: _Optional[float] = ..., bundles: _Optional[_Mapping[str, Load]] = ..., total: _Optional[_Union[Load, _Mapping[str, object]]] = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("topics", "subscriptions", "consumers", "in_messages", "in_bytes", "out_messages", "out_bytes", "behind", "unacked")
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    IN_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    IN_BYTES_FIELD_NUMBER: _ClassVar[int]
    OUT_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    OUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    BEHIND_FIELD_NUMBER: _ClassVar[int]
    UNACKED_FIELD_NUMBER: _ClassVar[int]
    topics: int
    subscriptions: int
    consumers: int
    in_messages: float
    in_bytes: float
    out_messages: float
    out_bytes: float
    behind: int
    unacked: int
    def __init__(self, topics: _Optional[int] = ..., subscriptions: _Optional[int] = ..., consumers: _Optional[int] = ..., in_messages: _Optional[float] = ..., in_bytes: _Optional[float] = ..., out_messages: _Optional[float] = ..., out_bytes: _Optional[float] = ..., behind: _Optional[int] = ..., unacked: _Optional[int] = ...) -> None: ...

class ListInstancesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListInstancesResponse(_message.Message):
    __slots__ = ("instances",)
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[Instance]
    def __init__(self, instances: _Optional[_Iterable[_Union[Instance, _Mapping[str, object]]]] = ...) -> None: ...

class Instance(_message.Message):
    __slots__ = ("instance_id", "kind", "address", "http_url", "leading", "status", "started_ms")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HTTP_URL_FIELD_NUMBER: _ClassVar[int]
    LEADING_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STARTED_MS_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    kind: str
    address: str
    http_url: str
    leading: bool
    status: str
    started_ms: int
    def __init__(self, instance_id: _Optional[str] = ..., kind: _Optional[str] = ..., address: _Optional[str] = ..., http_url: _Optional[str] = ..., leading: _Optional[bool] = ..., status: _Optional[str] = ..., started_ms: _Optional[int] = ...) -> None: ...

class DescribeTopicRequest(_message.Message):
    __slots__ = ("topic",)
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic: str
    def __init__(self, topic: _Optional[str] = ...) -> None: ...

class DescribeTopicResponse(_message.Message):
    __slots__ = ("topics",)
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedCompositeFieldContainer[TopicDescription]
    def __init__(self, topics: _Optional[_Iterable[_Union[TopicDescription, _Mapping[str, object]]]] = ...) -> None: ...

class TopicDescription(_message.Message):
    __slots__ = ("topic", "topic_id", "bundle", "owner", "archiver", "epoch", "schema_type", "schema_data", "reliable", "storage", "segment_size_mb", "retention", "retention_period_s", "policies", "created_ms", "log_first_sequence", "log_last_sequence", "archived_through", "segments", "shared_segments", "oldest_ms", "newest_ms", "quarantined", "deleted", "shared_deleted", "producers", "subscriptions", "owner_problem", "unreadable_segments", "memory_log")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ARCHIVER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_DATA_FIELD_NUMBER: _ClassVar[int]
    RELIABLE_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_SIZE_MB_FIELD_NUMBER: _ClassVar[int]
    RETENTION_FIELD_NUMBER: _ClassVar[int]
    RETENTION_PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    LOG_FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LOG_LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ARCHIVED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    SHARED_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_MS_FIELD_NUMBER: _ClassVar[int]
    NEWEST_MS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    SHARED_DELETED_FIELD_NUMBER: _ClassVar[int]
    PRODUCERS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    OWNER_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LOG_FIELD_NUMBER: _ClassVar[int]
    topic: str
    topic_id: int
    bundle: str
    owner: str
    archiver: str
    epoch: int
    schema_type: str
    schema_data: str
    reliable: bool
    storage: str
    segment_size_mb: int
    retention: str
    retention_period_s: int
    policies: str
    created_ms: int
    log_first_sequence: int
    log_last_sequence: int
    archived_through: int
    segments: _containers.RepeatedCompositeFieldContainer[SegmentTotals]
    shared_segments: _containers.RepeatedCompositeFieldContainer[SegmentTotals]
    oldest_ms: int
    newest_ms: int
    quarantined: _containers.RepeatedCompositeFieldContainer[QuarantinedSegment]
    deleted: DeletedTotals
    shared_deleted: DeletedTotals
    producers: _containers.RepeatedScalarFieldContainer[str]
    subscriptions: _containers.RepeatedCompositeFieldContainer[SubscriptionDescription]
    owner_problem: str
    unreadable_segments: _containers.RepeatedCompositeFieldContainer[SegmentTotals]
    memory_log: MemoryLog
    def __init__(self, topic: _Optional[str] = ..., topic_id: _Optional[int] = ..., bundle: _Optional[str] = ..., owner: _Optional[str] = ..., archiver: _Optional[str] = ..., epoch: _Optional[int] = ..., schema_type: _Optional[str] = ..., schema_data: _Optional[str] = ..., reliable: _Optional[bool] = ..., storage: _Optional[str] = ..., segment_size_mb: _Optional[int] = ..., retention: _Optional[str] = ..., retention_period_s: _Optional[int] = ..., policies: _Optional[str] = ..., created_ms: _Optional[int] = ..., log_first_sequence: _Optional[int] = ..., log_last_sequence: _Optional[int] = ..., archived_through: _Optional[int] = ..., segments: _Optional[_Iterable[_Union[SegmentTotals, _Mapping[str, object]]]] = ..., shared_segments: _Optional[_Iterable[_Union[SegmentTotals, _Mapping[str, object]]]] = ..., oldest_ms: _Optional[int] = ..., newest_ms: _Optional[int] = ..., quarantined: _Optional[_Iterable[_Union[QuarantinedSegment, _Mapping[str, object]]]] = ..., deleted: _Optional[_Union[DeletedTotals, _Mapping[str, object]]] = ..., shared_deleted: _Optional[_Union[DeletedTotals, _Mapping[str, object]]] = ..., producers: _Optional[_Iterable[str]] = ..., subscriptions: _Optional[_Iterable[_Union[SubscriptionDescription, _Mapping[str, object]]]] = ..., owner_problem: _Optional[str] = ..., unreadable_segments: _Optional[_Iterable[_Union[SegmentTotals, _Mapping[str, object]]]] = ..., memory_log: _Optional[_Union[MemoryLog, _Mapping[str, object]]] = ...) -> None: ...

class MemoryLog(_message.Message):
    __slots__ = ("size_bytes", "oldest_ms", "held_by")
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_MS_FIELD_NUMBER: _ClassVar[int]
    HELD_BY_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    oldest_ms: int
    held_by: str
    def __init__(self, size_bytes: _Optional[int] = ..., oldest_ms: _Optional[int] = ..., held_by: _Optional[str] = ...) -> None: ...

class SegmentTotals(_message.Message):
    __slots__ = ("storage", "segments", "messages", "size_bytes")
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    storage: str
    segments: int
    messages: int
    size_bytes: int
    def __init__(self, storage: _Optional[str] = ..., segments: _Optional[int] = ..., messages: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class QuarantinedSegment(_message.Message):
    __slots__ = ("key", "shared", "holder", "reason")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    key: str
    shared: bool
    holder: str
    reason: str
    def __init__(self, key: _Optional[str] = ..., shared: _Optional[bool] = ..., holder: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class DeletedTotals(_message.Message):
    __slots__ = ("segments", "messages", "size_bytes")
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    segments: int
    messages: int
    size_bytes: int
    def __init__(self, segments: _Optional[int] = ..., messages: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class SubscriptionDescription(_message.Message):
    __slots__ = ("name", "type", "consumers", "mark_delete", "backlog", "backlog_exact", "unacked", "lost", "blocked", "prefetch", "failed", "holes", "acked_ahead")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    MARK_DELETE_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_EXACT_FIELD_NUMBER: _ClassVar[int]
    UNACKED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    HOLES_FIELD_NUMBER: _ClassVar[int]
    ACKED_AHEAD_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    consumers: _containers.RepeatedScalarFieldContainer[str]
    mark_delete: int
    backlog: int
    backlog_exact: bool
    unacked: int
    lost: int
    blocked: str
    prefetch: int
    failed: int
    holes: int
    acked_ahead: int
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., consumers: _Optional[_Iterable[str]] = ..., mark_delete: _Optional[int] = ..., backlog: _Optional[int] = ..., backlog_exact: _Optional[bool] = ..., unacked: _Optional[int] = ..., lost: _Optional[int] = ..., blocked: _Optional[str] = ..., prefetch: _Optional[int] = ..., failed: _Optional[int] = ..., holes: _Optional[int] = ..., acked_ahead: _Optional[int] = ...) -> None: ...

class ListSegmentsRequest(_message.Message):
    __slots__ = ("topic",)
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic: str
    def __init__(self, topic: _Optional[str] = ...) -> None: ...

class ListSegmentsResponse(_message.Message):
    __slots__ = ("segments",)
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    def __init__(self, segments: _Optional[_Iterable[_Union[Segment, _Mapping[str, object]]]] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("topic", "key", "storage", "holders", "shared", "first_position", "last_position", "messages", "first_offset", "size_bytes", "oldest_ms", "newest_ms", "delete_after_ms", "quarantined", "away", "copying", "unreadable", "bound_for")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_MS_FIELD_NUMBER: _ClassVar[int]
    NEWEST_MS_FIELD_NUMBER: _ClassVar[int]
    DELETE_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    AWAY_FIELD_NUMBER: _ClassVar[int]
    COPYING_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    BOUND_FOR_FIELD_NUMBER: _ClassVar[int]
    topic: str
    key: str
    storage: str
    holders: _containers.RepeatedScalarFieldContainer[str]
    shared: bool
    first_position: int
    last_position: int
    messages: int
    first_offset: int
    size_bytes: int
    oldest_ms: int
    newest_ms: int
    delete_after_ms: int
    quarantined: _containers.RepeatedCompositeFieldContainer[QuarantinedSegment]
    away: _containers.RepeatedScalarFieldContainer[str]
    copying: _containers.RepeatedScalarFieldContainer[str]
    unreadable: bool
    bound_for: str
    def __init__(self, topic: _Optional[str] = ..., key: _Optional[str] = ..., storage: _Optional[str] = ..., holders: _Optional[_Iterable[str]] = ..., shared: _Optional[bool] = ..., first_position: _Optional[int] = ..., last_position: _Optional[int] = ..., messages: _Optional[int] = ..., first_offset: _Optional[int] = ..., size_bytes: _Optional[int] = ..., oldest_ms: _Optional[int] = ..., newest_ms: _Optional[int] = ..., delete_after_ms: _Optional[int] = ..., quarantined: _Optional[_Iterable[_Union[QuarantinedSegment, _Mapping[str, object]]]] = ..., away: _Optional[_Iterable[str]] = ..., copying: _Optional[_Iterable[str]] = ..., unreadable: _Optional[bool] = ..., bound_for: _Optional[str] = ...) -> None: ...

class SubscriptionStart(_message.Message):
    __slots__ = ("kind", "value")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EARLIEST: _ClassVar[SubscriptionStart.Kind]
        LATEST: _ClassVar[SubscriptionStart.Kind]
        POSITION: _ClassVar[SubscriptionStart.Kind]
        LAST: _ClassVar[SubscriptionStart.Kind]
        TIME: _ClassVar[SubscriptionStart.Kind]
    EARLIEST: SubscriptionStart.Kind
    LATEST: SubscriptionStart.Kind
    POSITION: SubscriptionStart.Kind
    LAST: SubscriptionStart.Kind
    TIME: SubscriptionStart.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    kind: SubscriptionStart.Kind
    value: int
    def __init__(self, kind: _Optional[_Union[SubscriptionStart.Kind, str]] = ..., value: _Optional[int] = ...) -> None: ...

class ResetSubscriptionRequest(_message.Message):
    __slots__ = ("topic", "subscription", "start")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    topic: str
    subscription: str
    start: SubscriptionStart
    def __init__(self, topic: _Optional[str] = ..., subscription: _Optional[str] = ..., start: _Optional[_Union[SubscriptionStart, _Mapping[str, object]]] = ...) -> None: ...

class ResetSubscriptionResponse(_message.Message):
    __slots__ = ("places",)
    PLACES_FIELD_NUMBER: _ClassVar[int]
    places: _containers.RepeatedCompositeFieldContainer[SubscriptionPlace]
    def __init__(self, places: _Optional[_Iterable[_Union[SubscriptionPlace, _Mapping[str, object]]]] = ...) -> None: ...

class SubscriptionPlace(_message.Message):
    __slots__ = ("topic", "mark_delete")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    MARK_DELETE_FIELD_NUMBER: _ClassVar[int]
    topic: str
    mark_delete: int
    def __init__(self, topic: _Optional[str] = ..., mark_delete: _Optional[int] = ...) -> None: ...

class GrowTopicRequest(_message.Message):
    __slots__ = ("topic", "partitions")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partitions: int
    def __init__(self, topic: _Optional[str] = ..., partitions: _Optional[int] = ...) -> None: ...

class GrowTopicResponse(_message.Message):
    __slots__ = ("success",)
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    success: bool
    def __init__(self, success: _Optional[bool] = ...) -> None: ...

class ListPartitionedTopicsRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class ListPartitionedTopicsResponse(_message.Message):
    __slots__ = ("topics",)
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedCompositeFieldContainer[PartitionedTopicInfo]
    def __init__(self, topics: _Optional[_Iterable[_Union[PartitionedTopicInfo, _Mapping[str, object]]]] = ...) -> None: ...

class PartitionedTopicInfo(_message.Message):
    __slots__ = ("topic", "partitions", "reliable")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    RELIABLE_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partitions: int
    reliable: bool
    def __init__(self, topic: _Optional[str] = ..., partitions: _Optional[int] = ..., reliable: _Optional[bool] = ...) -> None: ...

class CreatePartitionsRequest(_message.Message):
    __slots__ = ("topic", "first", "partitions", "schema_type", "schema_data", "dispatch_strategy")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_DATA_FIELD_NUMBER: _ClassVar[int]
    DISPATCH_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    topic: str
    first: int
    partitions: int
    schema_type: str
    schema_data: str
    dispatch_strategy: str
    def __init__(self, topic: _Optional[str] = ..., first: _Optional[int] = ..., partitions: _Optional[int] = ..., schema_type: _Optional[str] = ..., schema_data: _Optional[str] = ..., dispatch_strategy: _Optional[str] = ...) -> None: ...

class CreatePartitionsResponse(_message.Message):
    __slots__ = ("success",)
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    success: bool
    def __init__(self, success: _Optional[bool] = ...) -> None: ...

class FailurePolicy(_message.Message):
    __slots__ = ("max_redelivery_count", "ack_timeout_ms", "base_redelivery_delay_ms", "max_redelivery_delay_ms", "backoff", "dead_letter_topic", "poison")
    class Backoff(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FIXED: _ClassVar[FailurePolicy.Backoff]
        EXPONENTIAL: _ClassVar[FailurePolicy.Backoff]
    FIXED: FailurePolicy.Backoff
    EXPONENTIAL: FailurePolicy.Backoff
    class Poison(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DEAD_LETTER: _ClassVar[FailurePolicy.Poison]
        BLOCK: _ClassVar[FailurePolicy.Poison]
        DROP: _ClassVar[FailurePolicy.Poison]
    DEAD_LETTER: FailurePolicy.Poison
    BLOCK: FailurePolicy.Poison
    DROP: FailurePolicy.Poison
    MAX_REDELIVERY_COUNT_FIELD_NUMBER: _ClassVar[int]
    ACK_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    BASE_REDELIVERY_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_REDELIVERY_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_TOPIC_FIELD_NUMBER: _ClassVar[int]
    POISON_FIELD_NUMBER: _ClassVar[int]
    max_redelivery_count: int
    ack_timeout_ms: int
    base_redelivery_delay_ms: int
    max_redelivery_delay_ms: int
    backoff: FailurePolicy.Backoff
    dead_letter_topic: str
    poison: FailurePolicy.Poison
    def __init__(self, max_redelivery_count: _Optional[int] = ..., ack_timeout_ms: _Optional[int] = ..., base_redelivery_delay_ms: _Optional[int] = ..., max_redelivery_delay_ms: _Optional[int] = ..., backoff: _Optional[_Union[FailurePolicy.Backoff, str]] = ..., dead_letter_topic: _Optional[str] = ..., poison: _Optional[_Union[FailurePolicy.Poison, str]] = ...) -> None: ...

class SetFailurePolicyRequest(_message.Message):
    __slots__ = ("topic", "subscription", "policy")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    topic: str
    subscription: str
    policy: FailurePolicy
    def __init__(self, topic: _Optional[str] = ..., subscription: _Optional[str] = ..., policy: _Optional[_Union[FailurePolicy, _Mapping[str, object]]] = ...) -> None: ...

class GetFailurePolicyRequest(_message.Message):
    __slots__ = ("topic", "subscription")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    topic: str
    subscription: str
    def __init__(self, topic: _Optional[str] = ..., subscription: _Optional[str] = ...) -> None: ...

class FailurePolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: FailurePolicy
    def __init__(self, policy: _Optional[_Union[FailurePolicy, _Mapping[str, object]]] = ...) -> None: ...

class CreateSubscriptionRequest(_message.Message):
    __slots__ = ("topic", "subscription", "type", "start", "prefetch")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EXCLUSIVE: _ClassVar[CreateSubscriptionRequest.Type]
        SHARED: _ClassVar[CreateSubscriptionRequest.Type]
        FAILOVER: _ClassVar[CreateSubscriptionRequest.Type]
        KEY_SHARED: _ClassVar[CreateSubscriptionRequest.Type]
    EXCLUSIVE: CreateSubscriptionRequest.Type
    SHARED: CreateSubscriptionRequest.Type
    FAILOVER: CreateSubscriptionRequest.Type
    KEY_SHARED: CreateSubscriptionRequest.Type
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    topic: str
    subscription: str
    type: CreateSubscriptionRequest.Type
    start: SubscriptionStart
    prefetch: int
    def __init__(self, topic: _Optional[str] = ..., subscription: _Optional[str] = ..., type: _Optional[_Union[CreateSubscriptionRequest.Type, str]] = ..., start: _Optional[_Union[SubscriptionStart, _Mapping[str, object]]] = ..., prefetch: _Optional[int] = ...) -> None: ...

class CreateSubscriptionResponse(_message.Message):
    __slots__ = ("created", "mark_delete")
    CREATED_FIELD_NUMBER: _ClassVar[int]
    MARK_DELETE_FIELD_NUMBER: _ClassVar[int]
    created: bool
    mark_delete: int
    def __init__(self, created: _Optional[bool] = ..., mark_delete: _Optional[int] = ...) -> None: ...

class TellLossesRequest(_message.Message):
    __slots__ = ("topic", "subscription", "told")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TOLD_FIELD_NUMBER: _ClassVar[int]
    topic: str
    subscription: str
    told: int
    def __init__(self, topic: _Optional[str] = ..., subscription: _Optional[str] = ..., told: _Optional[int] = ...) -> None: ...

class TellLossesResponse(_message.Message):
    __slots__ = ("lost", "told")
    LOST_FIELD_NUMBER: _ClassVar[int]
    TOLD_FIELD_NUMBER: _ClassVar[int]
    lost: int
    told: int
    def __init__(self, lost: _Optional[int] = ..., told: _Optional[int] = ...) -> None: ...

class GetTopicRequest(_message.Message):
    __slots__ = ("topic",)
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic: str
    def __init__(self, topic: _Optional[str] = ...) -> None: ...

class GetTopicResponse(_message.Message):
    __slots__ = ("topic_id", "reliable", "subscriptions", "consumers")
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    RELIABLE_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    topic_id: int
    reliable: bool
    subscriptions: int
    consumers: int
    def __init__(self, topic_id: _Optional[int] = ..., reliable: _Optional[bool] = ..., subscriptions: _Optional[int] = ..., consumers: _Optional[int] = ...) -> None: ...

class ApiKey(_message.Message):
    __slots__ = ("key_id", "principal_type", "principal_name", "description", "created_ms", "expires_ms")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_TYPE_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    principal_type: str
    principal_name: str
    description: str
    created_ms: int
    expires_ms: int
    def __init__(self, key_id: _Optional[str] = ..., principal_type: _Optional[str] = ..., principal_name: _Optional[str] = ..., description: _Optional[str] = ..., created_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class CreateKeyRequest(_message.Message):
    __slots__ = ("principal_type", "principal_name", "description", "ttl_s")
    PRINCIPAL_TYPE_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    principal_type: str
    principal_name: str
    description: str
    ttl_s: int
    def __init__(self, principal_type: _Optional[str] = ..., principal_name: _Optional[str] = ..., description: _Optional[str] = ..., ttl_s: _Optional[int] = ...) -> None: ...

class CreateKeyResponse(_message.Message):
    __slots__ = ("key", "info")
    KEY_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    key: str
    info: ApiKey
    def __init__(self, key: _Optional[str] = ..., info: _Optional[_Union[ApiKey, _Mapping[str, object]]] = ...) -> None: ...

class ListKeysRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListKeysResponse(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[ApiKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[ApiKey, _Mapping[str, object]]]] = ...) -> None: ...

class RevokeKeyRequest(_message.Message):
    __slots__ = ("key_id",)
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    def __init__(self, key_id: _Optional[str] = ...) -> None: ...

class RevokeKeyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
