"""Where a subscription is to begin, as it is written on the command line."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import typer

from danube_proto.danube_platform_pb2 import SubscriptionStart

FORMS = (
    "earliest, latest, -N (the last N messages), a position, a time such as 2026-11-23T10:00:00Z"
    " (UTC if it does not say) or how long ago: 90s, 15m, 2h, 7d"
)
VALUE_MAX = (1 << 63) - 1

_AGO = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NUMBER = re.compile(r"-?\d{1,19}", re.ASCII)


def parse_start(text: str, *, now_ms: int | None = None) -> SubscriptionStart:
    """Reads one of FORMS.

    Raises:
        typer.BadParameter: it is none of them.
    """
    word = text.strip().lower()
    if word == "earliest":
        return SubscriptionStart(kind=SubscriptionStart.EARLIEST)
    if word == "latest":
        return SubscriptionStart(kind=SubscriptionStart.LATEST)
    if _NUMBER.fullmatch(word) and 0 < abs(number := int(word)) <= VALUE_MAX:
        kind = SubscriptionStart.LAST if number < 0 else SubscriptionStart.POSITION
        return SubscriptionStart(kind=kind, value=abs(number))
    if ago := _AGO.fullmatch(word):
        now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        since_ms = now_ms - int(ago[1]) * _SECONDS[ago[2]] * 1000
        return SubscriptionStart(kind=SubscriptionStart.TIME, value=max(since_ms, 0))
    try:
        moment = datetime.fromisoformat(text.strip())
        since_ms = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        since_ms = -1
    # `fromisoformat` reads bare digits as dates, too: those of eight digits are positions here.
    if since_ms < 0 or _NUMBER.fullmatch(word):
        raise typer.BadParameter(f"{text!r} is none of: {FORMS}")
    return SubscriptionStart(kind=SubscriptionStart.TIME, value=since_ms)
