"""Profiles: the addresses and credentials of platforms, by name, in a file that only its owner can read."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

FILE = Path("danube", "profiles.json")


class ProfilesError(Exception):
    """The profiles cannot be read or written, or there is none of a name; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One platform.

    Attributes:
        url: addresses of its gateways, by commas.
        ca: file of authorities to trust.
        cert: file of the client's certificate.
        key: file of the certificate's key.
        server_name: the name in the platform's certificate, if not the host of the address.
        token_file: file with the token to send.
    """

    url: str
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    token_file: str | None = None

    def given(self) -> dict[str, str]:
        """Return the fields that have a value."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(slots=True)
class Profiles:
    """All profiles.

    Attributes:
        default: the name of the profile that counts when neither a profile nor an address is named.
    """

    by_name: dict[str, Profile] = field(default_factory=dict)
    default: str | None = None

    def named(self, name: str) -> Profile:
        """Return a profile. Raises ProfilesError."""
        if name not in self.by_name:
            known = ", ".join(sorted(self.by_name)) or "none"
            raise ProfilesError(
                f"there is no profile {name!r}; there are: {known}. `danube-cli profile add` makes one"
            )
        return self.by_name[name]

    def remove(self, name: str) -> None:
        """Remove a profile. Raises ProfilesError."""
        self.named(name)
        del self.by_name[name]
        if self.default == name:
            self.default = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a file. Raises ProfilesError."""
        names = {one.name for one in fields(Profile)}
        try:
            found: Any = json.loads(text)
            by_name = {name: Profile(**fields_) for name, fields_ in found["profiles"].items()}
            default = found["default"]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ProfilesError(f"not profiles of danube-cli: {error}; mend or remove the file") from None
        values = [getattr(profile, name) for profile in by_name.values() for name in names - {"url"}]
        if not all(isinstance(profile.url, str) for profile in by_name.values()) or not all(
            value is None or isinstance(value, str) for value in (*values, default)
        ):
            raise ProfilesError("not profiles of danube-cli: values are texts; mend or remove the file")
        return cls(by_name, default if default in by_name else None)

    def text(self) -> str:
        """Return the text of the file."""
        profiles = {name: profile.given() for name, profile in sorted(self.by_name.items())}
        return (
            json.dumps({"default": self.default, "profiles": profiles}, indent=2, ensure_ascii=False) + "\n"
        )


def path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the file of the profiles."""
    base = environment.get("XDG_CONFIG_HOME", "")
    # The standard has relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / FILE


def load() -> Profiles:
    """Read the profiles; there are none without a file. Raises ProfilesError."""
    file = path()
    try:
        return Profiles.parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Profiles()
    except ProfilesError as error:
        raise ProfilesError(f"{file}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProfilesError(f"{file} cannot be read: {error}") from None


def save(profiles: Profiles) -> None:
    """Write the profiles, all or nothing. Raises ProfilesError."""
    file = path()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A temporary file is its owner's only, from the beginning.
        descriptor, written = tempfile.mkstemp(dir=file.parent, prefix=file.name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                opened.write(profiles.text())
            Path(written).replace(file)
        except BaseException:
            Path(written).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ProfilesError(f"{file} cannot be written: {error}") from None
