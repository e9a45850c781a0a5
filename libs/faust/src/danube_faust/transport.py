"""The transport that ``danube://`` stands for."""

from __future__ import annotations

import asyncio

from faust.transport import base
from faust.types import AppT
from yarl import URL

import danube_client
from danube_faust.consumer import Consumer
from danube_faust.producer import Producer
from danube_faust.settings import Settings


class Transport(base.Transport):
    """Faust's way to a Danube platform.

    Raises:
        ImproperlyConfigured: the app asks for exactly once.
    """

    Consumer = Consumer
    Producer = Producer
    driver_version = f"danube_client={danube_client.__name__}"

    def __init__(self, url: list[URL], app: AppT, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(url, app, loop)
        self.settings = Settings.of(app, url)
