"""The Authentication messages: their codes, and the bodies we send.

A body here is what follows the type byte `R` and the length: a four-byte code, then what belongs
to it. Both directions of login read from this page.

Source: PostgreSQL documentation, "Message Formats", Authentication*.
"""

from collections.abc import Iterable
from enum import IntEnum


class Code(IntEnum):
    """What the first four bytes of an Authentication message ask for."""

    OK = 0
    KERBEROS_V5 = 2
    CLEARTEXT_PASSWORD = 3
    MD5_PASSWORD = 5
    SCM_CREDENTIAL = 6
    GSS = 7
    GSS_CONTINUE = 8
    SSPI = 9
    SASL = 10
    SASL_CONTINUE = 11
    SASL_FINAL = 12


def _body(code: Code, rest: bytes = b"") -> bytes:
    return int(code).to_bytes(4) + rest


OK_BODY = _body(Code.OK)
CLEARTEXT_BODY = _body(Code.CLEARTEXT_PASSWORD)
MD5_PREFIX = _body(Code.MD5_PASSWORD)
SASL_CONTINUE_PREFIX = _body(Code.SASL_CONTINUE)
SASL_FINAL_PREFIX = _body(Code.SASL_FINAL)

MD5_SALT_BYTES = 4


def sasl_body(mechanisms: Iterable[bytes]) -> bytes:
    """Offer these mechanisms; the list is ended by an empty one."""
    return _body(Code.SASL, b"".join(each + b"\0" for each in mechanisms) + b"\0")
