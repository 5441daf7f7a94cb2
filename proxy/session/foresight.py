"""What would the proxy do with a statement? Foreseen from its text alone. Pure.

For EXPLAIN POOLING and for `pins: refuse`. What is done in the end goes by what the session itself
says afterwards, which knows of functions, errors and rollbacks.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from proxy.relay import Leaves
from proxy.session.following import hides_names
from proxy.session.settings import quote_text
from proxy.sql import Effect, Facts, GrammarError, Touch, lex, parse, read_facts

PLAIN = "plain"
REPLAYED = "replayed"
PINNED = "pinned"
_STRICTEST_LAST = (PLAIN, REPLAYED, PINNED)


class Foreseen(NamedTuple):
    """What is done with one statement: plain, replayed or pinned; and why."""

    pooling: str
    reason: str


_FORESEEN = {
    Touch.SETTING: Foreseen(REPLAYED, "settings follow the client"),
    Touch.LOCAL_SETTING: Foreseen(PLAIN, "the setting ends with its transaction"),
    Touch.ROLE: Foreseen(REPLAYED, "the role follows the client"),
    Touch.PREPARE: Foreseen(REPLAYED, "prepared statements follow the client"),
    Touch.EXECUTE: Foreseen(REPLAYED, "prepared statements follow the client"),
    Touch.DEALLOCATE: Foreseen(REPLAYED, "prepared statements follow the client"),
    Touch.DISCARD: Foreseen(REPLAYED, "what it ends is ended for this client"),
    Touch.LISTEN: Foreseen(REPLAYED, "the proxy listens for the client"),
    Touch.UNLISTEN: Foreseen(REPLAYED, "the proxy listens for the client"),
    Touch.NOTIFY: Foreseen(PLAIN, "a notification is sent when its transaction commits"),
    Touch.LOAD: Foreseen(PINNED, "loaded library"),
    Touch.TEMPORARY: Foreseen(PINNED, "temporary object"),
    Touch.CURSOR: Foreseen(PLAIN, "the cursor ends with its transaction"),
    Touch.HELD_CURSOR: Foreseen(PINNED, "held cursor"),
    Touch.ADVISORY_LOCK: Foreseen(PINNED, "session advisory lock"),
    Touch.SEQUENCE: Foreseen(
        PLAIN, "for currval() it keeps its server connection as long as nobody needs that"
    ),
    Touch.SEED: Foreseen(PLAIN, "the seed lasts for its transaction"),
    Touch.SNAPSHOT: Foreseen(PLAIN, "an exported snapshot ends with its transaction"),
    Touch.TWO_PHASE: Foreseen(PLAIN, "a prepared transaction belongs to no session"),
}
_ASKED = Foreseen(REPLAYED, "it uses a function that may leave something: the session is asked")
_ASKED_FOR = Leaves.SETTINGS | Leaves.PINS | Leaves.STATEMENTS | Leaves.CHANNELS
_OF_SOME_NAME = Effect(Touch.SETTING)
_ENDS_IT = {
    Touch.TEMPORARY: re.compile(rb"\bon\s+commit\s+drop\b|^\s*drop\b", re.IGNORECASE),
    Touch.ADVISORY_LOCK: re.compile(rb"^(?!.*pg_(try_)?advisory_lock)", re.IGNORECASE | re.DOTALL),
}


def calls_pattern(functions: Iterable[str]) -> re.Pattern[bytes] | None:
    """What finds a call of one of these functions in a text; None without any."""
    names = [re.escape(name.encode()) for name in functions]
    if not names:
        return None
    return re.compile(rb"\b(?:" + rb"|".join(names) + rb")\s*\(", re.IGNORECASE)


def foresee(text: bytes, calls: re.Pattern[bytes] | None, suspected: Leaves) -> list[Foreseen]:
    """Say for each statement of a text what is done with it.

    text: up to its first NUL. calls: finds session functions. suspected: what others that it calls
    may leave.
    """
    text = text.partition(b"\0")[0]
    try:
        statements = [read_facts(tree) for tree in parse(text)]
    except GrammarError as error:
        return [Foreseen(PLAIN, f"it cannot be read: {error}")]
    return [_foresee_one(facts, text, calls, suspected) for facts in statements]


def pin_foreseen(text: bytes, calls: re.Pattern[bytes] | None, suspected: Leaves) -> str | None:
    """Give the reason for which a text would pin its client, None if it would not."""
    foreseen = foresee(text, calls, suspected)
    return next((each.reason for each in foreseen if each.pooling == PINNED), None)


def read_channels(text: bytes) -> tuple[frozenset[str], bool]:
    """Give the channels that a text would LISTEN to, and whether it would UNLISTEN to any."""
    try:
        statements = [read_facts(tree) for tree in parse(text.partition(b"\0")[0])]
    except GrammarError:
        return frozenset(), False
    effects = [effect for facts in statements for effect in facts.effects]
    listened = frozenset(effect.subject for effect in effects if effect.touch is Touch.LISTEN)
    return listened, any(effect.touch is Touch.UNLISTEN for effect in effects)


def _foresee_one(
    facts: Facts, text: bytes, calls: re.Pattern[bytes] | None, suspected: Leaves
) -> Foreseen:
    found = [
        _FORESEEN[effect.touch]
        for effect in facts.effects
        if (ends := _ENDS_IT.get(effect.touch)) is None or not ends.search(text)
    ]
    is_hidden = any(effect == _OF_SOME_NAME for effect in facts.effects) and hides_names(text)
    if suspected & _ASKED_FOR:
        found.append(_ASKED)
    is_hidden = is_hidden or Leaves.HIDDEN in suspected
    if is_hidden or (calls is not None and calls.search(text)):
        found.append(Foreseen(PINNED, "session function"))
    if not found:
        return Foreseen(PLAIN, "it leaves nothing in the session")
    strictest = max(found, key=lambda each: _STRICTEST_LAST.index(each.pooling))
    reasons = dict.fromkeys(each.reason for each in found if each.pooling == strictest.pooling)
    return Foreseen(strictest.pooling, "; ".join(reasons))


_PREFIX = re.compile(rb"^\s*explain\s+pooling\b", re.IGNORECASE)


def explained(text: bytes) -> bytes:
    """Cut the statement out of EXPLAIN POOLING."""
    return _PREFIX.sub(b"", text.partition(b"\0")[0]).strip()


def write_explanation(
    text: bytes,
    calls: re.Pattern[bytes] | None,
    suspected: Leaves,
    target_of: Callable[[bytes], tuple[str, str]],
) -> bytes:
    """Write SQL that returns what EXPLAIN POOLING of this text is to say.

    It takes the parameters that the text takes. target_of: where a text would be sent, and why.
    """
    target = target_of(text)
    rows = foresee(text, calls, suspected) or [Foreseen(PLAIN, "it is empty")]
    values = ", ".join(
        "(" + ", ".join(quote_text(each) + "::text" for each in (*row, *target)) + ")"
        for row in rows
    )
    sql = f"SELECT * FROM (VALUES {values}) AS pooling (pooling, reason, target, target_reason)"  # noqa: S608
    return sql.encode("utf-8", "replace") + _take_parameters(text)


def _take_parameters(text: bytes) -> bytes:
    """Write a condition that is true, and takes the parameters of the text; b"" without any.

    A query gives them their types, and is never run. Of anything else they are taken as text, where
    the client does not say what they are.
    """
    try:
        trees = list(parse(text))
    except GrammarError:
        return b""
    most = max(_parameters(trees), default=0)
    if not most:
        return b""
    facts = read_facts(trees[0])
    if (
        len(trees) == 1
        and facts.kind == "SELECT"
        and not (facts.changes or facts.row_locks or facts.effects)
    ):
        (start, end) = lex(text).spans[0]
        query = text[start:end].rstrip(b"; \t\r\n")
        return b" WHERE NOT EXISTS (SELECT FROM (" + query + b"\n) AS statement WHERE false)"
    taken = " AND ".join(f"(${n}::text IS NULL) IS NOT NULL" for n in range(1, most + 1))
    return f" WHERE {taken}".encode()


def _parameters(trees: Iterable[object]) -> Iterator[int]:
    """The numbers of all parameters, $1 and so on."""
    waiting = list(trees)
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            waiting += node.values()
            if isinstance(reference := node.get("ParamRef"), dict):
                yield reference.get("number", 0)
