"""What all sections of the configuration have in common, and the small types they share.

A section is a mapping with fixed keys. It is frozen, refuses keys it does not know, and an empty
one (`limits:` with every line below it commented out) means its defaults.
"""

import ipaddress
import re
import ssl
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys and list indices from the root."""


class Section(BaseModel):
    """A mapping with fixed keys, frozen once read."""

    # Input is hidden because pydantic would print it, and it may be a password.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, given: Any) -> Any:
        if given is None:
            return {}
        if isinstance(given, dict):
            # An unknown key stays even when it is empty, so that it is refused.
            return {
                key: each
                for key, each in given.items()
                if each is not None or key not in cls.model_fields
            }
        return given


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    """Resolve a relative path against the folder of the configuration file, when there is one."""
    folder = (info.context or {}).get("folder")
    return path if folder is None else Path(folder) / path


def _refuse_urls(host: str) -> str:
    if not host or "://" in host or any(letter.isspace() for letter in host):
        raise PydanticCustomError(
            "refused",
            "not a host; write a name or an address, or a folder that starts with / for a "
            "Unix socket",
        )
    name, colon, port = host.rpartition(":")
    if colon and ":" not in name and port.isdigit():
        raise PydanticCustomError("refused", "a port does not belong here; write it under port")
    if re.fullmatch("[0-9.]+", host) and not _is_address(host):
        # A resolver takes 5 for 0.0.0.5; a name such as db.1 may well be known to it.
        raise PydanticCustomError(
            "refused", "neither a name nor a whole address; write one such as 127.0.0.1"
        )
    return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refuse_bad_addresses(written: str) -> str:
    for each in filter(None, (each.strip() for each in written.split(","))):
        _refuse_urls(each)
    return written


def _refuse_no_mode(written: str) -> str:
    if not re.fullmatch(r"0?[0-7]{3}", written):
        raise PydanticCustomError("expected", "expected permissions such as 0770")
    return written


def _refuse_no_network(written: str) -> str:
    try:
        ipaddress.ip_network(written)
    except ValueError:
        raise PydanticCustomError(
            "refused",
            "not a network; write an address such as 10.0.0.7, or a network such as 10.0.0.0/24 "
            "or fd00::/64 with no bit set behind its prefix",
        ) from None
    return written


def _refuse_bad_ciphers(ciphers: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(ciphers)
    except ssl.SSLError:
        raise PydanticCustomError(
            "refused",
            "no cipher of this list is known; write one as OpenSSL takes it, such as "
            "HIGH:!aNULL, which says nothing about TLS 1.3",
        ) from None
    return ciphers


FilePath = Annotated[Path, AfterValidator(_beside_the_file)]
"""A path; a relative one is taken from the folder of the configuration file."""

Host = Annotated[str, AfterValidator(_refuse_urls)]
"""A host name, an address, or a folder starting with `/` that holds a Unix socket."""

Addresses = Annotated[str, AfterValidator(_refuse_bad_addresses)]
"""Names or addresses to listen on, separated by commas; `*` is all of them."""

FileMode = Annotated[str, AfterValidator(_refuse_no_mode)]
"""Permissions in octal."""

ListenPort = Annotated[int, Field(ge=0, le=65535)]
"""A port to listen on; 0 lets the kernel choose, and the `ready` line names it."""

Port = Annotated[int, Field(ge=1, le=65535)]
"""A port to connect to."""

# The relay keeps counts in C integers.
_MOST = (1 << 31) - 1

Count = Annotated[int, Field(ge=0, le=_MOST)]
"""A whole number, 0 or more."""

Network = Annotated[str, AfterValidator(_refuse_no_network)]
"""Addresses, by one of them or in CIDR notation."""

PoolSize = Annotated[int, Field(ge=1, le=_MOST)]
"""A number of server connections, 1 or more."""

PoolMode = Literal["session", "transaction", "statement"]
"""When a client gives its server connection back."""

PinPolicy = Literal["allow", "refuse"]
"""Whether a client may keep its server connection for what it leaves in the session."""

ServerReset = Literal["smart", "always", "never"]
"""What is undone when a server connection goes back."""

TlsMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
"""How much TLS is asked for, with the meaning the words have in libpq and PgBouncer."""

TlsVersion = Literal["TLSv1.2", "TLSv1.3"]
"""A version of TLS; what came before 1.2 is not spoken (RFC 8996)."""

Ciphers = Annotated[str, AfterValidator(_refuse_bad_ciphers)]
"""OpenSSL's list of ciphers for TLS 1.2; those of TLS 1.3 are not chosen by it."""
