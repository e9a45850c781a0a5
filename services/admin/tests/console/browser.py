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
from danube_harness.memory.metadata import MemoryMetadata
from danube_harness.services.fake_owner import FakeOwner

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
