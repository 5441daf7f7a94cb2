"""Durations and sizes as operators write them, and back again.

A duration is `250ms`, `5s`, `10m`, `1h`, `2d`, or a bare number of seconds as in PgBouncer. A size
is `512B`, `64KiB`, `10MiB`, `1GiB`, or a bare number of bytes. Everything inside the program is
float seconds and int bytes; text exists only at the edge. Called by the models and the reference.
"""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

# Milliseconds per unit: whole numbers, so that `0.1s` and `100ms` are the same float.
_MS_PER_UNIT = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES_PER_UNIT = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,9})?"
_DURATION = re.compile(rf"({_NUMBER})(?: ?(ms|s|m|h|d))?", re.ASCII)
_SIZE = re.compile(rf"({_NUMBER})(?: ?(B|KiB|MiB|GiB))?", re.ASCII)

# A century, and the largest number a C integer of the relay holds: beyond them timers and sums
# overflow, and nobody means it.
_MOST_SECONDS = 100 * 365 * 86_400
_MOST_BYTES = (1 << 62) - 1

DURATION_WORDS = "a duration such as 250ms, 5s, 10m, 1h or a number of seconds"
SIZE_WORDS = "a size such as 64KiB, 10MiB, 1GiB or a number of bytes"


def parse_duration(written: str | float) -> float:
    """Seconds of a duration as written.

    written: text with a unit (`ms`, `s`, `m`, `h`, `d`), or a number of seconds, as text or not.
    Raises ValueError for anything else, negative and infinite numbers included.
    """
    if isinstance(written, bool):
        raise ValueError(f"expected {DURATION_WORDS}")
    if isinstance(written, int | float):
        if not math.isfinite(written) or written < 0:
            raise ValueError(f"expected {DURATION_WORDS}")
        return float(written)
    match = _DURATION.fullmatch(written.strip())
    if match is None:
        raise ValueError(f"expected {DURATION_WORDS}")
    number, unit = match.groups()
    return float(number) if unit is None else float(number) * _MS_PER_UNIT[unit] / 1000


def format_duration(seconds: float) -> str:
    """Write seconds in the largest unit that leaves a whole number; `0` stays a bare 0.

    seconds: 0 or more. `parse_duration` of the result gives the same number, to the millisecond;
    finer ones are written as bare seconds.
    """
    if seconds == 0:
        return "0"
    milliseconds = round(seconds * 1000)
    if milliseconds / 1000 != seconds:
        return f"{seconds:.9f}".rstrip("0").rstrip(".")
    for unit in ("d", "h", "m", "s"):
        whole, rest = divmod(milliseconds, _MS_PER_UNIT[unit])
        if rest == 0:
            return f"{whole}{unit}"
    return f"{milliseconds}ms"


def parse_size(written: str | float) -> int:
    """Bytes of a size as written.

    written: text with a unit (`B`, `KiB`, `MiB`, `GiB`, powers of 1024), or a number of bytes.
    Raises ValueError for anything else, and for what is no whole number of bytes. `kB` and `MB`
    are refused because PostgreSQL and disk makers disagree about what they mean.
    """
    if isinstance(written, bool):
        raise ValueError(f"expected {SIZE_WORDS}")
    if isinstance(written, int | float):
        if not math.isfinite(written) or written < 0 or int(written) != written:
            raise ValueError(f"expected {SIZE_WORDS}")
        return int(written)
    match = _SIZE.fullmatch(written.strip())
    if match is None:
        raise ValueError(f"expected {SIZE_WORDS}")
    number, unit = match.groups()
    factor = 1 if unit is None else _BYTES_PER_UNIT[unit]
    if "." not in number:
        return int(number) * factor
    size = float(number) * factor
    if int(size) != size:
        raise ValueError(f"expected {SIZE_WORDS}")
    return int(size)


def format_size(size_bytes: int) -> str:
    """Write bytes in the largest unit that leaves a whole number; 0 stays a bare 0."""
    if size_bytes == 0:
        return "0"
    for unit in ("GiB", "MiB", "KiB"):
        whole, rest = divmod(size_bytes, _BYTES_PER_UNIT[unit])
        if rest == 0:
            return f"{whole}{unit}"
    return f"{size_bytes}B"


@dataclass(frozen=True, slots=True)
class Quantity:
    """Marks a field's type as a quantity, so that the reference can write it with its unit.

    name: `duration` or `size`.
    """

    name: str


def _duration_or_error(written: Any) -> float:
    try:
        return parse_duration(written)
    except (ValueError, AttributeError) as error:
        raise PydanticCustomError("expected", f"expected {DURATION_WORDS}") from error


def _size_or_error(written: Any) -> int:
    try:
        return parse_size(written)
    except (ValueError, AttributeError) as error:
        raise PydanticCustomError("expected", f"expected {SIZE_WORDS}") from error


_duration_schema = WithJsonSchema(
    {
        "anyOf": [
            {"type": "number", "minimum": 0},
            {"type": "string", "pattern": f"^{_NUMBER} ?(ms|s|m|h|d)?$"},
        ]
    }
)
_size_schema = WithJsonSchema(
    {
        "anyOf": [
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": f"^{_NUMBER} ?(B|KiB|MiB|GiB)?$"},
        ]
    }
)

Duration = Annotated[
    float,
    BeforeValidator(_duration_or_error),
    Field(le=_MOST_SECONDS),
    Quantity("duration"),
    _duration_schema,
]
"""Float seconds, 0 or more."""

PositiveDuration = Annotated[
    float,
    BeforeValidator(_duration_or_error),
    Field(gt=0, le=_MOST_SECONDS),
    Quantity("duration"),
    _duration_schema,
]
"""Float seconds, more than 0: for what cannot be switched off."""

Size = Annotated[
    int, BeforeValidator(_size_or_error), Field(le=_MOST_BYTES), Quantity("size"), _size_schema
]
"""Int bytes, 0 or more."""
