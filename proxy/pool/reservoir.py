"""All pools of one process: who may connect where, how pools grow, shrink and follow the nodes.

Clients of one (database, user) wait in one relay `Line`; each node that serves it has a relay
`Pool`. The relay says when it wants another connection; a task dials it. When the picture of a
cluster changes, lines are served from other pools and the old ones run dry.
"""

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from proxy.auth import Credential, DerivedKeys, Md5Secret, PlainSecret
from proxy.config import Policy
from proxy.errors import ClientError, PeerError
from proxy.pool.caps import Caps
from proxy.pool.caps import Key as CapKey
from proxy.pool.holds import EVERYTHING, Holds, Scope
from proxy.pool.traffic import Traffic, traffic_of
from proxy.pool.welcome import Welcome, write_welcome
from proxy.relay import (
    RESETS_ALWAYS,
    RESETS_NEVER,
    RESETS_SMARTLY,
    SESSION_MODE,
    STATEMENT_MODE,
    TRANSACTION_MODE,
    Horizon,
    Line,
    Pool,
    Relay,
    Server,
)
from proxy.server import (
    Dialled,
    LoginRefused,
    NodeFull,
    Passwords,
    PasswordUnavailable,
    Place,
    Unreachable,
    dial,
    send_cancel,
)
from proxy.session import FOLLOWED, SettingsBook, StartupSettings
from proxy.session.foresight import calls_pattern
from proxy.telemetry import ALWAYS_TOLD_S, BUCKET_BOUNDS_S, LimitedLog, Tally, keep_event
from proxy.wire import messages

_log = logging.getLogger("pgweir.pool")

RESETS = {"smart": RESETS_SMARTLY, "always": RESETS_ALWAYS, "never": RESETS_NEVER}
MODES = {"session": SESSION_MODE, "transaction": TRANSACTION_MODE, "statement": STATEMENT_MODE}

_TRIALS_AT_A_TIME = 4
# How long the end of the process waits for cancel requests.
_LAST_CANCELS_S = 2.0
# The part of its lifetime that a connection may end early, by chance.
_LIFETIME_SPREAD = 0.1
# Combinations of startup settings whose welcome is remembered.
_MOST_WELCOMES = 1000


_LIMIT_NAMES = {
    "database": "max_db_connections",
    "user": "max_user_connections",
    "node": "max_connections of the node",
}
_QUEUED = messages.notice_response(
    "00000",
    "waiting in line for a server connection",
    hint="All connections that the limits allow are in use, or no server can be reached.",
)


@dataclass(frozen=True, slots=True)
class NodePlace:
    """A node as pools see it.

    role: primary or replica. roles: the operator's words for it. max_connections: server
    connections it takes from us, 0 when that is not known. is_sure: its last probe was answered.
    weight: its share of the reads beside other replicas. is_near: in the proxy's own zone.
    """

    name: str
    place: Place
    role: str
    roles: tuple[str, ...] = ()
    is_up: bool = True
    max_connections: int = 0
    is_sure: bool = True
    weight: int = 1
    is_near: bool = False


class Routing(Protocol):
    """What routes statements, as pools see it."""

    def targets_of(self, policy: Policy) -> tuple[str, ...]:
        """What statements may be routed to beside the primary; nothing where none are."""

    def connect(self, policy: Policy, lines: Mapping[str, Line]) -> None:
        """Let these lines, by target, have what decides between them; `primary` is among them."""

    def horizon_of(self, cluster: str) -> Horizon | None:
        """How far the cluster's nodes are; None where nobody needs to know."""


@dataclass(slots=True)
class _Spring:
    """Where a pool's connections come from."""

    policy: Policy
    node: NodePlace
    startup: Mapping[str, str]
    waits_until_s: float = 0.0
    failures: int = 0


@dataclass(slots=True)
class _Basin:
    """One (database, user): its lines, and what its clients are told at login.

    line: of the primary, or of where the policy sends everything. reads: of what else statements
    are routed to, by target. shunned: nodes that did not let it in, until when.
    """

    policy: Policy
    line: Line
    reads: dict[str, Line] = field(default_factory=dict)
    shunned: dict[str, float] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    welcome: Welcome | None = None
    welcomed: list[asyncio.Future[Welcome]] = field(default_factory=list)
    is_gone: bool = False

    @property
    def lines(self) -> list[Line]:
        return [self.line, *self.reads.values()]

    @property
    def serving(self) -> list[Pool]:
        """Its pools that serve some line now."""
        return list(dict.fromkeys(pool for line in self.lines for pool in line.pools))


class Reservoir:
    """The pools of one process.

    policy_of: what holds for a user in a database, None when there is no such database.
    credential_of: what logs a client's user in to the servers of a cluster, None when unknown.
    place_of: a node's place with the TLS that a policy asks for.
    passwords: where those come from that are not in the configuration itself.
    routing: what routes statements.
    on_unreachable: called with cluster and node name when a connection to a node failed.
    clock: monotonic seconds.
    """

    def __init__(
        self,
        relay: Relay,
        book: SettingsBook,
        *,
        policy_of: Callable[[str, str], Policy | None],
        credential_of: Callable[[str, str], Credential | None],
        place_of: Callable[[Place, Policy], Place],
        passwords: Passwords,
        routing: Routing,
        on_unreachable: Callable[[str, str], None],
        clock: Callable[[], float],
    ) -> None:
        self._routing = routing
        self._relay = relay
        self._book = book
        self._policy_of = policy_of
        self._credential_of = credential_of
        self._place_of = place_of
        self._passwords = passwords
        self._on_unreachable = on_unreachable
        self._clock = clock
        self._derived = DerivedKeys()
        self._basins: dict[tuple[str, str], _Basin] = {}
        self._caps = Caps(
            limits_of=self._limits_of,
            wants=self._wants,
            grant=self._grant,
            on_full=self._note_full,
            clock=clock,
            call_later=relay.loop.call_later,
        )
        # Pools of one connection that somebody waits for who is in no line.
        self._lone: dict[Pool, asyncio.Future[None]] = {}
        self._nodes: dict[str, tuple[NodePlace, ...]] = {}
        self._welcomes: dict[tuple[object, ...], Welcome] = {}
        # These connections are beside the pools: few at a time, whatever clients make up.
        self._trial_places = asyncio.Semaphore(_TRIALS_AT_A_TIME)
        self._trials: dict[tuple[object, ...], asyncio.Task[Welcome]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancels: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._holds = Holds()
        self._disabled: set[str] = set()
        # Pools that serve no line any more, or one client alone, while they have connections.
        self._apart: set[Pool] = set()
        self._ended_traffic: dict[str, Traffic] = {}
        self._closing = False
        self._refusals = LimitedLog(_log, clock)
        # Statements counted by pools that are no more, by (database, node, role).
        self.ended_queries: Counter[tuple[str, str, str]] = Counter()
        # Requests routed to lines that are no more, by (database, target, reason).
        self._ended_routed: Counter[tuple[str, str, str]] = Counter()
        self.connects: Tally[tuple[str, str, str]] = Tally(("", "", "other"))

    # --- clients -------------------------------------------------------------------------------

    def line_of(self, database: str, user: str) -> Line:
        """Give the line in which clients of this user in this database wait.

        Raises ClientError (3D000) when no such database is configured.
        """
        return self._basin(database, user).line

    def policy_of(self, database: str, user: str) -> Policy:
        """Say what holds for a client that comes in.

        Raises ClientError: 3D000, or 55000 while the database is disabled.
        """
        if database in self._disabled:
            raise ClientError(
                "55000",
                f'database "{database}" is not currently accepting connections',
                hint="An administrator has disabled it; ENABLE on the console ends that.",
            )
        return self._basin(database, user).policy

    async def welcome(self, database: str, user: str, startup: StartupSettings) -> Welcome:
        """Say what a new client is told, once a server has been reached.

        Raises ClientError: the server's refusal of the login or of a setting, or 08001.
        """
        basin = self._basin(database, user)
        plain = basin.welcome or await self._first_welcome(basin)
        if not startup.others:
            if startup.application_name is None:
                return plain
            return self._with_application_name(plain, startup.application_name)
        key = (basin.policy.cluster, database, user, *sorted(startup.others.items()))
        known = self._welcomes.get(key)
        if known is None:
            known = await self._tried_once(key, basin, startup)
        if startup.application_name is None:
            return known
        return self._with_application_name(known, startup.application_name)

    def _with_application_name(self, welcome: Welcome, name: str) -> Welcome:
        if welcome.parameters.get("application_name") == name:
            return welcome
        parameters = {**welcome.parameters, "application_name": name}
        settings = self._book.of({**welcome.settings, "application_name": name})
        return write_welcome(parameters, settings)

    async def _first_welcome(self, basin: _Basin) -> Welcome:
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

    def _open_first(self, basin: _Basin) -> None:
        """Open a connection where there is none and somebody who comes in waits for one."""
        if not basin.welcomed or basin.line.held:
            return
        for pool in basin.line.pools:
            if not pool.servers and not pool.connecting:
                pool.connecting += 1
                self.grow(pool)

    async def _tried_once(
        self, key: tuple[object, ...], basin: _Basin, startup: StartupSettings
    ) -> Welcome:
        """Try these settings, unless somebody else is doing so: then share the outcome."""
        trial = self._trials.get(key)
        if trial is None:
            loop = asyncio.get_running_loop()
            trial = self._trials[key] = loop.create_task(self._try_settings(basin, startup))
            trial.add_done_callback(lambda done: self._end_trial(key, done))
        known = await asyncio.shield(trial)
        if len(self._welcomes) >= _MOST_WELCOMES:
            self._welcomes.pop(next(iter(self._welcomes)))
        self._welcomes[key] = known
        return known

    def _end_trial(self, key: tuple[object, ...], done: asyncio.Task[Welcome]) -> None:
        self._trials.pop(key, None)
        if not done.cancelled():
            # All who waited may have left: then nobody asks for it, and that is no fault.
            done.exception()

    async def _any_pool(self, basin: _Basin) -> Pool:
        """Wait until a node serves the line. Raises ClientError (08001) when none does in time."""
        try:
            async with asyncio.timeout(basin.policy.query_wait_timeout or None):
                while not basin.line.pools or basin.line.held:
                    await self._news.wait()
        except TimeoutError:
            raise _unreached(basin.policy.database) from None
        return basin.line.pools[0]

    async def _try_settings(self, basin: _Basin, startup: StartupSettings) -> Welcome:
        """Ask a server what it makes of a client's startup settings."""
        spring: _Spring = (await self._any_pool(basin)).owner
        try:
            async with self._trial_places:
                dialled = await self._dial(spring, {**spring.startup, **startup.others})
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

    def _basin(self, database: str, user: str) -> _Basin:
        basin = self._basins.get((database, user))
        if basin is not None and not basin.is_gone:
            return basin
        policy = self._policy_of(database, user)
        if policy is None:
            raise ClientError("3D000", f'database "{database}" does not exist')
        line = Line(database, user, "primary", BUCKET_BOUNDS_S)
        apply_policy(line, policy)
        if basin is not None:
            self._count_traffic(basin)
        basin = self._basins[database, user] = _Basin(policy, line)
        self._heed_holds(basin)
        self._connect(basin)
        self._serve(basin)
        return basin

    def _connect(self, basin: _Basin) -> None:
        """Give it a line for each target of its statements, and what decides between them."""
        policy = basin.policy
        targets = self._routing.targets_of(policy)
        for target in targets:
            if target not in basin.reads:
                basin.reads[target] = Line(
                    policy.database, policy.user, "replica", BUCKET_BOUNDS_S, target
                )
            apply_policy(basin.reads[target], policy)
        gone = [basin.reads.pop(target) for target in set(basin.reads) - set(targets)]
        if targets:
            self._routing.connect(policy, {"primary": basin.line, **basin.reads})
        else:
            basin.line.router = None
        for line in gone:
            self._ended_routed.update(_routed_by(line))
            line.serve_from([])
            line.send_on()

    async def dedicate(
        self, database: str, user: str, startup: Mapping[str, str]
    ) -> tuple[Line, Welcome]:
        """Give a client a server connection of its own, such as replication needs.

        startup: parameters that its server is to be dialled with. The line has one pool of one
        connection, which goes when the client does: call `release` then.
        Raises ClientError.
        """
        shared = self._basin(database, user)
        source = await self._any_pool(shared)
        pool = Pool(source.cluster, source.node, source.role, database, user, 1, 0)
        spring: _Spring = source.owner
        spring = pool.owner = _Spring(shared.policy, spring.node, {**spring.startup, **startup})
        await self._seat(pool, shared.policy)
        try:
            dialled = await self._dial(spring, spring.startup)
        except BaseException as failed:
            self._caps.release(pool)
            if isinstance(failed, Unreachable | PeerError):
                raise ClientError("08001", str(failed)) from None
            raise
        line = Line(database, user, source.role, BUCKET_BOUNDS_S)
        apply_policy(line, shared.policy)
        line.mode = SESSION_MODE
        line.tracks_statements = False
        settings = self._book.of_reported(dialled.parameters)
        dialled.link.enter(pool, dialled.pid, dialled.secret, settings)
        self._apart.add(pool)
        line.serve_from([pool])
        return line, write_welcome(dialled.parameters, settings)

    async def _seat(self, pool: Pool, policy: Policy) -> None:
        """Wait until the limits allow a connection that is in no line's pool."""
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

    # --- nodes ---------------------------------------------------------------------------------

    def publish(self, cluster: str, nodes: tuple[NodePlace, ...]) -> None:
        """A cluster's nodes have changed: serve its lines from those that are right now."""
        self._nodes[cluster] = nodes
        self._tell_news()
        for basin in list(self._basins.values()):
            if basin.policy.cluster == cluster:
                self._serve(basin)
        self._caps.refresh()

    def _tell_news(self) -> None:
        """Wake who waits for news, and only those."""
        self._news.set()
        self._news = asyncio.Event()

    def adopt(self) -> None:
        """The configuration has changed: go over to what holds now.

        A database that is gone serves those who are in it, and lets nobody else in.
        """
        self._welcomes.clear()
        for key, basin in list(self._basins.items()):
            policy = self._policy_of(*key)
            basin.is_gone = policy is None
            if policy is None:
                if not basin.line.clients:
                    self._drop(basin)
                    self._forget(key)
                continue
            before, basin.policy = basin.policy, policy
            self._heed_holds(basin)
            apply_policy(basin.line, policy)
            self._connect(basin)
            if login_of(before) != login_of(policy):
                self._drop(basin)
                basin.welcome = None
            for pool in basin.pools.values():
                apply_to_pool(pool, policy)
                spring: _Spring = pool.owner
                spring.policy = policy
            self._serve(basin)
        self._caps.refresh()

    def _count_ended(self, pool: Pool) -> None:
        if pool.query_count:
            self.ended_queries[pool.database, pool.node, pool.role] += pool.query_count

    def _count_traffic(self, basin: _Basin) -> None:
        database = basin.policy.database
        before = self._ended_traffic.get(database, Traffic())
        self._ended_traffic[database] = before.plus(traffic_of(basin.line))

    def _forget(self, key: tuple[str, str]) -> None:
        """A line is no more; what passed through it still counts."""
        self._count_traffic(self._basins.pop(key))

    def _retire(self, pool: Pool) -> None:
        """Close it as it becomes free."""
        self._count_ended(pool)
        pool.retire()
        if pool.servers:
            self._apart.add(pool)

    def _drop(self, basin: _Basin) -> None:
        """Close its pools as they become free."""
        for pool in basin.pools.values():
            self._retire(pool)
        basin.pools.clear()
        for line in basin.lines:
            line.serve_from([])

    def _serve(self, basin: _Basin) -> None:
        policy = basin.policy
        known = tuple(
            replace(node, place=self._place_of(node.place, policy))
            for node in self._nodes.get(policy.cluster, ())
        )
        fit = tuple(node for node in known if node.name not in basin.shunned)
        serving = {target: pick_readers(fit, target) for target in basin.reads}
        # What decides about statements also knows where all of a client's go.
        at_home = pick_nodes(known, "primary" if basin.reads else policy.target)
        nodes = list(
            {node.name: node for picked in (at_home, *serving.values()) for node in picked}.values()
        )
        for name, pool in list(basin.pools.items()):
            node = next((node for node in nodes if node.name == name), None)
            if node is None or pool.owner.node.place != node.place or pool.role != node.role:
                del basin.pools[name]
                self._retire(pool)
        for node in nodes:
            if node.name not in basin.pools:
                basin.pools[node.name] = self._new_pool(basin.policy, node)
            basin.pools[node.name].weight = max(node.weight, 1)
            basin.pools[node.name].is_near = node.is_near
        basin.line.serve_from([basin.pools[node.name] for node in at_home])
        for target, picked in serving.items():
            line = basin.reads[target]
            pools = [basin.pools[node.name] for node in picked]
            if pools != line.pools:
                line.serve_from(pools)
                line.send_on()
        self._open_first(basin)

    def _new_pool(self, policy: Policy, node: NodePlace) -> Pool:
        pool = Pool(
            policy.cluster,
            node.name,
            node.role,
            policy.database,
            policy.user,
            policy.pool_size,
            policy.max_prepared_statements,
        )
        apply_to_pool(pool, policy)
        pool.owner = _Spring(policy, node, {"database": policy.dbname, **policy.server_settings})
        pool.horizon = self._routing.horizon_of(policy.cluster)
        return pool

    def note_replayed(self, cluster: str, node: str, lsn: int, at_s: float) -> None:
        """A replica had replayed all up to `lsn` when it was asked, at `at_s`."""
        for basin in self._basins.values():
            if basin.policy.cluster == cluster and node in basin.pools:
                basin.pools[node].has_replayed(lsn, at_s)

    # --- growth --------------------------------------------------------------------------------

    def grow(self, pool: Pool) -> None:
        """Open one more connection as soon as the limits allow it.

        `pool.connecting` counts it already; until it is granted it does so no more.
        """
        pool.connecting -= 1
        self._caps.ask(pool)

    def _grant(self, pool: Pool) -> None:
        if (lone := self._lone.get(pool)) is not None and not lone.done():
            lone.set_result(None)
            return
        pool.connecting += 1
        task = asyncio.get_running_loop().create_task(self._open(pool))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def server_gone(self, pool: Pool) -> None:
        """A connection of the pool is closed."""
        if not pool.servers:
            self._apart.discard(pool)
        self._caps.release(pool)

    def _limits_of(self, pool: Pool) -> Mapping[CapKey, int]:
        spring: _Spring = pool.owner
        policy = self._policy_of(pool.database, pool.user) or spring.policy
        return {
            ("database", pool.database): policy.max_db_connections,
            ("user", pool.user): policy.max_user_connections,
            ("node", pool.cluster, pool.node): self._room_of(pool.cluster, spring.node),
        }

    def _room_of(self, cluster: str, node: NodePlace) -> int:
        """How many connections a node takes, as last published; 0 when that is not known."""
        known = (each for each in self._nodes.get(cluster, ()) if each.name == node.name)
        return next(known, node).max_connections

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

    def _note_full(self, pool: Pool, key: CapKey, limit: int) -> None:
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

    async def _open(self, pool: Pool) -> None:
        """Task: dial until the pool has its connection, or nobody wants it any more."""
        spring: _Spring = pool.owner
        is_there = asks_again = False
        try:
            while not (pool.retired or self._closing):
                pause_s = spring.waits_until_s - self._clock()
                if pause_s > 0:
                    await asyncio.sleep(pause_s)
                    continue
                began_s = self._clock()
                try:
                    dialled = await self._dial(spring, spring.startup)
                except (Unreachable, PeerError) as failed:
                    self._note_failure(pool, spring, failed)
                    if not self._is_wanted(pool):
                        return
                    if isinstance(failed, NodeFull):
                        asks_again = self._caps.meet(("node", pool.cluster, pool.node))
                        if asks_again:
                            return
                except ClientError as refused:
                    self._note_failure(pool, spring, refused)
                    self._refuse_waiting(pool, refused)
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

    async def _dial(self, spring: _Spring, startup: Mapping[str, str]) -> Dialled:
        policy = spring.policy
        node = (policy.cluster, spring.node.name)
        user = policy.user if policy.server_user is None else policy.server_user

        def attempt(credential: Credential | None) -> Awaitable[Dialled]:
            return dial(
                self._relay,
                spring.node.place,
                user=user,
                credential=credential,
                startup=startup,
                derived=self._derived,
                timeout_s=policy.server_connect_timeout,
                first_query=policy.connect_query,
            )

        try:
            credential = await self._credential(policy)
            try:
                dialled = await attempt(credential)
            except LoginRefused as refused:
                if not refused.sqlstate.startswith("28"):
                    raise
                other = await self._other_credential(policy, credential)
                if other is None:
                    raise
                dialled = await attempt(other)
        except Unreachable:
            self.connects.add((*node, "refused"))
            raise
        except PeerError:
            self.connects.add((*node, "protocol_error"))
            raise
        except ClientError:
            self.connects.add((*node, "login_failed"))
            raise
        self.connects.add((*node, "ok"))
        if dialled.complaint is not None:
            facts = {"database": policy.database, "reason": dialled.complaint}
            self._refusals.log(logging.WARNING, "connect_query failed", facts)
        return dialled

    async def _credential(self, policy: Policy) -> Credential | None:
        """What to log in with. Raises Unreachable when a command does not say."""
        if policy.server_user is None:
            return self._credential_of(policy.cluster, policy.user)
        if policy.server_password_source is not None:
            try:
                return PlainSecret(await self._passwords.current(policy.server_password_source))
            except PasswordUnavailable as missing:
                # What a file had when it could be read is better than nothing.
                if policy.server_password is None:
                    raise Unreachable(str(missing)) from None
        if policy.server_password is None:
            # What the user has as a client's, as PgBouncer takes it from its auth_file.
            return self._credential_of(policy.cluster, policy.server_user)
        return PlainSecret(str(policy.server_password))

    async def _other_credential(
        self, policy: Policy, refused: Credential | None
    ) -> Credential | None:
        """What else to log in with, now that a server has refused this."""
        if policy.server_user is None or policy.server_password_source is None:
            # The server may not know the new password yet.
            return refused.old if isinstance(refused, PlainSecret | Md5Secret) else None
        if isinstance(refused, PlainSecret):
            self._passwords.doubt(policy.server_password_source, refused.password)
        renewed = await self._credential(policy)
        return None if renewed == refused else renewed

    def _enter(self, pool: Pool, spring: _Spring, dialled: Dialled) -> None:
        settings = self._book.of_reported(dialled.parameters)
        basin = self._basins.get((pool.database, pool.user))
        if basin is not None and basin.pools.get(pool.node) is pool:
            basin.welcome = write_welcome(dialled.parameters, settings)
            for waiter in basin.welcomed:
                if not waiter.done():
                    waiter.set_result(basin.welcome)
        # Connections that were opened together do not all end together.
        early = _LIFETIME_SPREAD * random.random()  # noqa: S311 -- no secret
        dialled.link.ages_from_s = dialled.link.since_s - early * spring.policy.server_lifetime
        dialled.link.enter(pool, dialled.pid, dialled.secret, settings)

    def _note_failure(self, pool: Pool, spring: _Spring, failed: Exception) -> None:
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

    def _refuse_waiting(self, pool: Pool, refused: ClientError) -> None:
        """The server said no for good: waiting would only turn an answer into a timeout."""
        basin = self._basins.get((pool.database, pool.user))
        if basin is None:
            return
        if pool not in basin.line.pools:
            # Others can read for it: this node is left alone for a while.
            basin.shunned[pool.node] = self._clock() + basin.policy.server_login_retry
            self._serve(basin)
            return
        if any(each.servers for each in basin.line.pools):
            return
        is_its_own = isinstance(refused, LoginRefused)
        said = "Said by" if is_its_own else "About the login of the proxy to"
        answer = ClientError(
            refused.sqlstate if is_its_own else "08001",
            refused.message,
            detail=refused.detail or f"{said} node {pool.node}.",
            hint=refused.hint,
        )
        for waiter in basin.welcomed:
            if not waiter.done():
                waiter.set_exception(answer)
                # Its client may have left: then nobody asks for it, and that is no fault.
                waiter.exception()
        packet = messages.error_response(
            answer.sqlstate, answer.message, detail=answer.detail, hint=answer.hint
        )
        basin.line.refuse_all(packet, answer.sqlstate)
        if basin.welcome is None and not basin.line.clients:
            # Nobody has ever got in: a name that somebody made up leaves nothing behind.
            self._drop(basin)
            self._forget((pool.database, pool.user))

    # --- cancel --------------------------------------------------------------------------------

    def cancel(self, server: Server) -> None:
        """Send a cancel request for what the server runs, then let the relay know."""
        spring: _Spring = server.pool.owner
        task = asyncio.get_running_loop().create_task(self._cancel(server, spring))
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    async def _cancel(self, server: Server, spring: _Spring) -> None:
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

    # --- time ----------------------------------------------------------------------------------

    def tick(self) -> None:
        """Several times a second: end what has waited or lasted too long."""
        if self._relay.suspended:
            return
        now_s = self._clock()
        if self._relay.has_limits or any(
            _has_deadlines(basin.policy) for basin in self._basins.values()
        ):
            self._relay.check_times()
        for basin in self._basins.values():
            self._tick_basin(basin, basin.policy, now_s)
        if self._holds:
            # A connection may have been on its way.
            self._drain_held()
        self._caps.tick()

    def _tick_basin(self, basin: _Basin, policy: Policy, now_s: float) -> None:
        for line in basin.lines:
            line.expire(now_s)
            if policy.query_wait_notify and line.waiting:
                line.notify(now_s, policy.query_wait_notify, _QUEUED)
        for pool in basin.serving:
            if pool.checking:
                pool.expire_checks(now_s, policy.server_connect_timeout or math.inf)
            if may_use_reserve(pool, policy):
                pool.connecting += 1
                self.grow(pool)

    def tidy(self) -> None:
        """Once a second: close what is idle or old, open what `min_pool_size` asks for."""
        now_s = self._clock()
        self._refusals.report_ended()
        for basin in self._basins.values():
            policy = basin.policy
            over = [node for node, until_s in basin.shunned.items() if until_s <= now_s]
            for node in over:
                del basin.shunned[node]
            if over:
                self._serve(basin)
            for pool in basin.serving:
                tidy_pool(pool, policy, now_s)
                if basin.line.held:
                    continue
                missing = policy.min_pool_size - len(pool.servers) - pool.connecting
                spring: _Spring = pool.owner
                if spring.waits_until_s > now_s or not self._caps.has_room(pool):
                    continue
                for _ in range(missing):
                    pool.connecting += 1
                    self.grow(pool)

    # --- what an administrator or a failover asks for ------------------------------------------

    def hold(self, scope: Scope, *, drain: bool = False) -> None:
        """Give nobody a server connection any more: new statements wait.

        Who has one keeps it to the end of its transaction, or of its session.
        drain: close server connections as they become free; `server_count` says when all are gone.
        """
        self._holds.add(scope, drain=drain)
        for basin in self._basins.values():
            self._heed_holds(basin)
        self._drain_held()

    def release(self, scope: Scope) -> None:
        """Go on after a `hold` of the same scope."""
        self._holds.remove(scope)
        for basin in list(self._basins.values()):
            self._heed_holds(basin)
        self._tell_news()

    def is_held(self, scope: Scope) -> bool:
        """Whether there was a `hold` of this very scope."""
        return scope in self._holds

    @property
    def held(self) -> list[Scope]:
        """All scopes that are held."""
        return self._holds.scopes

    def is_paused(self, database: str) -> bool:
        """Whether server connections of the whole database are held back."""
        return any(scope in self._holds for scope in (EVERYTHING, Scope(database=database)))

    def _heed_holds(self, basin: _Basin) -> None:
        is_held = self._holds.cover(basin.policy.database, basin.policy.cluster)
        if is_held and not basin.line.held:
            basin.line.hold()
        elif basin.line.held and not is_held:
            basin.line.release()
            self._open_first(basin)

    def _drain_held(self) -> None:
        for pool in self._pools():
            if pool.servers and self._holds.drain(pool.database, pool.cluster):
                _retire_servers(pool)

    def _pools(self, scope: Scope = EVERYTHING) -> Iterator[Pool]:
        """All pools, those that run dry included."""
        for basin in list(self._basins.values()):
            for pool in list(basin.pools.values()):
                if scope.covers(pool.database, pool.cluster):
                    yield pool
        for pool in list(self._apart):
            if scope.covers(pool.database, pool.cluster):
                yield pool

    def reconnect(self, scope: Scope) -> None:
        """Close the server connections as they become free; others are opened when needed."""
        for pool in self._pools(scope):
            _retire_servers(pool)

    def drop(self, scope: Scope) -> None:
        """Close the server connections at once."""
        for server in self.servers(scope):
            server.lose(b"an administrator closed it")

    def servers(self, scope: Scope = EVERYTHING) -> list[Server]:
        """All server connections."""
        return [server for pool in self._pools(scope) for server in list(pool.servers)]

    def servers_on(self, cluster: str, node: str) -> list[Server]:
        """All server connections to a node."""
        return [
            server for server in self.servers(Scope(cluster=cluster)) if server.pool.node == node
        ]

    def server_count(self, scope: Scope) -> int:
        """How many server connections there are or are being opened."""
        return sum(len(pool.servers) + pool.connecting for pool in self._pools(scope))

    def disable(self, database: str) -> None:
        """Let no new clients into this database; those who are in stay."""
        self._disabled.add(database)

    def enable(self, database: str) -> None:
        """Let clients in again."""
        self._disabled.discard(database)

    def is_disabled(self, database: str) -> bool:
        """Whether `disable` holds for it."""
        return database in self._disabled

    # --- figures -------------------------------------------------------------------------------

    @property
    def lines(self) -> list[Line]:
        """All lines that clients belong to."""
        return [basin.line for basin in self._basins.values()]

    @property
    def reads(self) -> list[Line]:
        """All lines of what else statements are routed to."""
        return [line for basin in self._basins.values() for line in basin.reads.values()]

    @property
    def routed(self) -> Counter[tuple[str, str, str]]:
        """Requests by where they were routed and why: (database, target, reason)."""
        routed = Counter(self._ended_routed)
        for line in (*self.lines, *self.reads):
            routed.update(_routed_by(line))
        return routed

    @property
    def pools(self) -> list[Pool]:
        """All pools that serve a line."""
        return [pool for basin in self._basins.values() for pool in basin.serving]

    @property
    def node_limits(self) -> dict[tuple[str, str], int]:
        """Server connections that nodes take, by cluster and node, of those with a limit."""
        return {
            (cluster, node.name): node.max_connections
            for cluster, nodes in self._nodes.items()
            for node in nodes
            if node.max_connections
        }

    @property
    def pools_apart(self) -> list[Pool]:
        """Pools that still have connections and serve no line, or one client alone."""
        return list(self._apart)

    def traffic(self) -> dict[str, Traffic]:
        """What has passed, by database."""
        found = dict(self._ended_traffic)
        for basin in self._basins.values():
            database = basin.policy.database
            found[database] = found.get(database, Traffic()).plus(traffic_of(basin.line))
        return found

    def pools_of(self, line: Line) -> list[Pool]:
        """All pools that serve the clients of a line, by whichever target."""
        basin = self._basins.get((line.database, line.user))
        return list(line.pools) if basin is None or basin.line is not line else basin.serving

    def waiting_of(self, line: Line) -> int:
        """Clients of a line that wait for a server connection, by whichever target."""
        basin = self._basins.get((line.database, line.user))
        lines = [line] if basin is None or basin.line is not line else basin.lines
        return sum(each.waiting for each in lines)

    @property
    def policies(self) -> list[tuple[Policy, Line]]:
        """All lines with what holds for them."""
        return [(basin.policy, basin.line) for basin in self._basins.values()]

    async def close(self) -> None:
        """Close all server connections; for the end of the process."""
        self._closing = True
        if self._cancels:
            # What clients left running is not to run on for nobody.
            await asyncio.wait(self._cancels, timeout=_LAST_CANCELS_S)
        ending = [*self._tasks, *self._cancels, *self._trials.values()]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        for basin in self._basins.values():
            for pool in basin.pools.values():
                pool.retire()
                for server in list(pool.servers):
                    server.close()


def _retire_servers(pool: Pool) -> None:
    for server in list(pool.servers):
        if not server.retiring:
            server.retire()


def _routed_by(line: Line) -> dict[tuple[str, str, str], int]:
    return {
        (line.database, line.target, reason): count for reason, count in line.routed_counts.items()
    }


def _has_deadlines(policy: Policy) -> bool:
    return bool(
        policy.query_timeout
        or policy.transaction_timeout
        or policy.idle_transaction_timeout
        or policy.client_idle_timeout
    )


def _unreached(database: str) -> ClientError:
    return ClientError(
        "08001",
        f'no server for database "{database}" could be reached in time',
        hint="The proxy's log has the reason.",
    )


def login_of(policy: Policy) -> tuple[object, ...]:
    """What a server connection cannot change after its login."""
    return (
        policy.cluster,
        policy.dbname,
        policy.server_user,
        # One that is meant to change ends no connection that was opened with another.
        policy.server_password_source or str(policy.server_password),
        dict(policy.server_settings),
        policy.connect_query,
    )


def apply_policy(line: Line, policy: Policy) -> None:
    """Give a line the limits that hold for it."""
    line.mode = MODES[policy.pool_mode]
    line.share_unnamed = policy.share_unnamed and line.mode != SESSION_MODE
    line.tracks_statements = line.mode != SESSION_MODE and policy.max_prepared_statements > 0
    line.max_statement_bytes = policy.max_statement_bytes
    line.max_client_statements = policy.max_client_statements
    line.slow_s = min(ALWAYS_TOLD_S, policy.log_min_duration or math.inf)
    line.tells_all = policy.audited
    line.tells_traced = policy.traced
    line.refuses_pins = policy.pins == "refuse"
    line.session_functions = calls_pattern(policy.session_functions)
    line.wait_timeout_s = policy.query_wait_timeout
    line.query_timeout_s = policy.query_timeout
    line.transaction_timeout_s = policy.transaction_timeout
    line.idle_transaction_timeout_s = policy.idle_transaction_timeout
    line.client_idle_timeout_s = policy.client_idle_timeout


def apply_to_pool(pool: Pool, policy: Policy) -> None:
    """Give a pool the limits that hold for it."""
    pool.size = policy.pool_size
    pool.max_prepared = policy.max_prepared_statements
    pool.reset = RESETS[policy.server_reset]
    pool.lifetime_s = policy.server_lifetime
    pool.check_query = policy.server_check_query.encode()
    pool.fresh_s = policy.server_check_delay if policy.server_check_query else math.inf


def is_overdue(pool: Pool, policy: Policy) -> bool:
    """Whether a client has waited long enough for a connection beyond `pool_size`."""
    if not (policy.reserve_pool_size and policy.reserve_pool_timeout and pool.wanted):
        return False
    return pool.longest_wait_s >= policy.reserve_pool_timeout


def may_use_reserve(pool: Pool, policy: Policy) -> bool:
    """Whether the pool is to open a connection of its reserve."""
    opened = len(pool.servers) + pool.connecting
    in_reserve = pool.size <= opened < pool.size + policy.reserve_pool_size
    return in_reserve and not pool.capped and is_overdue(pool, policy)


def pick_nodes(nodes: tuple[NodePlace, ...], target: str) -> list[NodePlace]:
    """The nodes that serve a target now: the primary, the replicas, or those with that role.

    Without a node for the target it is the primary: an answer that is late is better than none.
    """
    primary = [node for node in nodes if node.role == "primary"]
    if target == "primary":
        return primary
    if target == "replica":
        wanted = [node for node in nodes if node.role == "replica" and node.is_up]
    else:
        wanted = [node for node in nodes if target in node.roles and node.is_up]
    return wanted or primary


def pick_readers(nodes: tuple[NodePlace, ...], target: str) -> list[NodePlace]:
    """The nodes that statements may be sent to which are for replicas, or for that role: none but
    those that answered their last probe, while there are any."""
    if target == "replica":
        wanted = [node for node in nodes if node.role == "replica" and node.is_up and node.weight]
    else:
        wanted = [node for node in nodes if target in node.roles and node.is_up]
    return [node for node in wanted if node.is_sure] or wanted


def tidy_pool(pool: Pool, policy: Policy, now_s: float) -> None:
    """Close idle connections: the old, those unused for long, and those beyond the pool's size."""
    for server in list(pool.idle):
        count = len(pool.servers)
        is_old = 0 < policy.server_lifetime < now_s - server.ages_from_s
        is_unused = 0 < policy.server_idle_timeout < now_s - server.idle_since_s
        if is_old or count > policy.pool_size or (is_unused and count > policy.min_pool_size):
            server.retire()
    # It has been made smaller: busy ones go as they become free.
    excess = len(pool.servers) - policy.pool_size - policy.reserve_pool_size
    pool.yields = max(pool.yields, excess)
