"""Have a server's running statement cancelled.

The server acts on a cancel request before it closes the connection that brought it. So once that
connection is closed, the signal has been sent, and what it can hit is what ran before: that is why
the sender waits for the end, and nobody gets the server until then.
Source: PostgreSQL, processCancelRequest in src/backend/tcop/backend_startup.c.
"""

import asyncio

from proxy.errors import PeerError
from proxy.relay import Relay, next_bytes
from proxy.server.place import Place, open_link
from proxy.wire import messages


async def send_cancel(
    relay: Relay, place: Place, pid: int, secret: bytes, timeout_s: float
) -> bool:
    """Send the request and wait until the server has dealt with it; False when that failed."""
    try:
        async with asyncio.timeout(timeout_s or None):
            with_tls = place.tls.mode not in ("disable", "allow")
            link, _ = await open_link(relay, place, with_tls=with_tls)
            try:
                link.write(messages.cancel_request(pid, secret))
                while True:
                    await next_bytes(link, 1024)
            except ConnectionResetError:
                return True
            finally:
                link.abandon()
    except (OSError, TimeoutError, PeerError):
        return False
