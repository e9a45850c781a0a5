"""Producers of a topic and the sequences of idempotent ones."""

from __future__ import annotations

import msgspec

from danube_common.model.producer import AccessMode
from danube_common.wire.envelope import Request

TOUCHED_PRODUCERS_MAX = 10_000


class ProducerFound(msgspec.Struct, tag="producer", frozen=True):
    """The producer that was created or found."""

    producer_id: int
    producer_name: str
    topic: str
    topic_id: int


class CreateProducer(Request[ProducerFound], tag="create-producer", frozen=True):
    """Create a producer, or find the existing one of that name. Reply: ProducerFound.

    Errors: AlreadyExists (an active producer conflicts with exclusive access), LimitExceeded,
    NotFound (topic).
    """

    topic: str
    producer_name: str
    access_mode: AccessMode


class FindProducer(Request[ProducerFound], tag="find-producer", frozen=True):
    """Find a producer by id. Reply: ProducerFound. Errors: NotFound."""

    producer_id: int


class SequenceFound(msgspec.Struct, tag="sequence", frozen=True):
    """The sequence of the producer's last stored message; 0 without one."""

    last: int


class FindSequence(Request[SequenceFound], tag="find-sequence", frozen=True):
    """Ask for the last stored sequence of an idempotent producer. Reply: SequenceFound.

    The owner first reads everything that the log holds when the request comes.
    Errors: NotFound (topic), Unavailable (the log was not read in time).
    """

    topic: str
    producer_name: str


class UnknownIds(msgspec.Struct, tag="unknown-ids", frozen=True):
    """The ids of a request that do not exist."""

    ids: list[int]


class TouchProducers(Request[UnknownIds], tag="touch-producers", frozen=True):
    """Report producers that are active at a gateway. Reply: UnknownIds, the ids that do not exist."""

    producer_ids: list[int]
