"""``danube.stream.v1.Streaming/Consume``: one consumer on one or several topics."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Final

from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.owner_client import OwnerClient
from danube_common.errors import InvalidInput
from danube_common.model.names import check_label
from danube_common.rpc.port import Call, Methods
from danube_common.rpc.protobuf_strict import parse_strict
from danube_gateway.consume.acks import Acknowledgements
from danube_gateway.consume.sessions import Sessions
from danube_gateway.dialects.stream.consumer_stream import ConsumerStream
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_proto import danube_stream_pb2 as api

METHOD: Final = "/danube.stream.v1.Streaming/Consume"


class ConsumeService:
    """Answers Consume."""

    def __init__(
        self,
        resolver: TopicResolver,
        catalogue: Catalogue,
        owners: OwnerClient,
        sessions: Sessions,
        acks: Acknowledgements,
    ) -> None:
        self._resolver = resolver
        self._catalogue = catalogue
        self._owners = owners
        self._sessions = sessions
        self._acks = acks

    def register(self, methods: Methods) -> None:
        """Add the method."""
        methods.bidi[METHOD] = self.consume

    async def consume(self, call: Call, requests: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
        """Serve one consumer's stream."""
        request = await next_request(requests)
        if request is None or not request.HasField("subscribe"):
            raise InvalidInput("a Consume stream begins with subscribe")
        wanted = request.subscribe
        if not wanted.consumer_name:
            wanted.consumer_name = f"consumer-{secrets.token_hex(6)}"
        check_label(wanted.subscription, "subscription")
        check_label(wanted.consumer_name, "consumer")
        stream = ConsumerStream(
            call, wanted, self._resolver, self._catalogue, self._owners, self._sessions, self._acks
        )
        try:
            await stream.open()
            stream.read(requests)
            while True:
                if answers := stream.answers():
                    yield [answer.data for answer in answers]
                    for answer in answers:
                        if answer.session is not None:
                            self._sessions.drained(answer.session, answer.messages, answer.size)
                elif stream.ended:
                    break
                else:
                    await stream.changed()
        finally:
            await stream.close()
        stream.raise_error()


async def next_request(requests: AsyncIterator[bytes]) -> api.ConsumeRequest | None:
    """Return the client's next message; None if it has half-closed."""
    async for data in requests:
        return parse_strict(api.ConsumeRequest, data)
    return None
