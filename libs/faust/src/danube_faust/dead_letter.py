"""What an agent failed at goes to a topic of its own, instead of being passed over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from faust.streams import current_event
from faust.types import TopicT


def dead_letter(topic: TopicT) -> Callable[[Any, BaseException], Awaitable[None]]:
    """Return an ``on_error`` for agents: it sends the message that failed, as it came, to a topic.

    The message's headers are kept, and those are added: ``error``, ``agent``, ``topic``, ``partition`` and
    ``offset``. The message counts as processed once the letter is stored.

    Example::

        @app.agent(orders, on_error=dead_letter(app.topic("orders-dead")))
        async def process(stream): ...
    """

    async def on_error(agent: Any, error: BaseException) -> None:
        event = current_event()
        if event is None:
            return
        message = event.message
        await topic.send(
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

    return on_error
