"""Which owner should have which bundle: decided from what is known, without I/O.

Stability comes first: a bundle whose owner lives moves only while owners differ by more than one
bundle. What nobody serves is placed at once; what somebody serves moves a few at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from danube_common.bundle import Bundle

HANDOVERS_MAX = 16
"""Bundles that change hands between two living owners at one time: each is a short pause for its topics."""


def plan(
    bundles: Iterable[Bundle],
    assigned: Mapping[Bundle, str],
    claimed: Mapping[Bundle, str],
    live: Collection[str],
    *,
    handovers_max: int = HANDOVERS_MAX,
) -> dict[Bundle, str]:
    """The assignments to change, in the order to write them. Equal input gives an equal plan.

    Args:
        bundles: every bundle of the layout.
        assigned: the present assignments, to living owners or not.
        claimed: who serves a bundle now.
        live: instance ids of the living owners.
        handovers_max: bound on bundles that a living owner serves and another one is to have.

    Returns:
        New owner per bundle; empty when nothing should change or nobody lives.
    """
    if not live:
        return {}
    held: dict[str, list[Bundle]] = {instance_id: [] for instance_id in sorted(live)}
    homeless: list[Bundle] = []
    for bundle in sorted(bundles):
        held.get(assigned.get(bundle, ""), homeless).append(bundle)
    changes: dict[Bundle, str] = {}
    for bundle in homeless:
        server = claimed.get(bundle)
        instance_id = server if server in held else _emptiest(held)
        held[instance_id].append(bundle)
        changes[bundle] = instance_id
    changes.update(_levelled(held, claimed, handovers_max))
    return changes


def _levelled(
    held: dict[str, list[Bundle]], claimed: Mapping[Bundle, str], handovers_max: int
) -> dict[Bundle, str]:
    """Move bundles from the fullest owner to the emptiest until they differ by one at most."""
    servers = {bundle: server for bundle, server in claimed.items() if server in held}
    handovers = sum(servers.get(bundle, owner) != owner for owner in held for bundle in held[owner])
    moves: dict[Bundle, str] = {}
    while True:
        fullest, emptiest = _fullest(held), _emptiest(held)
        if len(held[fullest]) - len(held[emptiest]) <= 1:
            return moves
        cost, bundle = min((_cost(servers.get(one), fullest, emptiest), one) for one in held[fullest])
        if cost > 0 and handovers >= handovers_max:
            return moves
        handovers += cost
        held[fullest].remove(bundle)
        held[emptiest].append(bundle)
        moves[bundle] = emptiest


def _cost(server: str | None, present: str, to: str) -> int:
    """How many more handovers there are after a bundle that ``server`` serves moves."""
    return 0 if server is None else int(server != to) - int(server != present)


def _emptiest(held: Mapping[str, list[Bundle]]) -> str:
    return min(held, key=lambda instance_id: (len(held[instance_id]), instance_id))


def _fullest(held: Mapping[str, list[Bundle]]) -> str:
    return min(held, key=lambda instance_id: (-len(held[instance_id]), instance_id))
