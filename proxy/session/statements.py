"""Statements that a client made by PREPARE, and how another session gets them. Pure.

They are asked of the session itself, after a transaction in which PREPARE or DEALLOCATE was run
(they do not undo these with it): `pg_prepared_statements` has the text. What cannot be made again
from its text pins the client instead.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.session.settings import Settings, Statements, switch
from proxy.sql import GrammarError, lex, parse

# In place of a setting's name: of those that PREPARE made, and of those of the protocol.
MADE = "="
OTHER = "-"

# More or longer ones are not carried from server to server: that would be done anew each time.
_MOST = 250
_MOST_BYTES = 1 << 20
# The text of a longer one is not asked for: in the client's encoding it may be three times as long,
# and the relay reads no row beyond 256 KiB.
_LONGEST_BYTES = 80_000

STATEMENTS_QUESTION = (
    f"SELECT CASE WHEN from_sql THEN '{MADE}' ELSE '{OTHER}' END || name,"  # noqa: S608
    f" CASE WHEN from_sql AND octet_length(statement) <= {_LONGEST_BYTES} THEN statement END"
    " FROM pg_catalog.pg_prepared_statements"
)
"""SQL whose rows are a marked name and a text."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a session has prepared.

    made: by PREPARE. others: names of those of the protocol. is_portable: all that was made can be
    made again elsewhere.
    """

    made: Statements
    others: frozenset[str]
    is_portable: bool


def take_statements(told: Iterable[tuple[str, str | None]]) -> Prepared:
    """Pick the statements out of rows of names and values."""
    made: dict[str, str] = {}
    others = set()
    is_portable = True
    for marked, text in told:
        if marked.startswith(OTHER):
            others.add(marked[1:])
        elif marked.startswith(MADE):
            single = cut_prepare(text or "", marked[1:])
            is_portable = is_portable and single is not None
            if single is not None:
                made[marked[1:]] = single
    size = sum(len(name) + len(text) for name, text in made.items())
    if len(made) > _MOST or size > _MOST_BYTES:
        is_portable = False
        made = {}
    return Prepared(tuple(sorted(made.items())), frozenset(others), is_portable)


def cut_prepare(text: str, name: str) -> str | None:
    """Cut the PREPARE of this name out of the text that it was part of; None when it is not there.

    Of several the last one counts.
    """
    octets = text.encode("utf-8", "surrogateescape")
    lexed = lex(octets)
    if lexed.trouble is not None:
        return None
    # A single one as it came, with what stands around it.
    spans = lexed.spans if len(lexed.spans) > 1 else ((0, len(octets)),)
    for start, end in reversed(spans):
        single = octets[start:end]
        try:
            (tree,) = parse(single)
        except (GrammarError, ValueError):
            return None
        if tree.get("PrepareStmt", {}).get("name") == name:
            return single.decode("utf-8", "surrogateescape")
    return None


def carry_channels(have: Settings, want: Settings) -> list[str]:
    """Write the SQL that lets a session listen to what `want` listens to.

    The control plane listens for the client. This is for pg_listening_channels(), for UNLISTEN, and
    for what the client's own transactions notify, which comes with their ReadyForQuery.
    """
    if have.channels == want.channels:
        return []
    return [
        *(f"UNLISTEN {_quote(name)}" for name in sorted(have.channels - want.channels)),
        *(f"LISTEN {_quote(name)}" for name in sorted(want.channels - have.channels)),
    ]


def carry(have: Settings, want: Settings) -> list[str]:
    """Write the SQL that gives a session the statements of `want`; each may fail by itself."""
    if have.statements == want.statements:
        return []
    wanted, had = dict(want.statements), dict(have.statements)
    gone = [name for name, text in had.items() if wanted.get(name) != text]
    new = [text for name, text in wanted.items() if had.get(name) != text]
    return [*(f"DEALLOCATE {_quote(name)}" for name in gone), *new]


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def write_switch(have: Settings, want: Settings) -> tuple[bytes, tuple[bytes, ...]]:
    """Write the SQL that takes a session from `have` to `want`: settings, then what is none."""
    settings, *others = (
        text.encode("utf-8", "surrogateescape")
        for text in (switch(have, want), *carry(have, want), *carry_channels(have, want))
    )
    return settings, tuple(others)
