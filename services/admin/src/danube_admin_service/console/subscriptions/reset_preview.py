"""Tells how many messages a moved cursor would deliver again or skip, before it is moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from danube_admin_service.console.forms import number
from danube_admin_service.console.live.figures import count as written
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.topics.peek import start_position
from danube_common.errors import CorruptData, DanubeError, InvalidInput
from danube_common.model.names import TopicName
from danube_common.model.position import BEFORE_ALL
from danube_common.model.subscription import StartPosition
from danube_common.rpc.port import RpcError, StatusCode
from danube_common.wire.frame import RawSection, decode_checked_section
from danube_common.wire.owner.topics import ReadTopic, TopicRead

READS_MAX: Final = 32
"""Requests to one owner, of about 1 MiB of messages each: what is beyond is not counted."""


@dataclass(frozen=True)
class Preview:
    """Where the cursor would go, and what that means."""

    kind: str
    value: str
    text: str


@dataclass(frozen=True)
class Moved:
    """Messages between the cursor and where it would go; ``forward``: they would be skipped."""

    forward: bool
    messages: int
    exact: bool


async def preview(sources: Sources, query: Query, cursors: Iterable[tuple[str, int]]) -> Preview | None:
    """Return what the form asks for; None without one. ``cursors``: the mark-delete of each topic."""
    if (kind := query.get("from")) is None:
        return None
    try:
        start = start_position(query, number(query.get("value", ""), "the count") if kind == "last" else 0)
        moves = [await _moved(sources, topic, mark_delete, start) for topic, mark_delete in cursors]
    except InvalidInput as error:
        raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from None
    except CorruptData:
        raise
    except DanubeError as error:
        raise RpcError(StatusCode.UNAVAILABLE, str(error)) from None
    return Preview(kind, query.get("value", ""), told(moves))


def told(moves: Iterable[Moved]) -> str:
    """Write what the moves mean."""
    sentences = []
    for forward, text in ((True, "would be skipped"), (False, "would come again")):
        those = [move for move in moves if move.forward is forward]
        messages = sum(move.messages for move in those)
        if messages or any(not move.exact for move in those):
            about = "Up to" if all(move.exact for move in those) else "More than"
            sentences.append(f"{about} {written(messages)} messages {text}.")
    if not sentences:
        return "No message would be skipped, and none would come again."
    return " ".join([*sentences, "The streams of its consumers end, and they subscribe again."])


async def _moved(sources: Sources, name: str, mark_delete: int, start: StartPosition) -> Moved:
    topic = await sources.topics.require(TopicName.parse(name))

    async def read(request: ReadTopic) -> tuple[TopicRead, list[int]]:
        found = await sources.owners.ask(topic.home, request)
        positions: list[int] = []
        for first, _offset, messages, body in found.runs:
            run = decode_checked_section(RawSection(0, messages, body, 0)).run(first)
            positions += range(run.first, run.last + 1)
        return found, positions

    found, positions = await read(ReadTopic(name, start=start, bytes_max=1))
    target = positions[0] if positions else found.end
    low, high = sorted((mark_delete + 1, target))
    messages = 0
    request = ReadTopic(name, max(low, BEFORE_ALL + 1))
    for _ in range(READS_MAX):
        found, positions = await read(request)
        messages += sum(low <= each < high for each in positions)
        if found.position >= min(high, found.end):
            return Moved(target > mark_delete, messages, exact=True)
        request = ReadTopic(name, found.position)
    return Moved(target > mark_delete, messages, exact=False)
