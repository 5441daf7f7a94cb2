"""What an administrator typed: statements as words, and nothing about what they mean. Pure.

The grammar is PgBouncer's: words, names in double quotes, strings in single ones, `=`, an optional
semicolon. Beyond it, comments are skipped and a text may hold several statements, as PostgreSQL's
may. Whatever else comes is refused as a syntax error, with the text it stands at.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from proxy.errors import ClientError

Kind = Literal["word", "name", "string", "symbol", "parameter"]

# An end of a quoted token or of a comment that is missing takes all the rest.
_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | --[^\n]* | /\*.*?\*/ )
  | (?P<word> \w (?: [\w$.:] | -(?=\w) )* )
  | (?P<name> "(?:[^"]|"")*" )
  | (?P<string> '(?:[^']|'')*' )
  | (?P<parameter> \$\d+ )
  | (?P<symbol> [][=;*()$?+,.:<>!~|%&^-] | /(?!\*) )
    """,
    re.VERBOSE | re.DOTALL,
)
_MOST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of a statement. text: without its quotes."""

    kind: Kind
    text: str

    def is_word(self, word: str) -> bool:
        """Whether it is this keyword, however it is written."""
        return self.kind == "word" and self.text.upper() == word


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. text: as it was written, for error messages."""

    text: str
    tokens: tuple[Token, ...]

    @property
    def parameters(self) -> list[int]:
        """The numbers of its parameters, as often as they stand there."""
        return [int(token.text[1:]) for token in self.tokens if token.kind == "parameter"]


def read_statements(text: str) -> list[Statement]:
    """Take a text apart at its semicolons; empty statements are left out.

    Raises ClientError (42601).
    """
    statements = []
    tokens: list[Token] = []
    for token in _tokens(text):
        if token == _END:
            statements.append(_statement(tokens))
            tokens = []
        else:
            tokens.append(token)
    statements.append(_statement(tokens))
    return [statement for statement in statements if statement.tokens]


_END = Token("symbol", ";")


def _statement(tokens: list[Token]) -> Statement:
    return Statement(" ".join(token.text for token in tokens), tuple(tokens))


def _tokens(text: str) -> Iterator[Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ClientError("42601", f"syntax error at or near {shortened(text[at:])}", hint=HELP)
        at = found.end()
        kind, piece = found.lastgroup, found[0]
        if kind == "word":
            yield Token("word", piece)
        elif kind == "symbol":
            yield Token("symbol", piece)
        elif kind == "parameter":
            yield Token("parameter", piece)
        elif kind == "name":
            yield Token("name", piece[1:-1].replace('""', '"'))
        elif kind == "string":
            yield Token("string", piece[1:-1].replace("''", "'"))


HELP = "SHOW HELP lists the commands."


def shortened(text: str) -> str:
    """A text in quotes for a message, its end left out when it is long."""
    shown = text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
    return f"'{shown}'"
