"""Unix sockets: who is at the other end?"""

import os
import socket
import struct

# struct ucred: pid, uid, gid
_CREDENTIALS = struct.Struct("3i")


def peer_of(end: socket.socket) -> tuple[int, int]:
    """Process id and account of who connected, or listens there.

    Source: unix(7), SO_PEERCRED. Raises OSError.
    """
    told = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(told)
    return pid, uid


def account_behind(descriptor: int) -> int:
    """The account at the other end of a Unix socket that somebody else reads. Raises OSError."""
    with socket.socket(fileno=os.dup(descriptor)) as end:
        return peer_of(end)[1]
