"""Listening sockets that pass from a process to the one that takes its place.

A process with a pidfile offers its own in the abstract namespace, under its process id. Who takes
its place asks there before it tells it to end, so that there is no moment at which nobody listens,
and whoever waits in a socket's line is served. PgBouncer offers none.

Source: unix(7), SCM_RIGHTS.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence

from proxy.unix import peer_of

_log = logging.getLogger("pgweir")

# The kernel passes no more at once (SCM_MAX_FD).
_MOST = 253
# Several processes are looked after by one that has a look once a second.
_PATIENCE_S = 5.0


class Offer:
    """Has listening sockets ready for who takes our place. Call `answer` when it is readable.

    descriptors: of what is listened on. on_taken: called when somebody else listens there, too.
    """

    def __init__(
        self, descriptors: Callable[[], Sequence[int]], on_taken: Callable[[], None]
    ) -> None:
        self._descriptors = descriptors
        self._on_taken = on_taken
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._listener.bind(_address_of(os.getpid()))
            self._listener.listen(1)
        except OSError as refused:
            # It can be served without: only who takes our place will have to wait for the port.
            facts = {"reason": refused.strerror}
            _log.warning("the listening sockets cannot be handed over", extra={"facts": facts})

    def fileno(self) -> int:
        """What to wait at."""
        return self._listener.fileno()

    def answer(self) -> None:
        """Give the sockets to all who have asked for them and may have them."""
        while True:
            try:
                asking, _ = self._listener.accept()
            except OSError:
                return
            with asking:
                if peer_of(asking)[1] in (0, os.geteuid()):
                    self._give(asking)

    def close(self) -> None:
        """Offer them no more."""
        self._listener.close()

    def _give(self, asking: socket.socket) -> None:
        if descriptors := self._descriptors()[:_MOST]:
            with contextlib.suppress(OSError):
                socket.send_fds(asking, [b"1"], descriptors)
                self._on_taken()


def take(pid: int) -> list[socket.socket]:
    """The listening sockets of the process whose place we take; none where it offers none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_PATIENCE_S)
        try:
            asking.connect(_address_of(pid))
            if peer_of(asking)[0] != pid:
                return []
            _, descriptors, _, _ = socket.recv_fds(asking, 1, _MOST)
        except OSError:
            return []
    sockets = [socket.socket(fileno=each) for each in descriptors]
    for sock in sockets:
        sock.set_inheritable(False)
        sock.setblocking(False)
    return sockets


def _address_of(pid: int) -> str:
    return f"\0pgweir-listeners-{pid}"
