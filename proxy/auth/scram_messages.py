"""The grammar of SCRAM's four messages. Reads what a stranger sent and says what is wrong with it.

No keys and no randomness here. A value cannot hold a comma, so splitting at commas is the whole
parser; all sizes are bounded before anything is computed from them. Texts of errors name the rule
that was broken and never quote the peer's bytes, which may be a secret or an escape sequence.

Source: RFC 5802, section 7 (formal syntax); RFC 7677; PostgreSQL documentation, "SASL
Authentication".
"""

import binascii
import re
from typing import NamedTuple

from proxy.errors import PeerError

# PostgreSQL sends 24 characters, its clients up to 48. The limits keep a stranger from making us
# copy and hash much (PgBouncer CVE-2026-6665 was a long nonce).
MAX_NONCE_BYTES = 1024
MAX_SALT_BYTES = 1024
MAX_ITERATIONS = 1_000_000  # a quarter of a second of one core

BINDING_FLAG = b"p=tls-server-end-point"
"""The one type of channel binding that PostgreSQL has. Source: RFC 5929, section 4."""

_FLAGS = frozenset((b"n", b"y", BINDING_FLAG))

_PROOF_BYTES = 32
_UNSUPPORTED = "0A000"
_MAX_SALT_TEXT = (MAX_SALT_BYTES + 2) // 3 * 4

_PRINTABLE = re.compile(rb"[\x21-\x2b\x2d-\x7e]+")
_ANY_BINDING_FLAG = re.compile(rb"p=([A-Za-z0-9.-]+)")
_EXTENSION = re.compile(rb"[A-Za-z]=[^\x00,]+", re.DOTALL)
_COUNT = re.compile(rb"[1-9][0-9]{0,6}")


class ClientFirst(NamedTuple):
    """client-first-message. gs2_header: as sent, with both commas. bare: what gets signed."""

    gs2_header: bytes
    bare: bytes
    nonce: bytes

    @property
    def flag(self) -> bytes:
        """Of channel binding, its first letter: `n`, `y` or `p`."""
        return self.gs2_header[:1]


class ClientFinal(NamedTuple):
    """client-final-message. binding: value of `c=`, base64 as sent. proof: 32 bytes."""

    binding: bytes
    nonce: bytes
    proof: bytes
    without_proof: bytes


class ServerFirst(NamedTuple):
    """server-first-message. nonce: both halves. salt: decoded. iterations: 1 to a million."""

    nonce: bytes
    salt: bytes
    iterations: int


def encode_base64(raw: bytes) -> bytes:
    """Write base64 without line ends."""
    return binascii.b2a_base64(raw, newline=False)


def decode_base64(text: bytes) -> bytes | None:
    """Read base64, or None unless it is exactly what an encoder writes.

    Padding must be present, nothing may follow it and its spare bits must be zero.
    """
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
    return raw if binascii.b2a_base64(raw, newline=False) == text else None


def read_client_first(message: bytes) -> ClientFirst:
    """Read `gs2-header n=user,r=nonce` from a client. The user name is ignored, as in PostgreSQL.

    The flag for channel binding is one of those that exist; whether it may stand here is for the
    caller to say.
    Raises PeerError: 08P01 malformed, 0A000 authorization identity, mandatory extension, or another
    type of channel binding.
    """
    _refuse_empty_or_nul(message, "client-first-message")
    parts = message.split(b",")
    if len(parts) < 4:
        raise PeerError("malformed SCRAM client-first-message: attributes are missing")
    flag, authorization, user, nonce, *extensions = parts
    _check_binding_flag(flag)
    if authorization.startswith(b"a="):
        raise PeerError(
            "the client sent a SCRAM authorization identity, which is not supported", _UNSUPPORTED
        )
    if authorization:
        raise PeerError("malformed SCRAM client-first-message: no second comma after the flag")
    if user.startswith(b"m="):
        raise PeerError("the client requires a mandatory SCRAM extension", _UNSUPPORTED)
    if not user.startswith(b"n="):
        raise PeerError("malformed SCRAM client-first-message: attribute n expected")
    value = _read_nonce(nonce, "client-first-message")
    _check_extensions(extensions, "client-first-message")
    header_bytes = len(flag) + 2
    return ClientFirst(message[:header_bytes], message[header_bytes:], value)


def read_client_final(message: bytes) -> ClientFinal:
    """Read `c=binding,r=nonce,p=proof` from a client. Raises PeerError (08P01)."""
    _refuse_empty_or_nul(message, "client-final-message")
    parts = message.split(b",")
    if len(parts) < 3:
        raise PeerError("malformed SCRAM client-final-message: attributes are missing")
    binding, nonce, *extensions, proof = parts
    if not binding.startswith(b"c="):
        raise PeerError("malformed SCRAM client-final-message: attribute c expected")
    value = _read_nonce(nonce, "client-final-message")
    _check_extensions(extensions, "client-final-message")
    if not proof.startswith(b"p="):
        raise PeerError("malformed SCRAM client-final-message: attribute p expected at its end")
    raw_proof = decode_base64(proof[2:])
    if raw_proof is None or len(raw_proof) != _PROOF_BYTES:
        raise PeerError(
            f"malformed SCRAM client-final-message: proof is not base64 of {_PROOF_BYTES} bytes"
        )
    return ClientFinal(binding[2:], value, raw_proof, message[: -len(proof) - 1])


def read_server_first(message: bytes, our_nonce: bytes) -> ServerFirst:
    """Read `r=nonce,s=salt,i=iterations` from a server.

    Raises PeerError (08P01) when malformed, when a limit is passed, or when the nonce does not
    begin with ours and add something; 0A000 for a mandatory extension.
    """
    _refuse_empty_or_nul(message, "server-first-message")
    if message.startswith(b"m="):
        raise PeerError("the server requires a mandatory SCRAM extension", _UNSUPPORTED)
    parts = message.split(b",")
    if len(parts) < 3:
        raise PeerError("malformed SCRAM server-first-message: attributes are missing")
    nonce_part, salt_part, count_part, *extensions = parts
    nonce = _read_nonce(nonce_part, "server-first-message")
    if not nonce.startswith(our_nonce):
        raise PeerError("the server's SCRAM nonce does not begin with ours")
    if len(nonce) == len(our_nonce):
        raise PeerError("the server added nothing to the SCRAM nonce")
    salt = _read_salt(salt_part)
    iterations = _read_iterations(count_part)
    _check_extensions(extensions, "server-first-message")
    return ServerFirst(nonce, salt, iterations)


def read_server_final(message: bytes) -> bytes:
    """Read `v=signature` from a server and give the 32 bytes.

    Raises PeerError: 08P01 malformed, 28P01 when the server sent `e=` (it refuses the login).
    """
    _refuse_empty_or_nul(message, "server-final-message")
    verdict, *extensions = message.split(b",")
    if verdict.startswith(b"e="):
        raise PeerError("the server refused the SCRAM login" + _refusal(verdict[2:]), "28P01")
    if not verdict.startswith(b"v="):
        raise PeerError("malformed SCRAM server-final-message: attribute v expected")
    signature = decode_base64(verdict[2:])
    if signature is None or len(signature) != _PROOF_BYTES:
        raise PeerError(
            "malformed SCRAM server-final-message:"
            f" the server's signature is not base64 of {_PROOF_BYTES} bytes"
        )
    _check_extensions(extensions, "server-final-message")
    return signature


# RFC 5802, section 7, server-error-value. Only these words are repeated; another may be anything.
_SERVER_ERRORS = frozenset(
    b"invalid-encoding extensions-not-supported invalid-proof channel-bindings-dont-match"
    b" server-does-support-channel-binding channel-binding-not-supported"
    b" unsupported-channel-binding-type unknown-user invalid-username-encoding no-resources"
    b" other-error".split()
)


def _refusal(word: bytes) -> str:
    return f": {word.decode('ascii')}" if word in _SERVER_ERRORS else ""


def _check_binding_flag(flag: bytes) -> None:
    if flag in _FLAGS:
        return
    if _ANY_BINDING_FLAG.fullmatch(flag) is None:
        raise PeerError("malformed SCRAM client-first-message: unknown channel-binding flag")
    raise PeerError(
        "the client wants a type of SCRAM channel binding that is not supported;"
        " tls-server-end-point is",
        _UNSUPPORTED,
    )


def _refuse_empty_or_nul(message: bytes, name: str) -> None:
    if not message:
        raise PeerError(f"malformed SCRAM {name}: it is empty")
    if 0 in message:
        raise PeerError(f"malformed SCRAM {name}: it holds a NUL byte")


def _read_nonce(part: bytes, name: str) -> bytes:
    if not part.startswith(b"r="):
        raise PeerError(f"malformed SCRAM {name}: attribute r expected")
    if len(part) - 2 > MAX_NONCE_BYTES:
        raise PeerError(
            f"the nonce in the SCRAM {name} is {len(part) - 2} bytes long;"
            f" at most {MAX_NONCE_BYTES} are accepted"
        )
    if not _PRINTABLE.fullmatch(part, 2):
        raise PeerError(f"malformed SCRAM {name}: the nonce is empty or not printable ASCII")
    return part[2:]


def _read_salt(part: bytes) -> bytes:
    if not part.startswith(b"s="):
        raise PeerError("malformed SCRAM server-first-message: attribute s expected")
    if len(part) - 2 > _MAX_SALT_TEXT:
        raise PeerError(f"the server's SCRAM salt is longer than {MAX_SALT_BYTES} bytes")
    salt = decode_base64(part[2:])
    if not salt:
        raise PeerError("malformed SCRAM server-first-message: the salt is empty or not base64")
    if len(salt) > MAX_SALT_BYTES:
        raise PeerError(f"the server's SCRAM salt is longer than {MAX_SALT_BYTES} bytes")
    return salt


def _read_iterations(part: bytes) -> int:
    if not part.startswith(b"i="):
        raise PeerError("malformed SCRAM server-first-message: attribute i expected")
    if not _COUNT.fullmatch(part, 2) or (iterations := int(part[2:])) > MAX_ITERATIONS:
        raise PeerError(
            f"the server's SCRAM iteration count is not a whole number from 1 to {MAX_ITERATIONS}"
        )
    return iterations


def _check_extensions(extensions: list[bytes], name: str) -> None:
    # RFC 5802, section 5.1: optional extensions we do not know are ignored, if they are attributes.
    for extension in extensions:
        if not _EXTENSION.fullmatch(extension):
            raise PeerError(f"malformed SCRAM {name}: an extension is not of the form x=value")
