"""The first words of a connection: encryption, then what it wants."""

from collections.abc import Callable

from proxy.client.startup import Startup, read_startup
from proxy.client.terms import DoorTerms
from proxy.errors import ClientError, PeerError
from proxy.relay import Client, next_packet
from proxy.tls import shake_hands
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
    tls_asked = gss_asked = False
    while True:
        packet = await next_packet(client, _MOST_STARTUP_BYTES)
        code = messages.read_request_code(packet)
        if code == messages.SSL_REQUEST and not tls_asked and client.tls_version is None:
            tls_asked = True
            _refuse_stuffing(client)
            if terms.tls is None or client.address == "unix:":
                client.write(b"N")
            else:
                client.write(b"S")
                await shake_hands(client, terms.tls, server_side=True)
        elif code == messages.GSSENC_REQUEST and not gss_asked:
            gss_asked = True
            _refuse_stuffing(client)
            client.write(b"N")
        elif code == messages.CANCEL_REQUEST:
            cancel(client, packet)
            return None
        else:
            startup = read_startup(code, packet)
            is_plain = client.tls_version is None and client.address != "unix:"
            if terms.tls_required and is_plain:
                raise ClientError("28000", "TLS is required", hint="Connect with sslmode=require.")
            return startup


def _refuse_stuffing(client: Client) -> None:
    """Bytes behind the request would pass for encrypted ones (CVE-2021-23214)."""
    if client.has_unread:
        raise PeerError("received unencrypted data after SSL or GSSAPI encryption request")
