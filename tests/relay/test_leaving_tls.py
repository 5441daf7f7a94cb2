"""Who says Terminate under TLS is told of its end, unless they have closed already."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.x509.oid import NameOID

from tests.faults.raw_client import TERMINATE
from tests.fuzz.both_ends import SessionControl
from tests.relay.far_ends import FarEnds, line_of
from tests.tls.handshakes import make_self_signed, trusting


class Control(SessionControl):
    """Counts who has left."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[str] = []

    def client_gone(self, _client: object, reason: str) -> None:
        self.gone.append(reason)


class Stage(FarEnds):
    """One client under TLS, and its end of the session."""

    def __init__(self, certificate: Path) -> None:
        self.control = Control()
        super().__init__(self.control)
        link, self.socket = self.client_of(line_of("primary", 1)[0])
        self.relay.poll()
        here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        here.load_cert_chain(certificate)
        here.num_tickets = 0
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = here.wrap_bio(incoming, outgoing, server_side=True)
        self.heard, self.said = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.far = trusting().wrap_bio(self.heard, self.said)
        for end in (self.far, session, self.far, session):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
            incoming.write(self.said.read())
            self.heard.write(outgoing.read())
        link.start_tls(session, incoming, outgoing)

    def leave(self) -> None:
        """Say Terminate and that TLS ends here."""
        self.far.write(TERMINATE)
        with suppress(ssl.SSLWantReadError):
            self.far.unwrap()
        self.socket.sendall(self.said.read())

    def hear_to_the_end(self) -> bytes:
        """What comes until the other end closes, as it came."""
        self.socket.setblocking(True)
        self.socket.settimeout(5)
        heard = b""
        while octets := self.socket.recv(4096):
            heard += octets
        return heard


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    own = make_self_signed(tmp_path / "own", [[(NameOID.COMMON_NAME, "localhost")]])
    staged = Stage(own)
    yield staged
    staged.close()


def test_who_stays_is_told_of_the_end(stage: Stage) -> None:
    stage.leave()
    stage.relay.poll()
    assert stage.control.gone == [""]
    stage.heard.write(stage.hear_to_the_end())
    stage.far.unwrap()  # raises unless the other end has said so, too


def test_who_has_closed_is_told_nothing(stage: Stage) -> None:
    stage.leave()
    stage.socket.shutdown(socket.SHUT_WR)
    stage.relay.poll()
    assert stage.control.gone == [""]
    assert stage.hear_to_the_end() == b""
