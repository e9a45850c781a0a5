"""Templates of ``--format``: text with ``%`` before the letter of a part of the message. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from danube_client import Message

PARTS: dict[str, Callable[[Message], bytes]] = {
    "%": lambda _: b"%",
    "p": lambda message: message.payload,
    "S": lambda message: b"%d" % len(message.payload),
    "k": lambda message: (message.key or "").encode(),
    "K": lambda message: b"%d" % len((message.key or "").encode()),
    "o": lambda message: b"%d" % message.position,
    "t": lambda message: message.topic.encode(),
    "T": lambda message: b"%d" % message.publish_time_ms,
    "n": lambda message: message.producer_name.encode(),
    "h": lambda message: ",".join(
        f"{name}={value}" for name, value in sorted(message.attributes.items())
    ).encode(),
}
"""What each letter stands for."""

ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}

_TOKEN = re.compile(r"%(.?)|\\x([0-9a-fA-F]{2})|\\(.?)|[^%\\]+", re.DOTALL)


def template(text: str) -> Callable[[Message], bytes]:
    """Return what formats a message.

    Raises:
        ValueError: there is no such part or escape.
    """
    steps: list[bytes | Callable[[Message], bytes]] = []
    for token in _TOKEN.finditer(text):
        letter, code, escape = token.groups()
        if letter is not None:
            if letter not in PARTS:
                known = " ".join(f"%{known}" for known in PARTS)
                raise ValueError(f"'%{letter}' is no part of a message; there are {known}")
            steps.append(PARTS[letter])
        elif code is not None:
            steps.append(bytes([int(code, 16)]))
        elif escape is not None:
            if escape not in ESCAPES:
                raise ValueError(f"'\\{escape}' is none of \\n \\t \\r \\0 \\xHH \\\\")
            steps.append(ESCAPES[escape])
        else:
            steps.append(token[0].encode(errors="surrogateescape"))
    return lambda message: b"".join(step if isinstance(step, bytes) else step(message) for step in steps)
