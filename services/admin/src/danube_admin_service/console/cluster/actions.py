"""What is done to topic owners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from danube_admin_service.console.access import calls
from danube_admin_service.console.action import Action, page
from danube_proto import danube_admin_pb2 as admin

DRAIN_WAIT_S: Final = 0
"""The page shows how far a drain is; the form does not wait for it."""
DRAINED_AT_ONCE: Final = 1

CLUSTER_ACTIONS: Final[Mapping[str, Action]] = {
    "drain": Action(
        calls.UNLOAD_BROKER,
        lambda form: admin.UnloadBrokerRequest(
            broker_id=form["instance"], max_parallel=DRAINED_AT_ONCE, timeout_seconds=DRAIN_WAIT_S
        ),
        lambda form: f"Topic owner {form['instance']} is losing its bundles.",
        page("/cluster"),
        confirm="instance",
    ),
    "activate": Action(
        calls.ACTIVATE_BROKER,
        lambda form: admin.ActivateBrokerRequest(broker_id=form["instance"]),
        lambda form: f"Topic owner {form['instance']} may have bundles again.",
        page("/cluster"),
    ),
    "rebalance": Action(
        calls.REBALANCE,
        lambda _form: admin.RebalanceRequest(),
        lambda _form: "The bundles were rebalanced.",
        page("/cluster"),
    ),
}
