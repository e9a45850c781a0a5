"""How an app reaches the platform."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Self

from faust.exceptions import ImproperlyConfigured
from faust.types import AppT
from faust.types.enums import ProcessingGuarantee
from faust.types.transports import TransportT
from mode import get_logger
from yarl import URL

from danube_client import Client, Retry, Tls, Unreachable, connect
from danube_faust.names import NAMESPACE, Names

PORT: Final = 6650
ATTEMPTS_MAX: Final = 60
"""Attempts to open a stream, about two minutes of them, before the worker stops."""
CONNECT_MAX_S: Final = 60.0
"""How long a worker that starts waits for a gateway."""
CONNECT_PAUSE_S: Final = 1.0

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of an app that are Danube's, and what follows from them.

    Attributes:
        addresses: of gateways.
        names: of the app's topics.
        tls: how the platform is recognized, and the token of this app.
    """

    addresses: tuple[str, ...]
    names: Names
    tls: Tls | None = None

    @classmethod
    def of(cls, app: AppT, urls: list[URL]) -> Self:
        """Return the settings of an app: ``danube_namespace`` and ``danube_tls``, and its broker's addresses.

        Raises:
            ImproperlyConfigured: the app asks for what there is not.
        """
        if str(app.conf.processing_guarantee) == str(ProcessingGuarantee.EXACTLY_ONCE):
            raise ImproperlyConfigured(
                "processing_guarantee='exactly_once' is not offered over Danube: use 'at_least_once',"
                " and make what an agent does harmless to repeat"
            )
        tls = option(app, "danube_tls")
        scheme = "http" if tls is None or not tls.is_needed else "https"
        addresses = tuple(f"{scheme}://{_host(url)}:{url.port or PORT}" for url in urls)
        return cls(addresses, Names(option(app, "danube_namespace") or NAMESPACE), tls)

    async def client(self) -> Client:
        """Return an open client; a platform that starts at the same time as this worker is awaited.

        Raises:
            Unreachable: no gateway answered for CONNECT_MAX_S.
            ClientError: an address is none, or the platform refused.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + CONNECT_MAX_S
        while True:
            client = connect(
                *self.addresses, tls=self.tls, streaming=True, retry=Retry(attempts_max=ATTEMPTS_MAX)
            )
            try:
                return await client
            except Unreachable as error:
                if loop.time() > deadline_s:
                    raise
                logger.warning("%s: trying again", error)
                await asyncio.sleep(CONNECT_PAUSE_S)


def of_transport(transport: TransportT) -> Settings:
    """Return the settings of what is Danube's transport."""
    settings = getattr(transport, "settings", None)
    if not isinstance(settings, Settings):
        raise ImproperlyConfigured(f"{transport!r} is not Danube's transport: broker='danube://host:port'")
    return settings


def option(app: AppT, name: str) -> Any:
    """Return an option that Faust does not know: of ``app.conf``, or an argument of ``faust.App``."""
    _, given = app._default_options  # noqa: SLF001 - where Faust keeps them
    return getattr(app.conf, name, None) or given.get(name)


def _host(url: URL) -> str:
    host = url.host or "127.0.0.1"
    return f"[{host}]" if ":" in host else host
