"""Prints results: tables and lines for people, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence

import typer

from danube_admin_cli.outcome import FAILED, give_up
from danube_terminal.choices import Form

RULE = "-" * 23

POLICY_LABELS = {
    "max_producers_per_topic": "Max Producers per Topic",
    "max_subscriptions_per_topic": "Max Subscriptions per Topic",
    "max_consumers_per_topic": "Max Consumers per Topic",
    "max_consumers_per_subscription": "Max Consumers per Subscription",
    "max_publish_rate": "Max publish rate",
    "max_dispatch_rate": "The dispatch rate",
    "max_subscription_dispatch_rate": "Dispatch rate for subscription",
    "max_message_size": "Max message size",
    "max_retained_mb": "Max retained MB",
}


def show_lines(form: Form, label: str, values: Sequence[str]) -> None:
    """Print one labelled line for each value, or a JSON array."""
    if form is Form.json:
        show_json(list(values))
        return
    for value in values:
        _line(f"{label}: {value}")


def show_table(form: Form, columns: Mapping[str, str], rows: Iterable[Mapping[str, str]]) -> None:
    """Print a table, or a JSON array of objects.

    Args:
        form: a table or JSON.
        columns: headings by field.
        rows: the fields of each row.
    """
    rows = list(rows)
    if form is Form.json:
        show_json(rows)
        return
    table = [list(columns.values()), *([row[field] for field in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        _line(" | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def show_figures(
    form: Form,
    figures: Mapping[str, object],
    columns: Mapping[str, str] | None = None,
    rows: Sequence[Mapping[str, str]] = (),
    field: str = "",
) -> None:
    """Print labelled figures and a table below, or one JSON object that has the table as ``field``."""
    if form is Form.json:
        show_json(dict(figures) | ({field: list(rows)} if columns else {}))
        return
    words = (str(value).lower() if isinstance(value, bool) else value for value in figures.values())
    _line(", ".join(f"{name}: {word}" for name, word in zip(figures, words, strict=True)))
    if columns and rows:
        show_table(form, columns, rows)


def show_section(title: str, lines: Mapping[str, str]) -> None:
    """Print a title and labelled lines below it; line breaks within a text become spaces."""
    _line(title)
    width = max(map(len, lines))
    for label, text in lines.items():
        _line(f"  {label.ljust(width)}  {' '.join(text.split())}")


def show_text(text: str) -> None:
    """Print a text as it is."""
    _line(text)


def show_json(value: object) -> None:
    """Print one line of JSON."""
    _line(json.dumps(value, ensure_ascii=False))


def show_value(form: Form, label: str, field: str, value: str) -> None:
    """Print a labelled, quoted value, or a JSON object with one field."""
    if form is Form.json:
        show_json({field: value})
    else:
        _line(f"{label}: {json.dumps(value, ensure_ascii=False)}")


def show_quoted(form: Form, label: str, values: Sequence[str]) -> None:
    """Print all values in one line, or a JSON array."""
    if form is Form.json:
        show_json(list(values))
    else:
        _line(f"{label}: {json.dumps(list(values), ensure_ascii=False)}")


def show_success(form: Form, label: str, *, success: bool) -> None:
    """Print whether the call succeeded; if it did not, exit with an error.

    Raises:
        typer.Exit: the call did not succeed.
    """
    if form is Form.json:
        show_json({"success": success})
    else:
        _line(f"{label}: {str(success).lower()}")
    if not success:
        give_up("the admin service says it did not do it", FAILED)


def show_policies(form: Form, text: str) -> None:
    """Print the policies of an answer, which are the text of a JSON object.

    Raises:
        typer.Exit: the text is not a JSON object.
    """
    try:
        policies = json.loads(text)
    except json.JSONDecodeError:
        policies = None
    if not isinstance(policies, dict):
        give_up(f"the admin service sent policies that are not a JSON object: {text[:80]!r}")
    if form is Form.json:
        show_json(policies)
        return
    _line("Policies Configuration:")
    _line(RULE)
    for name, label in POLICY_LABELS.items():
        value = policies.get(name)
        _line(f"{label}: {'Not Set' if value is None else value}")
    _line(RULE)


def _line(text: str) -> None:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has gone
        raise typer.Exit from None
