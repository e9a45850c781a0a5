"""Decides which owner should have which bundle. Pure.

Stability comes first: a bundle whose owner lives moves only while owners differ by too many bundles, or
because its owner is being drained. What nobody serves is placed at once; what somebody serves moves a few
at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from danube_admin_service.cluster.ranking import LoadModel
from danube_common.model.bundle import Bundle

HANDOVERS_MAX = 16
"""Bundles that move between living owners at a time: each move is a short pause for its topics."""


@dataclass(slots=True)
class _Board:
    """The assignments while a plan is made.

    Attributes:
        held: the bundles of each owner that may have bundles.
        servers: the living owner that serves each bundle now.
        handovers: the number of bundles that are moving between two living owners.
    """

    held: dict[str, list[Bundle]]
    servers: dict[Bundle, str]
    load_model: LoadModel | None
    handovers: int = 0
    changes: dict[Bundle, str] = field(default_factory=dict)

    def place(self, bundle: Bundle, owner: str) -> None:
        self.held[owner].append(bundle)
        self.changes[bundle] = owner
        if self.load_model is not None:
            self.load_model.add(bundle, owner)

    def choice(self, within: int) -> str:
        """The owner for one more bundle: the lightest of those with few bundles."""
        fewest = min(len(bundles) for bundles in self.held.values())
        if self.load_model is None:
            return _emptiest(self.held)
        return self.load_model.lightest(
            o for o, bundles in self.held.items() if len(bundles) < fewest + within
        )


def plan(
    bundles: Iterable[Bundle],
    assigned: Mapping[Bundle, str],
    claimed: Mapping[Bundle, str],
    live: Collection[str],
    *,
    drained: Mapping[str, int] | None = None,
    load_model: LoadModel | None = None,
    handovers_max: int = HANDOVERS_MAX,
    level_above: int = 1,
    place_within: int = 1,
) -> dict[Bundle, str]:
    """Return the assignments to change, in the order to write them. Equal input gives an equal plan.

    Args:
        bundles: every bundle of the layout.
        assigned: the present assignments, to living owners or not.
        claimed: the owner that serves each bundle now.
        live: instance ids of the living owners.
        drained: owners that are to lose all bundles, with the number of bundles that each hands over at a
            time. They keep their bundles while no other owner lives.
        load_model: decides between several owners, and the plan is applied to it; None takes the first owner.
        handovers_max: bound on the bundles that are moving between two living owners.
        level_above: bundles move from the fullest owner to the emptiest when they differ by more than this,
            and then until they differ by one at most.
        place_within: a bundle without an owner goes to one that has fewer than this many bundles more than
            the emptiest owner.

    Returns:
        The new owner of each bundle that changes; empty when no owner lives.
    """
    drains = {owner: most for owner, most in (drained or {}).items() if owner in live}
    eligible_owners = sorted(set(live) - drains.keys()) or sorted(live)
    if not eligible_owners:
        return {}
    board = _Board(
        held={instance_id: [] for instance_id in eligible_owners},
        servers={bundle: server for bundle, server in claimed.items() if server in live},
        load_model=load_model,
    )
    unplaced: list[Bundle] = []
    leaving: list[Bundle] = []
    for bundle in sorted(bundles):
        owner = assigned.get(bundle, "")
        if owner in board.held:
            board.held[owner].append(bundle)
        else:
            (leaving if owner in drains else unplaced).append(bundle)
        board.handovers += owner in live and board.servers.get(bundle, owner) != owner
    for bundle in unplaced:
        server = board.servers.get(bundle, "")
        board.place(bundle, server if server in board.held else board.choice(place_within))
    _drain(board, leaving, assigned, drains, handovers_max, place_within)
    _level(board, handovers_max, level_above)
    return {bundle: owner for bundle, owner in board.changes.items() if assigned.get(bundle) != owner}


def _drain(
    board: _Board,
    leaving: list[Bundle],
    assigned: Mapping[Bundle, str],
    drains: Mapping[str, int],
    handovers_max: int,
    place_within: int,
) -> None:
    """Move bundles of drained owners, as many at a time as is allowed of each."""
    under_way = dict.fromkeys(drains, 0)
    for bundle, server in board.servers.items():
        if server in drains and assigned.get(bundle) != server:
            under_way[server] += 1
    for bundle in leaving:
        serving = board.servers.get(bundle)
        if serving is None:
            board.place(bundle, board.choice(place_within))
        elif serving in board.held:  # an active owner serves it already
            board.place(bundle, serving)
        elif under_way[serving] < drains[serving] and board.handovers < handovers_max:
            under_way[serving] += 1
            board.handovers += 1
            board.place(bundle, board.choice(place_within))


def _level(board: _Board, handovers_max: int, above: int) -> None:
    """Move bundles from the fullest owner to the emptiest until they differ by one at most."""
    held = board.held
    if len(held[_fullest(held)]) - len(held[_emptiest(held)]) <= above:
        return
    while True:
        fullest, emptiest = _fullest(held), _emptiest(held)
        if len(held[fullest]) - len(held[emptiest]) <= 1:
            return
        cost, bundle = min((_cost(board.servers.get(one), fullest, emptiest), one) for one in held[fullest])
        if cost > 0 and board.handovers >= handovers_max:
            return
        board.handovers += cost
        held[fullest].remove(bundle)
        held[emptiest].append(bundle)
        board.changes[bundle] = emptiest


def _cost(server: str | None, present: str, to: str) -> int:
    """How many more handovers there are after a bundle that ``server`` serves moves."""
    return 0 if server is None else int(server != to) - int(server != present)


def _emptiest(held: Mapping[str, list[Bundle]]) -> str:
    return min(held, key=lambda instance_id: (len(held[instance_id]), instance_id))


def _fullest(held: Mapping[str, list[Bundle]]) -> str:
    return min(held, key=lambda instance_id: (-len(held[instance_id]), instance_id))
