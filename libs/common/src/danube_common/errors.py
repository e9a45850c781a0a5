"""Every error the platform raises on purpose.

DanubeError
├── InvalidInput            the caller's data breaks a documented rule; nothing was changed
│   ├── InvalidName
│   ├── SchemaViolation
│   └── CorruptData         bytes that do not decode: frame, segment, journal, delivery
├── NotFound
├── AlreadyExists
├── LimitExceeded           a named bound or policy was reached
├── Refused                 legal in itself, but not in the present state
│   ├── NotConfigured       nothing in the cluster is set up to do it
│   └── PartitionsDiffer    a producer has another number of partitions than its topic
└── Unavailable             the other side does not answer now; the call may be repeated
    ├── BusUnavailable
    │   ├── NoResponders
    │   └── RequestTimeout
    ├── LogUnavailable
    │   └── LogFull
    ├── MetadataUnavailable
    ├── StoreUnavailable
    │   └── StoreFull
    └── Quarantined         every copy of the next archived messages is damaged

Conflict and JournalFenced stand alone: they are answers of a compare-and-set, not faults.
"""

from __future__ import annotations

from typing import Final

ERROR_CHARACTERS_MAX: Final = 300
"""The longest error text that leaves a service. Trailers carry it twice, and clients bound their size."""


def shortened(text: str) -> str:
    """Return the text of an error, cut to ERROR_CHARACTERS_MAX."""
    return text if len(text) <= ERROR_CHARACTERS_MAX else f"{text[: ERROR_CHARACTERS_MAX - 3]}..."


class DanubeError(Exception):
    """Base of every error that the platform raises."""


class InvalidInput(DanubeError):
    """The caller's data breaks a documented rule; nothing was changed."""


class InvalidName(InvalidInput):
    """A topic or namespace name breaks the naming rules."""


class SchemaViolation(InvalidInput):
    """A payload does not fit the schema stored with its topic."""


class CorruptData(InvalidInput):
    """Bytes of a frame, a segment, a journal record or a delivery do not decode."""


UNDECODABLE = (ValueError, RecursionError)
"""What decoders raise for bytes that are not theirs: their own errors, broken UTF-8, endless nesting."""


class NotFound(DanubeError):
    """The named thing does not exist."""


class AlreadyExists(DanubeError):
    """The named thing exists already."""


class LimitExceeded(DanubeError):
    """A limit was reached.

    Attributes:
        limit: the policy's or bound's name, e.g. ``max_producers_per_topic``.
    """

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


class Refused(DanubeError):
    """The request is valid but not allowed in the present state, e.g. an exclusive consumer is connected."""


class NotConfigured(Refused):
    """No instance of the cluster is configured for the request; an operator has to act."""


class PartitionsDiffer(Refused):
    """A producer asks for a partition that its topic does not have, and may not add it.

    Attributes:
        settled: False while another producer may be adding partitions at this moment.
    """

    def __init__(self, message: str, *, settled: bool) -> None:
        super().__init__(message)
        self.settled = settled


class Unavailable(DanubeError):
    """The other side does not answer now; the call may be repeated."""


class BusUnavailable(Unavailable):
    """The bus could not carry the message."""


class NoResponders(BusUnavailable):
    """Nobody listens on the subject; this is known at once."""


class RequestTimeout(BusUnavailable):
    """No answer within the deadline; the request may or may not have been carried out."""


class LogUnavailable(Unavailable):
    """The log did not acknowledge; an append may or may not be stored."""


class LogFull(LogUnavailable):
    """The log refused an append because its size bound is reached; nothing was stored."""


class MetadataUnavailable(Unavailable):
    """The metadata store does not answer."""


class StoreUnavailable(Unavailable):
    """The segment store does not answer or failed; a segment being written is absent or whole."""


class StoreFull(StoreUnavailable):
    """The segment store has no room left; what it holds can still be read and deleted."""


class Quarantined(Unavailable):
    """The next messages in the archive are damaged in every copy. They are served once a sound copy is back.

    Attributes:
        position: nothing from here on can be served.
        reason: why, for people.
    """

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"the archive is damaged at position {position}: {reason}")
        self.position = position
        self.reason = reason


class Conflict(DanubeError):
    """A compare-and-set found another revision than expected; nothing was changed."""


class JournalFenced(DanubeError):
    """Another owner has written the journal; this writer must stop."""
