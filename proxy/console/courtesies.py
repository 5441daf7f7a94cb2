"""What drivers and pools say of their own accord, answered so that they go on. Pure.

The console has no transactions, no settings of a session and nothing to discard. PgBouncer answers
some of these; the others would only keep a driver from connecting.
"""

from collections.abc import Sequence

from proxy.console.grammar import Token
from proxy.console.table import FLOAT8, INT4, INT8, NUMERIC, TEXT, Answer, Column, columns

# What `SHOW name` says of a setting that drivers ask for. Source: PgBouncer, for the first five.
_SETTINGS = {
    "client_encoding": "UTF8",
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "datestyle": "ISO",
    "timezone": "GMT",
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
    "server_version": "1.25.0/bouncer",
    "search_path": "",
}
# As PostgreSQL calls the types of our columns.
_TYPES = {
    TEXT: "text",
    INT4: "integer",
    INT8: "bigint",
    FLOAT8: "double precision",
    NUMERIC: "numeric",
}
# What a client may SET without effect.
_IGNORED = {
    *_SETTINGS,
    "application_name",
    "bytea_output",
    "client_min_messages",
    "extra_float_digits",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "names",
    "session",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "transaction",
}
# Words a statement may begin with -> its tag.
_TAGS = {
    ("BEGIN",): "BEGIN",
    ("START", "TRANSACTION"): "START TRANSACTION",
    ("COMMIT",): "COMMIT",
    ("END",): "COMMIT",
    ("ROLLBACK",): "ROLLBACK",
    ("ABORT",): "ROLLBACK",
    ("DISCARD", "ALL"): "DISCARD ALL",
    ("DEALLOCATE",): "DEALLOCATE",
    ("RESET",): "RESET",
    ("CLOSE", "ALL"): "CLOSE CURSOR ALL",
    ("UNLISTEN",): "UNLISTEN",
}


def find_courtesy(tokens: Sequence[Token], version: str) -> Answer | None:
    """The answer to such a statement, or None when it is none. version: what the program is."""
    for words, tag in _TAGS.items():
        if len(tokens) >= len(words) and all(
            token.is_word(word) for token, word in zip(tokens, words, strict=False)
        ):
            return Answer(tag)
    texts = [token.text.lower() for token in tokens]
    answer = None
    match texts:
        case ["select", number] if number.isdecimal() and len(number) < 10:
            answer = Answer("SELECT 1", (Column("?column?", INT4),), [(int(number),)])
        case ["select", "pg_advisory_unlock_all", "(", ")"]:
            answer = Answer("SELECT 1", columns(None, "pg_advisory_unlock_all"), [("",)])
        case ["select", "version", "(", ")"]:
            answer = Answer("SELECT 1", columns(None, "version"), [(version,)])
        case ["select", "set_config", "(", _, ",", value, ",", *_]:
            # pgAdmin sets bytea_output so, where there is such a setting.
            answer = Answer("SELECT 1", columns(None, "set_config"), [(value,)])
        case ["select", "case", *_, "end", "as", name]:
            # A single value, whatever it depends on: it is not known.
            answer = Answer("SELECT 1", columns(None, name), [(None,)])
        case ["select", "oid", ",", "pg_catalog.format_type", "(", _, _, _, ")", "as", name, *_]:
            # pgAdmin asks what the types of an answer's columns are called, before it shows any.
            shown = columns({"oid": INT4}, "oid", name)
            answer = Answer("SELECT", shown, [(each.oid, text) for each, text in _TYPES.items()])
        case ["select", *rest] if any(text.startswith("pg_catalog.") for text in rest):
            # Tools look there for tables and the like as soon as they are connected.
            answer = Answer("SELECT 0")
        case ["show", "transaction", "isolation", "level"]:
            answer = Answer("SHOW", columns(None, "transaction_isolation"), [("read committed",)])
        case ["show", name] if name in _SETTINGS:
            answer = Answer("SHOW", columns(None, name), [(_SETTINGS[name],)])
    return answer


def ignores_setting(tokens: Sequence[Token]) -> bool:
    """Whether a SET is one of those that are taken without effect. tokens: behind SET."""
    first = tokens[0].text.lower()
    if first in ("session", "local") and len(tokens) > 1:
        return tokens[1].text.lower() in _IGNORED | {"characteristics"}
    return first in _IGNORED
