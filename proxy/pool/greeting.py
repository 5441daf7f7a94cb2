"""What a new client is told, before it has a server: who waits for that, and who finds it out."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from proxy.errors import ClientError, PeerError
from proxy.pool.basin import Basin, Spring
from proxy.pool.dialling import Dialler
from proxy.pool.welcome import Welcome, write_welcome
from proxy.relay import Pool
from proxy.server import Unreachable
from proxy.session import FOLLOWED, SettingsBook, StartupSettings
from proxy.wire import messages

_TRIALS_AT_A_TIME = 4
# Combinations of startup settings whose welcome is remembered, and so many with a name each.
_MOST_WELCOMES = 1000

_Key = TypeVar("_Key")


class Greeter:
    """Knows the Welcome of every combination of startup settings, or has a server asked for it.

    open_first: opens a connection where there is none and somebody waits for its welcome.
    """

    def __init__(
        self, book: SettingsBook, dialler: Dialler, open_first: Callable[[Basin], None]
    ) -> None:
        self._book = book
        self._dialler = dialler
        self._open_first = open_first
        self._welcomes: dict[tuple[object, ...], Welcome] = {}
        self._named: dict[tuple[Welcome, str], Welcome] = {}
        # These connections are beside the pools: few at a time, whatever clients make up.
        self._trial_places = asyncio.Semaphore(_TRIALS_AT_A_TIME)
        self._trials: dict[tuple[object, ...], asyncio.Task[Welcome]] = {}
        self._news = asyncio.Event()

    async def welcome(self, basin: Basin, startup: StartupSettings) -> Welcome:
        """Say what a new client is told, once a server has been reached.

        Raises ClientError: the server's refusal of the login or of a setting, or 08001.
        """
        plain = basin.welcome or await self._first(basin)
        if not startup.others:
            if startup.application_name is None:
                return plain
            return self._with_application_name(plain, startup.application_name)
        policy, line = basin.policy, basin.line
        key = (policy.cluster, line.database, line.user, *sorted(startup.others.items()))
        known = self._welcomes.get(key)
        if known is None:
            known = await self._tried_once(key, basin, startup)
        if startup.application_name is None:
            return known
        return self._with_application_name(known, startup.application_name)

    async def any_pool(self, basin: Basin) -> Pool:
        """Wait until a node serves the line. Raises ClientError (08001) when none does in time."""
        try:
            async with asyncio.timeout(basin.policy.query_wait_timeout or None):
                while not basin.line.pools or basin.line.held:
                    await self._news.wait()
        except TimeoutError:
            raise _unreached(basin.policy.database) from None
        return basin.line.pools[0]

    def tell_news(self) -> None:
        """Wake who waits for a node, and only those."""
        self._news.set()
        self._news = asyncio.Event()

    def forget(self) -> None:
        """The configuration has changed: what servers made of settings may have, too."""
        self._welcomes.clear()
        self._named.clear()

    async def close(self) -> None:
        """End all trials."""
        ending = list(self._trials.values())
        for trial in ending:
            trial.cancel()
        if ending:
            await asyncio.wait(ending)

    def _with_application_name(self, welcome: Welcome, name: str) -> Welcome:
        """The same welcome to a client of this name; an application comes again and again."""
        named = self._named.get((welcome, name))
        if named is None:
            parameters = {**welcome.parameters, "application_name": name}
            settings = self._book.of({**welcome.settings, "application_name": name})
            named = write_welcome(parameters, settings)
            _remember(self._named, (welcome, name), named)
        return named

    async def _first(self, basin: Basin) -> Welcome:
        """Wait for the first server connection of the line, asking for one if need be."""
        waiter: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        basin.welcomed.append(waiter)
        self._open_first(basin)
        timeout_s = basin.policy.query_wait_timeout or None
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            raise _unreached(basin.policy.database) from None
        finally:
            if waiter in basin.welcomed:
                basin.welcomed.remove(waiter)

    async def _tried_once(
        self, key: tuple[object, ...], basin: Basin, startup: StartupSettings
    ) -> Welcome:
        """Try these settings, unless somebody else is doing so: then share the outcome."""
        trial = self._trials.get(key)
        if trial is None:
            loop = asyncio.get_running_loop()
            trial = self._trials[key] = loop.create_task(self._try_settings(basin, startup))
            trial.add_done_callback(lambda done: self._end_trial(key, done))
        known = await asyncio.shield(trial)
        _remember(self._welcomes, key, known)
        return known

    def _end_trial(self, key: tuple[object, ...], done: asyncio.Task[Welcome]) -> None:
        self._trials.pop(key, None)
        if not done.cancelled():
            # All who waited may have left: then nobody asks for it, and that is no fault.
            done.exception()

    async def _try_settings(self, basin: Basin, startup: StartupSettings) -> Welcome:
        """Ask a server what it makes of a client's startup settings."""
        spring: Spring = (await self.any_pool(basin)).owner
        try:
            async with self._trial_places:
                dialled = await self._dialler.dial(spring, {**spring.startup, **startup.others})
        except Unreachable as failed:
            raise ClientError("08001", str(failed)) from None
        except PeerError as broken:
            raise ClientError("08001", broken.message) from None
        dialled.link.write(messages.TERMINATE)
        dialled.link.close()
        reported = self._book.of_reported(dialled.parameters)
        unreported = {
            name: value
            for name, value in startup.others.items()
            if name.lower() not in FOLLOWED or name not in dialled.parameters
        }
        settings = self._book.of({**reported, **unreported})
        return write_welcome(dialled.parameters, settings)


def _remember(known: dict[_Key, Welcome], key: _Key, welcome: Welcome) -> None:
    """Keep one more; the first that was kept goes."""
    if len(known) >= _MOST_WELCOMES:
        known.pop(next(iter(known)))
    known[key] = welcome


def _unreached(database: str) -> ClientError:
    return ClientError(
        "08001",
        f'no server for database "{database}" could be reached in time',
        hint="The proxy's log has the reason.",
    )
