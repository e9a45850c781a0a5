"""What the fields of forms mean: pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from danube_common.errors import InvalidInput
from danube_proto import danube_platform_pb2 as platform

SHOWN_CHARACTERS: Final = 40
ATTRIBUTES_MAX: Final = 64
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Form = Mapping[str, str]
"""The fields of a form; the values of one that comes several times are joined by commas."""


def number(text: str, name: str) -> int:
    """Read a number. Raises InvalidInput."""
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(f"{name} is a number from 0 on, not {text[:SHOWN_CHARACTERS]!r}")
    return int(text)


def seconds(text: str, name: str) -> int:
    """Read a duration: 90, 90s, 15m, 12h or 30d; empty is 0. Raises InvalidInput."""
    text = text.strip()
    if not text:
        return 0
    digits, unit = (text[:-1], text[-1]) if text[-1] in _UNITS_S else (text, "s")
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidInput(f"{name} is a duration as 90s, 15m, 12h or 30d, not {text[:SHOWN_CHARACTERS]!r}")
    return int(digits) * _UNITS_S[unit]


def listed(text: str) -> list[str]:
    """Return the words between commas."""
    return [word for each in text.split(",") if (word := each.strip())]


def attributes_of(text: str) -> dict[str, str]:
    """Read lines of name=value. Raises InvalidInput."""
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, is_there, value = line.partition("=")
        if not is_there or not name.strip():
            raise InvalidInput(f"an attribute is name=value, not {line[:SHOWN_CHARACTERS]!r}")
        found[name.strip()] = value.strip()
    if len(found) > ATTRIBUTES_MAX:
        raise InvalidInput(f"more than {ATTRIBUTES_MAX} attributes")
    return found


def start_of(form: Form) -> platform.SubscriptionStart:
    """Return where a reading or a subscription is to start. Raises InvalidInput."""
    kind = form.get("from", "earliest")
    try:
        start = platform.SubscriptionStart(kind=kind.upper())
    except ValueError:
        raise InvalidInput(f"{kind[:SHOWN_CHARACTERS]!r} is no place to start") from None
    value = form.get("value", "").strip()
    if kind == "time":
        start.value = moment_ms(value)
    elif kind not in ("earliest", "latest"):
        start.value = number(value, kind)
    return start


def moment_ms(text: str) -> int:
    """Read a time: 2026-01-31 12:30 in UTC, or milliseconds since the epoch. Raises InvalidInput."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        parsed = datetime.fromisoformat(text)
        return int(parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"a time is like 2026-01-31 12:30 (UTC), not {text[:SHOWN_CHARACTERS]!r}"
        ) from None


def policy_of(form: Form) -> platform.Policies:
    """The one policy of the form. Raises InvalidInput."""
    name = form["policy"]
    if name not in platform.Policies.DESCRIPTOR.fields_by_name:
        raise InvalidInput(f"there is no policy {name[:SHOWN_CHARACTERS]!r}")
    return platform.Policies(**{name: number(form["value"].strip(), name)})
