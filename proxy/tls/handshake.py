"""TLS handshakes on links.

The handshake is the control plane's: a coroutine that carries records between a link and an
SSLObject. Afterwards the relay reads and writes through the finished session.
"""

import asyncio
import ssl

from proxy.errors import PeerError
from proxy.relay import Link, next_bytes

_RECORD_BYTES = 16384 + 512

FIRST_BYTE = 0x16
"""Of a TLS record that holds a handshake; no length of a startup packet begins with it."""


class HandshakeFailed(PeerError):  # noqa: N818 -- as LoginRefused, what happened
    """There is no TLS, and nothing in clear may be said to the peer any more."""


async def shake_hands(
    link: Link,
    context: ssl.SSLContext,
    *,
    server_side: bool,
    host: str | None = None,
    first: bytes = b"",
) -> ssl.SSLObject:
    """Finish a TLS handshake; from then on the link is encrypted.

    host: the name to expect in the server's certificate. first: bytes of it taken already.
    Raises HandshakeFailed.
    """
    if server_side and not first:
        # The client speaks first: until it does, there is no session to be kept for it.
        first = await _next_record(link)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(first)
    session = context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=host)
    while True:
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            link.write(outgoing.read())
            incoming.write(await _next_record(link))
        except ssl.SSLError as failed:
            link.write(outgoing.read())  # the alert says why
            raise HandshakeFailed(f"TLS handshake failed: {_reason_of(failed)}") from None
        else:
            break
    link.write(outgoing.read())
    link.start_tls(session, incoming, outgoing)
    return session


async def _next_record(link: Link) -> bytes:
    try:
        return await next_bytes(link, _RECORD_BYTES)
    except asyncio.CancelledError:
        # Out of time, or shutting down: no words in clear may follow.
        link.abandon()
        raise


def _reason_of(failed: ssl.SSLError) -> str:
    if isinstance(failed, ssl.SSLCertVerificationError):
        return f"the certificate is refused: {failed.verify_message}"
    return failed.reason or str(failed)
