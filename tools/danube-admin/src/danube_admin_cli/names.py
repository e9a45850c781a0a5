"""What a topic may be called."""

from __future__ import annotations

import typer

PUNCTUATION = "_-"


def topic_name(text: str) -> str:
    """Accepts ``/namespace/topic``, each of letters, digits, ``_`` and ``-``; the service may be stricter.

    Raises:
        typer.BadParameter: it is something else.
    """
    pieces = text.split("/")
    if len(pieces) != 3 or pieces[0] or not all(pieces[1:]):
        raise typer.BadParameter(f"{text!r}: a topic is named /namespace/topic")
    if not all(letter.isalnum() or letter in PUNCTUATION for piece in pieces for letter in piece):
        raise typer.BadParameter(f"{text!r}: a topic's name has letters, digits, _ and - only")
    return text
