from __future__ import annotations

import pytest
from services.admin.tests.console.browser import Browser, act

from danube_admin_service.console.access import calls
from danube_common.cluster import keys
from danube_common.model.names import TopicName
from danube_common.model.subscription import StartKind, StartPosition, SubscriptionType
from danube_common.wire.owner.topics import SubscriptionDetail
from danube_proto import danube_admin_pb2 as admin

ORDERS = TopicName.parse("/default/orders")


async def test_a_topic_is_created_and_shown(browser: Browser) -> None:
    shown = await act(browser, "create-topic", topic=" /default/orders", strategy="reliable")
    assert shown.status == 303
    assert shown.location.startswith("/topic?name=%2Fdefault%2Forders&done=")
    assert "Topic /default/orders was created." in (await browser.get(shown.location)).words
    found = await browser.topics.require(ORDERS)
    assert found.strategy.is_reliable


async def test_a_topic_is_deleted_only_when_its_name_was_typed(browser: Browser) -> None:
    await browser.create("/default/orders")
    page = "/topic?name=/default/orders"
    for typed in ("", "/default/order", "orders"):
        shown = await act(browser, "delete-topic", page, topic="/default/orders", confirm=typed)
        assert shown.status == 400
        assert "nothing was done: type /default/orders to confirm" in shown.words
    await browser.topics.require(ORDERS)
    shown = await act(browser, "delete-topic", page, topic="/default/orders", confirm="/default/orders")
    assert (shown.status, shown.location[:13]) == (303, "/topics?done=")
    assert await browser.topics.get(ORDERS) is None


async def test_a_form_that_another_site_sends_does_nothing(browser: Browser) -> None:
    await browser.create("/default/orders")
    await browser.get("/topics")
    form = {"topic": "/default/orders", "confirm": "/default/orders"}
    for forged in ({}, {"form_token": ""}, {"form_token": "0" * 64}):
        shown = await browser.post("/do/delete-topic", **form, **forged)
        assert shown.status == 403
    browser.client.cookie_jar.clear()
    token = (await browser.get("/topics")).form_token
    browser.client.cookie_jar.clear()
    assert (await browser.post("/do/delete-topic", form_token=token, **form)).status == 403
    await browser.topics.require(ORDERS)


async def test_the_cookie_is_not_for_scripts_nor_for_other_sites(browser: Browser) -> None:
    async with browser.client.get("/topics") as answer:
        cookie = answer.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


async def test_without_log_in_a_foreign_name_of_this_machine_is_refused(browser: Browser) -> None:
    for host in ("attacker.example", "localhost.attacker.example", "attacker.example:9040"):
        assert (await browser.get("/topics", {"Host": host})).status == 403, host
    for host in ("localhost:9040", "127.0.0.1", "[::1]:9040"):
        assert (await browser.get("/topics", {"Host": host})).status == 200, host


async def test_policies_are_set(browser: Browser) -> None:
    await browser.create("/default/orders")
    page = "/topic?name=/default/orders"
    form = {"topic": "/default/orders", "policy": "max_publish_rate"}
    assert (await act(browser, "set-topic-policy", page, **form, value=" 70 ")).status == 303
    assert "max_publish_rate 70 messages/s this topic" in (await browser.get(page)).words
    for wrong in ({**form, "value": "-1"}, {**form, "value": ""}, {**form, "policy": "none", "value": "1"}):
        assert (await act(browser, "set-topic-policy", page, **wrong)).status == 400
    form = {"namespace": "default", "policy": "max_dispatch_rate", "value": "9"}
    assert (await act(browser, "set-namespace-policy", "/namespaces", **form)).status == 303
    assert "max_dispatch_rate 9 messages/s namespace" in (await browser.get(page)).words


async def test_a_subscription_is_reset_and_deleted_when_its_name_was_typed(browser: Browser) -> None:
    await browser.create("/default/orders")
    browser.owner.subscriptions["/default/orders"] = ["kitchen"]
    page = "/topic?name=/default/orders"
    form = {"topic": "/default/orders", "subscription": "kitchen"}
    start = {"from": "time", "value": "1970-01-01 00:01"}
    assert (await act(browser, "reset-subscription", page, **form, **start)).status == 400
    assert browser.owner.resets == []
    shown = await act(browser, "reset-subscription", page, **form, **start, confirm="kitchen")
    assert shown.status == 303
    assert browser.owner.resets == [("/default/orders", "kitchen", StartPosition(StartKind.TIME, 60_000))]
    assert (await act(browser, "unsubscribe", page, **form)).status == 400
    assert (await act(browser, "unsubscribe", page, **form, confirm="kitchen")).status == 303
    assert browser.owner.subscriptions["/default/orders"] == []


async def test_namespaces_are_created_and_deleted(browser: Browser) -> None:
    assert (await act(browser, "create-namespace", "/namespaces", namespace="shop")).status == 303
    assert await browser.store.get(keys.namespace_key("shop")) is not None
    assert (await act(browser, "create-namespace", "/namespaces", namespace="shop")).status in (404, 409)
    shown = await act(browser, "delete-namespace", "/namespaces", namespace="shop", confirm="shop")
    assert shown.status == 303
    assert await browser.store.get(keys.namespace_key("shop")) is None


async def test_schemas_are_registered_and_their_change_is_shown(browser: Browser) -> None:
    form = {"subject": "order", "type": "json_schema"}
    first = '{"type":"object","additionalProperties":false,"properties":{"a":{"type":"string"}}}'
    second = first.replace('"a":', '"b":{"type":"string"},"a":')
    for definition in (first, second):
        shown = await act(browser, "register-schema", "/schemas", **form, definition=definition)
        assert shown.status == 303, shown.words
    words = (await browser.get("/schema?name=order")).words
    assert "Version 2" in words
    assert "What changed --- version 1 +++ version 2" in words
    assert "What changed" not in (await browser.get("/schema?name=order&version=1")).words
    refused = await act(browser, "register-schema", "/schemas", **form, definition="{")
    assert refused.status == 400


async def test_the_only_owner_is_not_drained(browser: Browser) -> None:
    shown = await act(browser, "drain", "/cluster", instance="71", confirm="71")
    assert shown.status == 400
    assert "nobody could take its topics" in shown.words


@pytest.mark.parametrize("action", ["none", "unload-topic"])
async def test_what_cannot_be_done_is_said(browser: Browser, action: str) -> None:
    assert (await act(browser, action, topic="/default/none")).status == 404


async def test_policies_are_inherited_again(browser: Browser) -> None:
    await browser.create("/default/orders")
    page = "/topic?name=/default/orders"
    form = {"topic": "/default/orders", "policy": "max_publish_rate", "value": "7"}
    assert "Inherit all again" not in (await browser.get(page)).words
    await act(browser, "set-topic-policy", page, **form)
    assert "Inherit all again" in (await browser.get(page)).words
    assert (await act(browser, "clear-topic-policies", page, topic="/default/orders")).status == 303
    assert "max_publish_rate no limit cluster" in (await browser.get(page)).words
    named = {"namespace": "default", "policy": "max_publish_rate", "value": "8"}
    await act(browser, "set-namespace-policy", "/namespaces", **named)
    assert "max_publish_rate 8 messages/s this namespace" in (await browser.get("/namespaces")).words
    assert (await act(browser, "clear-namespace-policies", "/namespaces", namespace="default")).status == 303
    assert "Inherit all again" not in (await browser.get("/namespaces")).words


async def test_a_partitioned_topic_is_created_and_grows(browser: Browser) -> None:
    form = {"topic": "/default/p", "strategy": "reliable"}
    assert (await act(browser, "create-partitions", "/topics", **form, partitions="2")).status == 303
    page = "/topic?name=/default/p"
    assert "2 partitions" in (await browser.get(page)).words
    assert (await act(browser, "grow-topic", page, topic="/default/p", partitions="3")).status == 303
    assert "3 partitions" in (await browser.get(page)).words


async def test_what_happens_when_a_delivery_fails_is_changed(browser: Browser) -> None:
    await browser.create("/default/orders")
    browser.owner.subscriptions["/default/orders"] = ["kitchen"]
    detail = SubscriptionDetail("kitchen", SubscriptionType.SHARED, [], 0, 0, backlog_exact=True, unacked=0)
    browser.owner.details["/default/orders"] = [detail]
    page = "/subscription?topic=/default/orders&name=kitchen"
    form = {
        "topic": "/default/orders",
        "subscription": "kitchen",
        "max_redelivery_count": "4",
        "ack_timeout": "2m",
        "base_delay": "1s",
        "max_delay": "1m",
        "poison_policy": "dead-letter",
        "dead_letter_topic": "/default/orders-failed",
    }
    assert (await act(browser, "set-failure-policy", page, **form)).status == 303
    words = (await browser.get(page)).words
    assert "not acknowledged within 2 min" in words.replace("\u202f", " ")
    assert "at most 4 times. After that it goes to the dead-letter topic /default/orders-failed" in words
    assert (await act(browser, "set-failure-policy", page, **{**form, "poison_policy": "x"})).status == 400


async def test_a_version_is_checked_before_it_is_registered(browser: Browser) -> None:
    first = '{"type":"record","name":"O","fields":[{"name":"a","type":"string"}]}'
    form = {"subject": "order", "type": "avro", "definition": first}
    await act(browser, "register-schema", "/schemas", **form)
    token = (await browser.get("/schema?name=order")).form_token
    needed = first.replace("]", ',{"name":"b","type":"int"}]')
    checked = {"form_token": token, "name": "order", "type": "avro", "check": "1"}
    shown = await browser.post("/schema", **checked, definition=needed)
    assert shown.status == 200
    assert "It would be refused:" in shown.words
    assert '"name": "b",' in shown.words
    optional = needed.replace('"int"', '"int","default":0')
    assert "It may be registered" in (await browser.post("/schema", **checked, definition=optional)).words
    assert "It would be refused:" in (await browser.post("/schema", **checked, definition="{")).words
    assert len((await browser.get("/schema?name=order")).text.split("&amp;version=")) == 2
    new = {"form_token": token, "subject": "new", "type": "avro", "definition": first, "check": "1"}
    assert "It may be registered" in (await browser.post("/schemas", **new)).words
    assert (await browser.post("/schema", name="order", check="1", definition="{}")).status == 403


async def test_the_compatibility_of_a_subject_is_changed_and_a_version_deleted(browser: Browser) -> None:
    form = {"subject": "order", "type": "json_schema", "definition": '{"type":"string"}'}
    await act(browser, "register-schema", "/schemas", **form)
    page = "/schema?name=order"
    assert (await act(browser, "set-compatibility", page, subject="order", mode="none")).status == 303
    assert "compatibility none" in (await browser.get(page)).words
    await act(browser, "register-schema", page, **{**form, "definition": '{"type":"number"}'})
    gone = {"subject": "order", "version": "1"}
    assert (await act(browser, "delete-schema-version", page, **gone)).status == 400
    assert (await act(browser, "delete-schema-version", page, **gone, confirm="order")).status == 303


async def test_what_rebalancing_would_move_is_drawn_first(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "See what would move" in (await browser.get("/cluster")).words
    move = admin.ProposedMove(topic_name="f1", from_broker=71, to_broker=72, estimated_load=3, reason="load")

    async def propose(_call: object) -> bytes:
        return admin.RebalanceResponse(success=True, proposed_moves=[move]).SerializeToString()

    monkeypatch.setitem(browser.methods.unary, calls.REBALANCE, propose)
    shown = await browser.get("/cluster?plan=1")
    assert "1 bundles would move" in shown.words
    assert '<span class="chip leaves">f1</span>' in shown.text
    assert (await act(browser, "rebalance", "/cluster")).status == 303
