"""What an agent failed at goes to a topic, instead of being passed over: the option `danube_dead_letter`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from faust.streams import current_event
from faust.types import AppT

OPTION: Final = "danube_dead_letter"

OnError = Callable[[Any, BaseException], Awaitable[None]]


def collect_failures(app: AppT, topic: str) -> None:
    """Let all agents of an app send a message at which they failed to a topic, as it came.

    The message's headers are kept, and ``error``, ``agent``, ``topic``, ``partition`` and ``offset`` are
    added. What fails in the topic itself is not sent there again.
    """
    for agent in app.agents.values():
        agent._on_error = _sending(app, topic, agent._on_error)  # noqa: SLF001


def _sending(app: AppT, topic: str, then: OnError | None) -> OnError:
    async def on_error(agent: Any, error: BaseException) -> None:
        event = current_event()
        if event is not None and event.message.topic != topic:
            message = event.message
            await app.send(
                topic,
                key=message.key,
                value=message.value,
                key_serializer="raw",
                value_serializer="raw",
                headers={
                    **dict(message.headers or {}),
                    "error": repr(error).encode(),
                    "agent": str(agent.name).encode(),
                    "topic": message.topic.encode(),
                    "partition": str(message.partition).encode(),
                    "offset": str(message.offset).encode(),
                },
            )
        if then is not None:
            await then(agent, error)

    return on_error
