"""The lexer beside PostgreSQL's own, on texts nobody would write."""

import re

import postgast
from hypothesis import example, given
from hypothesis import strategies as st
from postgast.pg_query_pb2 import Token

from proxy.sql import lex

# Pieces that begin, end or imitate each other.
PIECES = [
    *("'", "''", '"', '""', "$$", "$a$", "$1", "E'", "e'\\'", "U&'", 'U&"', "B'0'", "x'1'", "N'a'"),
    *("--", "/*", "*/", "\n", "\r", " ", "\t", "\\", "\\'", ";", "(", ")", "[", "]", ",", "."),
    *("1", "0x1F", "1_0", "1.5", ".5", "1e5", "1..2", "in", "IN (", "select", "case", "end"),
    *("begin", "atomic", "create", "function", "uescape", "'!'", "as", "é", "a", "_b$", "::"),
    *("+", "-", "*", "/", "<", "=>", "@", "~", ":", ":=", "%", "^", "|", "?", "#", "&", "`", "{"),
]
texts = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_any_bytes_are_read_or_refused(text: bytes, backslashes: bool, ambiguous: bool) -> None:
    lexed = lex(text, backslashes=backslashes, ambiguous_encoding=ambiguous)
    assert len(lexed.key) <= 2 * len(text)
    ends = [0, *(place for span in lexed.spans for place in span), len(text)]
    assert ends == sorted(ends)


@given(texts)
@example("select 'a'\n'b'")
@example("select 1..2")
def test_tokens_are_those_of_postgresql(text: str) -> None:
    lexed = lex(text.encode())
    try:
        tokens = postgast.scan(text).tokens
    except postgast.PgQueryError:
        # PostgreSQL also looks into constants: what it refuses is a read for nobody.
        return
    if lexed.trouble is None:
        assert lexed.key.decode() == expected_key(text.encode(), tokens)
    elif lexed.trouble == "letters right behind a number":
        # libpg_query takes what PostgreSQL does not: letters behind a parameter.
        assert re.search(r"\$\d+\w", text)
    else:
        assert lexed.trouble == "unbalanced brackets"


COMMENTS = (Token.SQL_COMMENT, Token.C_COMMENT)
STRINGS = {Token.SCONST: "'1'", Token.USCONST: "u&'1'", Token.BCONST: "b'1'", Token.XCONST: "x'1'"}
NUMBERS = (Token.ICONST, Token.FCONST)
OPERATORS = set("~!@#^&|`?+-*/%<>=")


def expected_key(text: bytes, tokens: list) -> str:
    """The slow, obvious way from PostgreSQL's tokens to a key."""
    parts: list[str] = []
    depth = 0
    owes_semicolon = False
    in_list: int | None = None  # where the list behind the last IN begins, while it is plain
    last_end, last = -1, ""
    for token in tokens:
        raw = text[token.start : token.end].decode()
        if token.token in COMMENTS:
            continue
        if raw == ";" and depth == 0:
            owes_semicolon = bool(parts)
            last = raw
            continue
        if owes_semicolon:
            parts.append(";")
            owes_semicolon = False
        if token.token == Token.NCHAR and len(raw) == 1:
            last = "n'"
            continue
        depth += (raw in "([") - (raw in ")]")
        is_constant = True
        if token.token in NUMBERS:
            part = "1"
        elif token.token == Token.PARAM and raw != "?":
            part = raw
        elif token.token in STRINGS:
            part = STRINGS[token.token]
            if last == "uescape" and len(raw) == 3:
                part, is_constant = raw, False
            elif last == "n'":
                part = "n'1'"
        else:
            is_constant = False
            part = raw if raw[0] == '"' or raw[:3].lower() == 'u&"' else lower(raw)
        if raw == "(" and last == "in":
            in_list = len(parts) + 1
        elif raw == ")" and in_list is not None and len(parts) > in_list:
            del parts[in_list + 1 :]
            in_list = None
        elif (not is_constant and raw != ",") or (in_list == len(parts) and raw == ","):
            in_list = None
        if token.start == last_end and {*raw, *parts[-1]} <= OPERATORS:
            # Operators that stand together are kept together.
            parts[-1] += part
        else:
            parts.append(part)
        last = part if token.start == 0 or last != "." else ""
        last_end = token.end
    return " ".join(parts)


def lower(text: str) -> str:
    return text.encode().lower().decode()


@given(st.lists(st.sampled_from(["1", "'a'", "$1", "E'b'", "2.5"]), min_size=1, max_size=8))
def test_lists_of_constants_are_as_long_as_their_first(constants: list[str]) -> None:
    whole = lex(f"select a from t where b in ({', '.join(constants)})".encode())
    first = lex(f"select a from t where b in ({constants[0]})".encode())
    assert whole.key == first.key


literals = st.one_of(
    st.integers(0).map(str),
    st.text(st.characters(exclude_characters="'\0", codec="utf-8")).map(lambda t: f"'{t}'"),
)
gaps = st.sampled_from([" ", "\n", " /* a ' */ ", " -- b ; \n", "\t/* /* c */ */"])


@given(literals, literals, gaps, gaps)
def test_constants_and_comments_are_not_in_the_key(
    one: str, other: str, gap: str, other_gap: str
) -> None:
    def write(constant: str, gap: str) -> bytes:
        return f"select{gap}a,b from t{gap}where c = {constant}{gap};".encode()

    is_text = one.startswith("'") == other.startswith("'")
    keys = lex(write(one, gap)).key, lex(write(other, other_gap)).key
    assert (keys[0] == keys[1]) is is_text


@given(texts)
def test_a_key_is_its_own_key(text: str) -> None:
    lexed = lex(text.encode())
    if lexed.trouble is None:
        again = lex(lexed.key)
        assert (again.trouble, again.key) == (None, lexed.key)
        assert len(again.spans) == len(lexed.spans)
