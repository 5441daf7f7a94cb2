"""SASLprep as PostgreSQL does it, so that both sides derive keys from the same bytes.

PostgreSQL departs from RFC 4013 in three points, and a proxy that followed the RFC instead would
refuse passwords that PostgreSQL accepts: a password that cannot be prepared (not UTF-8, prohibited
or unassigned characters, a wrong mixture of directions, nothing left) is used as it is; ASCII is
never touched, control characters included; and what is prohibited is looked for before
normalization, not after.

Source: PostgreSQL, src/common/saslprep.c; RFC 3454 (tables); RFC 4013.
"""

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_a1,  # unassigned in Unicode 3.2
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepare_password(password: str) -> bytes:
    """Give the bytes that SCRAM derives its keys from.

    password: text with `surrogateescape` for bytes that were not UTF-8.
    """
    if password.isascii():
        return password.encode("ascii")
    try:
        password.encode("utf-8")
    except UnicodeEncodeError:
        return password.encode("utf-8", "surrogateescape")
    prepared = _prepare(password)
    return (password if prepared is None else prepared).encode("utf-8")


def _prepare(text: str) -> str | None:
    # U+200B stands in both tables of RFC 3454; PostgreSQL looks at the spaces first.
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in text
        if stringprep.in_table_c12(char) or not stringprep.in_table_b1(char)
    )
    if not mapped or not _is_allowed(mapped):
        return None
    return unicodedata.normalize("NFKC", mapped)


def _is_allowed(text: str) -> bool:
    if any(is_prohibited(char) for char in text for is_prohibited in _PROHIBITED):
        return False
    if not any(map(stringprep.in_table_d1, text)):
        return True
    # RFC 3454, section 6: with right-to-left characters, one at each end and no left-to-right.
    return (
        stringprep.in_table_d1(text[0])
        and stringprep.in_table_d1(text[-1])
        and not any(map(stringprep.in_table_d2, text))
    )
