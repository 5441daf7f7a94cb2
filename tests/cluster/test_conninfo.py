"""`primary_conninfo` is led elsewhere, and everything else in it stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cluster.conninfo import lead_to, parse_conninfo, write_conninfo


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("host=db1 port=5432 user=r", "host=db2 port=5433 user=r"),
        ("user=r passfile=/home/p/.pgpass", "user=r passfile=/home/p/.pgpass host=db2 port=5433"),
        ("host=db1 hostaddr=10.0.0.1 user=r", "host=db2 user=r port=5433"),
        (r"host=db1 password='it\'s \\ here'", r"host=db2 password='it\'s \\ here' port=5433"),
        ("host = 'db1' user='a b'", "host=db2 user='a b' port=5433"),
        ("host=db1 options=''", "host=db2 options='' port=5433"),
        ("host=db1,db2 target_session_attrs=primary", None),
        ("postgresql://r@db1/", None),
        ("host=db1 nonsense", None),
        ("", None),
    ],
)
def test_the_address_is_replaced_and_nothing_else(before: str, after: str | None) -> None:
    assert lead_to(before, "db2", 5433) == after


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(), max_size=5))
def test_what_is_written_is_read_again(words: dict[str, str]) -> None:
    assert parse_conninfo(write_conninfo(words)) == words


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    words = parse_conninfo(text)
    assert parse_conninfo(write_conninfo(words)) == words
