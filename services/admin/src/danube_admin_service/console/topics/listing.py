"""The page that lists topics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.live.scrape import Flow, Lag
from danube_admin_service.console.sources import Query, Sources, together
from danube_proto import danube_admin_pb2 as admin

ROWS_PER_PAGE: Final = 200


@dataclass(frozen=True)
class TopicRow:
    """A topic, or the partitions of one together (``partitions`` is 0 for a plain topic)."""

    name: str
    reliable: bool
    partitions: int
    owners: tuple[str, ...]
    rate: Flow
    lag: Lag


ORDERS: Final = (
    ("name", "name"),
    ("backlog", "backlog"),
    ("age", "oldest unacknowledged"),
    ("in", "messages in"),
    ("out", "messages out"),
)
_ORDERS: Final[dict[str, Callable[[TopicRow], float]]] = {
    "in": lambda row: -row.rate.messages_in,
    "out": lambda row: -row.rate.messages_out,
    "backlog": lambda row: -row.lag.messages,
    "age": lambda row: -row.lag.age_s,
}


async def namespaces_of(visitor: Visitor, sources: Sources) -> list[str]:
    """Return the namespaces whose topics the visitor may list."""
    names = await sources.namespaces.names()
    return [one for one in names if visitor.may(calls.LIST_TOPICS, admin.NamespaceRequest(name=one))]


async def topics(visitor: Visitor, sources: Sources, query: Query) -> dict[str, object]:
    """All topics, by a part of the name, sorted, page by page."""
    wanted, order = query.get("q", "").strip().lower(), query.get("sort", "name")
    rows = [row for row in await topic_rows(visitor, sources) if wanted in row.name.lower()]
    rows.sort(key=_ORDERS.get(order, lambda _row: 0))  # they come in the order of their names
    pages = max((len(rows) + ROWS_PER_PAGE - 1) // ROWS_PER_PAGE, 1)
    asked = query.get("page", "")
    page = min(max(int(asked) if asked.isascii() and asked.isdigit() else 1, 1), pages)
    return {
        "q": query.get("q", ""),
        "orders": ORDERS,
        "sort": order if order in _ORDERS else "name",
        "found": len(rows),
        "page": page,
        "pages": pages,
        "rows": rows[(page - 1) * ROWS_PER_PAGE : page * ROWS_PER_PAGE],
    }


async def topic_rows(visitor: Visitor, sources: Sources) -> list[TopicRow]:
    """Return the topics that the visitor may list, by name, partitions folded."""
    backlogs, rates = sources.backlogs(), sources.activity.rates
    claimed = {str(bundle): owner for bundle, owner in sources.cluster.claimed.items()}
    rows = []
    for namespace in await namespaces_of(visitor, sources):
        found, partitioned = await sources.topics.listed(namespace)
        parts: dict[int, list[str]] = {one.topic_id: [] for one in partitioned}
        bundles: dict[int, set[str]] = {one.topic_id: set() for one in partitioned}
        for one in found:
            if one.partitioned_id in parts:
                parts[one.partitioned_id].append(one.name)
                bundles[one.partitioned_id].add(one.bundle)
                continue
            rows.append(
                TopicRow(
                    one.name,
                    one.strategy.is_reliable,
                    0,
                    _owners(claimed, (one.bundle,)),
                    rates.get(one.name, Flow()),
                    backlogs.get(one.name, Lag()),
                )
            )
        for base in partitioned:
            names = parts[base.topic_id]
            rows.append(
                TopicRow(
                    base.name,
                    base.strategy.is_reliable,
                    base.partitions,
                    _owners(claimed, bundles[base.topic_id]),
                    sources.activity.rate_of(names),
                    together(backlogs[name] for name in names if name in backlogs),
                )
            )
    return sorted(rows, key=lambda row: row.name)


def _owners(claimed: dict[str, str], bundles: Sequence[str] | set[str]) -> tuple[str, ...]:
    return tuple(sorted({claimed[bundle] for bundle in bundles if bundle in claimed}))
