"""SCRAM's keys: derived from a password once, then kept.

PBKDF2 with 4096 iterations costs a millisecond, a hundred times the rest of a login. What it gives
depends on password, salt and iterations alone, so it is kept by those three, in a cache that is
bounded and handed around.

Source: RFC 5802, section 3; RFC 7677 (SHA-256).
"""

import hashlib
import hmac
from dataclasses import dataclass, field

from proxy.auth.saslprep import prepare_password
from proxy.auth.secrets import ScramVerifier


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """ClientKey and ServerKey, 32 bytes each: enough to log in by SCRAM without the password.

    They fit only where salt and iterations are those they were derived with.
    """

    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def verifier(self, salt: bytes, iterations: int) -> ScramVerifier:
        """Make the verifier that checks who has these keys."""
        stored_key = hashlib.sha256(self.client_key).digest()
        return ScramVerifier(iterations, salt, stored_key, self.server_key)


def derive_keys(password: str, salt: bytes, iterations: int) -> ScramKeys:
    """Derive both keys. Costs one PBKDF2; the interpreter's lock is released meanwhile."""
    salted = hashlib.pbkdf2_hmac("sha256", prepare_password(password), salt, iterations)
    return ScramKeys(
        hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256")
    )


class DerivedKeys:
    """Keys by (password, salt, iterations); at the limit, the one longest unused leaves.

    Only what a finished login has proved right is put in: otherwise guesses of clients, or a server
    that invents a salt a time, would push out what is in use.
    limit: entries. A server's salt changes only with its password, so one entry serves all
    connections to one database user of one cluster.
    """

    __slots__ = ("_kept", "_limit")

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._kept: dict[tuple[str, bytes, int], ScramKeys] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, password: str, salt: bytes, iterations: int) -> ScramKeys | None:
        """Give the keys if they are kept."""
        identity = (password, salt, iterations)
        keys = self._kept.pop(identity, None)
        if keys is not None:
            self._kept[identity] = keys  # now the most recently used
        return keys

    def keep(self, password: str, salt: bytes, iterations: int, keys: ScramKeys) -> None:
        """Keep these keys."""
        self._kept[(password, salt, iterations)] = keys
        if len(self._kept) > self._limit:
            self._kept.pop(next(iter(self._kept)))
