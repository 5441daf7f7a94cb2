"""Cancel keys: what a client is given at login, and shows to have its statement cancelled."""

import hmac
import secrets
from collections.abc import Mapping

from proxy.relay import Client

# Protocol 3.0 has room for four bytes; 3.2 allows up to 256, PostgreSQL 18 sends 32.
_SECRET_BYTES = {0: 4, 2: 32}


class Keys:
    """Gives out keys and finds the client that a key belongs to.

    clients: those logged in, by the process id in their key.
    """

    def __init__(self, clients: Mapping[int, Client]) -> None:
        self._clients = clients

    def new(self, minor: int) -> tuple[int, bytes]:
        """Make a key: a process id that no client has, and a secret for protocol 3.`minor`."""
        while True:
            # Random, so that a key says nothing of how many clients there are.
            pid = secrets.randbelow(0x7FFFFFFF) + 1
            if pid not in self._clients:
                return pid, secrets.token_bytes(_SECRET_BYTES.get(minor, 4))

    def find(self, pid: int, secret: bytes) -> Client | None:
        """The client with this key, or None: an unknown one, or a wrong secret."""
        client = self._clients.get(pid)
        if client is None or not hmac.compare_digest(client.secret, secret):
            return None
        return client
