from __future__ import annotations

import pytest
from services.admin.tests.console.browser import Browser, Shown

from danube_common.cluster import keys
from danube_common.model.names import TopicName
from danube_common.model.subscription import StartKind, StartPosition

ORDERS = TopicName.parse("/default/orders")


async def act(browser: Browser, action: str, page: str = "/topics", **form: str) -> Shown:
    token = (await browser.get(page)).form_token
    return await browser.post(f"/do/{action}", form_token=token, **form)


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
    assert "max_publish_rate 70 this topic" in (await browser.get(page)).words
    for wrong in ({**form, "value": "-1"}, {**form, "value": ""}, {**form, "policy": "none", "value": "1"}):
        assert (await act(browser, "set-topic-policy", page, **wrong)).status == 400
    form = {"namespace": "default", "policy": "max_dispatch_rate", "value": "9"}
    assert (await act(browser, "set-namespace-policy", "/namespaces", **form)).status == 303
    assert "max_dispatch_rate 9 namespace" in (await browser.get(page)).words


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
