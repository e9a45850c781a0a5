from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import DanubeError, InvalidInput
from danube_common.model.producer import AccessMode
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import DEFAULT_STORAGE, Retention, StorageBackend, Strategy
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.protobuf_fields import varint
from danube_gateway.dialects.errors import to_rpc_error
from danube_gateway.dialects.v0_2.model import (
    access_mode_of,
    generation_of,
    prefetch_of,
    schema_message,
    schema_of,
    strategy_of,
    subscription_type_of,
)
from danube_proto import danube_api_pb2 as api

U64 = st.integers(0, (1 << 64) - 1)
TEXTS = st.text(max_size=12)


@pytest.mark.parametrize(
    "broker_addr", ["", "http://127.0.0.1:6650/", "#", "#x", "#-1", "#1 ", "http://h/#7", "#" + "9" * 16]
)
def test_what_is_no_generation_is_the_first_one(broker_addr: str) -> None:
    assert generation_of(api.MsgID(broker_addr=broker_addr)) == 0


@given(U64)
def test_a_varint_is_protobufs(number: int) -> None:
    assert b"\x08" + varint(number) == (api.StreamMessage(request_id=number).SerializeToString() or b"\x08\0")


@given(st.builds(Schema, TEXTS, st.sampled_from(SchemaKind), TEXTS))
def test_a_schema_comes_back_as_it_was_given(schema: Schema) -> None:
    assert schema_of(schema_message(schema)) == schema


def reliable_options(**fields: Any) -> api.ReliableOptions:
    """Enumerations by number, including undefined numbers."""
    return api.ReliableOptions(**fields)


def strategy_message(number: Any, options: api.ReliableOptions | None = None) -> api.TopicDispatchStrategy:
    return api.TopicDispatchStrategy(strategy=number, reliable_options=options)


def test_a_schema_that_is_no_text_or_of_no_type_is_refused() -> None:
    unknown: Any = 9
    for message in (api.Schema(schema_data=b"\xff"), api.Schema(type_schema=unknown)):
        with pytest.raises(InvalidInput):
            schema_of(message)


def test_a_reliable_strategy_keeps_its_options() -> None:
    options = reliable_options(
        segment_size=7, storage_backend=2, storage_path="p", retention_policy=0, retention_period=60
    )
    strategy = strategy_of(strategy_message(1, options), DEFAULT_STORAGE)
    assert strategy.reliable is not None
    assert (strategy.reliable.segment_size_mb, strategy.reliable.storage) == (7, StorageBackend.S3)
    assert (strategy.reliable.storage_path, strategy.reliable.retention) == ("p", Retention.UNTIL_ACK)
    assert strategy.reliable.retention_period_s == 60


@pytest.mark.parametrize("default", StorageBackend)
def test_only_who_names_no_backend_gets_the_default(default: StorageBackend) -> None:
    def storage(data: bytes) -> StorageBackend:
        strategy = strategy_of(api.TopicDispatchStrategy.FromString(data), default)
        assert strategy.reliable is not None
        return strategy.reliable.storage

    assert storage(b"\x08\x01\x12\x02\x08\x05") is default
    named = [storage(b"\x08\x01\x12\x04\x08\x05\x10" + bytes([number])) for number in range(3)]
    assert named == [StorageBackend.MEMORY, StorageBackend.DISK, StorageBackend.S3]


def test_without_options_a_strategy_is_non_reliable() -> None:
    assert strategy_of(strategy_message(0), DEFAULT_STORAGE) == Strategy()
    assert strategy_of(strategy_message(1), DEFAULT_STORAGE) == Strategy()


def test_a_strategy_out_of_range_is_refused() -> None:
    for message in (
        strategy_message(2),
        strategy_message(1, reliable_options(storage_backend=3)),
        strategy_message(1, reliable_options(retention_policy=2)),
    ):
        with pytest.raises(InvalidInput):
            strategy_of(message, DEFAULT_STORAGE)


@pytest.mark.parametrize("number", [-1, 3, 99])
def test_modes_and_types_out_of_range_are_refused(number: int) -> None:
    with pytest.raises(InvalidInput):
        access_mode_of(number)
    with pytest.raises(InvalidInput):
        subscription_type_of(number)


def test_modes_and_types_are_numbered_as_on_the_wire() -> None:
    assert [access_mode_of(n) for n in range(2)] == [AccessMode.SHARED, AccessMode.EXCLUSIVE]
    kinds = [SubscriptionType.EXCLUSIVE, SubscriptionType.SHARED, SubscriptionType.FAILOVER]
    assert [subscription_type_of(n) for n in range(3)] == kinds


def all_errors(kind: type[DanubeError]) -> list[type[DanubeError]]:
    return [kind, *(error for one in kind.__subclasses__() for error in all_errors(one))]


@pytest.mark.parametrize("kind", all_errors(DanubeError), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_its_detail(kind: type[DanubeError]) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, "what happened")
    status = to_rpc_error(error)
    assert status is not None
    detail = api.ErrorMessage()
    trailer = status.trailers["error-message-bin"]
    assert isinstance(trailer, bytes)
    detail.ParseFromString(trailer)
    assert detail.error_message == status.message


@pytest.mark.parametrize(("metadata", "prefetch"), [({}, 0), ({"danube-prefetch": "12"}, 12)])
def test_a_stream_may_name_its_prefetch(metadata: dict[str, str | bytes], prefetch: int) -> None:
    assert prefetch_of(metadata) == prefetch


@pytest.mark.parametrize("text", ["", "-1", "x", "1" * 5000, "\u0663", b"1"])
def test_a_prefetch_that_is_no_number_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidInput, match="danube-prefetch"):
        prefetch_of({"danube-prefetch": text})
