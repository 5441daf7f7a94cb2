"""From the grammar's tree to facts.

What is not known is said to be unknown: a kind of statement or a construct that is in no table here
(a later grammar may bring some) ends up in `Facts.unknown`, and such a statement is not taken for a
read. The tree is walked with a stack of our own, so its depth is no matter.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from proxy.sql.facts import Call, Effect, Facts, Name, Touch, Transaction
from proxy.sql.grammar import Tree
from proxy.sql.known import TOUCHING_FUNCTIONS, names

_NOTHING: frozenset[str] = frozenset()

# Constructs that only say what to read. Everything that changes or locks is named further down.
_PLAIN = names(
    """
    SelectStmt RawStmt ResTarget ColumnRef A_Star A_Const A_Expr BoolExpr TypeCast TypeName SubLink
    RangeSubselect RangeFunction RangeTableSample RangeTableFunc RangeTableFuncCol JoinExpr Alias
    SortBy WindowDef CaseExpr CaseWhen CoalesceExpr MinMaxExpr NullTest BooleanTest A_ArrayExpr
    A_Indirection A_Indices RowExpr ParamRef CommonTableExpr WithClause CTESearchClause
    CTECycleClause CollateClause SQLValueFunction XmlExpr XmlSerialize GroupingSet GroupingFunc List
    String Integer Float Boolean BitString NamedArgExpr SetToDefault MultiAssignRef CurrentOfExpr
    DefElem ColumnDef JsonAggConstructor JsonArgument JsonArrayAgg JsonArrayConstructor
    JsonArrayQueryConstructor JsonBehavior JsonFormat JsonFuncExpr JsonIsPredicate JsonKeyValue
    JsonObjectAgg JsonObjectConstructor JsonOutput JsonParseExpr JsonReturning JsonScalarExpr
    JsonSerializeExpr JsonTable JsonTableColumn JsonTablePathSpec JsonValueExpr InferClause
    OnConflictClause MergeWhenClause ReturningClause ReturningOption IndexElem
    """
)

# Of those, what has nothing inside that matters; most nodes are such.
_LEAVES = names("ColumnRef A_Star A_Const ParamRef String Integer Float Boolean BitString Alias")

# Fields that hold one kind of node and therefore do not name it. (Some of that name hold any kind.)
_KIND_OF_FIELD = {
    **dict.fromkeys(
        ("relation", "rel", "view", "sequence", "typevar", "pktable", "table"), "RangeVar"
    ),
    "larg": "SelectStmt",
    "rarg": "SelectStmt",
    "withClause": "WithClause",
    "intoClause": "IntoClause",
    "into": "IntoClause",
    "onConflictClause": "OnConflictClause",
    "returningClause": "ReturningClause",
    "funccall": "FuncCall",
}

_CHANGES = {
    "InsertStmt": "INSERT",
    "UpdateStmt": "UPDATE",
    "DeleteStmt": "DELETE",
    "MergeStmt": "MERGE",
}
# What `_note` reads itself: targets are not read, and FOR UPDATE OF names aliases.
_NOTED_FIELDS = {
    **dict.fromkeys(_CHANGES, "relation"),
    "IntoClause": "rel",
    "LockingClause": "lockedRels",
}
_QUERIES = {"SelectStmt": "SELECT", **_CHANGES}


@dataclass(slots=True)
class _Found:
    """What a walk has found so far."""

    reads: set[Name] = field(default_factory=set)
    writes: set[Name] = field(default_factory=set)
    calls: set[Call] = field(default_factory=set)
    settings_read: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    effects: dict[Effect, None] = field(default_factory=dict)
    row_locks: bool = False

    def facts(self, kind: str, **rest: Any) -> Facts:
        effects = (*rest.pop("effects", ()), *self.effects)
        return Facts(
            kind=kind,
            reads=frozenset(self.reads),
            writes=frozenset(self.writes),
            calls=frozenset(self.calls),
            settings_read=frozenset(self.settings_read),
            changes=frozenset(self.changes),
            unknown=frozenset(self.unknown),
            row_locks=self.row_locks,
            effects=tuple(dict.fromkeys(effects)),
            **rest,
        )


def read_facts(tree: Tree) -> Facts:
    """Give the facts of one statement, as `grammar.parse` gives its tree."""
    ((kind, fields),) = tree.items()
    found = _Found()
    if kind in _QUERIES:
        _walk(kind, fields, found)
        return found.facts(_QUERIES[kind])
    read = _STATEMENTS.get(kind)
    if read is not None:
        return read(fields, found)
    return _read_other(kind, fields, found)


# --- Queries and expressions ---


def _walk(kind: str, fields: Any, found: _Found, *, strange: bool = False) -> None:
    """Note all that stands in a query.

    strange: constructs outside of queries are expected, and no reason to speak of unknown ones.
    """
    # A node, its kind, and the names that WITH has given to queries around it.
    stack: list[tuple[str, Any, frozenset[str]]] = [(kind, fields, _NOTHING)]
    while stack:
        kind, fields, named = stack.pop()
        if kind not in _PLAIN and not _note(kind, fields, named, found) and not strange:
            found.unknown.add(kind)
        if (clause := fields.get("withClause")) is not None:
            named = named | {name for name, _ in _ctes(clause)}
        if kind == "WithClause":
            stack.extend(_scoped(fields, named))
            continue
        noted = _NOTED_FIELDS.get(kind, "")
        stack.extend((*child, named) for child in _children(fields, noted))


def _children(fields: Tree, noted: str) -> Iterator[tuple[str, Any]]:
    """The nodes in the fields of a node, but for one field, each with its kind."""
    for key, value in fields.items():
        if key == noted:
            continue
        if isinstance(value, dict):
            yield from _kinds_of(value, _KIND_OF_FIELD.get(key, "List"))
        elif isinstance(value, list):
            for each in value:
                if isinstance(each, dict):
                    yield from _kinds_of(each, "List")


def _kinds_of(node: Tree, otherwise: str) -> Iterator[tuple[str, Any]]:
    """A node that says its kind does so by a single key in capitals; fields are in small letters.

    otherwise: the kind of one that does not say it.
    """
    if len(node) == 1:
        ((kind, fields),) = node.items()
        if kind[0].isupper() and isinstance(fields, dict):
            if kind not in _LEAVES:
                yield kind, fields
            return
    if node:
        yield otherwise, node


def _ctes(clause: Tree) -> list[tuple[str, Tree]]:
    """The queries of a WITH, with their names."""
    inner = [each["CommonTableExpr"] for each in clause["ctes"]]
    return [(each["ctename"], each) for each in inner]


def _scoped(clause: Tree, named: frozenset[str]) -> Iterator[tuple[str, Any, frozenset[str]]]:
    """The queries of a WITH, each with the names it may use.

    Without RECURSIVE it knows those in front of it only: in WITH t AS (SELECT * FROM t) the inner
    t is a table.
    """
    ctes = _ctes(clause)
    if clause.get("recursive"):
        yield from (("CommonTableExpr", each, named) for _, each in ctes)
        return
    seen = named - {name for name, _ in ctes}
    for name, each in ctes:
        yield "CommonTableExpr", each, seen
        seen = seen | {name}


def _note(kind: str, fields: Tree, named: frozenset[str], found: _Found) -> bool:
    """Note a node that matters; False for one of an unknown kind."""
    if kind == "RangeVar":
        name = _name_of(fields)
        if name.schema or name.name not in named:
            found.reads.add(name)
            _note_temporary(fields, found)
    elif kind == "FuncCall":
        _note_call(fields, found)
    elif kind == "LockingClause":
        found.row_locks = True
    elif kind == "IntoClause":
        found.changes.add("SELECT INTO")
        _note_target(fields["rel"], found)
    elif kind in _CHANGES:
        found.changes.add(_CHANGES[kind])
        _note_target(fields["relation"], found)
    else:
        return False
    return True


def _note_call(fields: Tree, found: _Found) -> None:
    function = _name_in(fields["funcname"])
    arguments = fields.get("args", [])
    found.calls.add(Call(function, len(arguments)))
    if function.schema not in ("", "pg_catalog"):
        return
    touch = TOUCHING_FUNCTIONS.get(function.name)
    if touch is Touch.SETTING:
        found.effects[_effect_of_set_config(arguments)] = None
    elif touch is not None:
        found.effects[Effect(touch)] = None
    elif function.name == "current_setting":
        found.settings_read.add(_constant(arguments[0]) if arguments else "")


def _effect_of_set_config(arguments: list[Tree]) -> Effect:
    """set_config(name, value, is_local); only a plain `true` is local for certain."""
    is_local = len(arguments) == 3 and arguments[2] == _true(arguments[2])
    return Effect(
        Touch.LOCAL_SETTING if is_local else Touch.SETTING,
        _constant(arguments[0]) if arguments else "",
    )


def _true(node: Tree) -> Tree:
    """How the constant `true` would stand where this node does."""
    constant = node.get("A_Const", {})
    return {"A_Const": {**constant, "boolval": {"boolval": True}}}


def _constant(node: Tree) -> str:
    """The name of a setting; "" when it is anything but a constant that the key has kept."""
    text = node.get("A_Const", {}).get("sval", {}).get("sval", "")
    assert isinstance(text, str)  # noqa: S101 -- the grammar's own field
    return "" if text == "1" else text.lower()


def _name_of(fields: Tree) -> Name:
    return Name(fields.get("schemaname", ""), fields["relname"])


def _name_in(parts: list[Tree]) -> Name:
    """A dotted name: the last part and the one in front of it."""
    words = [each["String"].get("sval", "") for each in parts if "String" in each]
    return Name(words[-2] if len(words) > 1 else "", words[-1] if words else "")


def _is_temporary(schema: str) -> bool:
    return schema == "pg_temp" or schema.startswith(("pg_temp_", "pg_toast_temp_"))


def _note_target(fields: Tree, found: _Found) -> None:
    found.writes.add(_name_of(fields))
    _note_temporary(fields, found)


def _note_temporary(fields: Tree, found: _Found) -> None:
    if fields.get("relpersistence") == "t" or _is_temporary(fields.get("schemaname", "")):
        found.effects[Effect(Touch.TEMPORARY, fields["relname"])] = None


# --- Statements that are no queries ---


def _read_within(query: Tree, found: _Found) -> str:
    """Walk a statement inside another, and give its kind."""
    ((kind, fields),) = query.items()
    if kind in _QUERIES:
        _walk(kind, fields, found)
        return _QUERIES[kind]
    inner = read_facts(query)
    found.reads |= inner.reads
    found.writes |= inner.writes
    found.calls |= inner.calls
    found.settings_read |= inner.settings_read
    found.changes |= inner.changes
    found.unknown |= inner.unknown
    found.effects.update(dict.fromkeys(inner.effects))
    found.row_locks = found.row_locks or inner.row_locks
    return inner.kind


def _read_transaction(fields: Tree, found: _Found) -> Facts:
    did = {
        "TRANS_STMT_BEGIN": Transaction.BEGIN,
        "TRANS_STMT_START": Transaction.BEGIN,
        "TRANS_STMT_COMMIT": Transaction.COMMIT,
        "TRANS_STMT_ROLLBACK": Transaction.ROLLBACK,
        "TRANS_STMT_SAVEPOINT": Transaction.SAVEPOINT,
        "TRANS_STMT_RELEASE": Transaction.RELEASE,
        "TRANS_STMT_ROLLBACK_TO": Transaction.ROLLBACK_TO,
        "TRANS_STMT_PREPARE": Transaction.PREPARE,
        "TRANS_STMT_COMMIT_PREPARED": Transaction.COMMIT_PREPARED,
        "TRANS_STMT_ROLLBACK_PREPARED": Transaction.ROLLBACK_PREPARED,
    }.get(fields.get("kind", ""))
    if did is None:
        return Facts(kind="TRANSACTION", unknown=frozenset({str(fields.get("kind"))}))
    read_only, serializable = None, False
    for option in fields.get("options", ()):
        # These are no constants of the text; the grammar makes them of words.
        name, said = option["DefElem"]["defname"], option["DefElem"]["arg"]["A_Const"]
        if name == "transaction_read_only":
            read_only = said.get("ival", {}).get("ival", 0) == 1
        elif name == "transaction_isolation":
            serializable = said["sval"]["sval"] == "serializable"
    two_phase = (Transaction.PREPARE, Transaction.COMMIT_PREPARED, Transaction.ROLLBACK_PREPARED)
    return found.facts(
        did.value,
        transaction=did,
        read_only=read_only,
        serializable=serializable,
        chains=bool(fields.get("chain")),
        effects=(Effect(Touch.TWO_PHASE),) if did in two_phase else (),
    )


_ROLES = ("role", "session_authorization")


def _read_set(fields: Tree, found: _Found) -> Facts:
    kind, name = fields["kind"], fields.get("name", "").lower()
    touch = Touch.SETTING
    if kind == "VAR_SET_MULTI":
        if name == "transaction":
            touch = Touch.LOCAL_SETTING
        elif name == "transaction snapshot":
            touch = Touch.SNAPSHOT
    elif fields.get("is_local"):
        touch = Touch.LOCAL_SETTING
    elif name in _ROLES:
        touch = Touch.ROLE
    verb = "RESET" if kind.startswith("VAR_RESET") else "SET"
    return found.facts(verb, effects=(Effect(touch, name),))


def _read_show(fields: Tree, found: _Found) -> Facts:
    found.settings_read.add(fields["name"].lower())
    return found.facts("SHOW")


# Effects that are no function's.
_OF_UTILITIES = frozenset({Touch.TEMPORARY, Touch.EXECUTE})


def _read_explain(fields: Tree, found: _Found) -> Facts:
    executes = False
    for option in fields.get("options", ()):
        element = option["DefElem"]
        # What a constant says is not in the key, so any but a plain word for no is a yes.
        if element["defname"] == "analyze":
            said = element.get("arg", {}).get("String", {}).get("sval", "").lower()
            executes = executes or said not in ("false", "off")
    inner = _read_within(fields["query"], found)
    if not executes:
        # It is planned, no more: a replica does that for INSERT, too.
        found.changes -= set(_CHANGES.values())
        if not found.changes:
            found.reads |= found.writes
            found.writes.clear()
        found.row_locks = False
        found.calls.clear()
        found.effects = {effect: None for effect in found.effects if effect.touch in _OF_UTILITIES}
    return found.facts("EXPLAIN", inner=inner, executes=executes)


def _read_copy(fields: Tree, found: _Found) -> Facts:
    inner = None
    if "query" in fields:
        inner = _read_within(fields["query"], found)
    else:
        (found.writes if fields.get("is_from") else found.reads).add(_name_of(fields["relation"]))
        _note_temporary(fields["relation"], found)
    if fields.get("is_from"):
        _walk("List", {"where": fields.get("whereClause", {})}, found)
        found.changes.add("COPY FROM")
    return found.facts(
        "COPY",
        copies="from" if fields.get("is_from") else "to",
        copies_with_client="filename" not in fields and not fields.get("is_program"),
        inner=inner,
    )


# CURSOR_OPT_HOLD in src/include/nodes/parsenodes.h.
_HOLD = 0x20


def _read_declare(fields: Tree, found: _Found) -> Facts:
    held = fields.get("options", 0) & _HOLD
    touch = Touch.HELD_CURSOR if held else Touch.CURSOR
    inner = _read_within(fields["query"], found)
    return found.facts(
        "DECLARE CURSOR", inner=inner, effects=(Effect(touch, fields["portalname"]),)
    )


def _read_prepare(fields: Tree, found: _Found) -> Facts:
    inner = _read_within(fields["query"], found)
    return found.facts("PREPARE", inner=inner, effects=(Effect(Touch.PREPARE, fields["name"]),))


def _read_execute(fields: Tree, found: _Found) -> Facts:
    _walk("List", fields, found)
    return found.facts("EXECUTE", effects=(Effect(Touch.EXECUTE, fields["name"]),))


def _read_create_as(fields: Tree, found: _Found) -> Facts:
    inner = _read_within(fields["query"], found)
    _note_target(fields["into"]["rel"], found)
    found.changes.add("CREATE TABLE AS")
    return found.facts("CREATE TABLE AS", inner=inner, is_ddl=True)


def _touching(kind: str, touch: Touch, field_name: str) -> Callable[[Tree, _Found], Facts]:
    """A statement that has one effect, on what this field of it names."""

    def read(fields: Tree, found: _Found) -> Facts:
        return found.facts(kind, effects=(Effect(touch, fields.get(field_name, "")),))

    return read


def _read_discard(fields: Tree, found: _Found) -> Facts:
    subject = fields["target"].removeprefix("DISCARD_").lower()
    return found.facts("DISCARD", effects=(Effect(Touch.DISCARD, subject),))


def _read_call(fields: Tree, found: _Found) -> Facts:
    _walk("FuncCall", fields["funccall"], found)
    found.changes.add("CALL")
    return found.facts("CALL")


_STATEMENTS: dict[str, Callable[[Tree, _Found], Facts]] = {
    "TransactionStmt": _read_transaction,
    "VariableSetStmt": _read_set,
    "VariableShowStmt": _read_show,
    "ConstraintsSetStmt": _touching("SET CONSTRAINTS", Touch.LOCAL_SETTING, ""),
    "ExplainStmt": _read_explain,
    "CopyStmt": _read_copy,
    "DeclareCursorStmt": _read_declare,
    "FetchStmt": _touching("FETCH", Touch.CURSOR, "portalname"),
    "ClosePortalStmt": _touching("CLOSE", Touch.CURSOR, "portalname"),
    "PrepareStmt": _read_prepare,
    "ExecuteStmt": _read_execute,
    "DeallocateStmt": _touching("DEALLOCATE", Touch.DEALLOCATE, "name"),
    "DiscardStmt": _read_discard,
    "ListenStmt": _touching("LISTEN", Touch.LISTEN, "conditionname"),
    "UnlistenStmt": _touching("UNLISTEN", Touch.UNLISTEN, "conditionname"),
    "NotifyStmt": _touching("NOTIFY", Touch.NOTIFY, "conditionname"),
    "LoadStmt": _touching("LOAD", Touch.LOAD, "filename"),
    "CreateTableAsStmt": _read_create_as,
    "CallStmt": _read_call,
}

_DDL = ("Create", "Alter", "Drop", "Define", "Grant", "Rename", "Comment", "Index", "View", "Rule")
_MORE_DDL = frozenset(
    {
        "CompositeTypeStmt",
        "SecLabelStmt",
        "ImportForeignSchemaStmt",
        "ReassignOwnedStmt",
        "RefreshMatViewStmt",
        "TruncateStmt",
    }
)


def _read_other(kind: str, fields: Tree, found: _Found) -> Facts:
    """Any other statement: it is not a read, so every table it names may be written."""
    _walk("List", fields, found, strange=True)
    found.writes |= found.reads
    found.reads.clear()
    found.unknown.clear()
    for schema in _schemas_of(fields):
        if _is_temporary(schema):
            found.effects[Effect(Touch.TEMPORARY)] = None
    word = _words(kind)
    found.changes.add(word)
    return found.facts(word, is_ddl=kind.startswith(_DDL) or kind in _MORE_DDL)


def _words(kind: str) -> str:
    """CreateFunctionStmt -> CREATE FUNCTION."""
    if kind == "CreateStmt":
        return "CREATE TABLE"
    inner = kind.removesuffix("Stmt")
    return "".join(f" {each}" if each.isupper() else each for each in inner).strip().upper()


def _schemas_of(fields: Tree) -> Iterator[str]:
    """The first parts of the dotted names in a statement about objects."""
    for key in ("objects", "funcname", "defnames", "typeName", "object", "domainname"):
        value = fields.get(key, [])
        for each in value if isinstance(value, list) else [value]:
            parts = each.get("List", {}).get("items") if "List" in each else value
            if isinstance(parts, list) and parts and "String" in parts[0]:
                yield parts[0]["String"].get("sval", "")
