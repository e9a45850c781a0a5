from __future__ import annotations

import re

import pytest
from services.admin.tests.console.browser import Browser

from danube_admin_service.console.pages import PAGES
from danube_common.cluster import keys
from danube_common.cluster.records import encode_record
from danube_common.security.roles import new_binding
from danube_harness.rpc.credentials import ADMIN, token


async def bind(browser: Browser, name: str, role: str, scope: str, resource: str) -> None:
    binding = new_binding(name, "user", name, [role], scope, resource)
    key = keys.binding_key(binding.scope, binding.resource, binding.binding_id)
    await browser.store.put(key, encode_record(binding))


@pytest.mark.parametrize("path", sorted(PAGES))
async def test_nobody_sees_a_page_without_logging_in(guarded: Browser, path: str) -> None:
    shown = await guarded.get(path)
    assert (shown.status, shown.location[:12]) == (303, "/login?next=")
    if PAGES[path].live:
        assert (await guarded.get("/live" + path.rstrip("/"))).status == 303


async def test_a_wrong_token_is_refused_and_recorded(guarded: Browser) -> None:
    shown = await guarded.log_in("nonsense")
    assert shown.status == 401
    assert 'role="alert"' in shown.text
    assert (await guarded.log_in(token("root", secret="another secret of at least 32 bytes"))).status == 401
    assert (await guarded.log_in("x" * 10_000)).status == 401
    assert (await guarded.get("/topics")).status == 303
    assert await guarded.log_in(token(ADMIN))
    words = (await guarded.get("/audit")).words
    assert "nobody known 127.0.0.1 console refused" in words


async def test_who_logged_in_is_named_and_can_log_out(guarded: Browser) -> None:
    shown = await guarded.log_in(token(ADMIN))
    assert (shown.status, shown.location) == (303, "/topics")
    assert f"user:{ADMIN}" in (await guarded.get("/")).words
    await guarded.post("/logout")
    assert (await guarded.get("/")).status == 303


@pytest.mark.parametrize(
    "after",
    [
        *("//attacker.example", "https://attacker.example", "/\\attacker.example"),
        *("/\t/attacker.example", "/\n//attacker.example", "\t//attacker.example", "/ /attacker.example"),
    ],
)
async def test_logging_in_leads_to_no_other_site(guarded: Browser, after: str) -> None:
    shown = await guarded.post("/login", token=token(ADMIN), next=after)
    assert shown.location == "/"


@pytest.mark.parametrize(
    "sender",
    [
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/login", "/logout", "/do/create-topic"])
async def test_a_page_of_another_site_logs_nobody_in_or_out(
    guarded: Browser, path: str, sender: dict[str, str]
) -> None:
    """Who is logged in as somebody else without knowing it tells that one what was meant for the own."""
    await guarded.log_in(token(ADMIN))
    form = {"token": token("mallory")}
    async with guarded.client.post(path, data=form, headers=sender, allow_redirects=False) as answer:
        assert (answer.status, answer.cookies) == (403, {})
    assert f"user:{ADMIN}" in (await guarded.get("/")).words


async def test_a_page_of_this_site_sends_its_forms_also_behind_a_proxy_that_speaks_tls(
    guarded: Browser,
) -> None:
    own = f"https://{guarded.client._base_url.authority}"  # type: ignore[union-attr]
    for sender in ({"Origin": own}, {"Origin": own, "Sec-Fetch-Site": "same-origin"}):
        form = {"token": token(ADMIN)}
        async with guarded.client.post("/login", data=form, headers=sender, allow_redirects=False) as answer:
            assert answer.status == 303


async def test_no_answer_leads_to_the_host_that_a_request_names(guarded: Browser) -> None:
    shown = await guarded.get("/topics/", {"Host": "attacker.example"})
    assert (shown.status, shown.location) == (404, "")


async def test_what_one_may_not_is_neither_offered_nor_done(guarded: Browser) -> None:
    await guarded.create("/default/orders")
    await guarded.create("/system/secrets")
    await bind(guarded, "ann", "consumer", "namespace", "default")
    await guarded.log_in(token("ann"))

    listed = await guarded.get("/topics")
    assert "/default/orders" in listed.words
    assert "/system/secrets" not in listed.words
    assert "/do/create-topic" not in listed.text
    navigation = re.search(r"<nav.*?</nav>", listed.text, re.DOTALL)
    assert navigation is not None
    assert "Security" not in navigation[0]
    assert "Audit" not in navigation[0]

    page = await guarded.get("/topic?name=/default/orders")
    assert page.status == 200
    assert "Look at its messages" in page.words
    assert "/do/" not in page.text
    assert (await guarded.get("/topic?name=/system/secrets")).status == 403
    assert (await guarded.get("/peek?topic=/system/secrets")).status == 403
    for path in ("/", "/cluster", "/security", "/audit"):
        assert (await guarded.get(path)).status == 403, path


async def test_the_server_refuses_an_action_that_the_page_did_not_offer(guarded: Browser) -> None:
    await guarded.create("/default/orders")
    await bind(guarded, "ann", "consumer", "namespace", "default")
    await guarded.log_in(token(ADMIN))
    page = "/topic?name=/default/orders"
    root_token = (await guarded.get(page)).form_token
    form = {"topic": "/default/orders", "confirm": "/default/orders"}
    await guarded.log_in(token("ann", jti="1"))
    assert (await guarded.post("/do/delete-topic", form_token=root_token, **form)).status == 403

    await bind(guarded, "eve", "admin", "topic", "/default/orders")
    await guarded.log_in(token("eve"))
    eve_token = (await guarded.get(page)).form_token
    refused = await guarded.post("/do/create-topic", form_token=eve_token, topic="/default/b", strategy="")
    assert refused.status == 403
    assert "has no permission" in refused.words
    assert (await guarded.post("/do/delete-topic", form_token=eve_token, **form)).status == 303


async def test_who_may_not_read_a_topic_cannot_look_at_its_messages(guarded: Browser) -> None:
    await guarded.create("/default/orders")
    await bind(guarded, "joe", "producer", "namespace", "default")
    await guarded.log_in(token("joe"))
    assert "Look at its messages" not in (await guarded.get("/topic?name=/default/orders")).words
    assert (await guarded.get("/peek?topic=/default/orders")).status == 403


async def test_a_token_that_has_ended_is_asked_for_again(guarded: Browser) -> None:
    await guarded.log_in(token(ADMIN, ttl_s=600))
    for cookie in guarded.client.cookie_jar:
        cookie.set(cookie.key, token(ADMIN, ttl_s=-100), cookie.value)
    assert (await guarded.get("/topics")).status == 303
