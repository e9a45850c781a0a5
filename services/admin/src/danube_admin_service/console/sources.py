"""What the pages are made from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from danube_admin_service.cluster.view import Cluster
from danube_admin_service.console.access.gateways import Gateways
from danube_admin_service.console.live.activity import Activity
from danube_admin_service.console.live.prometheus import Prometheus
from danube_admin_service.console.live.scrape import Lag
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.owner_client import OwnerClient
from danube_common.cluster.topics import Topics

Query = Mapping[str, str]
"""The parameters of a page's address."""


@dataclass(frozen=True)
class Sources:
    """Read by pages after they have checked that their visitor may see it.

    Attributes:
        gateways: for what clients do.
        prometheus: where the charts come from; None: from ``activity``.
        audit_file: where this process records who did what; None: nowhere that can be read.
    """

    activity: Activity
    cluster: Cluster
    namespaces: Namespaces
    topics: Topics
    owners: OwnerClient
    gateways: Gateways
    prometheus: Prometheus | None = None
    audit_file: Path | None = None

    def backlogs(self) -> dict[str, Lag]:
        """Return the subscriptions of each topic together, the age of the oldest message among them."""
        found: defaultdict[str, Lag] = defaultdict(Lag)
        for (topic, _), lag in self.activity.lags.items():
            found[topic] = together((found[topic], lag))
        return found


def together(lags: Iterable[Lag]) -> Lag:
    """Add up backlogs; the age is the greatest."""
    total = Lag()
    for lag in lags:
        total = Lag(
            total.messages + lag.messages,
            max(total.age_s, lag.age_s if lag.messages else 0.0),
            total.redelivered + lag.redelivered,
            total.dead_letters + lag.dead_letters,
        )
    return total
