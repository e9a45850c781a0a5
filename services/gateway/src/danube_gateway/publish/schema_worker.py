"""A process that checks payloads whose check may take long. It can be killed; a thread could not.

The module run as a program reads requests from its standard input and answers them one by one on its
standard output. The first answer, FITS, says that it has started.

    request   kind u8, definition length u32, payload length u32, definition, payload
    answer    verdict u8, text length u32, text

Verdict BREAKS is followed by a second answer, REASON, whose search may take much longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import struct
import sys
from asyncio.subprocess import PIPE, Process
from functools import lru_cache
from typing import BinaryIO, Final, TypeVar

from danube_common.errors import LimitExceeded, SchemaViolation, Unavailable
from danube_common.model.schema import PayloadCheck, Schema, SchemaKind, payload_check
from danube_common.schemas.compatibility import parse_definition
from danube_common.schemas.kinds import SchemaType

CHECK_S_MAX: Final = 5.0
"""A check that takes longer is given up, and its message is refused."""
START_S_MAX: Final = 30.0
"""A process that has not started after this long is given up."""
REASON_S_MAX: Final = 1.0
"""The search for the reason why a payload does not fit is given up after this long."""
MEMORY_BYTES_MAX: Final = 2 * 1024 * 1024 * 1024
"""Address space of the process; one that needs more dies."""
DEFINITIONS_MAX: Final = 64
"""Compiled schemas that the process keeps."""

FITS: Final = 0
BREAKS: Final = 1
REASON: Final = 2

P = TypeVar("P")

_KINDS: Final = (None, *SchemaType)
"""The kind of a request is an index. None: the JSON schema of a topic, which may be older than its bounds."""
_REQUEST: Final = struct.Struct("<BII")
_ANSWER: Final = struct.Struct("<BI")


class SchemaWorker:
    """The gateway's side of one process, which is started when it is needed. One check at a time."""

    def __init__(self, check_s_max: float = CHECK_S_MAX, reason_s_max: float = REASON_S_MAX) -> None:
        self._check_s_max = check_s_max
        self._reason_s_max = reason_s_max
        self._process: Process | None = None
        self.check_s = 0.0
        """How long the latest check took, without the start of the process."""

    @property
    def pid(self) -> int | None:
        """The process, if there is one."""
        return self._process.pid if self._process else None

    async def check(
        self, topic: str, definition: bytes, payload: bytes, kind: SchemaType | None = None
    ) -> None:
        """Check a payload against the JSON schema of a topic, or against one of the registry.

        Args:
            topic: the topic's name, for messages.
            definition: the schema's definition.
            payload: what to check.
            kind: the type of a schema of the registry.

        Raises:
            SchemaViolation: it does not fit.
            LimitExceeded: the check took longer than CHECK_S_MAX.
            Unavailable: the process died.
        """
        try:
            verdict, reason = await self._ask(topic, definition, payload, kind)
        except BaseException:
            await self.close()
            raise
        if verdict != FITS:
            raise SchemaViolation(reason)

    async def close(self) -> None:
        """Kill the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.communicate())

    async def _ask(
        self, topic: str, definition: bytes, payload: bytes, kind: SchemaType | None
    ) -> tuple[int, str]:
        loop = asyncio.get_running_loop()
        self.check_s = 0.0
        try:
            process = self._process or await self._start()
            began = loop.time()
            async with asyncio.timeout(self._check_s_max):
                try:
                    stdin = _pipe(process.stdin)
                    header = _REQUEST.pack(_KINDS.index(kind), len(definition), len(payload))
                    stdin.writelines((header, definition, payload))
                    await stdin.drain()
                    verdict, reason = await _answer(process)
                finally:
                    self.check_s = loop.time() - began
        except TimeoutError:
            limit = f"{self._check_s_max:g} s"
            raise LimitExceeded(
                "schema_check_s", f"the schema check of topic {topic} took longer than {limit}"
            ) from None
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Unavailable(f"the schema check of topic {topic} ended without an answer") from error
        if verdict != BREAKS:
            return verdict, reason
        try:
            async with asyncio.timeout(self._reason_s_max):
                return await _answer(process)
        except (OSError, asyncio.IncompleteReadError):  # TimeoutError is an OSError
            await self.close()
            return BREAKS, "the payload breaks the JSON schema; where was not found in time"

    async def _start(self) -> Process:
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, str(2 * self._check_s_max), stdin=PIPE, stdout=PIPE
        )
        try:
            async with asyncio.timeout(START_S_MAX):
                await _answer(process)
        except TimeoutError:
            raise Unavailable(f"no process for schema checks started within {START_S_MAX:g} s") from None
        return process


def _pipe(pipe: P | None) -> P:
    assert pipe is not None  # noqa: S101 - the process was started with pipes
    return pipe


async def _answer(process: Process) -> tuple[int, str]:
    stdout = _pipe(process.stdout)
    verdict, length = _ANSWER.unpack(await stdout.readexactly(_ANSWER.size))
    return verdict, (await stdout.readexactly(length)).decode()


def serve(requests: BinaryIO, answers: BinaryIO, check_s_max: float) -> None:
    """Answer requests until there are no more. The process ends when a check takes longer than the bound."""
    checks = lru_cache(maxsize=DEFINITIONS_MAX)(_check_of)
    _send(answers, FITS, "")
    while header := requests.read(_REQUEST.size):
        kind, definition_length, payload_length = _REQUEST.unpack(header)
        definition, payload = requests.read(definition_length), requests.read(payload_length)
        signal.setitimer(signal.ITIMER_REAL, check_s_max)
        try:
            check = checks(_KINDS[kind], definition)
            if check.fits(payload):
                _send(answers, FITS, "")
            else:
                _send(answers, BREAKS, "")
                _send(answers, REASON, str(check.explain(payload)))
        except SchemaViolation as violation:
            _send(answers, REASON, str(violation))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _check_of(kind: SchemaType | None, definition: bytes) -> PayloadCheck:
    if kind is not None:
        return parse_definition(kind, definition).payload_check()
    return payload_check(Schema("", SchemaKind.JSON, definition.decode()))


def _send(answers: BinaryIO, verdict: int, text: str) -> None:
    data = text.encode(errors="replace")
    answers.write(_ANSWER.pack(verdict, len(data)) + data)
    answers.flush()


def main() -> None:
    """Serve the gateway that started the process, within bounds that hold even when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the gateway too
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.disable()  # parsed JSON has no cycles, and counting them takes most of the time of a large payload
    serve(sys.stdin.buffer, sys.stdout.buffer, float(sys.argv[1]))


if __name__ == "__main__":
    main()
