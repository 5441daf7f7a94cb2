"""Where a server is, and how to open a link to it: a socket, then TLS if both sides want it."""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from proxy.auth import Channel
from proxy.config import ServerTls
from proxy.errors import PeerError
from proxy.relay import Relay, Server, next_bytes
from proxy.tasks import in_thread
from proxy.tcp import TcpOptions
from proxy.tls import ALPN, Renewed, hash_endpoint, shake_hands
from proxy.wire import messages


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node listens. host: a name, an address, or a folder that holds a Unix socket.

    tls: what is asked of the node. context: made for that; None when the mode is `disable`.
    require_auth: ways of logging in that it may ask for, any when empty.
    """

    host: str
    port: int
    tls: ServerTls = field(default_factory=partial(ServerTls, mode="disable"))
    context: Renewed[ssl.SSLContext] | None = None
    tcp: TcpOptions = field(default_factory=TcpOptions)
    require_auth: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Does nothing sent there leave this machine?"""
        if self.host.startswith("/") or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


async def open_link(
    relay: Relay, place: Place, *, with_tls: bool
) -> tuple[Server, ssl.SSLObject | None]:
    """Connect, and shake hands when asked to; the name is resolved again each time.

    Result: the link, and its TLS session if there is one. Raises OSError when it cannot be reached,
    PeerError when it refuses TLS that is demanded, or the handshake fails.
    """
    link = relay.dial(await _connected_socket(place), str(place))
    try:
        session = None
        if with_tls and place.context is not None and not place.host.startswith("/"):
            session = await _begin_tls(link, place, place.context.value)
    except BaseException:
        link.abandon()
        raise
    return link, session


async def _connected_socket(place: Place) -> int:
    """A descriptor of a connected, non-blocking socket; the first address that answers."""
    if place.host.startswith("/"):
        path = f"{place.host}/.s.PGSQL.{place.port}"
        return await _connect(socket.AF_UNIX, path, place.tcp)
    found = await _resolve(place)
    failed: OSError = OSError(f"{place.host} has no address")
    for family, _, _, _, address in found:
        try:
            return await _connect(family, address, place.tcp)
        except OSError as error:
            failed = error
    raise failed


async def _resolve(place: Place) -> list[tuple[Any, ...]]:
    """Addresses as of getaddrinfo; a name is looked up in a thread."""
    kind = socket.SOCK_STREAM
    try:
        return list(
            socket.getaddrinfo(place.host, place.port, type=kind, flags=socket.AI_NUMERICHOST)
        )
    except socket.gaierror:
        return await in_thread(lambda: list(socket.getaddrinfo(place.host, place.port, type=kind)))


async def _connect(family: int, address: tuple[Any, ...] | str, tcp: TcpOptions) -> int:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_UNIX:
            await asyncio.get_running_loop().sock_connect(sock, address)
        else:
            tcp.apply(sock)
            await _connect_over_tcp(sock, address)
        return sock.detach()
    except BaseException:
        sock.close()
        raise


async def _connect_over_tcp(sock: socket.socket, address: tuple[Any, ...] | str) -> None:
    """As the loop's `sock_connect`, which would look up even an address, in threads it keeps."""
    failure = sock.connect_ex(address)
    if failure == errno.EINPROGRESS:
        loop = asyncio.get_running_loop()
        writable: asyncio.Future[None] = loop.create_future()
        loop.add_writer(sock, writable.set_result, None)
        try:
            await writable
        finally:
            loop.remove_writer(sock)
        failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure:
        raise OSError(failure, os.strerror(failure))


async def _begin_tls(link: Server, place: Place, context: ssl.SSLContext) -> ssl.SSLObject | None:
    if place.tls.negotiation == "direct":
        session = await shake_hands(link, context, server_side=False, host=place.host)
        if session.selected_alpn_protocol() != ALPN:
            raise PeerError("the server does not know direct TLS: it answered without ALPN")
        return session
    link.write(messages.ssl_request())
    answer = await next_bytes(link, 1)
    if answer == b"S":
        # Bytes behind the answer came in clear and must not pass for TLS (CVE-2021-23222).
        if link.has_unread:
            # The server speaks first in no TLS version.
            raise PeerError("the server sent bytes before the TLS handshake")
        return await shake_hands(link, context, server_side=False, host=place.host)
    if answer != b"N":
        raise PeerError("the server answered SSLRequest with neither S nor N")
    if place.tls.mode not in ("allow", "prefer"):
        raise PeerError(f"the server offers no TLS, and tls.mode is {place.tls.mode}")
    return None


def channel_of(place: Place, session: ssl.SSLObject | None) -> Channel:
    """What a login over this connection may be bound to."""
    if session is None:
        return Channel(binding=place.tls.channel_binding)
    certificate = session.getpeercert(binary_form=True)
    endpoint = None if certificate is None else hash_endpoint(certificate)
    return Channel(True, endpoint, place.tls.channel_binding)
