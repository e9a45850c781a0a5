"""Producers of a topic and the sequences of idempotent ones."""

from __future__ import annotations

import msgspec

from danube_common.model.producer import AccessMode

TOUCHED_PRODUCERS_MAX = 10_000


class CreateProducer(msgspec.Struct, tag="create-producer", frozen=True):
    """Create a producer, or find the existing one of that name. Reply: ProducerFound.

    Errors: AlreadyExists (an active producer conflicts with exclusive access), LimitExceeded,
    NotFound (topic).
    """

    topic: str
    producer_name: str
    access_mode: AccessMode


class FindProducer(msgspec.Struct, tag="find-producer", frozen=True):
    """Find a producer by id. Reply: ProducerFound. Errors: NotFound."""

    producer_id: int


class ProducerFound(msgspec.Struct, tag="producer", frozen=True):
    """The producer that was created or found."""

    producer_id: int
    producer_name: str
    topic: str
    topic_id: int


class FindSequence(msgspec.Struct, tag="find-sequence", frozen=True):
    """Ask for the last stored sequence of an idempotent producer. Reply: SequenceFound.

    The owner first reads everything that the log holds when the request comes.
    Errors: NotFound (topic), Unavailable (the log was not read in time).
    """

    topic: str
    producer_name: str


class SequenceFound(msgspec.Struct, tag="sequence", frozen=True):
    """The sequence of the producer's last stored message; 0 without one."""

    last: int


class TouchProducers(msgspec.Struct, tag="touch-producers", frozen=True):
    """Report producers that are active at a gateway. Reply: UnknownIds, the ids that do not exist."""

    producer_ids: list[int]


class UnknownIds(msgspec.Struct, tag="unknown-ids", frozen=True):
    """The ids of a request that do not exist."""

    ids: list[int]
