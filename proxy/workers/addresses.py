"""Where does each process listen to the others?

On a Unix socket in the abstract namespace, which leaves nothing behind however a process ends. The
kernel chooses its name, so that nobody can have taken it before; since anybody may connect to such
a socket, or have the name of one that is gone, each end looks at who is at the other.

Source: unix(7), Autobind feature and SO_PEERCRED.
"""

import mmap
import os
import socket

from proxy.unix import account_behind, peer_of

# For each process its id, and the name that its socket has.
_WIDTH = 2
_NAME_BYTES = 6


class Addresses:
    """In memory that all processes share. Made before they are. count: how many there are."""

    def __init__(self, count: int) -> None:
        self._cells = memoryview(mmap.mmap(-1, 8 * _WIDTH * count)).cast("Q")

    def listen(self, index: int) -> socket.socket:
        """Open the socket of a process, which is the one that calls. Raises OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind("")
        listener.listen()
        name: bytes = listener.getsockname()
        self._cells[_WIDTH * index + 1] = int.from_bytes(name)
        self._cells[_WIDTH * index] = os.getpid()
        return listener

    def connect(self, index: int) -> socket.socket:
        """Connect to a process. Raises OSError when it does not listen."""
        pid, name = self._cells[_WIDTH * index : _WIDTH * (index + 1)]
        if not pid:
            raise ConnectionRefusedError
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            end.connect(name.to_bytes(_NAME_BYTES))
            if peer_of(end) != (pid, os.geteuid()):
                raise ConnectionRefusedError
        except OSError:
            end.close()
            raise
        return end


def is_ours(descriptor: int) -> bool:
    """Whether a process of our account is at the other end of a Unix socket."""
    return account_behind(descriptor) == os.geteuid()
