from __future__ import annotations

from datetime import UTC, datetime

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from danube_client import Client, InvalidRequest, Start, StartKind, SubscribeDenied
from danube_harness.services.stub_gateway import NOT_READY, Failure, StubGateway
from danube_proto import danube_api_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

NOW_MS = 10_000_000
TOPIC = "/default/t"


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", Start.earliest()),
        (" Latest ", Start.latest()),
        ("-1", Start.last(1)),
        ("-100", Start.last(100)),
        ("67108864", Start.at(1 << 26)),
        ("20261123", Start.at(20261123)),
        ("90s", Start(StartKind.TIME, NOW_MS - 90_000)),
        ("2h ago", Start(StartKind.TIME, NOW_MS - 7_200_000)),
        ("9d", Start(StartKind.TIME, 0)),
        ("1970-01-02", Start(StartKind.TIME, 86_400_000)),
        ("1970-01-01T01:00:00Z", Start.since(datetime(1970, 1, 1, 1, tzinfo=UTC))),
        ("1970-01-01 02:00:00.250+01:00", Start(StartKind.TIME, 3_600_250)),
    ],
)
def test_each_form_says_where_to_begin(text: str, start: Start) -> None:
    assert Start.parse(text, now_ms=NOW_MS) == start


@pytest.mark.parametrize("text", ["", "0", "-0", "now", "-5m", "1e3", str(1 << 63), "1969-12-31", "12:00"])
def test_anything_else_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="earliest, latest"):
        Start.parse(text, now_ms=NOW_MS)


@given(st.text(max_size=30))
def test_any_text_is_a_start_or_refused(text: str) -> None:
    try:
        start = Start.parse(text)
    except ValueError:
        return
    assert platform.SubscriptionStart.FromString(start.to_wire().SerializeToString()).value == start.value


@pytest.mark.parametrize(
    ("kind", "value"),
    [(StartKind.LAST, 0), (StartKind.POSITION, -1), (StartKind.TIME, -1), (StartKind.LATEST, 1)],
)
def test_a_start_that_cannot_be_meant_is_refused(kind: StartKind, value: int) -> None:
    with pytest.raises(ValueError, match=kind.name):
        Start(kind, value)


async def test_a_subscription_is_made_at_its_initial_position_once(
    gateway: StubGateway, client: Client
) -> None:
    gateway.schemas = {f"{TOPIC}-part-{n}": wire.Schema() for n in range(2)}
    gateway.failures["CreateSubscription"].append(NOT_READY)
    async with client.consumer(TOPIC, "s", name="c", initial_position=Start.last(3)) as consumer:
        assert consumer.created
    assert {key: start.value for key, start in gateway.subscriptions.items()} == {
        (f"{TOPIC}-part-0", "s"): 3,
        (f"{TOPIC}-part-1", "s"): 3,
    }
    assert len(gateway.requests["CreateSubscription"]) == 3
    async with client.consumer(TOPIC, "s", name="c", initial_position=Start.latest()) as consumer:
        assert consumer.created is False


async def test_without_an_initial_position_nothing_new_is_asked(gateway: StubGateway, client: Client) -> None:
    gateway.schemas[TOPIC] = wire.Schema()
    async with client.consumer(TOPIC, "s", name="c") as consumer:
        assert consumer.created is None
    assert not gateway.requests["CreateSubscription"]


async def test_a_position_is_refused_where_there_are_partitions(gateway: StubGateway, client: Client) -> None:
    gateway.schemas = {f"{TOPIC}-part-{n}": wire.Schema() for n in range(2)}
    with pytest.raises(InvalidRequest, match="2 partitions"):
        await client.consumer(TOPIC, "s", name="c", initial_position=Start.at(5))
    assert not gateway.subscriptions


async def test_a_refused_creation_is_the_consumers_error(gateway: StubGateway, client: Client) -> None:
    gateway.schemas[TOPIC] = wire.Schema()
    refusal = Failure(StatusCode.PERMISSION_DENIED, wire.SUBSCRIBE_PERMISSION_DENIED, "it is shared")
    gateway.failures["CreateSubscription"].append(refusal)
    with pytest.raises(SubscribeDenied, match="it is shared"):
        await client.consumer(TOPIC, "s", name="c", initial_position=Start.earliest())
