"""Chooses which bundles to move so that the owners' loads come closer to each other. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from danube_admin_service.cluster.ranking import LoadModel, Weight, variation_percent
from danube_common.model.bundle import Bundle

CANDIDATES_MAX: Final = 24
"""Bundles considered on each side of a move: the heaviest of the source, the lightest of the target."""
GAIN_MIN: Final = 0.02
"""A move must relieve the heavier owner of this part of its load; less is not worth the pause."""


class Aggressiveness(StrEnum):
    """How far loads may be apart (coefficient of variation) before bundles move."""

    CONSERVATIVE = "conservative"
    BALANCED = "balanced"
    AGGRESSIVE = "aggressive"

    @property
    def threshold_percent(self) -> float:
        """The coefficient of variation above which bundles move."""
        return {"conservative": 40.0, "balanced": 30.0, "aggressive": 20.0}[self.value]


@dataclass(frozen=True, slots=True)
class Move:
    """Moves one bundle between living owners; ``load`` is what it adds to an owner without any."""

    bundle: Bundle
    source: str
    target: str
    load: float
    reason: str


def propose(
    load_model: LoadModel,
    assigned: Mapping[Bundle, str],
    owners: Collection[str],
    *,
    moves_max: int,
    threshold_percent: float,
    spread_max: int,
    resting: Collection[Bundle] = (),
) -> list[Move]:
    """Return the moves to make in order; none while the loads differ by less than the threshold.

    Bundles move from the heaviest owner to the lightest, one way or in exchange for a lighter one, as
    long as each step relieves the heavier of the two and neither becomes the new heaviest.

    Args:
        load_model: the loads of these owners; the moves are applied to it.
        assigned: the owner of each bundle.
        owners: the living owners that are not drained.
        moves_max: bound on the moves; an exchange is two.
        threshold_percent: the coefficient of variation above which bundles move.
        spread_max: bound on the difference of the owners' numbers of bundles; above it the leader levels.
        resting: bundles that moved a short time ago and stay.
    """
    held: dict[str, list[Bundle]] = {owner: [] for owner in sorted(owners)}
    for bundle, owner in sorted(assigned.items()):
        if owner in held:
            held[owner].append(bundle)
    moves: list[Move] = []
    while len(held) > 1:
        variation = variation_percent(load_model.score(owner) for owner in held)
        if variation <= threshold_percent:
            break
        step = _best_step(load_model, held, moves_max - len(moves), spread_max, set(resting))
        if not step:
            break
        for bundle, source, target in step:
            share = load_model.share(bundle)
            load_model.move(bundle, source, target)
            held[source].remove(bundle)
            held[target].append(bundle)
            moves.append(
                Move(bundle, source, target, share, f"loads vary by {variation:.0f} % between the owners")
            )
    return moves


_Step = list[tuple[Bundle, str, str]]


def _best_step(
    load_model: LoadModel,
    held: Mapping[str, list[Bundle]],
    moves_left: int,
    spread_max: int,
    resting: set[Bundle],
) -> _Step:
    """The move or exchange that relieves the heaviest owner most, empty when none is worth it."""
    by_load = sorted(held, key=lambda owner: (load_model.score(owner), owner))
    source, target = by_load[-1], by_load[0]
    highest = load_model.score(source)
    best, step = highest * (1 - GAIN_MIN), list[tuple[Bundle, str, str]]()
    counts = {owner: len(bundles) for owner, bundles in held.items()}
    one_way = moves_left >= 1 and _spread_after(counts, source, target) <= spread_max
    for heavy in _candidates(load_model, held[source], resting, heaviest=True):
        for light in (None, *_candidates(load_model, held[target], resting, heaviest=False)):
            if (light is None and not one_way) or (light is not None and moves_left < 2):
                continue
            going = load_model.weight(heavy)
            coming = load_model.weight(light) if light is not None else Weight()
            after = max(
                load_model.score_with(source, more=coming, less=going),
                load_model.score_with(target, more=going, less=coming),
            )
            if after < best:
                best, step = after, [(heavy, source, target)]
                if light is not None:
                    step.append((light, target, source))
    return step


def _spread_after(counts: Mapping[str, int], source: str, target: str) -> int:
    after = [count - (owner == source) + (owner == target) for owner, count in counts.items()]
    return max(after) - min(after)


def _candidates(
    load_model: LoadModel, bundles: Collection[Bundle], resting: set[Bundle], *, heaviest: bool
) -> list[Bundle]:
    sign = -1 if heaviest else 1
    free = (bundle for bundle in bundles if bundle not in resting)
    return sorted(free, key=lambda bundle: (sign * load_model.share(bundle), bundle))[:CANDIDATES_MAX]


def relocation(
    load_model: LoadModel,
    bundle: Bundle,
    assigned: Mapping[Bundle, str],
    owners: Collection[str],
    *,
    spread_max: int,
) -> dict[Bundle, str]:
    """Return the assignments that move one bundle to another owner; empty if there is no other.

    The bundle goes to the lightest other owner. If that owner then had so many bundles that the leader would
    level, the lightest bundle of that owner comes back in exchange.
    """
    source = assigned.get(bundle, "")
    others = sorted(owner for owner in owners if owner != source)
    if not others:
        return {}
    target = load_model.lightest(others)
    changes = {bundle: target}
    counts = {owner: sum(held == owner for held in assigned.values()) for owner in owners}
    if source in counts and _spread_after(counts, source, target) > spread_max:
        theirs = [one for one, owner in assigned.items() if owner == target]
        for lightest in _candidates(load_model, theirs, set(), heaviest=False)[:1]:
            changes[lightest] = source
    return changes
