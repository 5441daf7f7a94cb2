"""Values as the console writes them."""

import pytest

from proxy.console.statistics import STATS_COLUMNS, averages, totals
from proxy.console.table import (
    FLOAT8,
    INT4,
    INT8,
    NUMERIC,
    TEXT,
    Column,
    data_row,
    formats_of,
    row_description,
    written,
)
from proxy.errors import ClientError
from proxy.pool import Traffic
from proxy.wire import messages

COLUMNS = (Column("name", TEXT), Column("count", INT4))


def test_a_row_in_text_and_in_binary() -> None:
    text = data_row(COLUMNS, [0, 0], ("é", 7))
    assert messages.read_data_row(text[5:]) == ["é".encode(), b"7"]
    binary = data_row(COLUMNS, [1, 1], ("é", None))
    assert messages.read_data_row(binary[5:]) == ["é".encode(), None]
    assert messages.read_data_row(data_row(COLUMNS, [0, 1], ("", 7))[5:]) == [b"", b"\0\0\0\7"]


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (0, "0000 0000 0000 0000"),
        (1, "0001 0000 0000 0000 0001"),
        (10_000, "0002 0001 0000 0000 0001 0000"),
        (-123_456_789, "0003 0002 4000 0000 0001 0929 1a85"),
    ],
)
def test_whole_numbers_as_numeric(value: int, octets: str) -> None:
    assert NUMERIC.binary(value) == bytes.fromhex(octets)


def test_numbers_beyond_four_bytes_do_not_break_a_row() -> None:
    assert INT4.binary(1 << 40) == b"\x7f\xff\xff\xff"
    assert INT8.binary(1 << 40) == (1 << 40).to_bytes(8, "big")
    assert FLOAT8.binary(1.5) == bytes.fromhex("3ff8000000000000")


def test_values_in_text() -> None:
    assert [written(each) for each in (1, "a", True, 0.5)] == ["1", "a", "t", "0.5"]


def test_formats_are_none_one_or_each() -> None:
    assert formats_of(COLUMNS, []) == [0, 0]
    assert formats_of(COLUMNS, [1]) == [1, 1]
    assert formats_of(COLUMNS, [1, 0]) == [1, 0]
    for wrong in ([1, 0, 1], [2]):
        with pytest.raises(ClientError):
            formats_of(COLUMNS, wrong)


def test_a_command_without_columns_has_no_data() -> None:
    assert row_description(()) == b"n\0\0\0\4"


def test_averages_are_of_a_second_or_of_each() -> None:
    lately = Traffic(
        assignments=20,
        transactions=20,
        queries=40,
        received=1000,
        sent=4000,
        transacted_s=2.0,
        worked_s=1.0,
        waited_s=0.5,
        parses=10,
        server_parses=5,
        binds=30,
    )
    assert averages(lately, 10.0) == [2, 2, 4, 100, 400, 100_000, 25_000, 25_000, 1, 0, 3]
    assert averages(Traffic(), 10.0) == [0] * 11
    assert averages(lately, 0.0) == [0] * 11
    assert len(totals(lately)) * 2 + 1 == len(STATS_COLUMNS)
