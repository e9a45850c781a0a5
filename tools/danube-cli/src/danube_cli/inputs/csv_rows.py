"""Input of CSV whose first row names the columns: each other row is a JSON object of texts."""

from __future__ import annotations

import csv

import orjson

from danube_cli.inputs.splitter import RECORD_BYTES_MAX, Records, UnreadableError, too_long

UNENDED = "unexpected end of data"
"""What the csv module says of a field whose quotes are not closed."""
BOM = "\ufeff"


class CsvRows:
    """Cuts rows, whose quoted fields may hold newlines, and makes objects of them."""

    noun = "row"

    def __init__(self) -> None:
        csv.field_size_limit(RECORD_BYTES_MAX)
        self._rest = b""
        # Lines of a row that has not ended: a quote is open.
        self._open: list[str] = []
        self._open_bytes = 0
        self._columns: list[str] | None = None

    def feed(self, chunk: bytes) -> Records:
        """Return the rows that end in the chunk."""
        text, newline, rest = (self._rest + chunk).rpartition(b"\n")
        if len(rest) > RECORD_BYTES_MAX:
            return [too_long()]
        self._rest = rest
        return self._lines(text + newline, at_end=False)

    def end(self) -> Records:
        """Return the row that has no newline, or an error if the file ends within a row."""
        rest, self._rest = self._rest, b""
        return self._lines(rest, at_end=True)

    def _lines(self, data: bytes, *, at_end: bool) -> Records:
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            return [UnreadableError(f"not UTF-8 text: {error}")]
        if self._columns is None and not self._open:
            text = text.removeprefix(BOM)
        # Not splitlines, which also ends lines at characters that are none's end here.
        lines = [f"{line}\n" for line in text.split("\n")]
        lines[-1] = lines[-1][:-1]
        if not lines[-1]:
            lines.pop()
        self._open += lines
        if not at_end and '"' not in text and len(self._open) > len(lines):
            self._open_bytes += len(data)  # nothing closes the quote
            return [too_long()] if self._open_bytes > RECORD_BYTES_MAX else []
        records: Records = []
        used = 0
        rows = csv.reader(self._open, strict=True)
        try:
            for row in rows:
                used = rows.line_num
                if row:
                    self._take(row, records)
        except csv.Error as error:
            if str(error) != UNENDED:
                records.append(UnreadableError(f"not CSV: {error}"))
            elif at_end:
                records.append(UnreadableError("not CSV: the file ends within quotes"))
        except UnreadableError as error:
            records.append(error)
        self._open = self._open[used:]
        self._open_bytes = sum(map(len, self._open))
        return records

    def _take(self, row: list[str], records: Records) -> None:
        columns = self._columns
        if columns is None:
            if len(set(row)) < len(row):
                raise UnreadableError("two columns of the header have the same name")
            self._columns = row
        elif len(row) != len(columns):
            records.append(ValueError(f"{len(row)} fields where the header has {len(columns)}"))
        else:
            records.append(orjson.dumps(dict(zip(columns, row, strict=True))))
