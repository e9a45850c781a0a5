"""The policies in force, and which level sets each. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

UNITS: Final = {
    "max_publish_rate": "messages/s",
    "max_dispatch_rate": "messages/s",
    "max_subscription_dispatch_rate": "messages/s",
    "max_message_size": "bytes",
    "max_retained_mb": "MiB",
}


@dataclass(frozen=True)
class PolicyRow:
    """One policy in force, and which level sets it. ``own``: whether that is the level that is shown."""

    name: str
    value: int
    unit: str
    source: str
    own: bool


def policy_rows(in_force: str, levels: Iterable[tuple[str, Mapping[str, object]]]) -> list[PolicyRow]:
    """Return the rows. ``levels``: what each level sets, the one that is shown first, without the cluster."""
    known = list(levels)
    rows = []
    for name, value in json.loads(in_force).items():
        source = next((level for level, values in known if values.get(name) is not None), "cluster")
        own = bool(known) and source == known[0][0]
        rows.append(PolicyRow(name, value, UNITS.get(name, ""), source, own))
    return rows
