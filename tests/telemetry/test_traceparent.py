"""The trace that a statement's comment names."""

import pytest

from proxy.telemetry import traceparent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def comment(value: str) -> bytes:
    return f"SELECT 1 /*db_driver='psycopg',traceparent='{value}'*/".encode()


def test_it_is_read_from_sqlcommenters_comment() -> None:
    found = traceparent_of(comment(f"00-{TRACE}-{SPAN}-01"))
    assert found is not None
    assert (found.trace_id, found.span_id, found.is_sampled) == (
        int(TRACE, 16),
        int(SPAN, 16),
        True,
    )


def test_a_trace_may_be_one_that_nobody_records() -> None:
    found = traceparent_of(comment(f"00-{TRACE}-{SPAN}-00"))
    assert found is not None
    assert not found.is_sampled


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1",
        f"SELECT 'traceparent=''00-{TRACE}-{SPAN}-01'''".encode(),
        comment(f"ff-{TRACE}-{SPAN}-01"),
        comment(f"00-{'0' * 32}-{SPAN}-01"),
        comment(f"00-{TRACE}-{'0' * 16}-01"),
        comment(f"00-{TRACE.upper()}-{SPAN}-01"),
        comment(f"00-{TRACE[1:]}-{SPAN}-01"),
        comment("x" * 10_000),
    ],
)
def test_what_is_not_valid_is_none(text: bytes) -> None:
    assert traceparent_of(text) is None
