from __future__ import annotations

import re

from services.admin.tests.console.browser import Browser, act

from danube_admin_service.console.access.visitor import form_token
from danube_admin_service.console.served import COOKIE
from danube_harness.rpc.credentials import ADMIN, token


async def test_roles_and_bindings_are_made_used_and_deleted(guarded: Browser) -> None:
    await guarded.create("/default/orders")
    await guarded.log_in(token(ADMIN))
    role = {"role": "auditor", "permissions": "Lookup,Consume"}
    assert (await act(guarded, "create-role", "/security", **role)).status == 303
    binding = {
        "binding": "ann-audits",
        "principal_type": "user",
        "principal": "ann",
        "roles": "auditor",
        "scope": "namespace",
        "resource": "default",
    }
    assert (await act(guarded, "create-binding", "/security", **binding)).status == 303
    words = (await guarded.get("/security")).words
    assert "auditor Lookup, Consume" in words
    assert "user:ann auditor namespace default ann-audits" in words
    assert (await act(guarded, "delete-role", "/security", role="auditor")).status == 400

    await guarded.log_in(token("ann"))
    assert (await guarded.get("/topic?name=/default/orders")).status == 200
    await guarded.log_in(token(ADMIN))
    gone = {"scope": "namespace", "resource": "default", "binding": "ann-audits"}
    assert (await act(guarded, "delete-binding", "/security", **gone)).status == 400
    assert (await act(guarded, "delete-binding", "/security", **gone, confirm="ann-audits")).status == 303
    assert (await act(guarded, "delete-role", "/security", role="auditor", confirm="auditor")).status == 303
    assert "auditor" not in (await guarded.get("/security")).words


async def test_an_api_key_is_shown_once_holds_and_is_revoked(guarded: Browser) -> None:
    await guarded.log_in(token(ADMIN))
    form = {"principal_type": "service_account", "principal": "till", "description": "shop", "ttl": ""}
    shown = await act(guarded, "create-key", "/security", **form)
    assert shown.status == 200
    found = re.search(r'<pre class="secret"[^>]*>([^<]+)</pre>', shown.text)
    assert found is not None
    page = await guarded.get("/security")
    assert found[1] not in page.text
    assert "service_account:till shop" in page.words
    key = re.search(r'name="key" value="([^"]+)"', page.text)
    assert key is not None
    shown = await guarded.log_in(found[1])
    assert shown.status == 303, (found[1], shown.words)
    assert "service_account:till" in (await guarded.get("/topics")).words
    assert (await guarded.get("/security")).status == 403
    await guarded.log_in(token(ADMIN))
    assert (await act(guarded, "revoke-key", "/security", key=key[1])).status == 400
    assert (await act(guarded, "revoke-key", "/security", key=key[1], confirm=key[1])).status == 303
    assert "There is no API key." in (await guarded.get("/security")).words


async def test_who_may_not_publish_is_not_offered_it_and_refused(guarded: Browser) -> None:
    await guarded.create("/default/orders")
    await guarded.log_in(token(ADMIN))
    binding = {
        "binding": "joe",
        "principal_type": "user",
        "principal": "joe",
        "roles": "consumer,viewer",
        "scope": "cluster",
        "resource": "",
    }
    assert (await act(guarded, "create-binding", "/security", **binding)).status == 303
    page = "/topic?name=/default/orders"
    assert "Publish a test message" in (await guarded.get(page)).words
    await guarded.log_in(token("joe"))
    shown = await guarded.get(page)
    assert "Publish a test message" not in shown.words
    assert "/do/" not in shown.text
    credential = next(cookie.value for cookie in guarded.client.cookie_jar if cookie.key == COOKIE)
    forged = {"topic": "/default/orders", "payload": "x", "attributes": ""}
    refused = await guarded.post("/do/publish", form_token=form_token(credential), **forged)
    assert refused.status == 403
    assert "has no permission" in refused.words
