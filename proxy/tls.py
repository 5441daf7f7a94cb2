"""TLS handshakes on links, and the contexts for them.

The handshake is the control plane's: a coroutine that carries records between a link and an
SSLObject. Afterwards the relay reads and writes through the finished session.
"""

import ssl
from pathlib import Path

from proxy.errors import PeerError
from proxy.relay import Link, next_bytes

_RECORD_BYTES = 16384 + 512


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Make the context that clients see. Raises OSError or ssl.SSLError for unusable files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A session ticket per connection costs as much as it saves to clients that never resume.
    context.num_tickets = 0
    context.load_cert_chain(cert, key)
    return context


def client_context(
    mode: str, ca: Path | None, cert: Path | None, key: Path | None
) -> ssl.SSLContext:
    """Make the context for servers. mode: libpq's `sslmode`, from `allow` upwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = mode == "verify-full"
    # As in libpq, `require` verifies when there is something to verify against.
    if mode in ("verify-ca", "verify-full") or (mode == "require" and ca is not None):
        context.verify_mode = ssl.CERT_REQUIRED
        if ca is not None:
            context.load_verify_locations(ca)
        else:
            context.load_default_certs()
    else:
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


async def shake_hands(
    link: Link, context: ssl.SSLContext, *, server_side: bool, host: str | None = None
) -> ssl.SSLObject:
    """Finish a TLS handshake; from then on the link is encrypted.

    host: the name to expect in the server's certificate. Raises PeerError when it fails.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=host)
    while True:
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            link.write(outgoing.read())
            incoming.write(await next_bytes(link, _RECORD_BYTES))
        except ssl.SSLError as failed:
            link.write(outgoing.read())  # the alert says why
            raise PeerError(f"TLS handshake failed: {failed.reason or failed}", "08P01") from None
        else:
            break
    link.write(outgoing.read())
    link.start_tls(session, incoming, outgoing)
    return session
