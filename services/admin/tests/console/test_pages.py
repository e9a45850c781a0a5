from __future__ import annotations

import re

import pytest
from services.admin.tests.console.browser import BYTES, RELIABLE, Browser, stored

from danube_admin_service.console.live.activity import Process
from danube_admin_service.console.live.scrape import Flow, Lag
from danube_admin_service.console.pages import PAGES
from danube_common.model.names import TopicName
from danube_common.model.policies import PolicyOverrides
from danube_common.model.strategy import Strategy
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.owner.topics import SubscriptionDetail

KITCHEN = SubscriptionDetail(
    "kitchen",
    SubscriptionType.SHARED,
    ["cook"],
    12,
    34,
    backlog_exact=True,
    unacked=5,
    blocked="it is poison",
)


async def shop(browser: Browser) -> None:
    """A topic with a subscription that is behind."""
    await browser.create("/default/orders")
    browser.owner.subscriptions["/default/orders"] = ["kitchen"]
    browser.owner.details["/default/orders"] = [KITCHEN]
    activity = browser.sources.activity
    activity.rates = {"/default/orders": Flow(4.5, 99, 3, 88)}
    activity.lags = {("/default/orders", "kitchen"): Lag(34, 150, 6, 1)}
    activity.processes = {"71": Process(12.5, 2048), "5": Process(problem="metadata: away")}
    activity.sampled_ms = 1


@pytest.mark.parametrize(
    "path", sorted(PAGES.keys() - {"/topic", "/subscription", "/peek", "/schema", "/dead-letters"})
)
async def test_each_page_of_an_empty_platform_says_so_and_is_complete(browser: Browser, path: str) -> None:
    shown = await browser.get(path)
    assert shown.status == 200
    assert f"<title>{PAGES[path].title} | Danube</title>" in shown.text
    assert "aria-current" in shown.text
    assert not re.search(r'(src|href)="(https?:)?//', shown.text)
    assert not re.search(r"\sstyle=|\son\w+=", shown.text)
    labelled = set(re.findall(r'<label for="([^"]+)"', shown.text))
    named = set(re.findall(r'<(?:input|select|textarea) id="([^"]+)"', shown.text))
    assert named == labelled
    assert shown.text.count("<th ") == shown.text.count('scope="')


async def test_the_overview_tells_rates_what_is_behind_and_who_is_not_well(browser: Browser) -> None:
    await shop(browser)
    words = (await browser.get("/")).words
    assert "Messages in 4.5/s" in words
    assert "/default/orders kitchen 34 2 min 6" in words
    assert "gateway 5: metadata: away" in words
    assert re.search("Topic owner . 1", words)


async def test_topics_are_found_by_a_part_of_their_name_and_sorted(browser: Browser) -> None:
    await shop(browser)
    await browser.create("/default/a-quiet-one")
    await browser.create("/system/events", Strategy())
    shown = await browser.get("/topics?sort=backlog")
    assert re.findall(r">(/\w+/[\w-]+)</a>", shown.text) == [
        "/default/orders",
        "/default/a-quiet-one",
        "/system/events",
    ]
    assert "non-reliable" in shown.words
    shown = await browser.get("/topics?q=QUIET")
    assert "1 topic" in shown.words
    assert "name=%2Fdefault%2Forders" not in shown.text
    assert "0 topics" in (await browser.get("/topics?q=<script>&page=x")).words


async def test_partitions_are_folded_under_their_topic(browser: Browser) -> None:
    plan = await browser.topics.plan_partitions(TopicName.parse("/default/p"), range(3), BYTES, RELIABLE)
    await browser.topics.write(plan)
    browser.sources.activity.rates = {"/default/p-part-0": Flow(1), "/default/p-part-2": Flow(2)}
    browser.sources.activity.lags = {("/default/p-part-1", "s"): Lag(7, 3)}
    words = (await browser.get("/topics")).words
    assert "1 topic" in words
    assert "/default/p reliable 3 3.0/s 0/s 7 3 s 71" in words
    words = (await browser.get("/topic?name=/default/p")).words
    assert "3 partitions" in words
    assert "/default/p-part-2" in words


async def test_a_topic_tells_who_uses_it_where_it_is_and_where_its_policies_come_from(
    browser: Browser,
) -> None:
    await shop(browser)
    await browser.sources.namespaces.set_policies("default", PolicyOverrides(max_publish_rate=50))
    await browser.topics.set_policies(
        TopicName.parse("/default/orders"), PolicyOverrides(max_consumers_per_topic=3)
    )
    words = (await browser.get("/topic?name=/default/orders")).words
    assert "kitchen shared cook 34 2 min 5 0 6 0" in words
    assert "kitchen waits: it is poison" in words
    assert "max_publish_rate 50 messages/s namespace" in words
    assert "max_consumers_per_topic 3 this topic" in words
    assert "max_retained_mb no limit cluster" in words
    assert "71" in words


async def test_what_does_not_exist_is_said(browser: Browser) -> None:
    for path in ("/topic?name=/default/none", "/peek?topic=/default/none", "/schema?name=none"):
        shown = await browser.get(path)
        assert shown.status == 404, path
        assert 'role="alert"' in shown.text
    assert (await browser.get("/topic?name=nonsense")).status == 400
    assert (await browser.get("/static/none.css")).status == 404
    assert (await browser.get("/subscription?topic=/default/none&name=s")).status == 404


async def test_messages_are_looked_at_as_json_text_or_hexadecimal(browser: Browser) -> None:
    await shop(browser)
    browser.owner.messages["/default/orders"] = [
        stored(b'{"what":"tea"}', table="9"),
        stored(b"plain <b>"),
        stored(b"\x00\xff" * 10),
    ]
    words = (await browser.get("/peek?topic=/default/orders")).words
    assert '"what": "tea"' in words
    assert "table 9" in words
    assert "plain <b>" in words
    assert "000010 00 ff 00 ff" in words
    assert "producer till" in words
    assert browser.owner.resets == []
    shown = await browser.get("/peek?topic=/default/orders&from=earliest&n=1&as=hex")
    assert "7b 22 77 68" in shown.words
    assert "plain" not in shown.words
    following = re.search(r'<a rel="next" class="button" href="([^"]+)"', shown.text)
    assert following is not None
    assert "70 6c 61 69 6e" in (await browser.get(following[1].replace("&amp;", "&"))).words
    for wrong in ("n=0", "n=101", "from=time&value=noon", "from=position&value=-1", "from=nowhere"):
        assert (await browser.get(f"/peek?topic=/default/orders&{wrong}")).status == 400, wrong


async def test_a_long_payload_is_cut_and_says_so(browser: Browser) -> None:
    await shop(browser)
    browser.owner.messages["/default/orders"] = [stored(b"x" * 100_000)]
    shown = await browser.get("/peek?topic=/default/orders")
    assert "The rest is not shown." in shown.words
    assert len(shown.text) < 10_000


async def test_a_reset_is_previewed_before_it_is_done(browser: Browser) -> None:
    await shop(browser)
    browser.owner.messages["/default/orders"] = [stored(b"x")] * 5
    page = "/subscription?topic=/default/orders&name=kitchen"
    assert "it is poison" in (await browser.get(page)).words
    words = (await browser.get(f"{page}&from=latest")).words
    assert "Up to 5 messages would be skipped." in words
    words = (await browser.get(f"{page}&from=last&value=2")).words
    assert "Up to 3 messages would be skipped." in words
    assert (await browser.get(f"{page}&from=last&value=x")).status == 400
    assert browser.owner.resets == []


async def test_a_cursor_that_goes_back_tells_how_many_messages_come_again(browser: Browser) -> None:
    await shop(browser)
    browser.owner.messages["/default/orders"] = [stored(b"x")] * 5
    browser.owner.details["/default/orders"] = [
        SubscriptionDetail("kitchen", SubscriptionType.SHARED, [], 4 << 26, 1, backlog_exact=True, unacked=0)
    ]
    page = "/subscription?topic=/default/orders&name=kitchen"
    assert "Up to 4 messages would come again." in (await browser.get(f"{page}&from=earliest")).words


async def test_live_pages_send_their_part_when_it_has_changed(browser: Browser) -> None:
    async with browser.client.get("/live") as answer:
        assert answer.content_type == "text/event-stream"
        first = await answer.content.readuntil(b"\n\n")
        assert first.startswith(b'data: <dl class="tiles eight">')
        assert b"<html" not in first
        browser.site.close()
        assert await answer.content.read() == b""
    assert (await browser.get("/")).status == 503
