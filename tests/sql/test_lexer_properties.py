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
    *("values", "values (", "null", "), (", "f(", "int", "::int", "in ($1,", "values (1),"),
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
    parts = spell(text, tokens)
    parts = without_rows(without_lists(parts))
    return " ".join(part for part, _ in parts)


# What stands in the key, and whether it is a constant, a keyword or anything else.
Part = tuple[str, str]


def spell(text: bytes, tokens: list) -> list[Part]:
    """Each token as it stands in the key."""
    parts: list[Part] = []
    depth = 0
    owes_semicolon = False
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
            parts.append((";", ""))
            owes_semicolon = False
        if token.token == Token.NCHAR and len(raw) == 1:
            last = "n'"
            continue
        depth += (raw in "([") - (raw in ")]")
        kind = "constant"
        if token.token in NUMBERS:
            part = "1"
        elif token.token == Token.PARAM and raw != "?":
            part = raw
        elif token.token in STRINGS:
            part = STRINGS[token.token]
            if last == "uescape" and len(raw) == 3:
                part, kind = raw, ""
            elif last == "n'":
                part = "n'1'"
        elif raw[0] == '"' or raw[:3].lower() == 'u&"':
            part, kind = raw, ""
        else:
            part, kind = lower(raw), "" if last == "." else "word"
        if token.start == last_end and {*raw, *parts[-1][0]} <= OPERATORS:
            # Operators that stand together are kept together.
            parts[-1] = (parts[-1][0] + part, kind)
        else:
            parts.append((part, kind))
        last = part if kind != "" or part != "uescape" else ""
        last_end = token.end
    return parts


def end_of_brackets(parts: list[Part], start: int) -> int:
    depth = 0
    for place in range(start, len(parts)):
        depth += (parts[place][0] in ("(", "[")) - (parts[place][0] in (")", "]"))
        if depth == 0:
            return place
    raise AssertionError("the lexer would have said so")


def without_lists(parts: list[Part]) -> list[Part]:
    """IN ( constant , … ) with the first one alone."""
    kept: list[Part] = []
    place = 0
    while place < len(parts):
        kept.append(parts[place])
        place += 1
        if kept[-1][0] == "(" and kept[-2:-1] == [("in", "word")]:
            end = end_of_brackets(parts, place - 1)
            inside = parts[place:end]
            plain = all(
                kind == "constant" or part in (",", "::") or before == "::"
                for (part, kind), (before, _) in zip(inside, [("", ""), *inside], strict=False)
            )
            commas = [at for at, (part, _) in enumerate(inside) if part == ","]
            if plain and commas and parts[end][0] == ")":
                kept += inside[: commas[0]]
                place = end
    return kept


def without_rows(parts: list[Part]) -> list[Part]:
    """VALUES ( … ) , ( … ) without the later rows that have no brackets in them."""
    kept: list[Part] = []
    place = 0
    while place < len(parts):
        kept.append(parts[place])
        place += 1
        if kept[-1][0] == ")" and opens_values(kept):
            while [part for part, _ in parts[place : place + 2]] == [",", "("]:
                end = end_of_brackets(parts, place + 1)
                if parts[end][0] != ")":
                    break
                if not is_flat(parts[place + 2 : end]):
                    kept += parts[place : place + 2]
                    kept += [*without_rows(parts[place + 2 : end]), parts[end]]
                place = end + 1
    return kept


def is_flat(row: list[Part]) -> bool:
    if not row or any(part in ("(", "[") for part, _ in row):
        return False
    part, kind = row[0]
    is_plain = kind == "word" and part in ("null", "default", "true", "false")
    return kind == "constant" or is_plain or set(part) <= OPERATORS


def opens_values(kept: list[Part]) -> bool:
    """Whether the bracket at the end closes the first row behind VALUES."""
    depth = 0
    for place in range(len(kept) - 1, -1, -1):
        depth += (kept[place][0] in (")", "]")) - (kept[place][0] in ("(", "["))
        if depth == 0:
            return kept[place][0] == "(" and kept[place - 1 : place] == [("values", "word")]
    return False


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
