"""The first words of a connection: encryption, then what it wants."""

from collections.abc import Callable

from proxy.client.startup import Startup, read_startup
from proxy.client.terms import DoorTerms
from proxy.errors import ClientError, PeerError
from proxy.relay import Client, next_packet
from proxy.tls import (
    ALPN,
    FIRST_BYTE,
    HandshakeFailed,
    Offer,
    TlsFacts,
    read_facts,
    shake_hands,
)
from proxy.wire import messages

# PostgreSQL: MAX_STARTUP_PACKET_LENGTH.
_MOST_STARTUP_BYTES = 10_000


async def greet(
    client: Client, terms: DoorTerms, cancel: Callable[[Client, bytes], None]
) -> Startup | None:
    """Take requests up to the startup packet.

    cancel: called with the packet of a cancel request; the result is then None.
    Raises PeerError, ClientError (28000) when TLS is required.
    """
    offer = None if terms.tls is None or client.address == "unix:" else terms.tls.value
    facts: TlsFacts | None = None
    try:
        packet = await next_packet(client, _MOST_STARTUP_BYTES)
    except PeerError:
        # What was refused as a length is still there to be taken.
        first = client.take_bytes()
        if first[0] != FIRST_BYTE:
            raise
        facts = await _begin_direct_tls(client, offer, first)
        packet = await next_packet(client, _MOST_STARTUP_BYTES)
    tls_asked, gss_asked = facts is not None, False
    while True:
        code = messages.read_request_code(packet)
        if code == messages.SSL_REQUEST and not tls_asked:
            tls_asked = True
            _refuse_stuffing(client)
            if offer is None:
                client.write(b"N")
            else:
                client.write(b"S")
                session = await shake_hands(client, offer.context, server_side=True)
                facts = read_facts(session, offer.endpoint)
        elif code == messages.GSSENC_REQUEST and not gss_asked:
            gss_asked = True
            _refuse_stuffing(client)
            client.write(b"N")
        elif code == messages.CANCEL_REQUEST:
            cancel(client, packet)
            return None
        else:
            startup = read_startup(code, packet, facts)
            if terms.tls_required and facts is None and client.address != "unix:":
                raise ClientError("28000", "TLS is required", hint="Connect with sslmode=require.")
            return startup
        packet = await next_packet(client, _MOST_STARTUP_BYTES)


async def _begin_direct_tls(client: Client, offer: Offer | None, first: bytes) -> TlsFacts:
    """Shake hands with a client that begins with TLS at once. first: what it has sent so far.

    ALPN is demanded, so that what a browser means for another server cannot be led here.
    Source: PostgreSQL documentation, "Message Flow" (SSL Session Encryption).
    """
    if offer is None:
        raise HandshakeFailed("direct TLS is not offered")
    session = await shake_hands(client, offer.context, server_side=True, first=first)
    if session.selected_alpn_protocol() != ALPN:
        raise PeerError("direct TLS needs the ALPN protocol postgresql")
    return read_facts(session, offer.endpoint)


def _refuse_stuffing(client: Client) -> None:
    """Bytes behind the request would pass for encrypted ones (CVE-2021-23214)."""
    if client.has_unread:
        raise PeerError("received unencrypted data after SSL or GSSAPI encryption request")
