"""Rules for keys, prefixes, values and lifetimes that every adapter applies first."""

from __future__ import annotations

import math
import re
from typing import Final

from danube_common.errors import InvalidInput

KEY_CHARS_MAX: Final = 2400
"""Room for the longest topic name; NATS takes subjects of up to 4096 bytes with their reply."""
VALUE_BYTES_MAX: Final = 1 << 20
TTL_S_MAX: Final = 365 * 24 * 3600

_KEY: Final = re.compile(r"(?:/[A-Za-z0-9_=-]+)+", re.ASCII)
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9_=-]+)*/", re.ASCII)


def require_key(key: str) -> str:
    """Return the key; raises InvalidInput unless it is ``/part/part`` with parts of ``[A-Za-z0-9_=-]``."""
    if len(key) > KEY_CHARS_MAX or _KEY.fullmatch(key) is None:
        raise InvalidInput(f"not a metadata key: {key[:80]!r}")
    return key


def require_prefix(prefix: str) -> str:
    """Return the prefix; raises InvalidInput unless it is ``/`` or a key followed by ``/``."""
    if len(prefix) > KEY_CHARS_MAX or _PREFIX.fullmatch(prefix) is None:
        raise InvalidInput(f"not a metadata prefix (it must end in a slash): {prefix[:80]!r}")
    return prefix


def require_revision(revision: int | None) -> int | None:
    """Return the expected revision; raises InvalidInput if it is negative."""
    if revision is not None and revision < 0:
        raise InvalidInput(f"a revision is never negative: {revision}")
    return revision


def require_write(key: str, value: bytes, expected_revision: int | None, ttl_s: float | None) -> int | None:
    """Return the lifetime of a put in whole seconds, rounded up, or None if it has none.

    Raises InvalidInput for a bad key or revision, a value over 1 MiB, a lifetime not positive and finite.
    """
    require_key(key)
    if len(value) > VALUE_BYTES_MAX:
        raise InvalidInput(f"a metadata value has {len(value)} bytes, at most {VALUE_BYTES_MAX} are allowed")
    require_revision(expected_revision)
    if ttl_s is None:
        return None
    if not math.isfinite(ttl_s) or not 0 < ttl_s <= TTL_S_MAX:
        raise InvalidInput(f"not a lifetime in seconds: {ttl_s}")
    return math.ceil(ttl_s)
