"""How pools grow: when a connection is wanted, when the limits allow it, and what becomes of it."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

from proxy.config import Policy
from proxy.errors import ClientError, PeerError
from proxy.pool.applying import is_overdue, may_use_reserve
from proxy.pool.basin import Basin, Basins, Spring
from proxy.pool.caps import Caps, Key
from proxy.pool.dialling import Dialler
from proxy.pool.welcome import write_welcome
from proxy.relay import Pool
from proxy.server import Dialled, NodeFull, Unreachable
from proxy.session import SettingsBook
from proxy.telemetry import LimitedLog, keep_event

_log = logging.getLogger("pgweir.pool")

# The part of its lifetime that a connection may end early, by chance.
_LIFETIME_SPREAD = 0.1

_LIMIT_NAMES = {
    "database": "max_db_connections",
    "user": "max_user_connections",
    "node": "max_connections of the node",
}


class Growth:
    """Opens the connections of all pools, as far as the limits allow.

    limits_of: the limits that hold for a pool, by what they are about; 0 is none.
    on_failed: called with a pool when a connection of it could not be opened, this time.
    on_refused: called with a pool and the reason when a server has said no for good.
    on_unreachable: called with cluster and node name when a connection to a node failed.
    clock: monotonic seconds.
    """

    def __init__(
        self,
        basins: Basins,
        book: SettingsBook,
        dialler: Dialler,
        *,
        limits_of: Callable[[Pool], Mapping[Key, int]],
        on_failed: Callable[[Pool], None],
        on_refused: Callable[[Pool, ClientError], None],
        on_unreachable: Callable[[str, str], None],
        refusals: LimitedLog,
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._basins = basins
        self._book = book
        self._dialler = dialler
        self._on_failed = on_failed
        self._on_refused = on_refused
        self._on_unreachable = on_unreachable
        self._refusals = refusals
        self._clock = clock
        self._caps = Caps(
            limits_of=limits_of,
            wants=self._wants,
            grant=self._grant,
            on_full=self._note_full,
            clock=clock,
            call_later=call_later,
        )
        # Pools of one connection that somebody waits for who is in no line.
        self._lone: dict[Pool, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    # --- asking --------------------------------------------------------------------------------

    def grow(self, pool: Pool) -> None:
        """Open one more connection as soon as the limits allow it.

        `pool.connecting` counts it already; until it is granted it does so no more.
        """
        pool.connecting -= 1
        self._caps.ask(pool)

    def open_first(self, basin: Basin) -> None:
        """Open a connection where there is none and somebody who comes in waits for one."""
        if not basin.welcomed or basin.line.held:
            return
        for pool in basin.line.pools:
            if not pool.servers and not pool.connecting:
                pool.connecting += 1
                self.grow(pool)

    def use_reserve(self, pool: Pool, policy: Policy) -> None:
        """Open a connection beyond `pool_size` where a client has waited long enough for it."""
        if may_use_reserve(pool, policy):
            pool.connecting += 1
            self.grow(pool)

    def fill(self, pool: Pool, policy: Policy, now_s: float) -> None:
        """Open what `min_pool_size` asks for."""
        missing = policy.min_pool_size - len(pool.servers) - pool.connecting
        spring: Spring = pool.owner
        if spring.waits_until_s > now_s or not self._caps.has_room(pool):
            return
        for _ in range(missing):
            pool.connecting += 1
            self.grow(pool)

    async def seat(self, pool: Pool, policy: Policy) -> None:
        """Wait until the limits allow a connection that is in no line's pool.

        Call `release` when it is gone, or never came. Raises ClientError (53300).
        """
        granted = self._lone[pool] = asyncio.get_running_loop().create_future()
        is_taken = False
        try:
            self._caps.ask(pool, lasting=True)
            async with asyncio.timeout(policy.query_wait_timeout or None):
                await granted
            is_taken = True
        except TimeoutError:
            raise ClientError(
                "53300",
                "no server connection became available within query_wait_timeout",
                hint="A limit on server connections is reached; the proxy's log says which.",
            ) from None
        finally:
            del self._lone[pool]
            if granted.done() and not granted.cancelled() and not is_taken:
                self._caps.release(pool)

    def release(self, pool: Pool) -> None:
        """A connection of the pool is closed."""
        self._caps.release(pool)

    def refresh(self) -> None:
        """Limits may have changed."""
        self._caps.refresh()

    def tick(self) -> None:
        """Several times a second: who waits at a limit may be entitled to more by now."""
        self._caps.tick()

    def stop(self) -> None:
        """Want nothing more; for the end of the process."""
        self._closing = True

    async def close(self) -> None:
        """End what is being opened."""
        ending = list(self._tasks)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)

    # --- limits --------------------------------------------------------------------------------

    def _wants(self, pool: Pool) -> int:
        if (lone := self._lone.get(pool)) is not None:
            return int(not lone.done())
        basin = self._basins.get((pool.database, pool.user))
        if self._closing or basin is None or basin.line.held or pool not in basin.serving:
            return 0
        wanted = pool.wanted
        opened = len(pool.servers) + pool.connecting
        if basin.welcomed and not opened:
            wanted = max(wanted, 1)
        size = pool.size + (basin.policy.reserve_pool_size if is_overdue(pool, basin.policy) else 0)
        return min(wanted, size - opened)

    def _grant(self, pool: Pool) -> None:
        if (lone := self._lone.get(pool)) is not None and not lone.done():
            lone.set_result(None)
            return
        pool.connecting += 1
        task = asyncio.get_running_loop().create_task(self._open(pool))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note_full(self, pool: Pool, key: Key, limit: int) -> None:
        said = "a limit on server connections is reached"
        facts = {
            "limit": _LIMIT_NAMES[key[0]],
            "value": limit,
            "cluster": pool.cluster,
            "node": pool.node,
            "database": pool.database,
            "user": pool.user,
        }
        self._refusals.log(logging.WARNING, said, facts)
        keep_event("limit", said, facts, logging.WARNING, logger=_log.name)

    # --- opening -------------------------------------------------------------------------------

    async def _open(self, pool: Pool) -> None:
        """Task: dial until the pool has its connection, or nobody wants it any more."""
        spring: Spring = pool.owner
        is_there = asks_again = False
        try:
            while not (pool.retired or self._closing):
                pause_s = spring.waits_until_s - self._clock()
                if pause_s > 0:
                    await asyncio.sleep(pause_s)
                    continue
                began_s = self._clock()
                try:
                    dialled = await self._dialler.dial(spring, spring.startup)
                except (Unreachable, PeerError) as failed:
                    self._note_failure(pool, spring, failed)
                    self._on_failed(pool)
                    if not self._is_wanted(pool):
                        return
                    if isinstance(failed, NodeFull):
                        asks_again = self._caps.meet(("node", pool.cluster, pool.node))
                        if asks_again:
                            return
                except ClientError as refused:
                    self._note_failure(pool, spring, refused)
                    self._on_refused(pool, refused)
                    return
                else:
                    spring.failures = 0
                    spring.waits_until_s = 0.0
                    is_there = True
                    dialled.link.opens_from_s = began_s
                    self._enter(pool, spring, dialled)
                    return
        finally:
            pool.connecting -= 1
            if not is_there:
                self._caps.release(pool)
            if asks_again:
                self._caps.ask(pool)

    def _is_wanted(self, pool: Pool) -> bool:
        basin = self._basins.get((pool.database, pool.user))
        if basin is None or basin.line.held or pool not in basin.serving:
            return False
        return bool(pool.waiting or basin.welcomed)

    def _enter(self, pool: Pool, spring: Spring, dialled: Dialled) -> None:
        settings = self._book.of_reported(dialled.parameters)
        basin = self._basins.get((pool.database, pool.user))
        if basin is not None and basin.pools.get(pool.node) is pool:
            basin.greet(write_welcome(dialled.parameters, settings))
        # Connections that were opened together do not all end together.
        early = _LIFETIME_SPREAD * random.random()  # noqa: S311 -- no secret
        dialled.link.ages_from_s = dialled.link.since_s - early * spring.policy.server_lifetime
        dialled.link.enter(pool, dialled.pid, dialled.secret, settings)

    def _note_failure(self, pool: Pool, spring: Spring, failed: Exception) -> None:
        spring.failures += 1
        # The first retry is quick: most failures are a restart's. A little chance keeps many
        # proxies from knocking at the same time.
        retry_s = spring.policy.server_login_retry
        pause_s = min(retry_s, 0.05 * 2.0 ** min(spring.failures - 1, 10))
        spring.waits_until_s = self._clock() + pause_s * (0.75 + 0.5 * random.random())  # noqa: S311
        self._refusals.log(
            logging.WARNING,
            "cannot connect to server",
            {
                "cluster": pool.cluster,
                "node": pool.node,
                "database": pool.database,
                "user": pool.user,
                "reason": str(failed),
            },
        )
        if isinstance(failed, Unreachable):
            self._on_unreachable(pool.cluster, pool.node)
