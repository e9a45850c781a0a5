"""Batches of messages on their way to the log, as they will lie there. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import google_crc32c

from danube_common.tracing.marks import Mark
from danube_common.wire.frame import RawSection
from danube_gateway.publish.subject_checks import SchemaStamp


class Body(NamedTuple):
    """The messages of a batch as they are stored: end offsets, then the messages; and where each ends."""

    data: bytes
    crc32c: int
    ends: tuple[int, ...]


class Message(NamedTuple):
    """What publishing looks at in a message. ``size`` is that of the whole message."""

    size: int
    payload: bytes
    stamp: SchemaStamp | None


class Unchecked(NamedTuple):
    """A message whose schema can only be checked with waiting; ``place`` is its index in the batch."""

    place: int
    payload: bytes
    stamp: SchemaStamp | None


@dataclass(frozen=True, slots=True)
class ReadyBatch:
    """A batch that may be stored, but for its unchecked messages.

    ``first`` is the number of its first message, ``began`` when it came, by `time.perf_counter`.
    ``marks`` are of its messages with a recorded trace, by index.
    """

    first: int
    body: Body
    payload_bytes: int
    unchecked: Sequence[Unchecked]
    began: float
    marks: Sequence[Mark] = ()

    @property
    def count(self) -> int:
        """How many messages it has."""
        return len(self.body.ends)

    @property
    def last(self) -> int:
        """The number of its last message."""
        return self.first + len(self.body.ends) - 1


def section_of_bodies(topic_id: int, bodies: Sequence[Body]) -> RawSection:
    """Return the bodies as one section, in order; MESSAGES_PER_SECTION_MAX messages at most."""
    if len(bodies) == 1:
        (body,) = bodies
        return RawSection(topic_id, len(body.ends), body.data, body.crc32c)
    ends: list[int] = []
    for body in bodies:
        base = ends[-1] if ends else 0
        ends += [base + end for end in body.ends]
    parts = [struct.pack(f"<{len(ends)}I", *ends)]
    parts += (body.data[4 * len(body.ends) :] for body in bodies)
    data = b"".join(parts)
    return RawSection(topic_id, len(ends), data, google_crc32c.value(data))
