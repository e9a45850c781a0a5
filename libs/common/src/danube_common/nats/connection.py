"""One NATS connection, shared by bus, logs, journals and metadata store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nats.aio.client
import nats.errors
import structlog
from nats.aio.client import Client, Server
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol.parser import PERMISSIONS_ERR

from danube_common.errors import BusUnavailable, InvalidInput, LimitExceeded, NoResponders, RequestTimeout
from danube_common.nats.access import NatsAccess
from danube_common.nats.parser import GatheringParser

# Frames are large: with nats-py's 32 KiB reads the parser runs once per read and dominates the CPU.
RECEIVE_BUFFER_BYTES = 1 << 20
nats.aio.client.DEFAULT_BUFFER_SIZE = RECEIVE_BUFFER_BYTES

CONNECT_TIMEOUT_S = 2.0
RECONNECT_WAIT_S_MAX = 2.0
# A peer that stops answering without closing the socket is given up after three intervals.
PING_INTERVAL_S = 2
PINGS_OUTSTANDING_MAX = 2
FLUSH_TIMEOUT_S = 5.0
ROUND_TRIP_TIMEOUT_S = 5.0
# What may wait for the socket before publishers wait too.
OUTBOUND_BYTES_MAX = 8 << 20
# What one subscription may hold for its handler; beyond it messages are dropped and reported.
PENDING_MESSAGES_MAX = 64 * 1024
PENDING_BYTES_MAX = 128 << 20
TRACES_HEADER = "Danube-Traces"
"""Of a frame or a pack of which messages have a recorded trace: their marks."""
# The server counts headers into max_payload, nats-py does not, and it ends the connection of who sends more.
# Ours stay below this, also with the marks of a pack.
HEADER_BYTES_MAX = 4096
# From here on a payload is handed to the socket as it is, see `_send_publish`.
LARGE_PAYLOAD_BYTES = 32 * 1024

DROP_REPORT_INTERVAL_S = 1.0

STATUS_HEADER = "Status"
_STATUS_NO_RESPONDERS = "503"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Exchange:
    """One request under way: who takes its answers, and whether they are complete."""

    take: Callable[[Msg], bool]
    done: asyncio.Future[None]

    def fail(self, error: BusUnavailable) -> None:
        """End the request without an answer, if none has come."""
        if not self.done.done():
            self.done.set_exception(error)


class Connection(Client):
    """A nats-py client whose calls fail fast while it reconnects without limit.

    While the transport is down, sending raises BusUnavailable instead of buffering, and calls that
    wait for an answer end at once. Reconnecting goes on for ever, with a bounded backoff.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps = GatheringParser(self)
        self._exchanges: dict[str, _Exchange] = {}
        self._exchange_count = 0
        self._listening: set[Subscription] = set()
        self._at_once: dict[int, Callable[[Msg], None]] = {}
        """Who takes the messages of a subscription as they are read, by its id."""
        self._reply_prefix = ""
        self._room: asyncio.Task[None] | None = None
        self._reconnect_callbacks: list[Callable[[], None]] = []
        self._dropped = 0
        self._drop_reported_s = float("-inf")
        self._reconnect_wait_s = 0.0
        self._closing = False

    @classmethod
    async def open(
        cls,
        url: str | Sequence[str],
        *,
        name: str,
        reconnect_wait_s: float,
        connect_timeout_s: float,
        access: NatsAccess | None = None,
    ) -> Connection:
        """Connect; retried until ``connect_timeout_s`` is over.

        Raises:
            BusUnavailable: no server answered in time.
            InvalidInput: the address is none.
        """
        if not url:
            raise InvalidInput("no NATS address was given")
        servers = [url] if isinstance(url, str) else list(url)
        shown = ", ".join(servers)
        connection = cls()
        connection._reconnect_wait_s = reconnect_wait_s
        try:
            async with asyncio.timeout(connect_timeout_s):
                await connection.connect(
                    servers=servers,
                    name=name,
                    error_cb=connection._report,
                    disconnected_cb=connection._lost,
                    reconnected_cb=connection._returned,
                    closed_cb=connection._closed,
                    connect_timeout=CONNECT_TIMEOUT_S,  # type: ignore[arg-type]  # annotated int, used as float
                    reconnect_time_wait=reconnect_wait_s,  # type: ignore[arg-type]  # likewise
                    max_reconnect_attempts=-1,
                    reconnect_to_server_handler=connection._next_server,
                    ping_interval=PING_INTERVAL_S,
                    max_outstanding_pings=PINGS_OUTSTANDING_MAX,
                    # 0: no buffering while disconnected; the bound while connected is `_wait_for_room`.
                    pending_size=0,
                    flush_timeout=FLUSH_TIMEOUT_S,
                    **(access.options() if access is not None else {}),
                )
                await connection._open_inbox()
        except TimeoutError as error:
            reason = connection.last_error
            await connection.shut()
            raise BusUnavailable(f"no NATS server answers at {shown} ({reason})") from error
        except nats.errors.Error as error:  # raised before anything was opened
            raise InvalidInput(f"{shown} is not a NATS address: {error}") from error
        except BaseException:
            await connection.shut()
            raise
        return connection

    def _connect_command(self) -> bytes:
        # nats-py would send the password in plaintext to a server that does not ask for TLS.
        if "tls" in self.options and not self._server_info.get("tls_required"):
            raise nats.errors.Error("the server does not speak TLS")
        return super()._connect_command()

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call back each time the transport returned after a loss."""
        self._reconnect_callbacks.append(callback)

    async def send(
        self, subject: str, payload: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Publish; waits only while too much is queued for sending.

        Raises:
            BusUnavailable: the transport is down or does not take the bytes.
            LimitExceeded: the payload is above the server's ``max_payload``.
        """
        if len(payload) + HEADER_BYTES_MAX > self.max_payload:
            raise LimitExceeded(
                "max_payload", f"{len(payload)} bytes do not fit a message of at most {self.max_payload}"
            )
        if self.send_at_once(subject, payload, reply=reply, headers=headers):
            return
        if self.pending_data_size > OUTBOUND_BYTES_MAX:
            await self._wait_for_room()
        if not self.is_connected:
            raise BusUnavailable("not connected to NATS")
        try:
            await self.publish(subject, payload, reply, dict(headers) if headers else None)
        except nats.errors.Error as error:
            raise BusUnavailable(str(error)) from error

    def send_at_once(
        self, subject: str, payload: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> bool:
        """Publish as `send` does if the socket takes it now; else do nothing and return False."""
        if (
            not self.is_connected
            or self._pending_data_size
            or len(payload) + HEADER_BYTES_MAX > self.max_payload
            or not self._socket_is_free()
        ):
            return False
        assert self._transport is not None  # noqa: S101 - it is connected
        head = _publish_head(subject, reply, len(payload), headers or {})
        self._transport.writelines([head, payload, b"\r\n"])
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        return True

    async def call(
        self, subject: str, payload: bytes, *, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        """Send a request and wait for one answer.

        Raises:
            NoResponders: nobody listens on the subject.
            RequestTimeout: no answer within ``timeout_s``.
            BusUnavailable: the transport is down, or was lost while waiting.
            LimitExceeded: the payload is above the server's ``max_payload``.
        """
        answers: list[Msg] = []

        def take(message: Msg) -> bool:
            answers.append(message)
            return True

        await self.collect(subject, payload, take, timeout_s=timeout_s, headers=headers)
        message = answers[0]
        if message.headers and message.headers.get(STATUS_HEADER) == _STATUS_NO_RESPONDERS:
            raise NoResponders(f"nobody listens on {subject}")
        return message

    async def collect(
        self,
        subject: str,
        payload: bytes,
        take: Callable[[Msg], bool],
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a request and pass each answer to ``take`` until it returns True; raises as `call` does."""
        self._exchange_count += 1
        reply = f"{self._reply_prefix}{self._exchange_count}"
        loop = asyncio.get_running_loop()
        exchange = _Exchange(take, loop.create_future())
        self._exchanges[reply] = exchange
        too_late = f"no answer on {subject} within {timeout_s} s"
        timer: asyncio.TimerHandle | None = None
        try:
            if self.send_at_once(subject, payload, reply=reply, headers=headers):
                timer = loop.call_later(timeout_s, exchange.fail, RequestTimeout(too_late))
                await exchange.done
                return
            async with asyncio.timeout(timeout_s):
                await self.send(subject, payload, reply=reply, headers=headers)
                await exchange.done
        except TimeoutError as error:
            raise RequestTimeout(too_late) from error
        finally:
            if timer is not None:
                timer.cancel()
            del self._exchanges[reply]
            if exchange.done.done() and not exchange.done.cancelled():
                exchange.done.exception()  # a loss nobody waits for any more is not an unhandled error

    async def listen(self, subject: str, deliver: Callable[[Msg], None]) -> Subscription:
        """Subscribe; return once the server knows. Raises BusUnavailable.

        ``deliver`` is called as soon as a message is read, and must not block: a queue and a task that waits
        for it cost a turn of the loop for each message.
        """
        return await self._listen(subject, deliver=deliver)

    async def listen_in_turn(
        self, subject: str, deliver: Callable[[Msg], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        """Subscribe as `listen` does, to messages that wait for each other in a bounded queue."""
        return await self._listen(subject, queue, in_turn=deliver)

    async def _listen(
        self,
        subject: str,
        queue: str = "",
        *,
        in_turn: Callable[[Msg], Awaitable[None]] | None = None,
        deliver: Callable[[Msg], None] | None = None,
    ) -> Subscription:
        if not self.is_connected:
            raise BusUnavailable("not connected to NATS")
        try:
            subscription = await self.subscribe(
                subject,
                queue,
                in_turn,
                pending_msgs_limit=PENDING_MESSAGES_MAX,
                pending_bytes_limit=PENDING_BYTES_MAX,
            )
        except nats.errors.Error as error:
            raise BusUnavailable(str(error)) from error
        self._listening.add(subscription)
        if deliver is not None:
            self._at_once[subscription._id] = deliver  # noqa: SLF001 - messages carry it
            read_before = subscription._pending_queue  # noqa: SLF001
            while not read_before.empty():
                deliver(read_before.get_nowait())
        try:
            await self._round_trip()
        except BaseException:
            await self.forget(subscription)
            raise
        return subscription

    async def forget(self, subscription: Subscription) -> None:
        """Unsubscribe, whatever the state of the connection. Idempotent."""
        self._listening.discard(subscription)
        self._at_once.pop(subscription._id, None)  # noqa: SLF001
        # An error says that it has ended already, or went with the connection.
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()

    async def shut(self) -> None:
        """Send what is queued, then close. Idempotent."""
        if self._closing:
            return
        self._closing = True
        # Told before the flush, the server routes nothing more to handlers that are about to go.
        for subscription in list(self._listening):
            await self.forget(subscription)
        if self.is_connected:
            try:
                await self.flush(FLUSH_TIMEOUT_S)  # type: ignore[arg-type]  # annotated int
            except (nats.errors.Error, OSError) as error:
                log.warning("bus_flush_failed", error=str(error))
        await self.close()
        self._fail_exchanges("the connection was closed")

    async def _open_inbox(self) -> None:
        inbox = self.new_inbox()
        self._reply_prefix = inbox + "."
        await self.listen(inbox + ".*", self._answered)

    async def _round_trip(self) -> None:
        """Wait until the server has taken everything sent so far: it works in order."""
        echo = f"{self._reply_prefix}{self._exchange_count + 1}"
        try:
            await self.collect(echo, b"", lambda _: True, timeout_s=ROUND_TRIP_TIMEOUT_S)
        except RequestTimeout as error:
            raise BusUnavailable("NATS does not answer") from error

    def _answered(self, message: Msg) -> None:
        exchange = self._exchanges.get(message.subject)
        if exchange is not None and not exchange.done.done() and exchange.take(message):
            exchange.done.set_result(None)

    async def _wait_for_room(self) -> None:
        # One flush serves every waiting publisher.
        if self._room is None or self._room.done():
            self._room = asyncio.create_task(self._make_room())
        await asyncio.shield(self._room)

    async def _make_room(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                while self.pending_data_size > OUTBOUND_BYTES_MAX:
                    await self.flush(FLUSH_TIMEOUT_S)  # type: ignore[arg-type]  # annotated int
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable("NATS does not take more bytes") from error

    def _next_server(self, servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
        server = min(servers, key=lambda candidate: candidate.reconnects)
        wait_s = self._reconnect_wait_s * 2 ** min(server.reconnects, 16)
        return server, min(wait_s, RECONNECT_WAIT_S_MAX)

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        if payload_size < LARGE_PAYLOAD_BYTES:
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        # nats-py builds one command of head and payload, copying the payload twice: 0.6 ms of CPU for
        # 512 KiB. As parts of the same queue it costs 0.15 ms.
        head = _publish_head(subject, reply, payload_size, headers or {})
        self._pending.extend((head, payload, b"\r\n"))
        self._pending_data_size += len(head) + payload_size + 2
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        # nats-py leaves the writing to a task, one turn of the loop later: a fifth of a small frame's CPU.
        # What the socket takes now is written now; else it is gathered, within OUTBOUND_BYTES_MAX.
        if force_flush or not self.is_connected or not self._socket_is_free():
            return await super()._flush_pending(force_flush)
        assert self._transport is not None  # noqa: S101 - it is connected
        self._transport.writelines(self._pending)
        self._pending = []
        self._pending_data_size = 0
        return None

    def _socket_is_free(self) -> bool:
        writer: asyncio.StreamWriter | None = getattr(self._transport, "_io_writer", None)
        return writer is not None and not writer.transport.get_write_buffer_size()

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        # nats-py's own looks at every character of every name, 25 us for each frame of a log; this takes 3.
        headers: dict[str, str] = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip()] = value.strip()
        return headers

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        deliver = self._at_once.get(sid)
        if deliver is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        fields = await self._process_headers(headers) if headers else None
        try:
            deliver(self._build_message(sid, subject, reply, data, fields))
        except Exception:
            log.exception("bus_handler_failed", subject=subject.decode(errors="replace"))

    async def _process_err(self, err_msg: str) -> None:
        # nats-py closes for good on most errors that a server sends before it drops a client (too many
        # connections, authorization during a rollout). Ours returns when the server lets it.
        error = nats.errors.Error(f"nats: {err_msg}")
        await self._report(error)
        if PERMISSIONS_ERR not in err_msg:
            await self._process_op_err(error)

    async def _report(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self._dropped += 1
            now_s = asyncio.get_running_loop().time()
            if now_s - self._drop_reported_s >= DROP_REPORT_INTERVAL_S:
                self._drop_reported_s = now_s
                log.warning("bus_messages_dropped", subject=error.subject, dropped_total=self._dropped)
        elif self.is_connected:
            log.warning("bus_error", error=str(error) or type(error).__name__)
        else:
            log.debug("bus_error", error=str(error) or type(error).__name__)  # one per attempt to return

    async def _lost(self) -> None:
        if not self._closing:
            log.warning("bus_lost")
        self._fail_exchanges("the connection was lost while waiting for an answer")

    async def _returned(self) -> None:
        log.info("bus_returned")
        for callback in self._reconnect_callbacks:
            try:
                callback()
            except Exception:
                log.exception("bus_reconnect_callback_failed")

    async def _closed(self) -> None:
        if not self._closing:
            log.error("bus_closed", error=str(self.last_error))

    def _fail_exchanges(self, reason: str) -> None:
        for exchange in self._exchanges.values():
            exchange.fail(BusUnavailable(reason))


def _publish_head(subject: str, reply: str, payload_size: int, headers: Mapping[str, str]) -> bytes:
    if not headers:
        return f"PUB {subject} {reply} {payload_size}\r\n".encode()
    lines = []
    for name, value in headers.items():
        if not f"{name}{value}".isprintable():
            raise InvalidInput(f"{name}: {value!r} is not a header")
        lines.append(f"{name}: {value}\r\n")
    block = f"NATS/1.0\r\n{''.join(lines)}\r\n".encode()
    return f"HPUB {subject} {reply} {len(block)} {len(block) + payload_size}\r\n".encode() + block
