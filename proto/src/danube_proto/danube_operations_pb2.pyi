from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateBackupRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BackupPart(_message.Message):
    __slots__ = ("kind", "name", "head", "data", "last", "segment", "archive")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[BackupPart.Kind]
        STREAM: _ClassVar[BackupPart.Kind]
        METADATA: _ClassVar[BackupPart.Kind]
        SEGMENT: _ClassVar[BackupPart.Kind]
        END: _ClassVar[BackupPart.Kind]
    UNKNOWN: BackupPart.Kind
    STREAM: BackupPart.Kind
    METADATA: BackupPart.Kind
    SEGMENT: BackupPart.Kind
    END: BackupPart.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    kind: BackupPart.Kind
    name: str
    head: bytes
    data: bytes
    last: bool
    segment: Segment
    archive: str
    def __init__(self, kind: _Optional[_Union[BackupPart.Kind, str]] = ..., name: _Optional[str] = ..., head: _Optional[bytes] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ..., segment: _Optional[_Union[Segment, _Mapping[str, object]]] = ..., archive: _Optional[str] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("bundle", "first_sequence", "backend", "size_bytes", "gone")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    bundle: str
    first_sequence: int
    backend: str
    size_bytes: int
    gone: bool
    def __init__(self, bundle: _Optional[str] = ..., first_sequence: _Optional[int] = ..., backend: _Optional[str] = ..., size_bytes: _Optional[int] = ..., gone: _Optional[bool] = ...) -> None: ...

class ReadSegmentRequest(_message.Message):
    __slots__ = ("bundle", "first_sequence", "key")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    bundle: str
    first_sequence: int
    key: str
    def __init__(self, bundle: _Optional[str] = ..., first_sequence: _Optional[int] = ..., key: _Optional[str] = ...) -> None: ...

class SegmentPart(_message.Message):
    __slots__ = ("data", "anew", "gone")
    DATA_FIELD_NUMBER: _ClassVar[int]
    ANEW_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    anew: bool
    gone: bool
    def __init__(self, data: _Optional[bytes] = ..., anew: _Optional[bool] = ..., gone: _Optional[bool] = ...) -> None: ...

class RestoreProgress(_message.Message):
    __slots__ = ("bytes", "records", "done")
    BYTES_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    records: int
    done: bool
    def __init__(self, bytes: _Optional[int] = ..., records: _Optional[int] = ..., done: _Optional[bool] = ...) -> None: ...

class ExamineRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExamineResponse(_message.Message):
    __slots__ = ("now_ms", "findings", "checks")
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    now_ms: int
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    checks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, now_ms: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping[str, object]]]] = ..., checks: _Optional[_Iterable[str]] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("severity", "check", "subject", "problem", "advice")
    class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[Finding.Severity]
        UNSEEN: _ClassVar[Finding.Severity]
        WARNING: _ClassVar[Finding.Severity]
        PROBLEM: _ClassVar[Finding.Severity]
    UNKNOWN: Finding.Severity
    UNSEEN: Finding.Severity
    WARNING: Finding.Severity
    PROBLEM: Finding.Severity
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    severity: Finding.Severity
    check: str
    subject: str
    problem: str
    advice: str
    def __init__(self, severity: _Optional[_Union[Finding.Severity, str]] = ..., check: _Optional[str] = ..., subject: _Optional[str] = ..., problem: _Optional[str] = ..., advice: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ClusterEvent(_message.Message):
    __slots__ = ("at_ms", "kind", "subject", "text")
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    at_ms: int
    kind: str
    subject: str
    text: str
    def __init__(self, at_ms: _Optional[int] = ..., kind: _Optional[str] = ..., subject: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...
