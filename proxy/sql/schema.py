"""What a database's own catalogue says of its functions and relations.

The two questions are asked of a node by whoever has a connection; their rows become a `Catalogue`
here. PostgreSQL's own functions are known anyway (`volatility`), so only others are asked for. For
PostgreSQL 12 and newer; every role may ask.

Source: PostgreSQL documentation, "pg_proc", "pg_aggregate" and "pg_class".
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

from proxy.sql.catalogue import Catalogue
from proxy.sql.facts import Facts, Name
from proxy.sql.grammar import GrammarError, parse
from proxy.sql.lexer import lex
from proxy.sql.reading import read_facts
from proxy.sql.verdict import judge
from proxy.sql.volatility import Volatile, Volatility, builtin_volatility

# An aggregate is what its parts are: pg_proc has them all as immutable.
FUNCTIONS_QUESTION = """
SELECT n.nspname::pg_catalog.text,
       p.proname::pg_catalog.text,
       p.pronargs - p.pronargdefaults,
       CASE WHEN p.provariadic OPERATOR(pg_catalog.<>) 0 THEN -1 ELSE p.pronargs END,
       CASE WHEN p.prokind OPERATOR(pg_catalog.=) 'a' THEN
              (SELECT pg_catalog.max(f.provolatile::pg_catalog.text)
                 FROM pg_catalog.pg_aggregate a
                 JOIN pg_catalog.pg_proc f
                   ON f.oid IN (a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggmfinalfn)
                WHERE a.aggfnoid OPERATOR(pg_catalog.=) p.oid)
            ELSE p.provolatile::pg_catalog.text
       END
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
 WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog'
"""

RELATIONS_QUESTION = """
SELECT n.nspname::pg_catalog.text,
       c.relname::pg_catalog.text,
       CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'v' THEN pg_catalog.pg_get_viewdef(c.oid) END
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
   AND (c.relkind IN ('S', 'v')
        OR c.relpersistence OPERATOR(pg_catalog.=) 'u' AND c.relkind IN ('r', 'm', 'p'))
"""


class FunctionRow(NamedTuple):
    """A row of the first question. most: -1 when there is no most, for VARIADIC."""

    schema: str
    name: str
    least: int
    most: int
    volatile: Volatile


class RelationRow(NamedTuple):
    """A row of the second question. definition: of a view, else None."""

    schema: str
    name: str
    definition: str | None


def read_volatility(rows: Iterable[FunctionRow]) -> Volatility:
    """Make a lookup of these functions and PostgreSQL's own.

    Of all that a call may mean the most volatile counts; without a schema, that is all schemas.
    """
    by_name: dict[str, list[FunctionRow]] = defaultdict(list)
    for row in rows:
        by_name[row.name].append(row)

    def volatility(function: Name, arguments: int) -> Volatile | None:
        found = [
            row.volatile
            for row in by_name.get(function.name, ())
            if function.schema in ("", row.schema)
            and row.least <= arguments
            and (row.most < 0 or arguments <= row.most)
        ]
        builtin = builtin_volatility(function, arguments)
        if builtin is not None:
            found.append(builtin)
        # i, s, v: the alphabet is on our side.
        return max(found, default=None)

    return volatility


def read_catalogue(
    functions: Iterable[FunctionRow],
    relations: Iterable[RelationRow],
    *,
    read_only_functions: Collection[str] = frozenset(),
    writing_functions: Collection[str] = frozenset(),
) -> Catalogue:
    """Make a catalogue of the answers and of the operator's lists."""
    known = Catalogue(read_volatility(functions), read_only_functions, writing_functions)
    held: set[str] = set()
    views: dict[str, list[Facts] | None] = {}
    for schema, name, definition in relations:
        if definition is None:
            held.add(str(Name(schema, name)))
        else:
            views[str(Name(schema, name))] = _read_definition(definition)
    # A view may be over a view: until a round finds no more.
    while True:
        known = replace(known, primary_relations=frozenset(held))
        found = {
            name
            for name, facts in views.items()
            if name not in held and (facts is None or not judge(facts, known).reads_only)
        }
        if not found:
            return known
        held |= found


def _read_definition(definition: str) -> list[Facts] | None:
    """The facts of a view's query; None when it cannot be read."""
    lexed = lex(definition.encode("utf-8", "surrogateescape"))
    if lexed.trouble is not None:
        return None
    try:
        return [read_facts(tree) for tree in parse(lexed.key, lexed.tokens)]
    except GrammarError:
        return None
