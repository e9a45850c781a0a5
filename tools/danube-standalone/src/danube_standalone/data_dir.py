"""The directory of a standalone platform.

``lock``            locked while the launcher or one of its programs runs
``instances.json``  the instance id of each service, so that a restarted service is the same instance
``state.json``      what runs now: process ids and addresses by name
``nats/``           the NATS server's configuration and store, and the passwords of its users
``segments/``       the segments that the storage service stores on disk
``run/``            the addresses that the services announced
``logs/``           one log for each program
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

LOCK_WAIT_S: Final = 3.0
"""How long `DataDir.open` waits for the processes of a launcher that was killed."""

LOCK_POLL_S: Final = 0.05
_INSTANCE_ID_MAX: Final = (1 << 63) - 1


DISK_FREE_MIN: Final = 16 << 20
"""With fewer free bytes nothing starts: the NATS server would wait for room without a word."""

DISK_FREE_LOW: Final = 256 << 20
"""With fewer free bytes people are told that publishing will stop."""


NATS_FULL: Final = "no space left on device"
"""How the NATS server's log line ends when a write fails for want of room."""


class Unusable(Exception):
    """The directory cannot be used; the text says why, and what of it is wrong."""


class InUse(Unusable):
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
        self._instances = path / "instances.json"

    @classmethod
    def open(cls, path: Path, *, wait_s: float = LOCK_WAIT_S) -> Self:
        """Create and lock the directory. Raises Unusable."""
        path = path.absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
            return cls._locked(path, wait_s)
        except OSError as error:
            wrong = Path(error.filename or path)
            reason = "it is no directory" if isinstance(error, FileExistsError) else error.strerror
            raise Unusable(f"{path} cannot be the data directory: {wrong}: {reason}") from None

    @classmethod
    def _locked(cls, path: Path, wait_s: float) -> Self:
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
        try:
            directory._prepare()
        except BaseException:
            directory.close()
            raise
        return directory

    def _prepare(self) -> None:
        """Create what is missing, and check that what is there can be written. Raises OSError, Unusable."""
        for part in (self.logs, self.run, self.nats):
            part.mkdir(exist_ok=True)
        for part in (
            self.path,
            self._instances,
            *self.path.glob("*/"),
            *self.logs.iterdir(),
            self.nats / "store",
        ):
            if part.exists() and not os.access(part, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(part))
        if self.free_bytes < DISK_FREE_MIN:
            raise Unusable(
                f"the disk of {self.path} is full: {self.free_bytes >> 20} MiB are free, and "
                f"{DISK_FREE_MIN >> 20} MiB are needed to start"
            )

    @property
    def free_bytes(self) -> int:
        """The free bytes of the file system."""
        return shutil.disk_usage(self.path).free

    def close(self) -> None:
        """Release the lock, unless a program that inherited it still runs."""
        os.close(self.lock_fd)

    def nats_password_file(self, user: str) -> Path:
        """Return where the password of a user of the NATS server is kept."""
        return self.nats / f"{user}.password"

    def nats_password(self, user: str) -> str:
        """Return a user's password for the NATS server, chosen at random once. Raises OSError."""
        file = self.nats_password_file(user)
        if not file.exists():
            write_secret(file, secrets.token_urlsafe(32))
        return file.read_text().strip()

    def instance_id(self, name: str) -> str:
        """Return the instance id of the service called ``name``: chosen at random once, then stored.

        Raises Unusable when the file of the ids is damaged.
        """
        ids: dict[str, str] = {}
        if self._instances.exists():
            try:
                ids = json.loads(self._instances.read_bytes())
            except ValueError:
                ids = {"": ""}
            if not isinstance(ids, dict) or not all(_is_instance_id(one) for one in ids.values()):
                raise Unusable(
                    f"{self._instances} is damaged: put it back from a backup, because segments on disk "
                    "belong to the instance that wrote them"
                )
        if name not in ids:
            ids[name] = str(secrets.randbelow(_INSTANCE_ID_MAX) + 1)
            write_json(self._instances, ids)
        return ids[name]


def _is_instance_id(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit() and 0 < int(text) <= _INSTANCE_ID_MAX


@dataclass(slots=True)
class DiskWatch:
    """Judges the free bytes of a disk, and whether the NATS server knows that there is room again.

    A NATS server whose write failed for want of room refuses all further writes to that stream until it is
    started again, whatever becomes free.
    """

    _low: bool = False
    _complaint: str = ""

    def judge(self, free_bytes: int, nats_said: str) -> tuple[str, bool]:
        """Return what to tell people, empty if nothing is new, and whether NATS has to be started again.

        Args:
            free_bytes: of the disk.
            nats_said: the last line of the server's log. Two different complaints in a row while there is
                room show that the server is stuck; one may be from before.
        """
        complains = free_bytes >= DISK_FREE_MIN and NATS_FULL in nats_said
        stuck = complains and self._complaint not in ("", nats_said)
        self._complaint = nats_said if complains and not stuck else ""
        room = f"{free_bytes >> 20} MiB are free on the disk"
        if stuck:
            return f"nats takes the disk for full, and {room}: starting nats again", True
        if self._low is (free_bytes < DISK_FREE_LOW):
            return "", False
        self._low = not self._low
        return (f"{room}: when it is full, publishing stops" if self._low else f"{room} again"), False


def write_secret(file: Path, text: str) -> None:
    """Replace a file that only its owner may read."""
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:  # noqa: PTH123
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(file)


def write_json(file: Path, value: Any) -> None:
    """Replace a file atomically: a reader, and a restart after a crash, sees the old content or the new."""
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    with unfinished.open("w") as stream:
        json.dump(value, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(file)
