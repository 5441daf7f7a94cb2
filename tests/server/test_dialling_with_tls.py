"""Towards a server that may say anything in place of a handshake: nothing secret is said to it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import NameOID

from proxy.auth import DerivedKeys, PlainSecret
from proxy.config import ServerTls
from proxy.errors import PeerError
from proxy.relay import Relay
from proxy.server import Place, Unreachable, dial
from proxy.tls import Renewed, context_for_servers
from tests.fuzz.wire_end import NoControl
from tests.tls.handshakes import make_self_signed

ERROR = b"E\0\0\0\x05\0"
OK = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    loop = asyncio.get_running_loop()
    made = Relay(loop, NoControl(), [1.0])
    loop.add_reader(made.fileno(), made.poll)
    yield made
    loop.remove_reader(made.fileno())
    made.close()


class Speaker:
    """A server that says one thing once it has been spoken to. heard: all that it is told."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.heard = b""
        self.over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            self.heard += await reader.read(1)
            writer.write(self._says)
            while more := await reader.read(4096):
                self.heard += more
        writer.close()
        self.over.set()


async def dialled(
    relay: Relay, speaker: Speaker, shown: ssl.SSLContext | None = None, **tls: Any
) -> Exception:
    """How a login to it ends."""
    listener = await asyncio.start_server(speaker.serve, "127.0.0.1", 0, ssl=shown)
    section = ServerTls(**{"mode": "require", **tls})
    place = Place(
        "127.0.0.1",
        listener.sockets[0].getsockname()[1],
        section,
        Renewed((), lambda: context_for_servers(section)),
    )
    async with listener:
        with pytest.raises((PeerError, Unreachable)) as caught:
            await dial(
                relay,
                place,
                user="app",
                credential=PlainSecret("hunter2"),
                startup={},
                derived=DerivedKeys(),
                timeout_s=5,
            )
        if shown is None:
            await asyncio.wait_for(speaker.over.wait(), 5)
    return caught.value


# How we begin, what the server answers in clear -> what is said of it.
IN_CLEAR = [
    ("postgres", b"N", "the server offers no TLS"),
    ("postgres", ERROR, "neither S nor N"),
    ("postgres", b"S" + ERROR, "bytes before the TLS handshake"),
    ("postgres", b"S" + OK, "bytes before the TLS handshake"),
    ("postgres", b"S\x16\3\3\0\1\2", "bytes before the TLS handshake"),
    ("direct", b"NNNNN", "TLS handshake failed"),
    ("direct", b"S" + OK, "TLS handshake failed"),
    ("direct", ERROR + OK, "TLS handshake failed"),
    ("direct", OK, "TLS handshake failed"),
    ("direct", b"\x16\3\3\0\4\2\0\0\0", "TLS handshake failed"),
]


@pytest.mark.parametrize(("negotiation", "says", "said"), IN_CLEAR)
async def test_what_a_server_says_in_clear_does_not_pass_for_tls(
    relay: Relay, negotiation: str, says: bytes, said: str
) -> None:
    speaker = Speaker(says)
    failed = await dialled(relay, speaker, negotiation=negotiation)
    assert isinstance(failed, PeerError)
    assert said in failed.message
    assert b"app" not in speaker.heard and b"hunter2" not in speaker.heard


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Names no host."""
    return make_self_signed(tmp_path / "server.pem", [[(NameOID.COMMON_NAME, "somewhere")]])


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make_self_signed(tmp_path / "other.pem", [[(NameOID.COMMON_NAME, "elsewhere")]])


def showing(certificate: Path, *alpn: str) -> ssl.SSLContext:
    """A server's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


@pytest.mark.parametrize("alpn", [(), ("h2",)])
async def test_direct_tls_to_something_else_is_left_at_once(
    relay: Relay, certificate: Path, alpn: tuple[str, ...]
) -> None:
    speaker = Speaker(OK)
    failed = await dialled(relay, speaker, showing(certificate, *alpn), negotiation="direct")
    assert isinstance(failed, PeerError)
    assert "without ALPN" in failed.message
    assert b"app" not in speaker.heard


async def test_direct_tls_goes_on_where_the_protocol_is_known(
    relay: Relay, certificate: Path
) -> None:
    speaker = Speaker(b"R\0\0\0\x08\0\0\0\7")
    failed = await dialled(relay, speaker, showing(certificate, "postgresql"), negotiation="direct")
    assert "GSSAPI" in str(failed)
    assert b"user\0app\0" in speaker.heard


@pytest.mark.parametrize(
    ("mode", "trusts", "said"),
    [
        ("verify-full", "certificate", "IP address mismatch"),
        ("verify-ca", "other", "self-signed certificate"),
        ("require", "other", "self-signed certificate"),
    ],
)
async def test_a_certificate_that_is_not_the_nodes_is_refused(
    relay: Relay,
    certificate: Path,
    other: Path,
    mode: str,
    trusts: str,
    said: str,
) -> None:
    ca = {"certificate": certificate, "other": other}[trusts]
    speaker = Speaker(OK)
    tls = {"mode": mode, "ca": ca, "negotiation": "direct"}
    failed = await dialled(relay, speaker, showing(certificate, "postgresql"), **tls)
    assert isinstance(failed, PeerError)
    assert said in failed.message
    assert b"app" not in speaker.heard
