from __future__ import annotations

import json
import time
from typing import Any

import pytest
from services.admin.tests.console.browser import Browser, act
from services.admin.tests.console.shop import FAILED, ORDERS, open_shop

from danube_admin_service.console.ui_v1.acting import ACTS, topic_name
from danube_admin_service.console.ui_v1.reading import READS
from danube_common.errors import InvalidInput
from danube_common.model.names import TopicName
from danube_harness.rpc.credentials import ADMIN, token

IDENTITY = {"broker_id", "broker_addr", "broker_role", "broker_status"}
MINI = {"name", "delivery", "producers_connected", "consumers_connected", "subscriptions"}


async def ask(browser: Browser, path: str, **headers: str) -> dict[str, Any]:
    async with browser.client.get(f"/ui/v1{path}", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = json.loads(await answer.text())
        return found


async def tell(browser: Browser, path: str, **body: object) -> tuple[int, dict[str, Any]]:
    async with browser.client.post(f"/ui/v1{path}", json=body) as answer:
        found: dict[str, Any] = json.loads(await answer.text())
        return answer.status, found


async def test_the_cluster_has_its_brokers_and_totals(browser: Browser) -> None:
    await open_shop(browser)
    assert await ask(browser, "/health") == {"status": "ok", "leader_reachable": False}
    found = await ask(browser, "/cluster")
    assert found.keys() == {"timestamp", "brokers", "totals", "errors"}
    owner = next(one for one in found["brokers"] if one["broker_id"] == "71")
    assert owner.keys() == {*IDENTITY, "admin_addr", "stats"}
    stats = {"topics_owned", "rpc_total", "rpc_rate_1m", "active_connections", "errors_5xx_total"}
    assert owner["stats"].keys() == stats
    assert owner["stats"]["topics_owned"] == 8
    assert found["totals"].keys() == {"broker_count", "topics_total", "rpc_total", "active_connections"}
    assert found["totals"]["topics_total"] == 8


async def test_topics_come_by_broker_and_alone_with_their_metrics(browser: Browser) -> None:
    await open_shop(browser)
    found = await ask(browser, "/topics")
    owner = next(one for one in found["brokers"] if one["broker"]["broker_id"] == "71")
    assert owner["broker"].keys() == IDENTITY
    assert owner["topics"][0].keys() == MINI
    assert ORDERS in [one["name"] for one in owner["topics"]]

    for path in ("%2Fdefault%2Forders", "default/orders"):
        found = await ask(browser, f"/topics/{path}")
        assert found["topic"]["name"] == ORDERS
    assert found["topic"].keys() == {
        "name",
        "schema_subject",
        "schema_id",
        "schema_version",
        "schema_type",
        "compatibility_mode",
        "subscriptions",
    }
    kitchen = next(one for one in found["topic"]["subscriptions"] if one["name"] == "kitchen")
    assert kitchen["subscription_type"] == "Shared"
    assert kitchen["failure_policy"]["dead_letter_topic"] == FAILED
    assert kitchen["failure_policy"]["poison_policy"] == "dead_letter"
    metrics = found["metrics"]
    assert metrics.keys() == {"core", "active", "rates", "quality", "latency_size", "reliable"}
    assert metrics["core"]["msg_in_total"] > 1_000_000
    assert metrics["active"] == {"producers": 1, "consumers": 4, "subscriptions": 3}
    assert metrics["rates"]["publish_rate_1m"] > 0
    assert metrics["latency_size"]["msg_size_bytes_avg"] == pytest.approx(180)
    assert metrics["reliable"]["cloud_upload_objects_total"] == 2
    assert (await ask(browser, "/topics/default/clicks"))["metrics"]["reliable"] is None

    found = await ask(browser, "/brokers/71")
    assert found["broker"].keys() == IDENTITY
    assert found["metrics"]["topics_owned"] == 8
    assert (await browser.get("/ui/v1/brokers/none")).status == 404


async def test_the_series_of_a_topic_are_those_of_the_last_hour(browser: Browser) -> None:
    await open_shop(browser)
    found = await ask(browser, "/topics/%2Fdefault%2Forders/series?step=15s")
    assert [one["name"] for one in found["series"]] == [
        "publish_rate_1m",
        "bytes_in_rate_1m",
        "dispatch_rate_1m",
        "bytes_out_rate_1m",
    ]
    points = found["series"][0]["points"]
    assert len(points) == 360
    assert points[-1][1] > 0
    assert abs(points[-1][0] - 1000 * time.time()) < 60_000  # the original's page makes dates of these
    middle = points[180][0] // 1000
    found = await ask(browser, f"/topics/%2Fdefault%2Forders/series?from={middle}&step=15s")
    assert 170 <= len(found["series"][0]["points"]) <= 181
    assert (await browser.get("/ui/v1/topics/default/orders/series?from=x")).status == 400


async def test_topics_are_created_unloaded_and_deleted(browser: Browser) -> None:
    done = {"success": True, "message": "ok"}
    new = {"action": "create", "topic": "fresh", "namespace": "default", "dispatch_strategy": "reliable"}
    assert await tell(browser, "/topics/actions", **new) == (200, done)
    assert (await browser.topics.require(TopicName.parse("/default/fresh"))).strategy.is_reliable
    assert await tell(browser, "/topics/actions", action="create", topic="/default/p", partitions=2) == (
        200,
        done,
    )
    assert len(await browser.topics.partitions(TopicName.parse("/default/p"))) == 2
    assert await tell(browser, "/topics/actions", action="delete", topic="default/fresh") == (200, done)
    for wrong in (
        {"action": "none", "topic": "/default/p"},
        {"action": "delete", "topic": "x"},
        {"topic": 1},
    ):
        status, told = await tell(browser, "/topics/actions", **wrong)
        assert (status, told["success"]) == (400, False)
    status, told = await tell(browser, "/topics/actions", action="delete", topic="/default/none")
    assert (status, told["code"]) == (404, "NOT_FOUND")


async def test_owners_are_drained_and_balanced(browser: Browser) -> None:
    await open_shop(browser)
    status, told = await tell(browser, "/cluster/actions", action="unload", broker_id="72", dry_run=True)
    assert status == 200
    assert told["message"].startswith("started=")
    status, told = await tell(browser, "/cluster/actions", action="activate", broker_id="72")
    assert (status, told["success"]) == (200, True)
    assert (await tell(browser, "/cluster/actions", action="unload"))[0] == 400
    status, told = await tell(browser, "/cluster/rebalance", dry_run=True, max_moves=3)
    assert status == 200
    assert told.keys() == {"success", "moves_executed", "proposed_moves", "error_message"}
    found = await ask(browser, "/cluster/balance")
    assert {"cv", "mean_load", "max_load", "min_load", "std_deviation", "broker_count"} <= found.keys()
    assert {"assignment_strategy", "brokers"} <= found.keys()
    found = await ask(browser, "/cluster/raft")
    assert isinstance(found["self_node_id"], str)
    assert found["learners"] == []
    status, told = await tell(browser, "/cluster/raft/actions", action="promote_node", node_id="1")
    assert told.keys() >= {"success", "message"}
    assert (await tell(browser, "/cluster/raft/actions", action="promote_node", node_id="x"))[0] == 400


async def test_namespaces_and_schemas_and_what_is_done_to_them(browser: Browser) -> None:
    await browser.create(ORDERS)
    found = await ask(browser, "/namespaces")
    default = next(one for one in found["namespaces"] if one["name"] == "default")
    assert default["topics"] == [ORDERS]
    assert json.loads(default["policies"])["max_publish_rate"] == 0
    page = await browser.get("/schemas")
    form = {"subject": "order", "type": "json_schema", "definition": '{"type":"string"}'}
    await browser.post("/do/register-schema", form_token=page.form_token, **form)
    (row,) = (await ask(browser, "/schemas"))["subjects"]
    assert row.keys() == {
        "subject",
        "schema_type",
        "latest_version",
        "compatibility_mode",
        "schema_id",
        "tags",
    }
    assert isinstance(row["schema_id"], int)
    found = await ask(browser, "/schemas/order")
    assert found["latest"]["schema_definition"] == '{"type":"string"}'
    assert [one["version"] for one in found["versions"]] == [1]
    change = {"action": "set_compatibility", "subject": "order", "compatibility_mode": "FULL"}
    assert (await tell(browser, "/schemas/actions", **change))[0] == 200
    assert (await ask(browser, "/schemas/order"))["compatibility_mode"] == "full"
    assert (await tell(browser, "/schemas/actions", action="delete_version", subject="order"))[0] == 400


async def test_roles_and_bindings_are_made_and_deleted(browser: Browser) -> None:
    new = {"action": "create", "name": "auditor", "permissions": ["Lookup"]}
    assert await tell(browser, "/security/roles/actions", **new) == (200, {"success": True})
    roles = (await ask(browser, "/security/roles"))["roles"]
    assert {"name": "auditor", "permissions": ["Lookup"], "system": False} in roles
    binding = {
        "action": "create",
        "id": "b",
        "principal_type": "user",
        "principal_name": "ann",
        "roles": ["auditor"],
        "scope": "namespace",
        "resource": "default",
    }
    assert await tell(browser, "/security/bindings/actions", **binding) == (200, {"success": True})
    (row,) = (await ask(browser, "/security/bindings"))["bindings"]
    assert row["role_names"] == ["auditor"]
    gone = {"action": "delete", "id": "b", "scope": "namespace", "resource": "default"}
    assert await tell(browser, "/security/bindings/actions", **gone) == (200, {"success": True})
    assert await tell(browser, "/security/roles/actions", action="delete", name="auditor") == (
        200,
        {"success": True},
    )
    for path in ("roles", "bindings"):
        assert (await tell(browser, f"/security/{path}/actions", action="x"))[0] == 400


async def test_the_same_may_ask_as_at_the_admin_port(guarded: Browser) -> None:
    ann = {"Authorization": f"Bearer {token('ann')}"}
    root = {"Authorization": f"Bearer {token(ADMIN)}"}
    await guarded.create(ORDERS)
    for path in ("/cluster", "/topics", "/topics/default/orders", "/namespaces", "/security/roles"):
        assert (await guarded.get(f"/ui/v1{path}")).status == 401, path
        assert (await guarded.get(f"/ui/v1{path}", {"Authorization": "Bearer nonsense"})).status == 401, path
        assert (await guarded.get(f"/ui/v1{path}", root)).status == 200, path
    await guarded.log_in(token(ADMIN))
    assert "a bearer token is needed" in (await guarded.get("/audit")).words
    await guarded.post("/logout")
    for path in ("/cluster", "/topics/default/orders", "/security/roles"):
        assert (await guarded.get(f"/ui/v1{path}", ann)).status == 403, path
    body = {"action": "delete", "topic": ORDERS}
    async with guarded.client.post("/ui/v1/topics/actions", json=body, headers=ann) as answer:
        assert answer.status == 403
    await guarded.topics.require(TopicName.parse(ORDERS))
    await guarded.log_in(token(ADMIN))
    assert (await guarded.get("/ui/v1/cluster")).status == 200


async def test_pages_of_other_sites_may_not_ask_unless_they_are_named(browser: Browser) -> None:
    other, named = {"Origin": "http://other.example"}, {"Origin": "http://ui.example:3000"}
    body = {"action": "create", "topic": "/default/forged"}
    assert (await browser.get("/ui/v1/cluster", other)).status == 403
    async with browser.client.post("/ui/v1/topics/actions", json=body, headers=other) as answer:
        assert answer.status == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
    async with browser.client.post("/ui/v1/topics/actions", data=json.dumps(body)) as answer:
        assert answer.status == 400  # a form of another site cannot send JSON
    assert await browser.topics.get(TopicName.parse("/default/forged")) is None
    async with browser.client.options("/ui/v1/topics/actions", headers=named) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "http://ui.example:3000"
    assert (await browser.get("/ui/v1/cluster", named)).status == 200


@pytest.mark.parametrize("path", sorted(ACTS))
async def test_what_is_no_json_object_is_refused(browser: Browser, path: str) -> None:
    for data in (b"", b"[]", b"{"):
        headers = {"Content-Type": "application/json"}
        async with browser.client.post(f"/ui/v1{path}", data=data, headers=headers) as answer:
            assert answer.status == 400
            assert json.loads(await answer.text())["success"] is False


def test_names_are_completed() -> None:
    for text, namespace in (("/a/b", None), ("a/b", "x"), ("b", "a")):
        assert topic_name(text, namespace) == "/a/b"
    for wrong in ("", "b", "/a/b/c", "/"):
        with pytest.raises(InvalidInput):
            topic_name(wrong, None)
    assert list(READS).index("/topics/{topic:path}/series") < list(READS).index("/topics/{topic:path}")


IDENTITY_READ = {"broker_id": str, "broker_addr": str, "broker_role": str, "broker_status": str}
READ_BY_THE_ORIGINAL: dict[str, Any] = {
    "/cluster": {
        "brokers": [
            {
                **IDENTITY_READ,
                "stats": {
                    "topics_owned": int,
                    "rpc_total": int,
                    "rpc_rate_1m": float,
                    "active_connections": int,
                    "errors_5xx_total": int,
                },
            }
        ],
        "totals": {"broker_count": int, "topics_total": int, "rpc_total": int, "active_connections": int},
        "timestamp": str,
        "errors": list,
    },
    "/cluster/balance": {
        **dict.fromkeys(("coefficient_of_variation", "mean_load", "max_load", "min_load"), float),
        "std_deviation": float,
        "broker_count": int,
        "assignment_strategy": str,
        "brokers": [
            {
                "broker_id": str,
                "load": float,
                "topic_count": int,
                "is_overloaded": bool,
                "is_underloaded": bool,
            }
        ],
    },
    "/cluster/raft": {
        "leader_id": str,
        "current_term": int,
        "last_applied": int,
        "self_node_id": str,
        "raft_addr": str,
        "voters": list,
        "learners": list,
    },
    "/topics": {
        "brokers": [
            {
                "broker": IDENTITY_READ,
                "topics": [
                    {
                        "name": str,
                        "producers_connected": int,
                        "consumers_connected": int,
                        "subscriptions": int,
                    }
                ],
            }
        ]
    },
    "/topics/%2Fdefault%2Forders": {
        "topic": {"name": str, "subscriptions": [{"name": str, "subscription_type": str}]},
        "metrics": {
            "core": dict.fromkeys(
                ("msg_in_total", "msg_out_total", "bytes_in_total", "bytes_out_total"), int
            ),
            "active": dict.fromkeys(("producers", "consumers", "subscriptions"), int),
            "quality": {"send_error_total": int},
            "latency_size": {"msg_size_bytes_avg": float, "send_latency_ms_p95": float},
            "reliable": {
                "wal_append_total": int,
                "wal_append_bytes_total": int,
                "wal_fsync_total": int,
                **{f"wal_flush_latency_ms_p{percent}": float for percent in (50, 95, 99)},
                "cloud_upload_bytes_total": int,
                "cloud_upload_objects_total": int,
            },
        },
    },
    "/topics/%2Fdefault%2Forders/series?step=15s": {"series": [{"name": str, "points": [[int]]}]},
    "/brokers/71": {
        "broker": IDENTITY_READ,
        "metrics": dict.fromkeys(
            ("topics_owned", "rpc_total", "inbound_bytes_total", "outbound_bytes_total"), int
        ),
        "topics": [{"name": str, "delivery": str}],
    },
    "/namespaces": {"namespaces": [{"name": str, "topics": list, "policies": str}]},
    "/schemas": {
        "subjects": [
            {
                "subject": str,
                "schema_type": str,
                "latest_version": int,
                "compatibility_mode": str,
                "schema_id": int,
                "tags": list,
            }
        ]
    },
    "/schemas/orders": {
        "subject": str,
        "schema_type": str,
        "compatibility_mode": str,
        "latest": {
            "schema_id": int,
            "version": int,
            "schema_definition": str,
            "description": str,
            "created_at": int,
            "created_by": str,
            "tags": list,
            "fingerprint": str,
        },
        "versions": [
            {
                "version": int,
                "created_at": int,
                "created_by": str,
                "description": str,
                "fingerprint": str,
                "schema_id": int,
            }
        ],
    },
    "/security/roles": {"roles": [{"name": str, "permissions": list, "system": bool}]},
    "/security/bindings": {
        "bindings": [
            {
                "id": str,
                "principal_type": str,
                "principal_name": str,
                "role_names": list,
                "scope": str,
                "resource_name": str,
            }
        ]
    },
}
"""What the pages of the original's user interface (danube-admin-ui) read, with its types."""


def unlike(found: Any, wanted: Any, where: str) -> list[str]:
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return [where]
        return [
            problem
            for name, each in wanted.items()
            for problem in (
                unlike(found[name], each, f"{where}.{name}")
                if name in found
                else [f"{where}.{name} is missing"]
            )
        ]
    if isinstance(wanted, list):
        if not isinstance(found, list) or not found:
            return [f"{where} is no list, or empty"]
        return unlike(found[0], wanted[0], f"{where}[]")
    fits = isinstance(found, (int, float)) if wanted is float else isinstance(found, wanted)
    return [] if fits else [f"{where} is {found!r}"]


async def test_all_that_the_original_s_pages_read_is_there_and_of_its_type(browser: Browser) -> None:
    await open_shop(browser)
    form = {"subject": "orders", "type": "json_schema", "definition": '{"type": "object"}'}
    assert (await act(browser, "register-schema", "/schemas", **form)).status == 303
    binding = {"action": "create", "id": "b", "principal_type": "user", "principal_name": "al"}
    made = await tell(
        browser, "/security/bindings/actions", **binding, roles=["viewer"], scope="cluster", resource=""
    )
    assert made == (200, {"success": True})
    problems = [
        problem
        for path, wanted in READ_BY_THE_ORIGINAL.items()
        for problem in unlike(await ask(browser, path), wanted, path)
    ]
    assert problems == []
