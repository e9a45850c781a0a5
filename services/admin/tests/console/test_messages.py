from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest_asyncio
from services.admin.tests.console.browser import Browser, act, dead, stored

from danube_common.cluster import keys
from danube_common.cluster.records import Instance, encode_record
from danube_common.model.bundle import Bundle
from danube_common.model.names import TopicName
from danube_common.model.position import position_of
from danube_common.model.subscription import StartKind, StartPosition, SubscriptionType
from danube_common.wire.owner.topics import SubscriptionDetail
from danube_harness.services.stub_gateway import StubGateway
from danube_proto.danube_api_pb2 import Schema

FAILED = "/default/orders-failed"
PAGE = f"/dead-letters?topic={FAILED}"


@pytest_asyncio.fixture
async def gateway(browser: Browser) -> AsyncIterator[StubGateway]:
    """A gateway that the platform knows, beside one that does not answer."""
    async with StubGateway() as stub:
        for number, address in (("5", "http://127.0.0.1:1"), ("6", stub.address)):
            instance = Instance(number, "gateway", "", address)
            await browser.store.put(keys.instance_key(number), encode_record(instance))
        stub.schemas["/default/orders"] = Schema()
        yield stub


async def letters(browser: Browser, *messages: bytes) -> None:
    await browser.create("/default/orders")
    await browser.create(FAILED)
    browser.owner.messages[FAILED] = list(messages)


async def test_a_test_message_is_published_through_a_gateway_that_answers(
    browser: Browser, gateway: StubGateway
) -> None:
    await browser.create("/default/orders")
    page = "/topic?name=/default/orders"
    form = {"topic": "/default/orders", "payload": "tea", "key": "table 9", "attributes": "shop=north\r\n"}
    shown = await act(browser, "publish", page, **form)
    assert shown.status == 303, shown.words
    (message,) = gateway.accepted["/default/orders"]
    assert (message.payload, message.routing_key, dict(message.attributes)) == (
        b"tea",
        "table 9",
        {"shop": "north"},
    )
    assert message.publish_time
    assert (await act(browser, "publish", page, **{**form, "attributes": "nonsense"})).status == 400


async def test_that_no_gateway_answers_is_said(browser: Browser) -> None:
    await browser.create("/default/orders")
    form = {"topic": "/default/orders", "payload": "tea", "attributes": ""}
    shown = await act(browser, "publish", "/topic?name=/default/orders", **form)
    assert shown.status == 503
    assert "no gateway could be reached" in shown.words


async def test_dead_letters_are_shown_with_where_and_why_they_failed(browser: Browser) -> None:
    await letters(browser, dead(b'{"what":"tea"}'), dead(b"soup"))
    words = (await browser.get(PAGE)).words
    assert "2 dead letters wait" in words
    assert "/default/orders kitchen 3 \N{MULTIPLICATION SIGN} oven is off" in words
    assert "shop north" in words
    assert "x-failure-reason" not in words
    browser.owner.messages[FAILED] = []
    assert "No dead letter waits." in (await browser.get(PAGE)).words


async def test_dead_letters_are_published_again_as_they_were_and_then_passed(
    browser: Browser, gateway: StubGateway
) -> None:
    await letters(browser, dead(b"tea"), dead(b"soup"), dead(b"toast"))
    through = str(position_of(2, 0, 0))
    shown = await act(browser, "redeliver", PAGE, topic=FAILED, through=f"{FAILED}={through}")
    assert shown.status == 303, shown.words
    accepted = gateway.accepted["/default/orders"]
    assert [one.payload for one in accepted] == [b"tea", b"soup"]
    assert dict(accepted[0].attributes) == {"shop": "north"}
    start = StartPosition(StartKind.POSITION, position_of(2, 0, 0) + 1)
    assert browser.owner.resets == [(FAILED, "danube-admin-redeliver", start)]


async def test_what_was_published_before_a_failure_is_passed_and_the_rest_is_not(
    browser: Browser, gateway: StubGateway
) -> None:
    await letters(browser, dead(b"tea"), stored(b"no dead letter"), dead(b"toast"))
    shown = await act(browser, "redeliver", PAGE, topic=FAILED, through=f"{FAILED}={position_of(3, 0, 0)}")
    assert shown.status == 400
    assert "is no dead letter" in shown.words
    assert [one.payload for one in gateway.accepted["/default/orders"]] == [b"tea"]
    assert [start.value for _, _, start in browser.owner.resets] == [position_of(1, 0, 0) + 1]


async def test_dead_letters_are_dropped_when_the_topics_name_was_typed(browser: Browser) -> None:
    await letters(browser, dead(b"tea"), dead(b"soup"))
    form = {"topic": FAILED, "through": f"{FAILED}={position_of(9, 0, 0)}"}
    assert (await act(browser, "drop-dead-letters", PAGE, **form)).status == 400
    assert browser.owner.resets == []
    shown = await act(browser, "drop-dead-letters", PAGE, **form, confirm=FAILED)
    assert "2+dead+letters+were+dropped" in shown.location
    assert [start.value for _, _, start in browser.owner.resets] == [position_of(2, 0, 0) + 1]


async def test_dead_letters_that_were_passed_are_not_shown_again(browser: Browser) -> None:
    await letters(browser, dead(b"tea"), dead(b"soup"))
    done = position_of(1, 0, 0)
    name = "danube-admin-redeliver"
    detail = SubscriptionDetail(name, SubscriptionType.SHARED, [], done, 1, backlog_exact=True, unacked=0)
    browser.owner.details[FAILED] = [detail]
    words = (await browser.get(PAGE)).words
    assert "1 dead letters wait" in words
    assert "soup" in words


async def test_dead_letters_of_all_partitions_are_shown_published_again_and_dropped(
    browser: Browser, gateway: StubGateway
) -> None:
    await browser.create("/default/orders")
    form = {"topic": FAILED, "partitions": "3", "strategy": "Reliable"}
    assert (await act(browser, "create-partitions", **form)).status == 303
    first, second, third = (f"{FAILED}-part-{number}" for number in range(3))
    browser.owner.messages = {second: [dead(b"tea"), dead(b"soup")], third: [dead(b"toast")]}
    shown = await browser.get(PAGE)
    assert "3 dead letters wait" in shown.words
    assert re.search("tea .* soup .* toast", shown.words)

    through = re.findall(r'name="through" value="([^",]+)"', shown.text)[0]
    await act(browser, "redeliver", PAGE, topic=FAILED, through=through)
    assert [one.payload for one in gateway.accepted["/default/orders"]] == [b"tea"]
    assert [topic for topic, _, _ in browser.owner.resets] == [second]

    (through,) = set(re.findall(r'name="through" value="([^"]+,[^"]+)"', shown.text))
    browser.owner.resets.clear()
    shown = await act(browser, "drop-dead-letters", PAGE, topic=FAILED, through=through, confirm=FAILED)
    assert "3+dead+letters+were+dropped" in shown.location
    assert [topic for topic, _, _ in browser.owner.resets] == [second, third]
    assert first not in through


async def test_a_partition_that_cannot_be_read_is_named_beside_the_dead_letters_of_the_others(
    browser: Browser,
) -> None:
    browser.sources.owners.timeout_s = 0.2
    form = {"topic": FAILED, "partitions": "2", "strategy": "Reliable"}
    assert (await act(browser, "create-partitions", **form)).status == 303
    first, second = (f"{FAILED}-part-{number}" for number in range(2))
    browser.owner.messages = {second: [dead(b"soup")]}
    owned = await browser.topics.require(TopicName.parse(first))
    await browser.store.delete(keys.owner_key(Bundle.parse(owned.bundle)))
    words = (await browser.get(PAGE)).words
    assert "1 dead letters wait" in words
    assert f"{first}: " in words


async def test_avro_payloads_are_decoded_by_the_subject_of_their_topic(browser: Browser) -> None:
    await browser.create("/default/orders")
    fields = [{"name": "what", "type": "string"}]
    definition = json.dumps({"type": "record", "name": "Order", "fields": fields})
    form = {"subject": "order", "type": "avro", "definition": definition}
    assert (await act(browser, "register-schema", "/schemas", **form)).status == 303
    page = "/topic?name=/default/orders"
    chosen = {"topic": "/default/orders", "subject": "order", "validation": "warn"}
    assert (await act(browser, "set-topic-schema", page, **chosen)).status == 303
    assert "Subject order , messages are published and counted" in (await browser.get(page)).words
    browser.owner.messages["/default/orders"] = [stored(b"\x06tea")]
    words = (await browser.get("/peek?topic=/default/orders&as=avro")).words
    assert re.search(r'shown as avro \{ "what": "tea" \}', words)
