"""The console over stores in memory, and a visitor's browser."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape

from aiohttp import ClientSession

from danube_admin_service.console.site import Site
from danube_admin_service.console.sources import Sources
from danube_common.cluster.topics import Topics
from danube_common.model.names import TopicName
from danube_common.model.schema import Schema, SchemaKind
from danube_common.model.strategy import ReliableOptions, StorageBackend, Strategy
from danube_common.rpc.port import Methods
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.services.fake_owner import FakeOwner
from danube_proto.danube_api_pb2 import StreamMessage

RELIABLE = Strategy(ReliableOptions(storage=StorageBackend.DISK))
BYTES = Schema("s", SchemaKind.BYTES)


@dataclass
class Shown:
    """An answer."""

    status: int
    text: str
    location: str

    @property
    def form_token(self) -> str:
        found = re.search(r'name="form_token" value="(\w+)"', self.text)
        assert found is not None, self.text
        return found[1]

    @property
    def words(self) -> str:
        """What a person reads."""
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", self.text)).split())


@dataclass
class Browser:
    """Keeps cookies, follows no redirections; and what the console is made from, to change it."""

    client: ClientSession
    site: Site
    sources: Sources
    store: MemoryMetadata
    topics: Topics
    owner: FakeOwner
    methods: Methods

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Shown:
        async with self.client.get(path, headers=headers, allow_redirects=False) as answer:
            return Shown(answer.status, await answer.text(), answer.headers.get("Location", ""))

    async def post(self, path: str, **form: str) -> Shown:
        async with self.client.post(path, data=form, allow_redirects=False) as answer:
            return Shown(answer.status, await answer.text(), answer.headers.get("Location", ""))

    async def log_in(self, token: str) -> Shown:
        return await self.post("/login", token=token, next="/topics")

    async def create(self, name: str, strategy: Strategy = RELIABLE) -> None:
        await self.topics.create(TopicName.parse(name), BYTES, strategy)


async def act(browser: Browser, action: str, page: str = "/topics", **form: str) -> Shown:
    """Send a form of a page."""
    token = (await browser.get(page)).form_token
    return await browser.post(f"/do/{action}", form_token=token, **form)


def stored(payload: bytes, **attributes: str) -> bytes:
    """A message as topics hold it."""
    return StreamMessage(
        payload=payload, publish_time=1_700_000_000_000, producer_name="till", attributes=attributes
    ).SerializeToString()


def dead(payload: bytes, topic: str = "/default/orders") -> bytes:
    """A dead letter."""
    added = {
        "x-original-topic": topic,
        "x-original-subscription": "kitchen",
        "x-delivery-attempt": "3",
        "x-failure-reason": "oven is off",
    }
    return stored(payload, shop="north", **added)
