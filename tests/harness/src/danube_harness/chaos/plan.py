"""The plan of a run: which fault hits which target when, decided by a seed alone. Pure: no clock, no I/O."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

SETTLE_S = (1.5, 4.0)
"""The quiet between the end of one fault and the begin of the next."""
OVERLAP_PART = 0.2
"""The part of the faults that begin during the one before, if it has another target."""


@dataclass(frozen=True, slots=True)
class Hazard:
    """A fault that a plan may contain.

    Attributes:
        fault: its name.
        targets: it hits one of them each time.
        lasts_s: the least and the most seconds it goes on.
        core: planned before the others if the run is too short for all.
    """

    fault: str
    targets: Sequence[str]
    lasts_s: tuple[float, float] = (0.0, 0.0)
    core: bool = False


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault, in seconds from the begin of the run."""

    at_s: float
    fault: str
    target: str
    lasts_s: float

    @property
    def end_s(self) -> float:
        """When the fault ends, in seconds from the begin of the run."""
        return self.at_s + self.lasts_s

    def __str__(self) -> str:
        lasting = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.at_s:6.1f} s  {self.fault} {self.target}{lasting}"


def plan(seed: int, duration_s: float, hazards: Sequence[Hazard]) -> list[Strike]:
    """The strikes of one run, by their time; the same for the same arguments.

    Every hazard comes once before any comes again. The last has ended by ``duration_s``.
    """
    chance = random.Random(seed)
    strikes: list[Strike] = []
    left = list(hazards)
    free_s = chance.uniform(*SETTLE_S)
    while drawn := _draw(chance, duration_s - free_s, left):
        for hazard, one in drawn:
            at_s = free_s
            before = strikes[-1] if strikes else None
            if before and before.lasts_s and before.target != one.target and chance.random() < OVERLAP_PART:
                at_s = before.at_s + before.lasts_s * chance.random()
            strikes.append(replace(one, at_s=at_s))
            free_s = max(free_s, strikes[-1].end_s) + chance.uniform(*SETTLE_S)
            left.remove(hazard)
        left = left or list(hazards)
    return strikes


def _draw(chance: random.Random, room_s: float, hazards: Sequence[Hazard]) -> list[tuple[Hazard, Strike]]:
    """Each hazard once, in any order; if the room is too small for all, first those of the core."""
    core = [hazard for hazard in hazards if hazard.core]
    others = [hazard for hazard in hazards if not hazard.core]
    chance.shuffle(core)
    chance.shuffle(others)
    taken = []
    for hazard in (*core, *others):
        lasts_s = chance.uniform(*hazard.lasts_s)
        if lasts_s + SETTLE_S[1] <= room_s:
            room_s -= lasts_s + SETTLE_S[1]
            taken.append((hazard, Strike(0.0, hazard.fault, chance.choice(hazard.targets), lasts_s)))
    chance.shuffle(taken)
    return taken
