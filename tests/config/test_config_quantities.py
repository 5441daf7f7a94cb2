"""Durations and sizes, as written and back."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("2d", 172_800.0),
        ("1.5s", 1.5),
        ("0.1s", 0.1),
        ("30", 30.0),
        ("0", 0.0),
        ("0.25", 0.25),
        (" 5 s ", 5.0),
        (7, 7.0),
        (0.5, 0.5),
    ],
)
def test_duration_is_read_in_seconds(written: str | float, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "s", "5 seconds", "1h30m", "-1", "-1s", "+1", "1e3", "inf", "nan", "5S", "1_000", "٣s"],
)
def test_text_that_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(written)


@pytest.mark.parametrize("written", [True, float("inf"), float("nan"), -1, -0.5])
def test_number_that_is_no_duration_is_refused(written: float) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("64KiB", 65_536),
        ("10MiB", 10 << 20),
        ("1GiB", 1 << 30),
        ("1.5KiB", 1536),
        ("512B", 512),
        ("512", 512),
        ("0", 0),
        (4096, 4096),
        (4096.0, 4096),
    ],
)
def test_size_is_read_in_bytes(written: str | float, size_bytes: int) -> None:
    assert parse_size(written) == size_bytes


@pytest.mark.parametrize(
    "written", ["", "KiB", "64KB", "64kB", "64kib", "1.5B", "-1", "1e3", "nan", True, 0.5, -4]
)
def test_what_is_no_size_is_refused(written: str | float) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(written)


@given(st.integers(0, 10**12))
def test_every_whole_millisecond_survives_being_written(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 1 << 50))
def test_every_size_survives_being_written(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.text(max_size=20))
def test_no_text_does_worse_than_be_refused(text: str) -> None:
    for parse in (parse_duration, parse_size):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0


def test_durations_are_written_in_the_largest_unit_that_fits() -> None:
    written = [format_duration(seconds) for seconds in (0, 0.25, 90, 120, 3600, 86_400, 0.0005)]
    assert written == ["0", "250ms", "90s", "2m", "1h", "1d", "0.0005"]
