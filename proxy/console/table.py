"""What a console command answers with: columns of a type, and rows. Pure.

Values are Python's and are written as the client asked: in text, or in PostgreSQL's binary format,
which some drivers (asyncpg) ask for whatever the type.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from proxy.errors import ClientError, ProxyBug

Value = str | int | float | bool | None
Row = Sequence[Value]


@dataclass(frozen=True, slots=True)
class Type:
    """A type of PostgreSQL's. size: typlen, -1 where it varies. binary: writes a value."""

    oid: int
    size: int
    binary: Callable[[Value], bytes]


def _text(value: Value) -> bytes:
    return written(value).encode("utf-8", "surrogateescape")


def _int4(value: Value) -> bytes:
    # Such as a lifetime of a century in seconds: for ever is as good.
    return struct.pack("!i", min(int(value or 0), (1 << 31) - 1))


def _int8(value: Value) -> bytes:
    return struct.pack("!q", value)


def _float8(value: Value) -> bytes:
    return struct.pack("!d", value)


def _numeric(value: Value) -> bytes:
    """A whole number as numeric: digits to the base 10000, the highest first.

    Source: PostgreSQL, `numeric_send`.
    """
    if not isinstance(value, int):
        raise ProxyBug(f"{value!r} is no whole number")
    digits: list[int] = []
    rest = abs(value)
    while rest:
        rest, digit = divmod(rest, 10_000)
        digits.insert(0, digit)
    weight = len(digits) - 1 if digits else 0
    sign = 0x4000 if value < 0 else 0
    return struct.pack(f"!hhHh{len(digits)}h", len(digits), weight, sign, 0, *digits)


TEXT = Type(25, -1, _text)
INT4 = Type(23, 4, _int4)
INT8 = Type(20, 8, _int8)
FLOAT8 = Type(701, 8, _float8)
NUMERIC = Type(1700, -1, _numeric)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an answer."""

    name: str
    type: Type


def columns(types: Mapping[str, Type] | None = None, /, *names: str) -> tuple[Column, ...]:
    """Columns of these names, TEXT where `types` does not say otherwise."""
    return tuple(Column(name, (types or {}).get(name, TEXT)) for name in names)


def written(value: Value) -> str:
    """A value in PostgreSQL's text format."""
    if isinstance(value, bool):
        return "t" if value else "f"
    return repr(value) if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has to say.

    tag: of CommandComplete. rows: read once. notice, detail: of a NoticeResponse ahead of it.
    """

    tag: str
    columns: tuple[Column, ...] = ()
    rows: Iterable[Row] = ()
    notice: str | None = None
    detail: str | None = None


# --- messages ----------------------------------------------------------------------------------
# Source: PostgreSQL documentation, "Message Formats".


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def parameter_description(oids: Sequence[int]) -> bytes:
    """ParameterDescription."""
    return _message(b"t", struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def row_description(shown: Sequence[Column], formats: Sequence[int] = ()) -> bytes:
    """RowDescription; NoData for a command without columns."""
    if not shown:
        return _message(b"n", b"")
    body = struct.pack("!h", len(shown))
    for column, chosen in zip(shown, formats_of(shown, formats), strict=True):
        body += column.name.encode() + b"\0"
        body += struct.pack("!ihihih", 0, 0, column.type.oid, column.type.size, -1, chosen)
    return _message(b"T", body)


def data_row(shown: Sequence[Column], formats: Sequence[int], row: Row) -> bytes:
    """DataRow. formats: 0 for text, 1 for binary, one for each column."""
    pieces = [struct.pack("!h", len(shown))]
    for column, chosen, value in zip(shown, formats, row, strict=True):
        if value is None:
            pieces.append(b"\xff\xff\xff\xff")
            continue
        octets = column.type.binary(value) if chosen else _text(value)
        pieces.append(struct.pack("!i", len(octets)) + octets)
    return _message(b"D", b"".join(pieces))


def formats_of(shown: Sequence[Column], formats: Sequence[int]) -> list[int]:
    """A format for each column from those in a Bind: none for all text, one for all, or each.

    Raises ClientError (08P01).
    """
    if any(chosen not in (0, 1) for chosen in formats):
        raise ClientError("22023", "unsupported format code")
    if len(formats) == len(shown):
        return list(formats)
    if len(formats) > 1:
        raise ClientError(
            "08P01", f"{len(formats)} result formats were given for {len(shown)} columns"
        )
    return list(formats or (0,)) * len(shown)


PARSE_COMPLETE = _message(b"1", b"")
BIND_COMPLETE = _message(b"2", b"")
CLOSE_COMPLETE = _message(b"3", b"")
PORTAL_SUSPENDED = _message(b"s", b"")
EMPTY_QUERY_RESPONSE = _message(b"I", b"")
