"""What is typed at the console, taken apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.console.commands import COMMANDS, help_text, read_order
from proxy.console.grammar import read_statements
from proxy.errors import ClientError


def texts(text: str) -> list[list[str]]:
    return [[token.text for token in each.tokens] for each in read_statements(text)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("show pools", [["show", "pools"]]),
        (" SHOW\n\tPOOLS ; ", [["SHOW", "POOLS"]]),
        ('PAUSE "my ""odd"" db";', [["PAUSE", 'my "odd" db']]),
        ("SET a = 'it''s'", [["SET", "a", "=", "it's"]]),
        ("SET limits.query_timeout='30s'", [["SET", "limits.query_timeout", "=", "30s"]]),
        ("SET a=-1", [["SET", "a", "=", "-", "1"]]),
        ("PAUSE db-1", [["PAUSE", "db-1"]]),
        ("FAILOVER main TO 10.0.0.1:5432", [["FAILOVER", "main", "TO", "10.0.0.1:5432"]]),
        ("/* x; */ SHOW -- y;\nLISTS", [["SHOW", "LISTS"]]),
        ("PAUSE;RESUME;;", [["PAUSE"], ["RESUME"]]),
        ("", []),
        (";;", []),
    ],
)
def test_texts_are_taken_apart(text: str, pieces: list[list[str]]) -> None:
    assert texts(text) == pieces


@pytest.mark.parametrize(
    "text", ["PAUSE 'x", 'PAUSE "x', "/* x", "PAUSE \\", "PAUSE \0", "é\udcff"]
)
def test_what_cannot_be_taken_apart_is_a_syntax_error(text: str) -> None:
    with pytest.raises(ClientError) as refused:
        read_statements(text)
    assert refused.value.sqlstate == "42601"


@given(st.text(max_size=200))
def test_any_text_is_understood_or_refused(text: str) -> None:
    """Whatever is typed, by whomever: an order, or a ClientError."""
    for role in ("stats", "admin"):
        try:
            for statement in read_statements(text):
                read_order(statement, role)  # type: ignore[arg-type]
        except ClientError as refused:
            assert len(refused.sqlstate) == 5


WORDS = sorted({word for command in COMMANDS for word in command.words} | {"SET", "=", "'x'", "a"})


@given(st.lists(st.sampled_from(WORDS), max_size=6))
def test_any_words_are_understood_or_refused(words: list[str]) -> None:
    try:
        for statement in read_statements(" ".join(words)):
            read_order(statement, "admin")
    except ClientError as refused:
        assert refused.sqlstate in ("42601", "0A000")


def test_a_very_long_text_is_refused_quickly() -> None:
    with pytest.raises(ClientError):
        read_statements('"' + "x" * 65_000)
    with pytest.raises(ClientError):
        read_statements("/* " * 20_000)


def test_the_help_has_every_command() -> None:
    for command in COMMANDS:
        assert command.words[-1] in help_text()
