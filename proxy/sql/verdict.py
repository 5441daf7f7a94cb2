"""The judgement: does a text only read, and if it does not, why not?

Only reads means: it can run on a replica, and nobody can tell from the answer that it did. In doubt
it does not. What is known of functions is handed in.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from proxy.sql.catalogue import Catalogue
from proxy.sql.facts import Effect, Facts, Name, Touch, Transaction
from proxy.sql.known import (
    HARMLESS,
    HARMLESS_OF_EXTENSIONS,
    NODE_SETTINGS,
    NODE_VIEW_PREFIXES,
    NODE_VIEWS,
    OF_THE_NODE,
    OF_THE_NODE_PREFIXES,
    TOUCHING_FUNCTIONS,
)

# Effects that stay within the transaction and do no harm on a replica.
_HARMLESS_TOUCHES = frozenset({Touch.CURSOR})

_TOUCH_REASONS = {
    Touch.SETTING: "changes a setting of the session",
    Touch.LOCAL_SETTING: "changes a setting of the transaction",
    Touch.ROLE: "changes the role of the session",
    Touch.PREPARE: "prepares a statement",
    Touch.EXECUTE: "executes a prepared statement, which is not seen from here",
    Touch.DEALLOCATE: "gives up prepared statements",
    Touch.DISCARD: "discards state of the session",
    Touch.LISTEN: "listens",
    Touch.UNLISTEN: "ends listening",
    Touch.NOTIFY: "sends a notification",
    Touch.LOAD: "loads a library",
    Touch.TEMPORARY: "touches a temporary object",
    Touch.HELD_CURSOR: "leaves a cursor open behind the transaction (WITH HOLD)",
    Touch.ADVISORY_LOCK: "takes or releases an advisory lock of the session",
    Touch.SEQUENCE: "uses a sequence",
    Touch.SEED: "sets the seed of random()",
    Touch.SNAPSHOT: "exports or imports a snapshot",
    Touch.TWO_PHASE: "is part of a two-phase commit",
}

# Effects whose particulars are constants, which a key does not have.
_NEEDS_TEXT = frozenset(
    {Touch.SETTING, Touch.LOCAL_SETTING, Touch.ROLE, Touch.NOTIFY, Touch.LOAD}
    | {Touch.ADVISORY_LOCK, Touch.SEQUENCE, Touch.SEED, Touch.SNAPSHOT, Touch.TWO_PHASE}
    | {Touch.PREPARE, Touch.EXECUTE}
)

# Statements that read, if nothing in them does otherwise.
_READING_KINDS = frozenset(
    {"SELECT", "SHOW", "EXPLAIN", "COPY", "DECLARE CURSOR", "FETCH", "CLOSE"}
)

# Effects that outlive the session, or may: EXECUTE runs what is not seen from here.
_LASTING_TOUCHES = frozenset({Touch.SEQUENCE, Touch.NOTIFY, Touch.TWO_PHASE, Touch.EXECUTE})

# Reasons that are kept; a text may have thousands.
_MAX_REASONS = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a text would do.

    reads_by_default: it only reads if transactions do that unless they say otherwise.
    reasons: sentences without a subject, why it does not only read; none when it does.
    may_write: whether it may leave anything behind that outlives its session. What reads only does
    not; nor does much that is no read, as each node has its own answer to it.
    statements: the facts of each; none when the text could not be read.
    effects: all on the session, in order. needs_text: their particulars are constants.
    """

    reads_only: bool
    reasons: tuple[str, ...] = ()
    may_write: bool = False
    statements: tuple[Facts, ...] = ()
    effects: tuple[Effect, ...] = ()
    needs_text: bool = False
    reads_by_default: bool = False

    @property
    def ends_transaction(self) -> bool:
        """Whether it commits a transaction that is open already, or prepares it for that."""
        return any(
            facts.transaction in (Transaction.COMMIT, Transaction.PREPARE)
            for facts in self.statements
        )


def judge(statements: Sequence[Facts], catalogue: Catalogue) -> Verdict:
    """Give the verdict on a text; the strictest of its statements decides."""
    reasons: dict[str, None] = {}
    reads_by_default = True
    for facts in statements:
        found = dict.fromkeys(reason for find in _REASONS for reason in find(facts, catalogue))
        reasons.update(found)
        reads_by_default = reads_by_default and (not found or _begins_openly(facts))
    kept = tuple(reasons)
    if len(kept) > _MAX_REASONS:
        kept = (*kept[:_MAX_REASONS], f"has {len(kept) - _MAX_REASONS} more reasons")
    effects = tuple(dict.fromkeys(effect for facts in statements for effect in facts.effects))
    return Verdict(
        reads_only=not kept,
        reasons=kept,
        may_write=bool(kept) and any(_may_write(facts, catalogue) for facts in statements),
        statements=tuple(statements),
        effects=effects,
        needs_text=any(effect.touch in _NEEDS_TEXT for effect in effects),
        reads_by_default=reads_by_default,
    )


def _begins_openly(facts: Facts) -> bool:
    """Whether it is a BEGIN that does not say whether the transaction may write."""
    return (
        facts.transaction is Transaction.BEGIN
        and facts.read_only is None
        and not facts.serializable
    )


def unreadable(why: str) -> Verdict:
    """Give the verdict on a text of which nothing is known."""
    return Verdict(reads_only=False, reasons=(f"cannot be read: {why}",), may_write=True)


def _may_write(facts: Facts, catalogue: Catalogue) -> bool:
    """Whether a statement may change what is there once its session has gone."""
    touches = {effect.touch for effect in facts.effects}
    if facts.unknown or facts.changes or facts.is_ddl or touches & _LASTING_TOUCHES:
        return True
    if facts.copies == "from" or (facts.copies == "to" and not facts.copies_with_client):
        return True
    if facts.kind not in _READING_KINDS and not (facts.transaction or touches):
        return True
    # A view may call what writes.
    return any(_may_be_listed(name, catalogue.primary_relations) for name in facts.reads) or any(
        _may_call_write(function, arguments, catalogue) for function, arguments in facts.calls
    )


def _may_call_write(function: Name, arguments: int, catalogue: Catalogue) -> bool:
    if _may_be_listed(function, catalogue.writing_functions):
        return True
    if _is_listed(function, catalogue.read_only_functions) or _is_of_the_node(function):
        return False
    if function.name in TOUCHING_FUNCTIONS and function.schema in ("", "pg_catalog"):
        return TOUCHING_FUNCTIONS[function.name] in _LASTING_TOUCHES
    return not _is_harmless(function) and catalogue.volatility(function, arguments) in (None, "v")


# --- The rules: each yields its reasons against taking a statement for a read ---


def _find_kind(facts: Facts, _catalogue: Catalogue) -> Iterator[str]:
    for construct in sorted(facts.unknown):
        yield f"contains {construct}, which is not known here"
    # What changes or touches something says so below.
    if facts.kind not in _READING_KINDS and not (
        facts.transaction or facts.changes or facts.effects
    ):
        yield f"is {facts.kind}"


def _find_transaction(facts: Facts, _catalogue: Catalogue) -> Iterator[str]:
    if facts.transaction is Transaction.BEGIN and not facts.read_only:
        yield "begins a transaction that may write"
    elif facts.serializable:
        yield "begins a serializable transaction, which a replica does not offer"
    elif facts.chains:
        yield "begins another transaction (AND CHAIN)"


def _find_changes(facts: Facts, _catalogue: Catalogue) -> Iterator[str]:
    tables = ", ".join(str(name) for name in sorted(facts.writes)[:3])
    for change in sorted(facts.changes):
        yield f"does {change} ({tables})" if tables else f"does {change}"
    if facts.row_locks:
        yield "locks rows (FOR UPDATE, FOR SHARE)"
    if facts.copies == "to" and not facts.copies_with_client:
        yield "copies to a file or a program of the server"


def _find_effects(facts: Facts, _catalogue: Catalogue) -> Iterator[str]:
    for effect in facts.effects:
        if effect.touch in _HARMLESS_TOUCHES:
            continue
        subject = f": {effect.subject}" if effect.subject else ""
        yield f"{_TOUCH_REASONS[effect.touch]}{subject}"


def _find_functions(facts: Facts, catalogue: Catalogue) -> Iterator[str]:
    for function, arguments in sorted(facts.calls):
        reason = _against(function, arguments, catalogue)
        if reason is not None:
            yield reason


def _against(function: Name, arguments: int, catalogue: Catalogue) -> str | None:
    """Why a call of this function may be no read."""
    if _may_be_listed(function, catalogue.writing_functions):
        return f"calls {function}(), which is configured as writing"
    if _is_listed(function, catalogue.read_only_functions):
        return None
    if _is_of_the_node(function):
        return f"calls {function}(), which each node answers for itself"
    if _is_harmless(function):
        return None
    volatile = catalogue.volatility(function, arguments)
    if volatile is None:
        return f"calls {function}(), of which nothing is known"
    return f"calls {function}(), which is volatile" if volatile == "v" else None


def _is_of_the_node(function: Name) -> bool:
    return function.name in OF_THE_NODE or function.name.startswith(OF_THE_NODE_PREFIXES)


def _is_harmless(function: Name) -> bool:
    if function.name in HARMLESS_OF_EXTENSIONS:
        return True
    return function.name in HARMLESS and function.schema in ("", "pg_catalog")


def _is_listed(name: Name, listed: Collection[str]) -> bool:
    return name.name in listed or str(name) in listed


def _may_be_listed(name: Name, listed: Collection[str]) -> bool:
    """As above; and a name without a schema may be that of any schema."""
    if _is_listed(name, listed):
        return True
    return not name.schema and any(each.endswith(f".{name.name}") for each in listed)


def _find_views(facts: Facts, catalogue: Catalogue) -> Iterator[str]:
    for name in sorted(facts.reads):
        if _may_be_listed(name, catalogue.primary_relations):
            yield f"reads {name}, which a replica may not have as the primary has it"
        if name.schema not in ("", "pg_catalog"):
            continue
        if name.name in NODE_VIEWS or name.name.startswith(NODE_VIEW_PREFIXES):
            yield f"reads {name}, which each node answers for itself"


def _find_settings(facts: Facts, _catalogue: Catalogue) -> Iterator[str]:
    for name in sorted(facts.settings_read):
        if not name:
            yield "reads a setting that the text does not name"
        elif name in NODE_SETTINGS:
            yield f"reads {name}, which each node answers for itself"


_REASONS: tuple[Callable[[Facts, Catalogue], Iterator[str]], ...] = (
    _find_kind,
    _find_transaction,
    _find_changes,
    _find_effects,
    _find_functions,
    _find_views,
    _find_settings,
)
