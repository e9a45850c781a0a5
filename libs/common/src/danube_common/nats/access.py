"""How this process shows NATS who it is, and how it recognizes NATS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class NatsAccess:
    """Credentials for NATS.

    Attributes:
        user: empty: none are sent.
        password: of ``user``.
        tls: None: the connection is as the address says.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None

    def options(self) -> dict[str, Any]:
        """Return what nats-py is told when it connects.

        Answers go to a prefix of the user's own, which only this user may listen to.
        """
        options: dict[str, Any] = {} if self.tls is None else {"tls": self.tls}
        if self.user:
            options |= {"user": self.user, "password": self.password, "inbox_prefix": f"_INBOX.{self.user}"}
        return options
