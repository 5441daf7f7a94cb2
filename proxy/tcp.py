"""What the kernel is asked to do for a TCP connection of ours, to clients and to servers."""

import math
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TcpOptions:
    """When a peer that says nothing counts as gone. What is 0 is left to the system.

    keepidle_s, keepintvl_s: silence before the first probe, and time between probes.
    keepcnt: probes without an answer. user_timeout_s: how long sent bytes may be unacknowledged.
    """

    keepalive: bool = True
    keepidle_s: float = 0.0
    keepintvl_s: float = 0.0
    keepcnt: int = 0
    user_timeout_s: float = 0.0

    def apply(self, sock: socket.socket) -> None:
        """Set them on a TCP socket; what a listening socket accepts inherits them."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(self.keepalive))
        for option, value in self._counted():
            if value:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        timeout_ms = min(math.ceil(self.user_timeout_s * 1000), 0x7FFFFFFF)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)

    def apply_anew(self, listener: socket.socket) -> None:
        """Set them on a socket that had others: what is 0 goes back to the system's."""
        with socket.socket(listener.family, socket.SOCK_STREAM) as untouched:
            for option, _ in self._counted():
                usual = untouched.getsockopt(socket.IPPROTO_TCP, option)
                listener.setsockopt(socket.IPPROTO_TCP, option, usual)
        self.apply(listener)

    def _counted(self) -> tuple[tuple[int, int], ...]:
        return (
            (socket.TCP_KEEPIDLE, math.ceil(self.keepidle_s)),
            (socket.TCP_KEEPINTVL, math.ceil(self.keepintvl_s)),
            (socket.TCP_KEEPCNT, self.keepcnt),
        )
