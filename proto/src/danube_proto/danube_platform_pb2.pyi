from google.protobuf.internal import containers as _containers
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
