"""Waiting for a link's next message, for the coroutines that log in.

The link reads when epoll says so; these wait until enough has come. A coroutine that waits costs
its frame and one Waiter, and is over once the link enters the relay.
"""

from proxy.relay.relay import Link


async def next_packet(link: Link, max_bytes: int) -> bytes:
    """Wait for an untyped packet: its body after the length.

    max_bytes: limit on the length as sent, which counts itself.
    Raises PeerError on a length out of bounds, ConnectionResetError when the peer has ended.
    """
    while (packet := link.take_packet(max_bytes)) is None:
        if (more := link.wait()) is not None:
            await more
    return packet


async def next_message(link: Link, max_bytes: int) -> tuple[bytes, bytes]:
    """Wait for a message: its kind, one byte, and its body.

    max_bytes and errors: as for `next_packet`.
    """
    while (message := link.take_message(max_bytes)) is None:
        if (more := link.wait()) is not None:
            await more
    return message


async def next_bytes(link: Link, most: int) -> bytes:
    """Wait for at least one byte and take up to `most`, as they came.

    Raises ConnectionResetError when the peer has ended.
    """
    while not (octets := link.take_bytes(most)):
        if (more := link.wait()) is not None:
            await more
    return octets
