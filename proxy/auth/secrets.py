"""What is kept about a user to prove who they are, in the three forms PostgreSQL knows.

A secret is a plain password, an md5 hash, or a SCRAM-SHA-256 verifier; its text says which. This
module reads that text. It does not know where the text came from (configuration, `userlist.txt`,
`auth_query`) nor what a login does with it. While a password is being changed, a secret carries the
one before as `old`, which is as valid (`with_old`). No secret shows in a repr, an error message or
the chain of exceptions behind one.

Source: PostgreSQL documentation, "pg_authid" (forms of `rolpassword`); PgBouncer documentation,
"Authentication file format".
"""

import re
from dataclasses import dataclass, field, replace

from proxy.auth.scram_messages import MAX_ITERATIONS, MAX_SALT_BYTES, decode_base64

_MD5_FORM = re.compile(r"md5[0-9a-f]{32}")
_VERIFIER_FORM = re.compile(
    r"SCRAM-SHA-256\$([1-9][0-9]{0,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)"
)
_VERIFIER_PREFIX = "SCRAM-SHA-256$"
KEY_BYTES = 32


class SecretError(ValueError):
    """A secret or user name that cannot be used. Says why, never quotes the secret."""


@dataclass(frozen=True, slots=True)
class PlainSecret:
    """A password as typed. Serves every method, and logs in to servers.

    password: text; bytes that were not UTF-8 stand in it as by the `surrogateescape` error
    handler. An empty password never logs anybody in, as in PostgreSQL and PgBouncer.
    """

    password: str = field(repr=False)
    old: "PlainSecret | None" = None


@dataclass(frozen=True, slots=True)
class Md5Secret:
    """`md5` and 32 hexadecimal digits: the hash of password and user name together.

    Serves methods password and md5; cannot serve SCRAM.
    """

    text: str = field(repr=False)
    old: "Md5Secret | None" = None


@dataclass(frozen=True, slots=True)
class ScramVerifier:
    """What is needed to check a SCRAM-SHA-256 proof, and not enough to make one.

    iterations: PBKDF2 rounds. salt: bytes. stored_key, server_key: 32 bytes each.
    old: has the same salt and iterations, because a client is told of one salt alone.
    Source: RFC 5802, section 3 (StoredKey, ServerKey).
    """

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    old: "ScramVerifier | None" = None


Secret = PlainSecret | Md5Secret | ScramVerifier


def parse_secret(text: str) -> Secret:
    """Tell which form a secret has and read it.

    As in PostgreSQL, `md5` counts as a hash only before exactly 32 lower-case hexadecimal digits;
    anything else is a plain password. Unlike there, a text that begins as a SCRAM verifier must be
    one: silently taking a damaged verifier for a password would lock its user out with no trace.
    Raises SecretError.
    """
    if text.startswith(_VERIFIER_PREFIX):
        return _parse_verifier(text)
    if _MD5_FORM.fullmatch(text):
        return Md5Secret(text)
    if "\0" in text:
        raise SecretError("a password cannot hold a NUL character: the protocol ends it there")
    encoded = encode_text(text)
    if encoded is None:
        raise SecretError("the password holds a lone surrogate, which no client can send")
    # A round trip, so that two spellings of the same bytes are one password.
    return PlainSecret(encoded.decode("utf-8", "surrogateescape"))


def with_old(secret: Secret, old: Secret) -> Secret:
    """Give the secret that either of the two is the right answer to.

    An empty password is none. Raises SecretError when no conversation could serve both.
    """
    if isinstance(secret, PlainSecret) and isinstance(old, PlainSecret):
        return replace(secret, old=old) if old.password else secret
    if isinstance(secret, Md5Secret) and isinstance(old, Md5Secret):
        return replace(secret, old=old)
    if isinstance(secret, ScramVerifier) and isinstance(old, ScramVerifier):
        if (secret.salt, secret.iterations) != (old.salt, old.iterations):
            raise SecretError("two SCRAM verifiers of one user differ in salt or iterations")
        return replace(secret, old=old)
    raise SecretError("a password and the one before are not of the same form")


def encode_text(text: str) -> bytes | None:
    """Give the bytes a user name or password has on the wire, or None where it can have none."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None


def _parse_verifier(text: str) -> ScramVerifier:
    found = _VERIFIER_FORM.fullmatch(text)
    if found is None:
        raise SecretError(
            "the secret begins as a SCRAM verifier but is not of the form"
            " SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>"
        )
    iterations = int(found[1])
    if iterations > MAX_ITERATIONS:
        raise SecretError(
            f"the SCRAM verifier asks for {iterations} iterations; at most {MAX_ITERATIONS}"
            " are accepted"
        )
    salt, stored_key, server_key = (
        decode_base64(part.encode("ascii")) for part in found.groups()[1:]
    )
    if salt is None or not 0 < len(salt) <= MAX_SALT_BYTES:
        raise SecretError(f"the SCRAM verifier's salt is not base64 of 1 to {MAX_SALT_BYTES} bytes")
    if stored_key is None or len(stored_key) != KEY_BYTES:
        raise SecretError(f"the SCRAM verifier's StoredKey is not base64 of {KEY_BYTES} bytes")
    if server_key is None or len(server_key) != KEY_BYTES:
        raise SecretError(f"the SCRAM verifier's ServerKey is not base64 of {KEY_BYTES} bytes")
    return ScramVerifier(iterations, salt, stored_key, server_key)
