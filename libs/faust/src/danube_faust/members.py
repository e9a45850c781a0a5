"""Who works for an app: what a worker concludes from the heartbeats that it hears, its own included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

Partitions = Mapping[str, list[int]]
"""Numbers of partitions, by topic."""


@dataclass(frozen=True, slots=True)
class Member:
    """A worker, as it describes itself.

    Attributes:
        name: no other worker has it.
        url: where its web views are.
        topics: what it consumes, changelogs included.
        leaving: whether it stops.
        actives: the partitions that it works on or waits for, by topic.
        standbys: those whose tables it follows.
        tells: whether it tells these, and looks at what others tell; older versions do not.
    """

    name: str
    url: str
    topics: tuple[str, ...]
    leaving: bool = False
    actives: Partitions = field(default_factory=dict)
    standbys: Partitions = field(default_factory=dict)
    tells: bool = True

    def to_json(self) -> str:
        """Return the payload of a heartbeat."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, payload: bytes) -> Self | None:
        """Return who sent a heartbeat; None for what is none."""
        try:
            found = json.loads(payload)
            return cls(
                str(found["name"]),
                str(found["url"]),
                tuple(str(topic) for topic in found["topics"]),
                bool(found["leaving"]),
                _partitions(found.get("actives", {})),
                _partitions(found.get("standbys", {})),
                "actives" in found,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _partitions(found: Any) -> dict[str, list[int]]:
    return {str(topic): [int(number) for number in numbers] for topic, numbers in found.items()}


class Members:
    """The living workers.

    Silence of others counts only while this worker hears itself: else the platform is away, for all of them.
    """

    def __init__(self, name: str, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._heard: dict[str, tuple[Member, float]] = {}

    def hear(self, member: Member, now_s: float) -> None:
        """Note a heartbeat."""
        if member.name == self._name and not self._hears_itself(now_s):
            # The others may have been as silent, and are given their time.
            self._heard = {name: (known, now_s) for name, (known, _) in self._heard.items()}
        if member.leaving:
            self._heard.pop(member.name, None)
        else:
            self._heard[member.name] = member, now_s

    def living(self, now_s: float) -> Mapping[str, Member] | None:
        """Return the living workers in order of their names; None while that cannot be told."""
        if not self._hears_itself(now_s):
            return None
        for name, (_, heard_s) in list(self._heard.items()):
            if now_s - heard_s > self._timeout_s:
                del self._heard[name]
        return {name: self._heard[name][0] for name in sorted(self._heard)}

    def _hears_itself(self, now_s: float) -> bool:
        heard = self._heard.get(self._name)
        return heard is not None and now_s - heard[1] <= self._timeout_s
