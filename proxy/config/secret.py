"""Text that must not be shown: passwords and verifiers.

A `Secret` is a str and can be compared, encoded and sent like one. Its repr hides it, so it stays
out of tracebacks, of the repr of the model that holds it, and of `%r`; a model that is dumped
writes asterisks in its place. `str(secret)` is the plain text, for the code that has to send it.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_HIDDEN = "********"

_MD5 = re.compile(r"md5[0-9a-f]{32}")
_VERIFIER = re.compile(
    r"SCRAM-SHA-256\$[1-9][0-9]{0,9}:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}="
)


class Secret(str):
    """A password or verifier, as text whose repr does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Secret({_HIDDEN})"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate as text, keep as Secret, and dump as asterisks."""
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda _secret: _HIDDEN, return_schema=core_schema.str_schema()
            ),
        )


def is_hashed(secret: Secret) -> bool:
    """Whether it is an md5 hash or a verifier, and no plain password."""
    return secret.startswith("SCRAM-SHA-256$") or _MD5.fullmatch(secret) is not None


def refuse_damaged_verifier(secret: Secret) -> Secret:
    """Refuse what begins as a SCRAM verifier and is none: it would pass for a plain password.

    Raises PydanticCustomError. Source: PostgreSQL documentation, "pg_authid".
    """
    if secret.startswith("SCRAM-SHA-256$") and _VERIFIER.fullmatch(secret) is None:
        raise PydanticCustomError(
            "refused",
            "a damaged SCRAM verifier; write SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey "
            "as pg_authid has it",
        )
    return secret


ClientSecret = Annotated[Secret, AfterValidator(refuse_damaged_verifier)]
"""A client's secret: a plain password, an md5 hash or a SCRAM verifier."""
