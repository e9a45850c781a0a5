"""Exit status 0 if the service in this container is ready; else 1, and what it complains about.

Over a bare socket: this runs every few seconds in every container, and an HTTP client takes longer to import
than the question to answer.
"""  # noqa: INP001 - a program that is copied into images

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
from typing import Final

PORT: Final = 9040
TIMEOUT_S: Final = 4.0
ANSWER_BYTES_MAX: Final = 64 * 1024


def ask(connection: socket.socket) -> bytes:
    """Return what the service answers."""
    connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = b""
    with contextlib.suppress(OSError):
        while len(answer) < ANSWER_BYTES_MAX and (part := connection.recv(ANSWER_BYTES_MAX)):
            answer += part
    return answer


def main() -> int:
    """Ask once."""
    with socket.create_connection(("127.0.0.1", PORT), TIMEOUT_S) as connection:
        answer = ask(connection)
    if not answer.startswith(b"HTTP/"):  # the port speaks TLS; that this is it needs no proof on the loopback
        context = ssl._create_unverified_context()  # noqa: S323, SLF001
        with socket.create_connection(("127.0.0.1", PORT), TIMEOUT_S) as connection:
            answer = ask(context.wrap_socket(connection))
    head, _, body = answer.partition(b"\r\n\r\n")
    sys.stdout.write(body.decode(errors="replace"))
    return 0 if head.split()[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main())
