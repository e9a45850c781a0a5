"""Names for producers and consumers whose user gave none."""

from __future__ import annotations

import os
import secrets
import socket

HOST_LENGTH_MAX = 40


def generated_name() -> str:
    """Return a name that no other client has: ``host-pid-random``, letters, digits, ``_`` and ``-`` only."""
    host = "".join(
        letter if letter.isascii() and letter.isalnum() else "-" for letter in socket.gethostname()
    )
    return f"{host[:HOST_LENGTH_MAX] or 'host'}-{os.getpid()}-{secrets.token_hex(4)}"
