"""How volatile are PostgreSQL's own functions?

From the catalogue of a fresh database (`functions.txt`, written by `tests/sql/test_volatility.py`),
for those who have no connection to ask: `pgweir check --sql`, and the time before a node has
answered. Of functions with one name the most volatile counts.
"""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Literal

from proxy.sql.facts import Name

# provolatile of pg_proc: immutable, stable, volatile. None: there is no such function.
Volatile = Literal["i", "s", "v"]
# (function, number of arguments written) -> how volatile it is.
Volatility = Callable[[Name, int], Volatile | None]


@cache
def _builtins() -> dict[str, Volatile]:
    text = (files("proxy.sql") / "functions.txt").read_text("ascii")
    found: dict[str, Volatile] = {}
    volatile: Volatile = "v"
    for line in text.splitlines():
        match line:
            case "[i]":
                volatile = "i"
            case "[s]":
                volatile = "s"
            case "[v]":
                volatile = "v"
            case _:
                found.update(dict.fromkeys(line.split(), volatile))
    return found


def builtin_volatility(function: Name, _arguments: int) -> Volatile | None:
    """Look up a function of pg_catalog; None for any other."""
    if function.schema not in ("", "pg_catalog"):
        return None
    return _builtins().get(function.name)
