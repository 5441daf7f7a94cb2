"""The lease among processes of one machine: several of them may serve as one proxy.

A name in Linux's abstract namespace of Unix sockets is bound by one process at a time, and is free
again when that process is gone, however it ends. No file is left, and nobody has to be asked.

Source: unix(7), "Abstract sockets".
"""

import errno
import hashlib
import os
import socket
from collections.abc import Sequence

from proxy.failover.lease import CoordinatorUnavailable, Grant


class SiblingsLease:
    """The lease of one cluster, known by its nodes. nodes: host and port of each."""

    is_shared = True

    def __init__(self, nodes: Sequence[tuple[str, int]]) -> None:
        words = "\n".join(f"{host}:{port}" for host, port in sorted(nodes))
        digest = hashlib.sha256(words.encode()).hexdigest()[:32]
        self._name = f"\0pgweir/{os.getuid()}/{digest}"

    async def take(self, node: str) -> Grant | None:
        """Take it, unless another process has it. Raises CoordinatorUnavailable."""
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            bound.bind(self._name)
        except OSError as failed:
            bound.close()
            if failed.errno == errno.EADDRINUSE:
                return None
            raise CoordinatorUnavailable(f"no name to agree on: {failed.strerror}") from None
        return _Bound(node, bound)


class _Bound:
    """The name, while it is ours."""

    def __init__(self, node: str, bound: socket.socket) -> None:
        self.node = node
        self._socket = bound

    @property
    def is_valid(self) -> bool:
        return self._socket.fileno() >= 0

    async def aim_at(self, node: str) -> None:
        """Others see what comes of it."""
        self.node = node

    async def finish(self, rest_s: float) -> None:
        """The others look again before they promote, so that there is nothing to wait for."""
        self._socket.close()

    async def abandon(self, *, began: bool) -> None:
        """Give it back."""
        self._socket.close()

    def drop(self) -> None:
        """Give it back."""
        self._socket.close()
