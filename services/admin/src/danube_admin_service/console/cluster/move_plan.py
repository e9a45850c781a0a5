"""What rebalancing would do, as it is drawn: the bundles of each owner now and then. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from danube_proto import danube_admin_pb2 as admin


@dataclass(frozen=True)
class Chip:
    """A bundle. ``change`` is "leaves", "comes", or empty."""

    bundle: str
    change: str = ""


@dataclass(frozen=True)
class OwnerPlan:
    """The bundles of an owner, before and after."""

    instance_id: str
    now: tuple[Chip, ...]
    then: tuple[Chip, ...]


def move_plan(
    owners: Iterable[str], bundles: Mapping[str, str], moves: Iterable[admin.ProposedMove]
) -> list[OwnerPlan]:
    """Return how moves change who has what. ``bundles``: the owner of each."""
    then = dict(bundles)
    for move in moves:
        then[move.topic_name] = str(move.to_broker)
    plans = []
    for owner in owners:
        had = {name for name, of in bundles.items() if of == owner}
        has = {name for name, of in then.items() if of == owner}
        plans.append(
            OwnerPlan(
                owner,
                tuple(Chip(name, "leaves" if name not in has else "") for name in sorted(had)),
                tuple(Chip(name, "comes" if name not in had else "") for name in sorted(has)),
            )
        )
    return plans
