"""One connection that listens, kept up as long as there is something to listen to."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import asyncpg

from proxy.channels.subscriptions import Notification
from proxy.cluster import NodeAddress, ProbeLogin, diagnose, dial
from proxy.telemetry import report

_log = logging.getLogger("pgweir.channels")

_SETTINGS = {"application_name": "pgweir listener"}
# How long it takes at most to notice that the node is gone without a word.
_SILENCE_S = 15.0
_ANSWER_S = 10.0
_RETRY_S = (0.05, 2.0)
# The node has said no, and will not say anything else so soon.
_REFUSALS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidCatalogNameError,
)


class Ear:
    """Listens in one database.

    address_of: where the primary is now, None while there is none. on_heard: called with each
    notification, in order. on_gap: called when it listens again after its connection was lost.
    """

    def __init__(
        self,
        name: str,
        address_of: Callable[[], NodeAddress | None],
        login: ProbeLogin,
        *,
        on_heard: Callable[[Notification], None],
        on_gap: Callable[[], None],
    ) -> None:
        self._name = name
        self._address_of = address_of
        self.login = login
        self._on_heard = on_heard
        self._on_gap = on_gap
        self._wanted: frozenset[str] = frozenset()
        self._listened: set[str] = set()
        # Listened to by the connection, and no longer wanted when that was last looked at.
        self._stale: set[str] = set()
        self._news = asyncio.Event()
        self._waiting: list[tuple[frozenset[str], asyncio.Future[None]]] = []
        self._catching_up: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self.trouble = "no answer yet"

    def want(self, channels: frozenset[str]) -> None:
        """Listen to these from now on, and to no others."""
        self._wanted = channels
        # At once: what is wanted again must be listened to again before it counts.
        self._stale |= self._listened - channels
        self._listened &= channels
        self._news.set()
        if self._task is None and channels:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def hears(self, channels: frozenset[str]) -> bool:
        """Say whether it listens to all of these already."""
        return channels <= self._listened

    async def until_heard(self, channels: frozenset[str]) -> None:
        """Wait until it listens to these, which it must want to.

        Raises ConnectionRefusedError when it is not allowed to.
        """
        done = asyncio.get_running_loop().create_future()
        entry = (channels, done)
        self._waiting.append(entry)
        self._wake_waiting()
        try:
            await done
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(entry)

    async def until_caught_up(self) -> None:
        """Wait until all has been heard that was notified before; or there is nobody to hear it.

        PostgreSQL tells a session what waits for it before it answers its next statement.
        """
        done = asyncio.get_running_loop().create_future()
        self._catching_up.append(done)
        self._news.set()
        await done

    def look(self) -> None:
        """The primary may be another one now."""
        self._news.set()

    async def aclose(self) -> None:
        """Hang up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        """Task: connect, listen, and do so again when the connection is lost."""
        pause_s = _RETRY_S[0]
        has_gap = False
        while True:
            address = self._address_of()
            if address is None or not self._wanted:
                self._has_caught_up(len(self._catching_up))
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 1.0)
                continue
            connection = None
            try:
                async with asyncio.timeout(_ANSWER_S):
                    connection = await dial(address, self.login, _SETTINGS)
                    connection.add_termination_listener(lambda _: self._news.set())
                    await self._follow(connection)
                report(_log, "listen", "listening", {"at": self._name, "node": address.name})
                if has_gap:
                    self._on_gap()
                pause_s = _RETRY_S[0]
                has_gap = True
                has_gap = not await self._is_given_up(connection, address)
            except Exception as error:  # noqa: BLE001 -- top of a task; said in the log
                _, self.trouble = diagnose(error)
                facts = {"at": self._name, "node": address.name, "reason": self.trouble}
                _log.warning("cannot listen", extra={"facts": facts})
                if isinstance(error, _REFUSALS):
                    self._refuse_waiting()
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _RETRY_S[1])
            finally:
                self._listened.clear()
                self._stale.clear()
                self._has_caught_up(len(self._catching_up))
                if connection is not None:
                    connection.terminate()

    async def _is_given_up(self, connection: Any, address: NodeAddress) -> bool:
        """Follow what is wanted as long as that is possible. True: nothing is wanted any more."""
        while self._address_of() == address:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), _SILENCE_S)
            except TimeoutError:
                if not self._wanted:
                    return True
                await connection.execute("SELECT", timeout=_ANSWER_S)
            if connection.is_closed():
                self.trouble = "the connection was lost"
                said = "the listening connection was lost"
                report(_log, "listen", said, {"at": self._name}, logging.WARNING)
                return False
            async with asyncio.timeout(_ANSWER_S):
                await self._follow(connection)
        return False

    async def _follow(self, connection: Any) -> None:
        """Listen to what is wanted, and to nothing else."""
        while self._stale or self._wanted - self._listened:
            while self._stale:
                await connection.remove_listener(self._stale.pop(), self._hear)
            for new in sorted(self._wanted - self._listened):
                await connection.add_listener(new, self._hear)
                # It may be wanted no more by now.
                (self._listened if new in self._wanted else self._stale).add(new)
                self._wake_waiting()
        if count := len(self._catching_up):
            await connection.execute("SELECT")
            self._has_caught_up(count)

    def _has_caught_up(self, count: int) -> None:
        """Let the first of those go on that wait for it."""
        for done in self._catching_up[:count]:
            if not done.done():
                done.set_result(None)
        del self._catching_up[:count]

    def _refuse_waiting(self) -> None:
        for _, done in self._waiting:
            if not done.done():
                done.set_exception(ConnectionRefusedError(self.trouble))

    def _wake_waiting(self) -> None:
        for channels, done in self._waiting:
            if channels <= self._listened and not done.done():
                done.set_result(None)

    def _hear(self, _connection: object, pid: int, channel: str, payload: str) -> None:
        self._on_heard(Notification(pid, channel, payload))
