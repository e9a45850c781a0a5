from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Compression(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPRESSION_NONE: _ClassVar[Compression]
    COMPRESSION_ZSTD: _ClassVar[Compression]
    COMPRESSION_LZ4: _ClassVar[Compression]
COMPRESSION_NONE: Compression
COMPRESSION_ZSTD: Compression
COMPRESSION_LZ4: Compression

class StoredMessage(_message.Message):
    __slots__ = ("payload", "publish_time", "producer_name", "attributes", "schema_id", "schema_version", "routing_key")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_TIME_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_NAME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROUTING_KEY_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    publish_time: int
    producer_name: str
    attributes: _containers.ScalarMap[str, str]
    schema_id: int
    schema_version: int
    routing_key: str
    def __init__(self, payload: _Optional[bytes] = ..., publish_time: _Optional[int] = ..., producer_name: _Optional[str] = ..., attributes: _Optional[_Mapping[str, str]] = ..., schema_id: _Optional[int] = ..., schema_version: _Optional[int] = ..., routing_key: _Optional[str] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("body", "messages", "crc32c", "compression", "body_bytes")
    BODY_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    messages: int
    crc32c: int
    compression: Compression
    body_bytes: int
    def __init__(self, body: _Optional[bytes] = ..., messages: _Optional[int] = ..., crc32c: _Optional[int] = ..., compression: _Optional[_Union[Compression, str]] = ..., body_bytes: _Optional[int] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("open", "batch")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    open: OpenProducer
    batch: PublishBatch
    def __init__(self, open: _Optional[_Union[OpenProducer, _Mapping[str, object]]] = ..., batch: _Optional[_Union[PublishBatch, _Mapping[str, object]]] = ...) -> None: ...

class OpenProducer(_message.Message):
    __slots__ = ("topic", "producer_name", "access_mode", "partitions", "dispatch", "schema", "idempotent", "must_exist")
    class AccessMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SHARED: _ClassVar[OpenProducer.AccessMode]
        EXCLUSIVE: _ClassVar[OpenProducer.AccessMode]
    SHARED: OpenProducer.AccessMode
    EXCLUSIVE: OpenProducer.AccessMode
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_NAME_FIELD_NUMBER: _ClassVar[int]
    ACCESS_MODE_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    DISPATCH_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    MUST_EXIST_FIELD_NUMBER: _ClassVar[int]
    topic: str
    producer_name: str
    access_mode: OpenProducer.AccessMode
    partitions: int
    dispatch: Dispatch
    schema: Schema
    idempotent: bool
    must_exist: bool
    def __init__(self, topic: _Optional[str] = ..., producer_name: _Optional[str] = ..., access_mode: _Optional[_Union[OpenProducer.AccessMode, str]] = ..., partitions: _Optional[int] = ..., dispatch: _Optional[_Union[Dispatch, _Mapping[str, object]]] = ..., schema: _Optional[_Union[Schema, _Mapping[str, object]]] = ..., idempotent: _Optional[bool] = ..., must_exist: _Optional[bool] = ...) -> None: ...

class Dispatch(_message.Message):
    __slots__ = ("reliable", "storage", "segment_size_mb", "retention_period_s")
    class Storage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DEFAULT: _ClassVar[Dispatch.Storage]
        MEMORY: _ClassVar[Dispatch.Storage]
        DISK: _ClassVar[Dispatch.Storage]
        S3: _ClassVar[Dispatch.Storage]
    DEFAULT: Dispatch.Storage
    MEMORY: Dispatch.Storage
    DISK: Dispatch.Storage
    S3: Dispatch.Storage
    RELIABLE_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_SIZE_MB_FIELD_NUMBER: _ClassVar[int]
    RETENTION_PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    reliable: bool
    storage: Dispatch.Storage
    segment_size_mb: int
    retention_period_s: int
    def __init__(self, reliable: _Optional[bool] = ..., storage: _Optional[_Union[Dispatch.Storage, str]] = ..., segment_size_mb: _Optional[int] = ..., retention_period_s: _Optional[int] = ...) -> None: ...

class Schema(_message.Message):
    __slots__ = ("type", "definition", "subject")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        BYTES: _ClassVar[Schema.Type]
        STRING: _ClassVar[Schema.Type]
        INT64: _ClassVar[Schema.Type]
        JSON: _ClassVar[Schema.Type]
    BYTES: Schema.Type
    STRING: Schema.Type
    INT64: Schema.Type
    JSON: Schema.Type
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    type: Schema.Type
    definition: bytes
    subject: str
    def __init__(self, type: _Optional[_Union[Schema.Type, str]] = ..., definition: _Optional[bytes] = ..., subject: _Optional[str] = ...) -> None: ...

class PublishBatch(_message.Message):
    __slots__ = ("partition", "first_sequence", "batch", "traced")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    TRACED_FIELD_NUMBER: _ClassVar[int]
    partition: int
    first_sequence: int
    batch: Batch
    traced: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, partition: _Optional[int] = ..., first_sequence: _Optional[int] = ..., batch: _Optional[_Union[Batch, _Mapping[str, object]]] = ..., traced: _Optional[_Iterable[int]] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("opened", "stored", "refused", "partitions_grown", "window")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_GROWN_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    stored: Stored
    refused: Refused
    partitions_grown: PartitionsGrown
    window: Window
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping[str, object]]] = ..., stored: _Optional[_Union[Stored, _Mapping[str, object]]] = ..., refused: _Optional[_Union[Refused, _Mapping[str, object]]] = ..., partitions_grown: _Optional[_Union[PartitionsGrown, _Mapping[str, object]]] = ..., window: _Optional[_Union[Window, _Mapping[str, object]]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("producer_name", "partitions", "reliable", "message_bytes_max", "batch_bytes_max", "batch_messages_max", "window", "schema")
    PRODUCER_NAME_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    RELIABLE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    BATCH_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    BATCH_MESSAGES_MAX_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    producer_name: str
    partitions: _containers.RepeatedCompositeFieldContainer[Partition]
    reliable: bool
    message_bytes_max: int
    batch_bytes_max: int
    batch_messages_max: int
    window: Window
    schema: Schema
    def __init__(self, producer_name: _Optional[str] = ..., partitions: _Optional[_Iterable[_Union[Partition, _Mapping[str, object]]]] = ..., reliable: _Optional[bool] = ..., message_bytes_max: _Optional[int] = ..., batch_bytes_max: _Optional[int] = ..., batch_messages_max: _Optional[int] = ..., window: _Optional[_Union[Window, _Mapping[str, object]]] = ..., schema: _Optional[_Union[Schema, _Mapping[str, object]]] = ...) -> None: ...

class Partition(_message.Message):
    __slots__ = ("topic", "topic_id", "last_sequence")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    topic: str
    topic_id: int
    last_sequence: int
    def __init__(self, topic: _Optional[str] = ..., topic_id: _Optional[int] = ..., last_sequence: _Optional[int] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("messages", "bytes")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    messages: int
    bytes: int
    def __init__(self, messages: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Stored(_message.Message):
    __slots__ = ("partition", "through_sequence", "batches")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    THROUGH_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    partition: int
    through_sequence: int
    batches: _containers.RepeatedCompositeFieldContainer[StoredBatch]
    def __init__(self, partition: _Optional[int] = ..., through_sequence: _Optional[int] = ..., batches: _Optional[_Iterable[_Union[StoredBatch, _Mapping[str, object]]]] = ...) -> None: ...

class StoredBatch(_message.Message):
    __slots__ = ("first_sequence", "first_position")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    first_position: int
    def __init__(self, first_sequence: _Optional[int] = ..., first_position: _Optional[int] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("partition", "first_sequence", "code", "message", "index")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    partition: int
    first_sequence: int
    code: int
    message: str
    index: int
    def __init__(self, partition: _Optional[int] = ..., first_sequence: _Optional[int] = ..., code: _Optional[int] = ..., message: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...

class PartitionsGrown(_message.Message):
    __slots__ = ("partitions",)
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    partitions: _containers.RepeatedCompositeFieldContainer[Partition]
    def __init__(self, partitions: _Optional[_Iterable[_Union[Partition, _Mapping[str, object]]]] = ...) -> None: ...

class ConsumeRequest(_message.Message):
    __slots__ = ("subscribe", "credit", "ack", "nack", "seek", "pause")
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    SEEK_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    subscribe: Subscribe
    credit: Credit
    ack: Ack
    nack: Nack
    seek: Seek
    pause: Pause
    def __init__(self, subscribe: _Optional[_Union[Subscribe, _Mapping[str, object]]] = ..., credit: _Optional[_Union[Credit, _Mapping[str, object]]] = ..., ack: _Optional[_Union[Ack, _Mapping[str, object]]] = ..., nack: _Optional[_Union[Nack, _Mapping[str, object]]] = ..., seek: _Optional[_Union[Seek, _Mapping[str, object]]] = ..., pause: _Optional[_Union[Pause, _Mapping[str, object]]] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("kind", "value")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EARLIEST: _ClassVar[Start.Kind]
        LATEST: _ClassVar[Start.Kind]
        POSITION: _ClassVar[Start.Kind]
        LAST: _ClassVar[Start.Kind]
        TIME: _ClassVar[Start.Kind]
    EARLIEST: Start.Kind
    LATEST: Start.Kind
    POSITION: Start.Kind
    LAST: Start.Kind
    TIME: Start.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    kind: Start.Kind
    value: int
    def __init__(self, kind: _Optional[_Union[Start.Kind, str]] = ..., value: _Optional[int] = ...) -> None: ...

class Subscribe(_message.Message):
    __slots__ = ("topics", "pattern", "subscription", "type", "consumer_name", "start", "key_filters", "credit", "compressions", "prefetch", "await_topics", "scattered")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EXCLUSIVE: _ClassVar[Subscribe.Type]
        SHARED: _ClassVar[Subscribe.Type]
        FAILOVER: _ClassVar[Subscribe.Type]
        KEY_SHARED: _ClassVar[Subscribe.Type]
    EXCLUSIVE: Subscribe.Type
    SHARED: Subscribe.Type
    FAILOVER: Subscribe.Type
    KEY_SHARED: Subscribe.Type
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_NAME_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    KEY_FILTERS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    COMPRESSIONS_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    AWAIT_TOPICS_FIELD_NUMBER: _ClassVar[int]
    SCATTERED_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedScalarFieldContainer[str]
    pattern: str
    subscription: str
    type: Subscribe.Type
    consumer_name: str
    start: Start
    key_filters: _containers.RepeatedScalarFieldContainer[str]
    credit: Credit
    compressions: _containers.RepeatedScalarFieldContainer[Compression]
    prefetch: int
    await_topics: bool
    scattered: bool
    def __init__(self, topics: _Optional[_Iterable[str]] = ..., pattern: _Optional[str] = ..., subscription: _Optional[str] = ..., type: _Optional[_Union[Subscribe.Type, str]] = ..., consumer_name: _Optional[str] = ..., start: _Optional[_Union[Start, _Mapping[str, object]]] = ..., key_filters: _Optional[_Iterable[str]] = ..., credit: _Optional[_Union[Credit, _Mapping[str, object]]] = ..., compressions: _Optional[_Iterable[_Union[Compression, str]]] = ..., prefetch: _Optional[int] = ..., await_topics: _Optional[bool] = ..., scattered: _Optional[bool] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("messages_total", "bytes_total")
    MESSAGES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    messages_total: int
    bytes_total: int
    def __init__(self, messages_total: _Optional[int] = ..., bytes_total: _Optional[int] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("topic", "ranges", "cumulative", "ticket")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    CUMULATIVE_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    topic: int
    ranges: _containers.RepeatedCompositeFieldContainer[Range]
    cumulative: int
    ticket: int
    def __init__(self, topic: _Optional[int] = ..., ranges: _Optional[_Iterable[_Union[Range, _Mapping[str, object]]]] = ..., cumulative: _Optional[int] = ..., ticket: _Optional[int] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("topic", "ranges", "delay_ms", "reason")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    topic: int
    ranges: _containers.RepeatedCompositeFieldContainer[Range]
    delay_ms: int
    reason: str
    def __init__(self, topic: _Optional[int] = ..., ranges: _Optional[_Iterable[_Union[Range, _Mapping[str, object]]]] = ..., delay_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Seek(_message.Message):
    __slots__ = ("topic", "start", "ticket")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    topic: int
    start: Start
    ticket: int
    def __init__(self, topic: _Optional[int] = ..., start: _Optional[_Union[Start, _Mapping[str, object]]] = ..., ticket: _Optional[int] = ...) -> None: ...

class Pause(_message.Message):
    __slots__ = ("paused",)
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    paused: bool
    def __init__(self, paused: _Optional[bool] = ...) -> None: ...

class ConsumeResponse(_message.Message):
    __slots__ = ("subscribed", "topic_added", "topic_ended", "delivery", "assignment", "lost", "end_of_backlog", "acked", "seeked")
    SUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ADDED_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ENDED_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    END_OF_BACKLOG_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    SEEKED_FIELD_NUMBER: _ClassVar[int]
    subscribed: Subscribed
    topic_added: TopicAdded
    topic_ended: TopicEnded
    delivery: Delivery
    assignment: Assignment
    lost: Lost
    end_of_backlog: EndOfBacklog
    acked: Acked
    seeked: Seeked
    def __init__(self, subscribed: _Optional[_Union[Subscribed, _Mapping[str, object]]] = ..., topic_added: _Optional[_Union[TopicAdded, _Mapping[str, object]]] = ..., topic_ended: _Optional[_Union[TopicEnded, _Mapping[str, object]]] = ..., delivery: _Optional[_Union[Delivery, _Mapping[str, object]]] = ..., assignment: _Optional[_Union[Assignment, _Mapping[str, object]]] = ..., lost: _Optional[_Union[Lost, _Mapping[str, object]]] = ..., end_of_backlog: _Optional[_Union[EndOfBacklog, _Mapping[str, object]]] = ..., acked: _Optional[_Union[Acked, _Mapping[str, object]]] = ..., seeked: _Optional[_Union[Seeked, _Mapping[str, object]]] = ...) -> None: ...

class Subscribed(_message.Message):
    __slots__ = ("consumer_name",)
    CONSUMER_NAME_FIELD_NUMBER: _ClassVar[int]
    consumer_name: str
    def __init__(self, consumer_name: _Optional[str] = ...) -> None: ...

class TopicAdded(_message.Message):
    __slots__ = ("topic", "name", "topic_id", "reliable", "created", "schema")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    RELIABLE_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    topic: int
    name: str
    topic_id: int
    reliable: bool
    created: bool
    schema: Schema
    def __init__(self, topic: _Optional[int] = ..., name: _Optional[str] = ..., topic_id: _Optional[int] = ..., reliable: _Optional[bool] = ..., created: _Optional[bool] = ..., schema: _Optional[_Union[Schema, _Mapping[str, object]]] = ...) -> None: ...

class TopicEnded(_message.Message):
    __slots__ = ("topic", "code", "message")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    topic: int
    code: int
    message: str
    def __init__(self, topic: _Optional[int] = ..., code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("topic", "first_position", "batch", "redelivered", "first_offset", "steps")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    REDELIVERED_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    topic: int
    first_position: int
    batch: Batch
    redelivered: _containers.RepeatedCompositeFieldContainer[Redelivered]
    first_offset: int
    steps: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, topic: _Optional[int] = ..., first_position: _Optional[int] = ..., batch: _Optional[_Union[Batch, _Mapping[str, object]]] = ..., redelivered: _Optional[_Iterable[_Union[Redelivered, _Mapping[str, object]]]] = ..., first_offset: _Optional[int] = ..., steps: _Optional[_Iterable[int]] = ...) -> None: ...

class Redelivered(_message.Message):
    __slots__ = ("index", "failures")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    index: int
    failures: int
    def __init__(self, index: _Optional[int] = ..., failures: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("topic", "active")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    topic: int
    active: bool
    def __init__(self, topic: _Optional[int] = ..., active: _Optional[bool] = ...) -> None: ...

class Lost(_message.Message):
    __slots__ = ("topic", "messages")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    topic: int
    messages: int
    def __init__(self, topic: _Optional[int] = ..., messages: _Optional[int] = ...) -> None: ...

class EndOfBacklog(_message.Message):
    __slots__ = ("topic",)
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic: int
    def __init__(self, topic: _Optional[int] = ...) -> None: ...

class Acked(_message.Message):
    __slots__ = ("ticket",)
    TICKET_FIELD_NUMBER: _ClassVar[int]
    ticket: int
    def __init__(self, ticket: _Optional[int] = ...) -> None: ...

class Seeked(_message.Message):
    __slots__ = ("ticket", "code", "message")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ticket: int
    code: int
    message: str
    def __init__(self, ticket: _Optional[int] = ..., code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("topic", "start", "end_position", "messages_max", "follow", "compressions")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_POSITION_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_MAX_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    COMPRESSIONS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    start: Start
    end_position: int
    messages_max: int
    follow: bool
    compressions: _containers.RepeatedScalarFieldContainer[Compression]
    def __init__(self, topic: _Optional[str] = ..., start: _Optional[_Union[Start, _Mapping[str, object]]] = ..., end_position: _Optional[int] = ..., messages_max: _Optional[int] = ..., follow: _Optional[bool] = ..., compressions: _Optional[_Iterable[_Union[Compression, str]]] = ...) -> None: ...

class ReadResponse(_message.Message):
    __slots__ = ("batch", "first_position", "first_offset", "missing")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    batch: Batch
    first_position: int
    first_offset: int
    missing: int
    def __init__(self, batch: _Optional[_Union[Batch, _Mapping[str, object]]] = ..., first_position: _Optional[int] = ..., first_offset: _Optional[int] = ..., missing: _Optional[int] = ...) -> None: ...

class DescribeTopicRequest(_message.Message):
    __slots__ = ("topic",)
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    topic: str
    def __init__(self, topic: _Optional[str] = ...) -> None: ...

class DescribeTopicResponse(_message.Message):
    __slots__ = ("exists", "topics", "partitioned", "reliable", "schema", "consumers", "subscriptions")
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONED_FIELD_NUMBER: _ClassVar[int]
    RELIABLE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    exists: bool
    topics: _containers.RepeatedCompositeFieldContainer[TopicBounds]
    partitioned: bool
    reliable: bool
    schema: Schema
    consumers: int
    subscriptions: int
    def __init__(self, exists: _Optional[bool] = ..., topics: _Optional[_Iterable[_Union[TopicBounds, _Mapping[str, object]]]] = ..., partitioned: _Optional[bool] = ..., reliable: _Optional[bool] = ..., schema: _Optional[_Union[Schema, _Mapping[str, object]]] = ..., consumers: _Optional[int] = ..., subscriptions: _Optional[int] = ...) -> None: ...

class TopicBounds(_message.Message):
    __slots__ = ("topic", "topic_id", "earliest_position", "end_position")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    EARLIEST_POSITION_FIELD_NUMBER: _ClassVar[int]
    END_POSITION_FIELD_NUMBER: _ClassVar[int]
    topic: str
    topic_id: int
    earliest_position: int
    end_position: int
    def __init__(self, topic: _Optional[str] = ..., topic_id: _Optional[int] = ..., earliest_position: _Optional[int] = ..., end_position: _Optional[int] = ...) -> None: ...

class ListTopicsRequest(_message.Message):
    __slots__ = ("pattern",)
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    pattern: str
    def __init__(self, pattern: _Optional[str] = ...) -> None: ...

class ListTopicsResponse(_message.Message):
    __slots__ = ("topics",)
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedCompositeFieldContainer[ListedTopic]
    def __init__(self, topics: _Optional[_Iterable[_Union[ListedTopic, _Mapping[str, object]]]] = ...) -> None: ...

class ListedTopic(_message.Message):
    __slots__ = ("topic", "partitions", "reliable")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    RELIABLE_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partitions: int
    reliable: bool
    def __init__(self, topic: _Optional[str] = ..., partitions: _Optional[int] = ..., reliable: _Optional[bool] = ...) -> None: ...
