"""Cancel requests on their way to servers."""

import asyncio

from proxy.pool.basin import Spring
from proxy.relay import Relay, Server
from proxy.server import send_cancel

# How long the end of the process waits for them.
_LAST_CANCELS_S = 2.0


class Cancels:
    """Sends cancel requests, each in a task of its own."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, server: Server) -> None:
        """Ask for the end of what the server runs, then let the relay know."""
        spring: Spring = server.pool.owner
        task = asyncio.get_running_loop().create_task(self._send(server, spring))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, server: Server, spring: Spring) -> None:
        ok = False
        try:
            ok = await send_cancel(
                self._relay,
                spring.node.place,
                server.pid,
                server.secret,
                spring.policy.cancel_wait_timeout,
            )
        finally:
            server.cancel_done(ok)

    async def close(self) -> None:
        """Give the last a moment: what clients left running is not to run on for nobody."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_CANCELS_S)
        ending = list(self._tasks)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
