from __future__ import annotations

import csv
import io
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_cli.inputs import csv_rows, length_prefixed, lines
from danube_cli.inputs.csv_rows import CsvRows
from danube_cli.inputs.length_prefixed import LengthPrefixed
from danube_cli.inputs.lines import Lines
from danube_cli.inputs.splitter import Records, Splitter, UnreadableError

CELL = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from('",\n\r; '), max_size=8
)
TABLE = st.integers(1, 4).flatmap(
    lambda width: st.tuples(
        st.lists(CELL, min_size=width, max_size=width, unique=True),
        st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=12),
    )
)


def cut(splitter: Splitter, data: bytes, sizes: list[int]) -> Records:
    """What a source makes of the data in chunks of these sizes, again and again."""
    records: Records = []
    begin = turn = 0
    while begin < len(data):
        end = begin + sizes[turn % len(sizes)]
        records += splitter.feed(data[begin:end])
        if records and isinstance(records[-1], UnreadableError):
            return records
        begin, turn = end, turn + 1
    return records + splitter.end()


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@given(st.binary().map(lambda data: data.replace(b"x", b"\n")), SIZES)
def test_lines_are_those_of_the_whole_file_however_it_is_read(data: bytes, sizes: list[int]) -> None:
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert cut(Lines(), data, sizes) == expected


@given(st.lists(st.binary(max_size=60)), SIZES)
def test_what_is_behind_its_length_comes_out_as_it_was(messages: list[bytes], sizes: list[int]) -> None:
    data = b"".join(len(message).to_bytes(4, "big") + message for message in messages)
    assert cut(LengthPrefixed(), data, sizes) == messages


@given(st.lists(st.binary(max_size=9), min_size=1), st.integers(1, 5), SIZES)
def test_a_file_that_ends_within_a_message_is_told_after_what_is_whole(
    messages: list[bytes], missing: int, sizes: list[int]
) -> None:
    data = b"".join(len(message).to_bytes(4, "big") + message for message in messages)
    last = 4 + len(messages[-1])
    *whole, error = cut(LengthPrefixed(), data[: -min(missing, last - 1)], sizes)
    assert whole == messages[:-1]
    assert isinstance(error, UnreadableError)


@given(TABLE, st.sampled_from(["\n", "\r\n"]), SIZES)
def test_rows_are_objects_of_their_fields(
    table: tuple[list[str], list[list[str]]], line_end: str, sizes: list[int]
) -> None:
    header, rows = table
    out = io.StringIO()
    csv.writer(out, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    records = cut(CsvRows(), out.getvalue().encode(), sizes)
    assert [orjson.loads(record) for record in records if isinstance(record, bytes)] == [
        dict(zip(header, row, strict=True)) for row in rows
    ]
    assert len(records) == len(rows)


@given(st.binary(max_size=200), SIZES)
def test_any_bytes_are_rows_or_an_error(data: bytes, sizes: list[int]) -> None:
    for record in cut(CsvRows(), b"a,b\n" + data, sizes):
        assert isinstance(record, ValueError) or set(orjson.loads(record)) == {"a", "b"}


def test_a_table_may_have_a_mark_of_its_encoding_empty_lines_and_no_last_newline() -> None:
    records = cut(CsvRows(), "\ufeffid,name\n\n1,Jürgen\r\n\n2,".encode(), [7])
    assert records == ['{"id":"1","name":"Jürgen"}'.encode(), b'{"id":"2","name":""}']


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"a,a\n1,2\n", "same name"),
        (b'a\n"x', "ends within quotes"),
        (b'a\n"x"y\n', "not CSV: "),
        (b"a\n\xff\n", "not UTF-8"),
    ],
)
def test_a_table_that_is_none_is_not_read_on(table: bytes, said: str) -> None:
    (error,) = cut(CsvRows(), table, [100])
    assert isinstance(error, UnreadableError)
    assert said in str(error)


def test_a_row_of_another_length_is_named_and_the_rest_is_read() -> None:
    first, wrong, last = cut(CsvRows(), b"a,b\n1,2\n3\n4,5\n", [100])
    assert (first, last) == (b'{"a":"1","b":"2"}', b'{"a":"4","b":"5"}')
    assert str(wrong) == "1 fields where the header has 2"
    assert not isinstance(wrong, UnreadableError)


@pytest.mark.parametrize(
    ("module", "splitter", "data"),
    [
        (lines, Lines, b"x" * 30),
        (csv_rows, CsvRows, b"a\n" + b"x" * 30),
        (csv_rows, CsvRows, b'a\n"' + b"x\n" * 30),
        (length_prefixed, LengthPrefixed, (30).to_bytes(4, "big")),
    ],
)
def test_what_one_message_takes_is_bounded(
    monkeypatch: pytest.MonkeyPatch, module: object, splitter: Callable[[], Splitter], data: bytes
) -> None:
    monkeypatch.setattr(module, "RECORD_BYTES_MAX", 20)
    records = cut(splitter(), data, [4])
    assert isinstance(records[0], UnreadableError)
    assert str(records[0]).startswith("longer than ")
