"""Names of topics, namespaces, subscriptions, producers and consumers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from danube_common.errors import InvalidInput, InvalidName

PART_LENGTH_MAX = 255
"""Characters in one part of a topic name."""
PART_BYTES_MAX = 384
"""Bytes in UTF-8 of one part of a topic name. A metadata key takes three characters for each beyond ASCII."""
LABEL_LENGTH_MAX = 255
"""Characters in a subscription, producer or consumer name."""

_PARTITION = re.compile(r"(?P<base>.+)-part-(?P<number>0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class TopicName:
    """A valid ``/namespace/topic``. Upper and lower case differ."""

    namespace: str
    local: str

    @classmethod
    def parse(cls, text: str) -> TopicName:
        """Parse ``/namespace/topic``; raises InvalidName with the rule that was broken."""
        return _parse_topic(text)

    def __str__(self) -> str:
        return f"/{self.namespace}/{self.local}"

    @property
    def partition_of(self) -> TopicName | None:
        """The partitioned topic that this name is a partition of, or None."""
        match = _PARTITION.fullmatch(self.local)
        return type(self)(self.namespace, match["base"]) if match else None

    @property
    def partition_number(self) -> int | None:
        """The N of ``-part-N``, or None."""
        match = _PARTITION.fullmatch(self.local)
        return int(match["number"]) if match else None

    def partition(self, number: int) -> Self:
        """The name of partition ``number`` of this topic."""
        return type(self)(self.namespace, f"{self.local}-part-{number}")


@lru_cache(maxsize=65_536)
def _parse_topic(text: str) -> TopicName:
    parts = text.split("/")
    if len(parts) != 3 or parts[0] != "":
        raise InvalidName(f"topic name {_shown(text)} must have the form /namespace/topic")
    for part, what in ((parts[1], "namespace"), (parts[2], "topic")):
        _check_part(part, what, text)
    return TopicName(parts[1], parts[2])


def _check_part(part: str, what: str, text: str) -> None:
    if not part:
        raise InvalidName(f"the {what} part of {_shown(text)} is empty")
    if len(part) > PART_LENGTH_MAX:
        raise InvalidName(f"the {what} part of {_shown(text)} is longer than {PART_LENGTH_MAX} characters")
    if len(part.encode(errors="replace")) > PART_BYTES_MAX:
        raise InvalidName(f"the {what} part of {_shown(text)} is longer than {PART_BYTES_MAX} bytes in UTF-8")
    if not all(char.isalnum() or char in "_-" for char in part):
        raise InvalidName(f"the {what} part of {_shown(text)} may hold only letters, digits, '_' and '-'")


def check_namespace(text: str) -> str:
    """Return ``text`` if it can be a namespace; raises InvalidName."""
    _check_part(text, "namespace", text)
    return text


def check_label(text: str, what: str) -> str:
    """Return ``text`` if it can name a subscription, producer or consumer; raises InvalidInput.

    Any printable text is allowed, as official clients send what their users choose.
    """
    if not text:
        raise InvalidInput(f"the {what} name is empty")
    if len(text) > LABEL_LENGTH_MAX:
        raise InvalidInput(f"the {what} name {_shown(text)} is longer than {LABEL_LENGTH_MAX} characters")
    if not text.isprintable():
        raise InvalidInput(f"the {what} name {_shown(text)} holds an unprintable character")
    return text


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
