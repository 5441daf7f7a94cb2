"""How do the clients of one process leave, when it is to end or to be emptied?"""

import asyncio
import logging
import time

from proxy.client import Door
from proxy.relay import Relay
from proxy.telemetry import report
from proxy.workers.company import Company

_log = logging.getLogger("pgweir")

_LOOK_S = 0.02
# Who has just come in may do what it came for: it could not know that it would have to go.
GRACE_S = 1.0
_GOODBYE = "the proxy is shutting down"


class Leaving:
    """Sends clients away, at the end of their transactions where that is asked for."""

    def __init__(self, relay: Relay, door: Door, company: Company) -> None:
        self._relay = relay
        self._door = door
        self._company = company
        self._emptying: asyncio.Task[None] | None = None
        self._is_hurried = False

    @property
    def is_emptying(self) -> bool:
        """Whether all are being sent away although the process goes on."""
        return self._emptying is not None

    def empty(self, after_s: float) -> int:
        """Be not ready from now on; after a while accept nobody, and send clients away as their
        transactions end. Result: how many there are still. Asked again, it only says that."""
        if self._emptying is None:
            report(_log, "process", "draining", {"after_s": after_s})
            self._emptying = asyncio.get_running_loop().create_task(self._empty(after_s))
        return len(self._relay.clients)

    def stop(self) -> list[asyncio.Task[None]]:
        """Empty it no longer. Result: tasks that are about to end."""
        if self._emptying is None:
            return []
        self._emptying.cancel()
        return [self._emptying]

    def hurry(self) -> None:
        """Wait for transactions no longer: somebody asked a second time."""
        self._is_hurried = True

    async def drain(self, patience_s: float | None, *, dismisses: bool) -> None:
        """Wait until all clients are gone. dismisses: send them away as their transactions end."""
        until_s = None if patience_s is None else time.monotonic() + patience_s
        while not self._is_hurried:
            newest_s = time.monotonic() - GRACE_S
            for client in list(self._relay.clients.values()) if dismisses else ():
                if client.since_s > newest_s and not client.line.held:
                    continue
                # Who waits while all is paused would wait for ever.
                if client.is_idle or (client.is_waiting and client.line.held):
                    client.dismiss("57P01", _GOODBYE)
            if not self._relay.clients:
                return
            if until_s is not None and time.monotonic() >= until_s:
                _log.warning(
                    "shutdown_timeout is over",
                    extra={"facts": {"clients": len(self._relay.clients)}},
                )
                return
            await asyncio.sleep(_LOOK_S)

    def dismiss_all(self) -> None:
        """Send away whoever is left, now."""
        for client in list(self._relay.clients.values()):
            client.dismiss("57P01", _GOODBYE)

    async def _empty(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._door.close()
        self._company.close_door()
        await self.drain(None, dismisses=True)
        report(_log, "process", "drained")
