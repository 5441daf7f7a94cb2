"""Which functions and relations of a database may leave something in the session that uses them?

No statement's text tells what a function does in it. The function's own text mostly does: the
catalogue has it, and says besides which relations stand for a function, as a table does for its
triggers and a view for what it calls. What is found is a suspicion, and no more than that: after a
statement that names a suspect the session itself is asked what was left. So in doubt it is one.

Functions in C have no text; none but those named here are suspected. Pure. For PostgreSQL 12 and
newer; every role may ask.

Source: PostgreSQL documentation, "pg_proc", "pg_depend", "pg_trigger", "pg_inherits", "pg_rewrite".
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.relay import Leaves
from proxy.session.following import Touched, read_custom_names
from proxy.session.settings import ROLES

_NOTHING = Leaves(0)

# Objects of a new database have smaller numbers.
_OURS = "OPERATOR(pg_catalog.>=) 16384"
CODE_QUESTION = f"""
SELECT p.proname::pg_catalog.text,
       l.lanname::pg_catalog.text,
       CASE WHEN l.lanname IN ('internal', 'c') THEN ''
            WHEN p.prosrc OPERATOR(pg_catalog.=) '' THEN pg_catalog.pg_get_functiondef(p.oid)
            ELSE p.prosrc
       END,
       p.pronargs OPERATOR(pg_catalog.=) 1 AND EXISTS (
           SELECT FROM pg_catalog.pg_type t
            WHERE t.oid OPERATOR(pg_catalog.=) p.proargtypes[0]
              AND t.typtype OPERATOR(pg_catalog.=) 'c')
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
 WHERE p.oid {_OURS} AND p.prokind IN ('f', 'p', 'w')
"""  # noqa: S608 -- of constants

USES_QUESTION = f"""
SELECT c.relname::pg_catalog.text, p.proname::pg_catalog.text, true, true
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
  JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
 WHERE NOT t.tgisinternal
UNION
SELECT c.relname::pg_catalog.text,
       COALESCE(p.proname, used.relname)::pg_catalog.text,
       p.oid IS NOT NULL,
       r.oid IS NULL AND y.oid IS NULL
  FROM pg_catalog.pg_depend d
  LEFT JOIN pg_catalog.pg_rewrite r
    ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
   AND r.oid OPERATOR(pg_catalog.=) d.objid
  LEFT JOIN pg_catalog.pg_policy y
    ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass
   AND y.oid OPERATOR(pg_catalog.=) d.objid
  LEFT JOIN pg_catalog.pg_attrdef a
    ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass
   AND a.oid OPERATOR(pg_catalog.=) d.objid
  LEFT JOIN pg_catalog.pg_constraint k
    ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass
   AND k.oid OPERATOR(pg_catalog.=) d.objid
  JOIN pg_catalog.pg_class c
    ON c.oid OPERATOR(pg_catalog.=) COALESCE(r.ev_class, y.polrelid, a.adrelid, k.conrelid)
  LEFT JOIN pg_catalog.pg_proc p
    ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
   AND p.oid OPERATOR(pg_catalog.=) d.refobjid
  LEFT JOIN pg_catalog.pg_class used
    ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
   AND used.oid OPERATOR(pg_catalog.=) d.refobjid
   AND used.oid OPERATOR(pg_catalog.<>) c.oid
 WHERE d.refobjid {_OURS} AND COALESCE(p.oid, used.oid) IS NOT NULL
UNION
SELECT c.relname::pg_catalog.text, child.relname::pg_catalog.text, false, false
  FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.inhparent
  JOIN pg_catalog.pg_class child ON child.oid OPERATOR(pg_catalog.=) i.inhrelid
UNION
SELECT c.relname::pg_catalog.text, child.relname::pg_catalog.text, false, true
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.confrelid
  JOIN pg_catalog.pg_class child ON child.oid OPERATOR(pg_catalog.=) k.conrelid
 WHERE k.contype OPERATOR(pg_catalog.=) 'f'
UNION
SELECT c.relname::pg_catalog.text, t.typname::pg_catalog.text, false, true
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid
  JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
 WHERE t.oid {_OURS} AND t.typtype OPERATOR(pg_catalog.=) 'd'
UNION
SELECT t.typname::pg_catalog.text, p.proname::pg_catalog.text, true, false
  FROM pg_catalog.pg_depend d
  LEFT JOIN pg_catalog.pg_constraint k
    ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass
   AND k.oid OPERATOR(pg_catalog.=) d.objid
  LEFT JOIN pg_catalog.pg_cast g
    ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_cast'::pg_catalog.regclass
   AND g.oid OPERATOR(pg_catalog.=) d.objid
  JOIN pg_catalog.pg_type t
    ON t.oid OPERATOR(pg_catalog.=) COALESCE(k.contypid, g.casttarget, CASE WHEN
       d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass THEN d.objid END)
  JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.refobjid
 WHERE d.refobjid {_OURS}
   AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
UNION
SELECT f.proname::pg_catalog.text, p.proname::pg_catalog.text, true, false
  FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_proc f ON f.oid OPERATOR(pg_catalog.=) d.objid
  JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.refobjid
 WHERE d.refobjid {_OURS}
   AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
   AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
UNION
SELECT word, p.proname::pg_catalog.text, true, false
  FROM pg_catalog.pg_event_trigger e
  JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) e.evtfoid,
       pg_catalog.unnest(ARRAY['create', 'alter', 'drop', 'into', 'comment', 'grant', 'revoke',
                               'refresh', 'reindex', 'import', 'security']) word
 WHERE e.evtenabled OPERATOR(pg_catalog.<>) 'D' AND e.evtevent OPERATOR(pg_catalog.<>) 'login'
"""  # noqa: S608 -- of constants

# Nothing depends on PostgreSQL's own functions: they are found by number in what was parsed.
_OWN_CALLS = """
SELECT pg_catalog.concat(':funcid ', f.oid, ' ') AS call
  FROM pg_catalog.pg_proc f
 WHERE f.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace
   AND f.proname OPERATOR(pg_catalog.~)
       '^(set_config|pg_(try_)?advisory_(un)?lock.*|query_to_xml.*|ts_stat|(last|curr)val)$'"""


def _calls_its_own(*trees: str) -> str:
    # They may be long: each is unpacked once.
    return f"""EXISTS (
    SELECT FROM (SELECT pg_catalog.concat({", ".join(trees)}) AS tree OFFSET 0) parsed, own_calls
     WHERE pg_catalog.strpos(parsed.tree, own_calls.call) OPERATOR(pg_catalog.>) 0)"""


EXPRESSIONS_QUESTION = f"""
WITH own_calls AS MATERIALIZED ({_OWN_CALLS})
SELECT c.relname::pg_catalog.text, pg_catalog.pg_get_ruledef(r.oid), false
  FROM pg_catalog.pg_rewrite r
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.ev_class
 WHERE r.oid {_OURS} AND {_calls_its_own("r.ev_action", "r.ev_qual")}
UNION
SELECT c.relname::pg_catalog.text,
       pg_catalog.concat_ws(';', pg_catalog.pg_get_expr(y.polqual, y.polrelid),
                            pg_catalog.pg_get_expr(y.polwithcheck, y.polrelid)), false
  FROM pg_catalog.pg_policy y
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) y.polrelid
 WHERE {_calls_its_own("y.polqual", "y.polwithcheck")}
UNION
SELECT c.relname::pg_catalog.text, pg_catalog.pg_get_expr(a.adbin, a.adrelid), true
  FROM pg_catalog.pg_attrdef a
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.adrelid
 WHERE {_calls_its_own("a.adbin")}
UNION
SELECT COALESCE(c.relname, t.typname)::pg_catalog.text,
       pg_catalog.pg_get_constraintdef(k.oid), c.oid IS NOT NULL
  FROM pg_catalog.pg_constraint k
  LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.conrelid
  LEFT JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) k.contypid
 WHERE k.oid {_OURS} AND {_calls_its_own("k.conbin")}
UNION
SELECT t.typname::pg_catalog.text, pg_catalog.pg_get_expr(t.typdefaultbin, 0), false
  FROM pg_catalog.pg_type t
 WHERE t.oid {_OURS} AND {_calls_its_own("t.typdefaultbin")}
UNION
SELECT c.relname::pg_catalog.text, pg_catalog.pg_get_triggerdef(g.oid), true
  FROM pg_catalog.pg_trigger g
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) g.tgrelid
 WHERE NOT g.tgisinternal AND {_calls_its_own("g.tgqual")}
UNION
SELECT p.proname::pg_catalog.text, pg_catalog.pg_get_expr(p.proargdefaults, 0), false
  FROM pg_catalog.pg_proc p
 WHERE p.oid {_OURS} AND {_calls_its_own("p.proargdefaults")}
"""  # noqa: S608 -- of constants


class CodeRow(NamedTuple):
    """A row of the first question. is_field: it can be called like a column of its argument."""

    name: str
    language: str
    text: str
    is_field: bool


class UseRow(NamedTuple):
    """A row of the second question: what stands for what.

    is_function: what is used is. on_write: only where the relation is written to.
    """

    relation: str
    used: str
    is_function: bool
    on_write: bool


class ExpressionRow(NamedTuple):
    """A row of the third question: what stands for a call of PostgreSQL's own functions.

    name: of a relation, domain or function. on_write: only where the relation is written to.
    """

    name: str
    text: str
    on_write: bool


class Suspect(NamedTuple):
    """A name, and what may be left where it is called, named, or named in a text that writes."""

    name: str
    called: Leaves
    named: Leaves
    written: Leaves
    touched: Touched


@dataclass(slots=True)
class _Guilt:
    """What one name is suspected of, so far."""

    called: Leaves = _NOTHING
    named: Leaves = _NOTHING
    written: Leaves = _NOTHING
    settings: set[str] = field(default_factory=set)
    anything: bool = False

    def accuse(
        self,
        of: "_Guilt | _Code",
        *,
        called: Leaves = _NOTHING,
        named: Leaves = _NOTHING,
        written: Leaves = _NOTHING,
    ) -> bool:
        """Suspect it of what another does. Result: whether anything of that is new."""
        before = self.called, self.named, self.written, self.anything, len(self.settings)
        self.called |= called
        self.named |= named
        self.written |= written
        self.settings |= of.settings
        self.anything = self.anything or of.anything
        return before != (self.called, self.named, self.written, self.anything, len(self.settings))


@dataclass(frozen=True, slots=True)
class _Code:
    """What the text of one function says."""

    name: str
    is_field: bool
    leaves: Leaves
    settings: frozenset[str]
    anything: bool
    calls: frozenset[str]
    words: frozenset[str]


_ALL = Leaves.SETTINGS | Leaves.PINS | Leaves.STATEMENTS | Leaves.CHANNELS
ANYTHING = Touched(frozenset(), anything=True)
"""What a text may do to settings that is not known."""

_COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
# Before a statement; a quotation mark is before one that is put together and executed.
_BEGINS = r"(?:^|[;'\"(]|\$\w*\$|\b(?:begin|then|else|loop|atomic|execute|return)\b)\s*"


def _finds(pattern: str, *, beginning: bool = False) -> re.Pattern[str]:
    return re.compile((_BEGINS if beginning else "") + pattern, re.IGNORECASE)


_SET = _finds(
    r"set\s+(?:session\s+)?(?!local\b|constraints\b|transaction\b)"
    r"(authorization\b|characteristics\b|time\s+zone\b|names\b|[\w$.\"]+)([^;'\"]*)",
    beginning=True,
)
_SET_CONFIG = _finds(r"\bset_config\"?\s*\(")
_SET_CONFIG_LOCALLY = _finds(r"\bset_config\"?\s*\([^;()]*(?:\([^;()]*\)[^;()]*)*,\s*true\s*\)")
_SET_CONFIG_BY_NAME = _finds(r"\bset_config\"?\s*\(\s*e?'+([\w$.]+)'+(?:\s*::\s*[\w.]+)?\s*,")
_EXECUTES_WHAT_IS_GIVEN = _finds(
    r"\bexecute\b(?!\s*(?:on|function|procedure)\b)\s*+\(?+\s*+(?:format\s*+\(\s*+)?+"
    r"(?![ef]?(?:['\"]|\$\w*\$)(?!\s*%s))"
)
_FOUND = (
    (_finds(r"(?:reset|discard)\b", beginning=True), _ALL),
    (_finds(r"(?:un)?listen\b", beginning=True), Leaves.CHANNELS),
    (_finds(r"pg_(?:try_)?advisory_(?:lock|unlock)"), Leaves.PINS),
    (_finds(r"\b(?:create|replace|into)\s+(?:global\s+|local\s+)?temp(?:orary)?\b"), Leaves.PINS),
    (_finds(r"\bpg_temp\b"), Leaves.PINS),
    (_finds(r"\bwith\s+hold\b"), Leaves.PINS),
    (_finds(r"load\s+e?'", beginning=True), Leaves.HIDDEN | Leaves.PINS),
    (_finds(r"(?:prepare\s+(?!transaction\b)\w|deallocate\b)", beginning=True), Leaves.STATEMENTS),
    (_finds(r"\b(?:next|set)val\"?\s*\("), Leaves.USES_SEQUENCE),
    (_finds(r"\b(?:curr|last)val\"?\s*\("), Leaves.TELLS_SEQUENCE),
    # They run the text that they are given.
    (_finds(r"\b(?:query_to_xml\w*|ts_stat)\"?\s*\(\s*(?!e?'+[^']*'+[,:)])"), _ALL),
)
_CALLS = re.compile(r"([a-z_\u0080-\uffff][\w$]*)\"?\s*\(")
_WORDS = re.compile(r"[a-z_\u0080-\uffff][\w$]*")
_WRITES = frozenset({"insert", "update", "delete", "merge", "copy", "truncate"})
_NAMES_OF_SET = {
    "names": ("client_encoding",),
    "authorization": ROLES,
    "role": ROLES,
    "characteristics": (
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_transaction_deferrable",
    ),
}
# In C, of contrib: they set settings of their own.
_OF_C = {"set_limit": Leaves.SETTINGS}


def _read_code(row: CodeRow) -> _Code:
    """Look for what the text may leave."""
    if row.language in ("c", "internal"):
        leaves = _OF_C.get(row.name, _NOTHING)
        return _Code(
            row.name, row.is_field, leaves, frozenset(), bool(leaves), frozenset(), frozenset()
        )
    # With its comments, too: what looks like one may be part of a literal.
    text = f"{row.text};{_COMMENT.sub(' ', row.text)}"
    leaves, settings, anything = _NOTHING, set[str](), False
    for pattern, found in _FOUND:
        if pattern.search(text):
            leaves |= found
    for match in _SET.finditer(text):
        leaves |= Leaves.SETTINGS
        word = " ".join(match[1].lower().replace('"', "").split())
        settings.update(_NAMES_OF_SET.get(word, ("timezone" if word == "time zone" else word,)))
        anything = anything or "default" in match[2].lower()
    calls = len(_SET_CONFIG.findall(text))
    if calls != len(_SET_CONFIG_LOCALLY.findall(text)):
        named = _SET_CONFIG_BY_NAME.findall(text)
        leaves |= Leaves.SETTINGS
        settings.update(name.lower() for name in named)
        if len(named) != calls:
            leaves |= Leaves.HIDDEN | Leaves.PINS
            anything = True
    if _EXECUTES_WHAT_IS_GIVEN.search(text) and row.language != "sql":
        leaves |= _ALL
    if _ALL in leaves:
        anything = True
        settings |= read_custom_names(row.text.encode("utf-8", "surrogateescape"))
    lowered = text.lower()
    return _Code(
        row.name,
        row.is_field,
        leaves,
        frozenset(settings),
        anything,
        frozenset(_CALLS.findall(lowered)),
        frozenset(_WORDS.findall(lowered)),
    )


def find_suspects(
    code: Iterable[CodeRow], uses: Iterable[UseRow], expressions: Iterable[ExpressionRow] = ()
) -> list[Suspect]:
    """Say which names are suspects, and of what.

    Of all that has one name, in whatever schema, the worst counts.
    """
    functions = [_read_code(row) for row in code]
    relations = list(uses)
    known: dict[str, _Guilt] = defaultdict(_Guilt)
    for each in functions:
        if each.leaves:
            _accuse_function(known, each, each, each.leaves)
    for row in expressions:
        said = _read_code(CodeRow(row.name, "sql", row.text, is_field=False))
        if said.leaves:
            named = _NOTHING if row.on_write else said.leaves
            known[row.name].accuse(said, named=named, written=said.leaves)
    # A function calls a function that calls one: until a round finds no more.
    while _spread(known, functions, relations):
        pass
    return [
        Suspect(
            name,
            guilt.called,
            guilt.named,
            guilt.written,
            Touched(frozenset(guilt.settings), guilt.anything),
        )
        for name, guilt in known.items()
    ]


def _accuse_function(
    known: dict[str, _Guilt], code: _Code, of: "_Guilt | _Code", leaves: Leaves
) -> bool:
    named = leaves if code.is_field else _NOTHING
    return known[code.name].accuse(of, called=leaves, named=named)


def _spread(
    known: dict[str, _Guilt], functions: Iterable[_Code], relations: Iterable[UseRow]
) -> bool:
    """Suspect whoever uses a suspect. Result: whether that was news."""
    is_news = False
    for code in functions:
        writes = not code.words.isdisjoint(_WRITES)
        for name in code.words & known.keys() - {code.name}:
            used = known[name]
            leaves = used.named
            if name in code.calls:
                leaves |= used.called
            if writes:
                leaves |= used.written
            if leaves and _accuse_function(known, code, used, leaves):
                is_news = True
    for use in relations:
        if use.used not in known or use.used == use.relation:
            continue
        used = known[use.used]
        read = used.called if use.is_function else used.named
        written = read if use.is_function else read | used.written
        if use.on_write:
            read = _NOTHING
        if written and known[use.relation].accuse(used, named=read, written=written):
            is_news = True
    return is_news
