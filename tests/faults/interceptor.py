"""Somebody in between: takes TLS from one side, speaks TLS to the other, and reads along.

Where nobody verifies certificates, nobody notices, unless the login is bound to the certificate.
"""

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator

from tests.faults.raw_client import SSL_REQUEST, packet
from tests.fixtures.postgres import Certificates

_PLUS = b"SCRAM-SHA-256-PLUS\0"


class Interceptor:
    """Listens on `port` and passes on what it gets, decrypted in between.

    strips: take SCRAM-SHA-256-PLUS out of the server's offer.
    """

    name = "interceptor"
    host = "127.0.0.1"

    def __init__(self, target: tuple[str, int], certificates: Certificates) -> None:
        self._target = target
        self._shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._shown.load_cert_chain(certificates.server_cert, certificates.server_key)
        self._believing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._believing.check_hostname = False
        self._believing.verify_mode = ssl.CERT_NONE
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open = True
        self.strips = False
        self.read_along: list[bytes] = []
        self._spawn(self._accept)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._open = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _spawn(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._spawn(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        request = packet(struct.pack("!i", SSL_REQUEST))
        with sock, contextlib.suppress(OSError):
            sock.settimeout(5)
            sock.recv(8)
            sock.sendall(b"S")
            far = socket.create_connection(self._target, 5)
            far.sendall(request)
            far.recv(1)
            with (
                self._shown.wrap_socket(sock, server_side=True) as near,
                self._believing.wrap_socket(far) as beyond,
            ):
                self._pump(near, beyond)

    def _pump(self, near: ssl.SSLSocket, far: ssl.SSLSocket) -> None:
        while self._open:
            readable = [end for end in (near, far) if end.pending()]
            if not readable:
                readable, _, _ = select.select([near, far], [], [], 0.2)
            for end in readable:
                octets = end.recv(65536)
                if not octets:
                    return
                self.read_along.append(octets)
                if end is near:
                    far.sendall(octets)
                else:
                    near.sendall(without_plus(octets) if self.strips else octets)


def without_plus(octets: bytes) -> bytes:
    """The same with one mechanism less, if this is an offer."""
    if octets[:1] != b"R" or _PLUS not in octets:
        return octets
    (length,) = struct.unpack_from("!i", octets, 1)
    rest = octets[5:].replace(_PLUS, b"")
    return b"R" + struct.pack("!i", length - len(_PLUS)) + rest


@contextlib.contextmanager
def intercepting(target: tuple[str, int], certificates: Certificates) -> Iterator[Interceptor]:
    """An interceptor for the length of a block."""
    interceptor = Interceptor(target, certificates)
    try:
        yield interceptor
    finally:
        interceptor.close()
