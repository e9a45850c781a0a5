"""A client in another language: a program that takes commands, a line each (tests/official/go, .../java).

A command is ``ID NAME WORD…``, its answer ``ID ok WORD…`` or ``ID error STATUS TEXT``; words are separated by
tabs and percent-encoded. Commands run at the same time. A strategy and a subscription type are their number
on the wire.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import quote_from_bytes, unquote_to_bytes

from tests.official.python.client import Consumer, Kind, Message, Producer, Refused

LINE_MAX = 16 << 20
AVRO = b"avro"
SLACK_S = 5.0
"""How much later than its patience the program may say that no message came."""

Word = str | bytes | int


@asynccontextmanager
async def line_client(program: Sequence[str], url: str) -> AsyncIterator[LineClient]:
    """Start the program; end it afterwards."""
    process = await asyncio.create_subprocess_exec(
        *program, url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_MAX
    )
    client = LineClient(process)
    listening = asyncio.ensure_future(client.listen())
    try:
        yield client
    finally:
        process.kill()
        await process.wait()
        await listening


class LineClient:
    """A :class:`~tests.official.python.client.Client`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asked: dict[bytes, asyncio.Future[list[bytes]]] = {}
        self._last = 0

    async def listen(self) -> None:
        """Give each answer to the one who asked, until the program ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            which, *answer = (
                unquote_to_bytes(word.replace(b"+", b" ")) for word in line.rstrip(b"\r\n").split(b"\t")
            )
            if not (asked := self._asked.pop(which)).done():
                asked.set_result(answer)
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(AssertionError("the client's program has ended"))

    async def ask(self, *words: Word) -> list[bytes]:
        """Give a command, and return the words of its answer; raises Refused."""
        assert self._process.stdin is not None
        self._last += 1
        which = str(self._last).encode()
        asked: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self._asked[which] = asked
        line = "\t".join(quote_from_bytes(_bytes(word)) for word in (which, *words))
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()
        kind, *found = await asked
        if kind == b"ok":
            return found
        raise Refused(status_name(found[0].decode()), found[1].decode())

    async def produce(
        self, topic: str, *, reliable: bool = True, partitions: int = 0, subject: str = ""
    ) -> Producer:
        [handle] = await self.ask("producer", topic, "peer", int(reliable), partitions, subject)
        return _Producer(self, handle)

    async def consume(
        self, topic: str, name: str = "one", kind: Kind = Kind.EXCLUSIVE, filters: Sequence[str] = ()
    ) -> Consumer:
        [handle] = await self.ask("consumer", topic, name, int(kind), *filters)
        return _Consumer(self, handle)

    async def register(self, subject: str, definition: bytes) -> int:
        [schema_id] = await self.ask("register", subject, AVRO, definition)
        return int(schema_id)

    async def schema(self, schema_id: int, version: int) -> bytes:
        return (await self.ask("schema", schema_id, version))[1]

    async def latest(self, subject: str) -> tuple[int, bytes]:
        version, definition = await self.ask("latest", subject)
        return int(version), definition

    async def versions(self, subject: str) -> list[int]:
        return [int(version) for version in await self.ask("versions", subject)]

    async def compatible(self, subject: str, definition: bytes) -> tuple[bool, list[str]]:
        fits, *errors = await self.ask("compatible", subject, AVRO, definition)
        return fits == b"true", [error.decode() for error in errors]

    async def anything_is_compatible(self, subject: str) -> bool:
        return await self.ask("mode", subject, "none") == [b"true"]

    async def enforce(self, topic: str, subject: str) -> bool:
        return await self.ask("configure", topic, subject, "enforce") == [b"true"]


class _Producer:
    def __init__(self, client: LineClient, handle: bytes) -> None:
        self._client = client
        self._handle = handle

    async def send(self, payload: bytes, attributes: Mapping[str, str] | None = None, key: str = "") -> None:
        pairs = [word for pair in (attributes or {}).items() for word in pair]
        await self._client.ask("send", self._handle, payload, key, *pairs)


class _Consumer:
    def __init__(self, client: LineClient, handle: bytes) -> None:
        self._client = client
        self._handle = handle

    async def take(self, timeout_s: float) -> Message:
        try:
            taken = self._client.ask("take", self._handle, round(timeout_s * 1000))
            tag, topic, payload, key, schema_id, version, *pairs = await asyncio.wait_for(
                taken, timeout_s + SLACK_S
            )
        except Refused as error:
            if error.code == "DEADLINE_EXCEEDED":
                raise TimeoutError from error
            raise
        attributes = {
            name.decode(): value.decode() for name, value in zip(pairs[::2], pairs[1::2], strict=True)
        }
        schema = (int(schema_id), int(version))
        return Message(payload, attributes, topic.decode(), key.decode(), schema, tag)

    async def ack(self, message: Message) -> None:
        await self._client.ask("ack", self._handle, message.whole)

    async def nack(self, message: Message, reason: str) -> None:
        await self._client.ask("nack", self._handle, message.whole, 0, reason)

    async def close(self) -> None:
        await self._client.ask("close", self._handle)


def status_name(text: str) -> str:
    """``InvalidArgument`` of Go and ``INVALID_ARGUMENT`` of Java in the latter's form."""
    return text if text.isupper() else re.sub(r"(?<!^)(?=[A-Z])", "_", text).upper()


def _bytes(word: Word) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
