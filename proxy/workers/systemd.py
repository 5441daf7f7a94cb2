"""What systemd is told, and the sockets it hands over.

Source: sd_notify(3) and sd_listen_fds(3): a datagram to $NOTIFY_SOCKET; descriptors from 3 on,
$LISTEN_FDS of them, for the process that $LISTEN_PID names.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

_FIRST_DESCRIPTOR = 3


class Notifier:
    """Tells systemd how we are; nobody, where there is none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # The abstract namespace is written with an @.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def ready(self, status: str) -> None:
        """We serve, or serve again."""
        self._tell("READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """We are about to end."""
        self._tell("STOPPING=1", "STATUS=letting transactions finish")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        # Who does not listen any more is not to stop us.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        ):
            sock.setblocking(False)
            sock.sendto("\n".join(lines).encode(), self._address)


def handed_over(environ: Mapping[str, str]) -> tuple[socket.socket, ...]:
    """The listening sockets that systemd has opened for us, mostly none.

    Call it once: they are ours from then on.
    """
    try:
        is_for_us = int(environ.get("LISTEN_PID", "0")) == os.getpid()
        count = int(environ.get("LISTEN_FDS", "0")) if is_for_us else 0
    except ValueError:
        return ()
    sockets = []
    for number in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + count):
        sock = socket.socket(fileno=number)
        sock.setblocking(False)
        sock.set_inheritable(False)
        sockets.append(sock)
    return tuple(sockets)
