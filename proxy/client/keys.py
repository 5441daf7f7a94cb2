"""Cancel keys: what a client is given at login, and shows to have its statement cancelled."""

import hmac
import os
from collections.abc import Mapping
from typing import Protocol

# Protocol 3.0 has room for four bytes; 3.2 allows up to 256, PostgreSQL 18 sends 32.
_SECRET_BYTES = {0: 4, 2: 32}
# So many random ones that no process id is likelier than another.
_PID_BYTES = 12


class Cancellable(Protocol):
    """Somebody with a key: a client, or a visitor of the console."""

    @property
    def secret(self) -> bytes:
        """What the key has beside the process id."""

    def cancel(self) -> bool:
        """Cancel what runs; True when something does."""


class Keys:
    """Gives out keys and finds whom a key belongs to.

    everybody: those logged in, by the process id in their key.
    index, count: of several processes, which one this is. A key says whose it is: the remainder.
    """

    def __init__(
        self, *everybody: Mapping[int, Cancellable], index: int = 0, count: int = 1
    ) -> None:
        self._everybody = everybody
        self._index = index
        self._count = count

    def new(self, minor: int) -> tuple[int, bytes]:
        """Make a key: a process id that no client has, and a secret for protocol 3.`minor`."""
        secret_bytes = _SECRET_BYTES.get(minor, 4)
        while True:
            octets = os.urandom(secret_bytes + _PID_BYTES)
            # Random, so that a key says nothing of how many clients there are.
            drawn = int.from_bytes(octets[secret_bytes:]) % (0x7FFFFFFF // self._count)
            pid = drawn * self._count + self._index
            if pid and self._with_pid(pid) is None:
                return pid, octets[:secret_bytes]

    def owner_of(self, pid: int) -> int | None:
        """The process that has given out a key, None when that is this one."""
        owner = pid % self._count
        return None if owner == self._index else owner

    def find(self, pid: int, secret: bytes) -> Cancellable | None:
        """Who has this key, or None: an unknown one, or a wrong secret."""
        client = self._with_pid(pid)
        if client is None or not hmac.compare_digest(client.secret, secret):
            return None
        return client

    def _with_pid(self, pid: int) -> Cancellable | None:
        for some in self._everybody:
            if (found := some.get(pid)) is not None:
                return found
        return None
