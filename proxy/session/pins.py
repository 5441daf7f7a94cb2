"""What of a session cannot be carried to another, and pins a client to its server. Pure.

Asked of the session itself, after a transaction whose text speaks of such things: so it does not
matter how they were made, and it ends when they are gone.
"""

from collections.abc import Iterable

# Reason, and the condition under which it holds for the session that is asked.
_PINS = {
    "temporary object": (
        # Of any kind: also types, functions and statistics.
        "EXISTS (SELECT FROM pg_catalog.pg_depend"
        " WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass"
        " AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())"
    ),
    "session advisory lock": (
        "EXISTS (SELECT FROM pg_catalog.pg_locks"
        " WHERE locktype OPERATOR(pg_catalog.=) 'advisory'"
        " AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())"
    ),
    "held cursor": "EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)",
}
UNPORTABLE = "prepared statement"
"""The reason when statements of PREPARE cannot be made again elsewhere."""

PINS = (*_PINS, UNPORTABLE, "loaded library", "session function")
"""The reasons there are."""

# In place of a setting's name.
_MARK = ""


_VALUES = ", ".join(f"('{reason}', {condition})" for reason, condition in _PINS.items())
PIN_QUESTION = f"SELECT '{_MARK}', pin FROM (VALUES {_VALUES}) AS pins (pin, there) WHERE there"  # noqa: S608
"""SQL whose rows are a mark and a reason."""


def take_pins(told: Iterable[tuple[str, str | None]]) -> tuple[str, ...]:
    """Pick the reasons out of rows of names and values."""
    return tuple(value for name, value in told if name == _MARK and value in PINS)
