from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from services.admin.tests.console.browser import BYTES, RELIABLE, Browser
from services.admin.tests.console.conftest import open_browser
from services.admin.tests.console.shop import FAILED, ORDERS, SCHEMA, open_shop, second_owner

from danube_admin_service.console import served
from danube_admin_service.console.access import calls
from danube_admin_service.console.actions import ACTIONS
from danube_admin_service.console.live.scrape import Flow
from danube_admin_service.console.pages import PAGES
from danube_admin_service.console.served import Served
from danube_common.cluster import keys
from danube_common.cluster.records import Topic, encode_record
from danube_common.model.names import TopicName
from danube_harness.chromium import check_accessible, open_chromium, open_page, picture
from danube_harness.rpc.credentials import ADMIN, token
from danube_harness.services.stub_gateway import StubGateway
from danube_proto import danube_admin_pb2 as admin
from danube_proto.danube_api_pb2 import Schema

if TYPE_CHECKING:
    from playwright.async_api import Browser as Chromium
    from playwright.async_api import Page
    from starlette.requests import Request
    from starlette.responses import Response

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

ADDRESSES = {
    **{path: path for path in PAGES},
    "/topic": f"/topic?name={ORDERS}",
    "/subscription": f"/subscription?topic={ORDERS}&name=kitchen",
    "/peek": f"/peek?topic={ORDERS}",
    "/dead-letters": f"/dead-letters?topic={FAILED}",
    "/schema": "/schema?name=order",
}


ACTED: set[str] = set()
"""The actions that pages of this module were used for."""


@pytest.fixture(scope="module", autouse=True)
def _recorded() -> Iterator[None]:
    act = Served.act

    async def recording(self: Served, request: Request) -> Response:
        answer = await act(self, request)
        ACTED.add(request.path_params["action"])
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Served, "act", recording)
        yield


@dataclass
class Shop:
    """A console that shows a shop, without log-in and with it, and a browser."""

    chromium: Chromium
    browser: Browser
    guarded: Browser
    gateway: StubGateway

    @property
    def url(self) -> str:
        return str(self.browser.client._base_url)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with AsyncExitStack() as stack:
        chromium = await stack.enter_async_context(open_chromium())
        gateway = await stack.enter_async_context(StubGateway())
        gateway.schemas.update({ORDERS: Schema(), "/default/invoices": Schema()})
        browser = await open_browser(stack)
        await open_shop(browser, gateway.address)
        for definition in (SCHEMA, SCHEMA.replace("]", ',{"name":"table","type":"int","default":0}]')):
            form_token = (await browser.get("/schemas")).form_token
            form = {"subject": "order", "type": "avro", "definition": definition}
            assert (await browser.post("/do/register-schema", form_token=form_token, **form)).status == 303
        ACTED.clear()
        guarded = await open_browser(stack, Path(tmp_path_factory.mktemp("guarded")))
        yield Shop(chromium, browser, guarded, gateway)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "REFRESH_S", 0.3)


async def done(page: Page, text: str) -> None:
    """Wait for the note that says what was done."""
    await page.locator(".note.good", has_text=text).wait_for()


async def unfold(page: Page, text: str) -> None:
    await page.locator("summary", has_text=text).first.click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", sorted(PAGES))
async def test_each_page_is_accessible_and_no_wider_than_the_window(
    shop: Shop, path: str, scheme: str
) -> None:
    async with open_page(shop.chromium, shop.url, scheme=scheme) as page:
        await page.goto(ADDRESSES[path])
        await check_accessible(page)
        assert await page.locator("nav a[aria-current=page]").count() == 1
        await page.set_viewport_size({"width": 390, "height": 844})
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        await check_accessible(page)


async def test_pictures_for_the_documentation(shop: Shop) -> None:
    for scheme in ("light", "dark"):
        async with open_page(shop.chromium, shop.url, scheme=scheme) as page:
            await page.goto("/")
            await picture(page, f"overview-{scheme}")
    async with open_page(shop.chromium, shop.url, scheme="dark") as page:
        await page.goto(ADDRESSES["/topic"])
        await picture(page, "topic-dark")
    async with open_page(shop.chromium, shop.url) as page:
        await page.goto(ADDRESSES["/topic"])
        await picture(page, "storage", page.locator("section").filter(has=page.locator(".timeline")))
        await page.goto(ADDRESSES["/dead-letters"])
        await picture(page, "dead-letters")
    async with open_page(shop.chromium, shop.url, narrow=True) as page:
        await page.goto("/")
        await picture(page, "narrow")


async def test_a_keyboard_is_enough(shop: Shop) -> None:
    async with open_page(shop.chromium, shop.url) as page:
        await page.goto("/topics")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.id") == "q"
        await page.keyboard.type("invoi")
        await page.keyboard.press("Enter")
        await page.get_by_text("1 topic", exact=True).wait_for()
        await page.get_by_role("link", name="/default/invoices").focus()
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/topic?name=*")


async def test_a_topic_is_created_and_deleted_by_keyboard_alone(shop: Shop) -> None:
    async with open_page(shop.chromium, shop.url) as page:

        async def reach(selector: str) -> None:
            for _ in range(200):
                await page.keyboard.press("Tab")
                if await page.evaluate("(wanted) => document.activeElement.matches(wanted)", selector):
                    return
            raise AssertionError(f"{selector} is not reached by the tabulator")

        await page.goto("/topics")
        await reach("summary:has(+ form[action='/do/create-topic'])")
        await page.keyboard.press("Enter")
        await reach("form[action='/do/create-topic'] input[name=topic]")
        await page.keyboard.type("/default/typed")
        await page.keyboard.press("Enter")
        await done(page, "Topic /default/typed was created.")
        await reach("summary:has(+ form[action='/do/delete-topic'])")
        await page.keyboard.press("Space")
        await reach("form[action='/do/delete-topic'] input[name=confirm]")
        await page.keyboard.type("/default/typed")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Space")
        await done(page, "Topic /default/typed was deleted.")


async def test_figures_change_without_loading_and_leave_focus_and_what_is_open(shop: Shop) -> None:
    activity = shop.browser.sources.activity
    async with open_page(shop.chromium, shop.url) as page:
        await page.goto(ADDRESSES["/topic"])
        await page.locator("#segments > summary").click()
        await page.get_by_role("link", name="billing").focus()
        before, activity.rates = activity.rates, {ORDERS: Flow(777.0, 1, 1, 1)}
        try:
            await page.get_by_text("777/s").first.wait_for()
        finally:
            activity.rates = before
        assert await page.evaluate("document.activeElement.textContent") == "billing"
        assert await page.locator("#segments").get_attribute("open") is not None


async def test_topics_are_created_given_policies_published_to_looked_at_and_deleted(shop: Shop) -> None:
    async with open_page(shop.chromium, shop.url) as page:
        await page.goto("/topics")
        await unfold(page, "Create a topic")
        await page.get_by_label("Name, as /default/orders").first.fill("/default/fresh")
        await page.get_by_role("button", name="Create").first.click()
        await done(page, "Topic /default/fresh was created.")
        row = page.get_by_role("row").filter(has_text="max_publish_rate")
        await row.get_by_role("textbox").fill("70")
        await row.get_by_role("button", name="Set").click()
        await done(page, "max_publish_rate is now 70.")
        await page.get_by_role("button", name="Inherit all again").click()
        await done(page, "no policies of its own")

        shop.gateway.schemas["/default/fresh"] = Schema()
        await unfold(page, "Publish a test message")
        await page.get_by_label("Payload").fill('{"what":"tea"}')
        await page.get_by_label("Attributes").fill("shop=north")
        await page.get_by_role("button", name="Publish").click()
        await done(page, "A message was published to /default/fresh.")
        assert shop.gateway.accepted["/default/fresh"][0].payload == b'{"what":"tea"}'
        shop.browser.owner.messages["/default/fresh"] = [
            one.SerializeToString() for one in shop.gateway.accepted["/default/fresh"]
        ]
        await page.get_by_role("link", name="Look at its messages").click()
        await page.get_by_text("shown as json").wait_for()
        await page.get_by_label("As", exact=True).select_option("hex")
        await page.get_by_role("button", name="Show").click()
        await page.get_by_text("7b 22 77 68").wait_for()

        await page.goto("/topic?name=/default/fresh")
        await unfold(page, "Move to another owner")
        await page.get_by_role("button", name="Move", exact=True).click()
        await done(page, "has moved to another topic owner")
        await unfold(page, "Set its subject")
        await page.get_by_role("textbox", name="Subject").fill("order")
        await page.get_by_label("A message that does not fit is").select_option("enforce")
        await page.locator("form[action='/do/set-topic-schema'] button").click()
        await page.get_by_text("messages are refused if they do not fit").wait_for()
        await unfold(page, "Delete the topic")
        await page.get_by_label("Type /default/fresh to confirm").fill("/default/fres")
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_text("nothing was done: type /default/fresh to confirm").wait_for()
        await page.go_back()
        await unfold(page, "Delete the topic")
        await page.get_by_label("Type /default/fresh to confirm").fill("/default/fresh")
        await page.get_by_role("button", name="Delete").click()
        await done(page, "Topic /default/fresh was deleted.")
    assert await shop.browser.topics.get(TopicName.parse("/default/fresh")) is None


async def test_partitions_are_created_and_added(shop: Shop) -> None:
    async with open_page(shop.chromium, shop.url) as page:
        await page.goto("/topics")
        await unfold(page, "Create a partitioned topic")
        await page.locator("#new-base").fill("/default/parts")
        await page.get_by_role("button", name="Create").last.click()
        await done(page, "with 4 partitions")
        await unfold(page, "Add partitions")
        await page.get_by_role("button", name="Add").click()
        await done(page, "The topic has 5 partitions.")


async def test_a_cursor_is_moved_after_a_preview_and_a_subscription_deleted(shop: Shop) -> None:
    owner = shop.browser.owner
    async with open_page(shop.chromium, shop.url) as page:
        await page.goto(ADDRESSES["/subscription"])
        await unfold(page, "Move the cursor")
        await page.get_by_label("To", exact=True).select_option("earliest")
        await page.get_by_role("button", name="See what it would do").click()
        await page.get_by_text("messages would come again.").wait_for()
        assert owner.resets == []
        await page.get_by_label("Type kitchen to confirm").first.fill("kitchen")
        await page.get_by_role("button", name="Move the cursor").click()
        await done(page, "The cursor of kitchen was moved.")
        assert [name for _, name, _ in owner.resets] == ["kitchen"]
        owner.resets.clear()

        await unfold(page, "Change")
        await page.get_by_label("Redeliveries at most").fill("5")
        await page.get_by_role("button", name="Change").click()
        await done(page, "was changed")
        await page.get_by_text("at most 5 times").wait_for()

        await page.goto(f"/subscription?topic={ORDERS}&name=search")
        await unfold(page, "Delete the subscription")
        await page.get_by_label("Type search to confirm").fill("search")
        await page.get_by_role("button", name="Delete").click()
        await done(page, "Subscription search was deleted.")
        owner.subscriptions[ORDERS].append("search")


async def test_dead_letters_are_redelivered_and_dropped(shop: Shop) -> None:
    owner = shop.browser.owner
    async with open_page(shop.chromium, shop.url) as page:
        await page.goto(ADDRESSES["/subscription"])
        await page.get_by_role("link", name=f"Dead letters in {FAILED}").click()
        await page.get_by_text("3 dead letters wait").wait_for()
        await page.get_by_role("row").nth(1).get_by_role("button", name="Redeliver up to").click()
        await done(page, "1 dead letters were published again.")
        await page.get_by_role("button", name="Redeliver 3").click()
        await done(page, "3 dead letters were published again.")
        assert len(shop.gateway.accepted[ORDERS]) == 4
        assert len(owner.resets) == 2
        await unfold(page, "Drop all")
        await page.get_by_label(f"Type {FAILED} to confirm").fill(FAILED)
        await page.get_by_role("button", name="Drop 3").click()
        await done(page, "3 dead letters were dropped.")
        assert len(owner.resets) == 3
        owner.resets.clear()
        shop.gateway.accepted[ORDERS].clear()


async def test_a_schema_is_checked_before_it_is_registered(shop: Shop) -> None:
    async with open_page(shop.chromium, shop.url) as page:
        await page.goto(ADDRESSES["/schema"])
        await unfold(page, "Register a new version")
        await page.get_by_label("Definition").last.fill(SCHEMA.replace("]", ',{"name":"late","type":"int"}]'))
        await page.get_by_role("button", name="Check").click()
        await page.get_by_text("It would be refused:").wait_for()
        await check_accessible(page)
        definition = SCHEMA.replace("]", ',{"name":"late","type":"int","default":0}]')
        await page.get_by_label("Definition").last.fill(definition)
        await page.get_by_role("button", name="Check").click()
        await page.get_by_text("It may be registered").wait_for()
        await page.get_by_role("button", name="Register").click()
        await done(page, "The schema of order is registered.")
        await page.get_by_text("What changed").wait_for()
        await unfold(page, "Change what new versions have to keep")
        await page.get_by_label("Compatibility").select_option("full")
        await page.get_by_role("button", name="Change").click()
        await done(page, "New versions have to be compatible: full.")
        await unfold(page, "Delete version 3")
        await page.get_by_label("Type order to confirm").fill("order")
        await page.get_by_role("button", name="Delete version 3").click()
        await done(page, "Version 3")

        await page.goto("/schemas")
        await unfold(page, "Register a schema")
        await page.get_by_role("textbox", name="Subject").fill("table")
        await page.get_by_label("Definition").fill(SCHEMA)
        await page.get_by_role("button", name="Check").click()
        await page.get_by_text("It may be registered").wait_for()
        await page.get_by_role("button", name="Register").click()
        await done(page, "The schema of table is registered.")


async def test_namespaces_are_created_given_policies_and_deleted(shop: Shop) -> None:
    async with open_page(shop.chromium, shop.url) as page:
        await page.goto("/namespaces")
        await page.get_by_label("New namespace").fill("market")
        await page.get_by_role("button", name="Create").click()
        await done(page, "Namespace market was created.")
        section = page.locator("section").filter(has=page.get_by_role("heading", name="market"))
        await section.locator("summary").first.click()
        await section.get_by_label("max_dispatch_rate of market").fill("9")
        await (
            section.get_by_role("row")
            .filter(has_text="max_dispatch_rate")
            .first.get_by_role("button")
            .click()
        )
        await done(page, "max_dispatch_rate of market is now 9.")
        await section.locator("summary").first.click()
        await section.get_by_role("button", name="Inherit all again").click()
        await done(page, "no policies of its own")
        await section.locator("summary").last.click()
        await section.get_by_label("Type market to confirm").fill("market")
        await section.get_by_role("button", name="Delete").click()
        await done(page, "Namespace market was deleted.")


async def test_a_move_is_drawn_then_made_and_an_owner_drained(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = admin.ProposedMove(topic_name="f1", from_broker=71, to_broker=72, estimated_load=44, reason="load")

    async def rebalance(_call: object) -> bytes:
        return admin.RebalanceResponse(success=True, proposed_moves=[move]).SerializeToString()

    monkeypatch.setitem(shop.browser.methods.unary, calls.REBALANCE, rebalance)
    async with open_page(shop.chromium, shop.url) as page:
        await page.goto("/cluster")
        await page.get_by_role("button", name="See what would move").click()
        await page.get_by_text("1 bundles would move").wait_for()
        assert await page.locator(".chip.comes").inner_text() == "f1"
        await check_accessible(page)
        await picture(page, "rebalance", page.locator("#rebalance"))
        await page.get_by_role("button", name="Move them").click()
        await done(page, "The bundles were rebalanced.")
        await unfold(page, "Drain topic owner 72")
        await page.get_by_label("Type 72 to confirm").fill("72")
        await page.get_by_role("button", name="Drain").click()
        await done(page, "Topic owner 72 is losing its bundles.")
        await page.get_by_role("button", name="Let it have bundles again").click()
        await done(page, "Topic owner 72 may have bundles again.")
    await second_owner(shop.browser)


async def test_logging_in_and_out_and_the_security_of_others(shop: Shop) -> None:
    url = str(shop.guarded.client._base_url)
    async with open_page(shop.chromium, url) as page:
        await page.goto("/security")
        await check_accessible(page)
        await page.get_by_label("Token or API key").fill("nonsense")
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("alert").wait_for()
        await page.get_by_label("Token or API key").fill(token(ADMIN))
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url("**/security")
        (cookie,) = await page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert await page.evaluate("document.cookie") == ""

        await unfold(page, "Make a role")
        await page.locator("#role").fill("auditor")
        await page.locator("#permission-Lookup").check()
        await page.locator("#permission-Consume").check()
        await page.locator("#new-role").get_by_role("button", name="Make").click()
        await done(page, "Role auditor was created.")
        await unfold(page, "Give somebody roles")
        await page.locator("#principal").fill("ann")
        await page.locator("#resource").fill("default")
        await page.locator("#binding").fill("ann-audits")
        await page.locator("#role-auditor").check()
        await page.get_by_role("button", name="Give").click()
        await done(page, "ann has auditor.")
        await unfold(page, "Make an API key")
        await page.locator("#key-principal").fill("till")
        await page.locator("#key-ttl").fill("")
        await page.locator("#new-key").get_by_role("button", name="Make").click()
        key = await page.locator("pre.secret").inner_text()
        assert re.fullmatch(r"dk_\w+_[\w-]+", key)
        await page.get_by_role("link", name="Go on").click()
        await check_accessible(page)
        assert key not in await page.content()

        await page.get_by_label("Delete binding ann-audits").click()
        await page.get_by_label("Type ann-audits to confirm").fill("ann-audits")
        await page.locator("#confirm-binding-1 + button").click()
        await done(page, "Binding ann-audits was deleted.")
        await page.get_by_label("Delete role auditor").click()
        await page.get_by_label("Type auditor to confirm").fill("auditor")
        await page.locator("form[action='/do/delete-role'] button").click()
        await done(page, "Role auditor was deleted.")
        await page.goto("/audit")
        await page.get_by_text("CreateRole").first.wait_for()

        await page.get_by_role("button", name="Log out").click()
        await page.wait_for_url("**/login")
        await page.get_by_label("Token or API key").fill(key)
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url("**/")
        assert "service_account:till" in await page.locator("header").inner_text()
        assert await page.get_by_role("link", name="Security").count() == 0


async def test_a_log_in_that_is_revoked_while_one_looks_ends_the_page_and_asks_again(shop: Shop) -> None:
    url = str(shop.guarded.client._base_url)
    async with open_page(shop.chromium, url) as page, open_page(shop.chromium, url) as other:
        await page.goto("/security")
        await page.get_by_label("Token or API key").fill(token(ADMIN))
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url("**/security")
        await unfold(page, "Make an API key")
        await page.locator("#key-type").select_option("user")
        await page.locator("#key-principal").fill(ADMIN)
        await page.locator("#key-ttl").fill("")
        await page.locator("#new-key").get_by_role("button", name="Make").click()
        key = await page.locator("pre.secret").inner_text()

        await other.goto("/topics")
        await other.get_by_label("Token or API key").fill(key)
        await other.get_by_role("button", name="Log in").click()
        await other.locator("#state", has_text="Live").wait_for()

        await page.goto("/security")
        identity = key.split("_")[1]
        await page.get_by_label(f"Revoke key {identity}").click()
        await page.get_by_label(f"Type {identity} to confirm").fill(identity)
        await page.locator(f"form:has(input[value='{identity}']) button").click()
        await done(page, "is refused within 5 s")
        await other.get_by_text("Not live any more").wait_for()
        await other.get_by_role("link", name="Topics").click()
        await other.wait_for_url("**/login?next=*")


async def test_that_the_admin_service_is_away_is_said_and_the_page_goes_on_after_it(shop: Shop) -> None:
    async with AsyncExitStack() as stack:
        browser = await open_browser(stack)
        async with open_page(shop.chromium, str(browser.client._base_url)) as page:
            await page.goto("/")
            await page.locator("#state", has_text="Live").wait_for()
            browser.site.close()
            await page.get_by_text("Not live: the admin service does not answer").wait_for()
            await check_accessible(page)


async def test_ten_thousand_topics_are_paged_through(shop: Shop) -> None:
    async with AsyncExitStack() as stack:
        browser = await open_browser(stack)
        for number in range(10_000):
            topic = Topic(f"/default/topic-{number:05}", number + 1, f"f{number % 4}", BYTES, RELIABLE, 0, 1)
            await browser.store.put(keys.topic_key(topic.topic_name), encode_record(topic))
        async with open_page(shop.chromium, str(browser.client._base_url)) as page:
            await page.goto("/topics")
            await page.get_by_text("page 1 of 50").wait_for()
            assert await page.get_by_role("row").count() == 201
            await page.get_by_role("link", name="Next page").click()
            await page.get_by_role("link", name="/default/topic-00200").wait_for()
            await page.get_by_label("Name contains").fill("09999")
            await page.keyboard.press("Enter")
            await page.get_by_text("1 topic", exact=True).wait_for()


@pytest.mark.usefixtures("shop")
async def test_every_action_was_clicked_by_the_tests_before_this_one(request: pytest.FixtureRequest) -> None:
    module = [one for one in request.session.items if one.path == request.path]
    if len({getattr(one, "originalname", one.name) for one in module}) < len(TESTS):
        pytest.skip("only some of the tests before this one were run")
    assert ACTIONS.keys() - ACTED == set()


TESTS = [name for name in globals() if name.startswith("test_")]
