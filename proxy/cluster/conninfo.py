"""libpq's connection strings: `primary_conninfo` is read, led elsewhere, and written again. Pure.

Called for what a replica streams from. Everything but the address stays as the operator wrote it:
user, password or passfile, TLS, application_name.

Source: PostgreSQL documentation, libpq, "Connection Strings".
"""

import re
from collections.abc import Mapping

# key = value, with spaces around the sign; a value in apostrophes may hold anything escaped.
_WORD = re.compile(
    r"\s*([A-Za-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)", re.DOTALL
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_conninfo(text: str) -> dict[str, str]:
    """Read `key=value` words, the last of each key.

    A URI, and what is no connection string, has no words: a guess would be written back.
    """
    words: dict[str, str] = {}
    at = 0
    text = text.strip()
    while at < len(text):
        found = _WORD.match(text, at)
        if found is None:
            return {}
        key, quoted, bare = found.groups()
        words[key] = _ESCAPED.sub(r"\1", bare if quoted is None else quoted)
        at = found.end()
    return words


def write_conninfo(words: Mapping[str, str]) -> str:
    """Write words as a connection string; every value that needs it is quoted."""
    return " ".join(f"{key}={_quote(value)}" for key, value in words.items())


def lead_to(conninfo: str, host: str, port: int) -> str | None:
    """The same connection string with another address, or None when it cannot be rewritten.

    None also where it has nothing to be rewritten: it lists several hosts, of which libpq itself
    finds the one it wants.
    """
    words = parse_conninfo(conninfo)
    if not words or has_many_hosts(words):
        return None
    # An address would win over the name.
    words.pop("hostaddr", None)
    return write_conninfo({**words, "host": host, "port": str(port)})


def has_many_hosts(words: Mapping[str, str]) -> bool:
    """Whether libpq is given a list to choose from."""
    return "," in words.get("host", "") or "," in words.get("hostaddr", "")


def _quote(value: str) -> str:
    if value and not re.search(r"[\s'\\]", value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
