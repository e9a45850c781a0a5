"""What a comparison of two schemas found, within bounds on its length and on the work."""

from __future__ import annotations

from typing import Final

from danube_common.errors import LimitExceeded

DIFFERENCES_MAX: Final = 20
"""Differences that one comparison tells; further ones are only counted."""
DIFFERENCE_CHARACTERS_MAX: Final = 300
"""Characters of one difference; the rest is cut."""
COMPARISONS_MAX: Final = 100_000
"""Pairs of parts of two schemas that one check compares, over all versions."""


class Differences:
    """Collects why schemas cannot read what others wrote. Empty: they can.

    Attributes:
        about: which schema reads and which one wrote; the beginning of differences noted from now on.
    """

    def __init__(self) -> None:
        self.about = ""
        self._texts: list[str] = []
        self._more = 0
        self._comparisons = 0

    def __bool__(self) -> bool:
        return bool(self._texts)

    @property
    def texts(self) -> list[str]:
        """The differences, each a sentence; a last line counts those that were left out."""
        return [*self._texts, f"and {self._more} more"] if self._more else list(self._texts)

    def add(self, where: str, why: str) -> None:
        """Note one difference. ``where`` is a path within the schema, empty for all of it."""
        if len(self._texts) == DIFFERENCES_MAX:
            self._more += 1
            return
        text = ": ".join(part for part in (self.about, where, why) if part)
        if len(text) > DIFFERENCE_CHARACTERS_MAX:
            text = f"{text[: DIFFERENCE_CHARACTERS_MAX - 3]}..."
        if text not in self._texts:
            self._texts.append(text)

    def count_comparison(self, parts: int = 1) -> None:
        """Count comparisons of one part with some. Raises LimitExceeded at COMPARISONS_MAX."""
        self._comparisons += parts
        if self._comparisons > COMPARISONS_MAX:
            raise LimitExceeded(
                "schema_comparisons",
                f"the schemas are too large to compare: more than {COMPARISONS_MAX} pairs of their parts; "
                "use smaller schemas, or a mode that compares with fewer versions",
            )
