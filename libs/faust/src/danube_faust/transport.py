"""The transport that ``danube://`` stands for."""

from __future__ import annotations

import asyncio
from typing import Final

from faust.transport import base
from faust.types import AppT
from yarl import URL

import danube_client
from danube_faust.consumer import Consumer
from danube_faust.producer import Producer
from danube_faust.settings import Settings

AWAY_MAX_S: Final = 86_400.0
"""Faust's recovery ends without a word, and its worker does nothing any more, when an answer takes longer
than ``broker_request_timeout``, 90 s. A platform that is away for good raises before: the worker ends."""


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
        app.conf.broker_request_timeout = AWAY_MAX_S
