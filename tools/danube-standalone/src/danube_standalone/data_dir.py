"""The directory of a standalone platform.

``lock``            locked while the launcher or one of its programs runs
``instances.json``  the instance id of each service, so that a restarted service is the same instance
``state.json``      what runs now: process ids and addresses by name
``nats/``           the NATS server's configuration and store
``segments/``       the segments that the storage service stores on disk
``run/``            the addresses that the services announced
``logs/``           one log for each program
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any, Final, Self

LOCK_WAIT_S: Final = 3.0
"""How long `DataDir.open` waits for the processes of a launcher that was killed."""

LOCK_POLL_S: Final = 0.05
_INSTANCE_ID_MAX: Final = (1 << 63) - 1


class InUse(Exception):
    """Another launcher, or a program that it started, uses the directory."""


class DataDir:
    """The locked directory. The lock ends with the last process that inherited it."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd
        self.logs = path / "logs"
        self.run = path / "run"
        self.nats = path / "nats"
        self.segments = path / "segments"
        self.state_file = path / "state.json"

    @classmethod
    def open(cls, path: Path, *, wait_s: float = LOCK_WAIT_S) -> Self:
        """Create and lock the directory. Raises InUse, OSError."""
        path = path.absolute()
        path.mkdir(parents=True, exist_ok=True)
        lock_fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.read(lock_fd, 32).decode(errors="replace").strip()
                    os.close(lock_fd)
                    raise InUse(f"{path} is in use by another danube-standalone (pid {holder})") from None
                time.sleep(LOCK_POLL_S)
        os.ftruncate(lock_fd, 0)
        os.write(lock_fd, f"{os.getpid()}\n".encode())
        directory = cls(path, lock_fd)
        for part in (directory.logs, directory.run, directory.nats):
            part.mkdir(exist_ok=True)
        return directory

    def close(self) -> None:
        """Release the lock, unless a program that inherited it still runs."""
        os.close(self.lock_fd)

    def instance_id(self, name: str) -> str:
        """Return the instance id of the service called ``name``: chosen at random once, then stored."""
        file = self.path / "instances.json"
        ids: dict[str, str] = json.loads(file.read_bytes()) if file.exists() else {}
        if name not in ids:
            ids[name] = str(secrets.randbelow(_INSTANCE_ID_MAX) + 1)
            write_json(file, ids)
        return ids[name]


def write_json(file: Path, value: Any) -> None:
    """Replace a file atomically: a reader, and a restart after a crash, sees the old content or the new."""
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    with unfinished.open("w") as stream:
        json.dump(value, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(file)
