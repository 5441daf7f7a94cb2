"""All pools of one process: who may connect where, how pools grow, shrink and follow the nodes.

Clients of one (database, user) wait in one relay `Line`; each node that serves it has a relay
`Pool`. The relay says when it wants another connection; a task dials it. When the picture of a
cluster changes, lines are served from other pools and the old ones run dry.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from proxy.auth import Credential
from proxy.config import Policy
from proxy.errors import ClientError, PeerError
from proxy.pool.applying import apply_policy, apply_to_pool, has_deadlines, login_of, tidy_pool
from proxy.pool.basin import Basin, Basins, Spring
from proxy.pool.cancels import Cancels
from proxy.pool.caps import Key
from proxy.pool.dialling import Dialler
from proxy.pool.ended import Ended, routed_by
from proxy.pool.greeting import Greeter
from proxy.pool.growth import Growth
from proxy.pool.holds import EVERYTHING, Holds, Scope
from proxy.pool.nodes import NodePlace
from proxy.pool.serving import Routing, Serving
from proxy.pool.traffic import Traffic, traffic_of
from proxy.pool.welcome import Welcome, write_welcome
from proxy.relay import SESSION_MODE, Line, Pool, Relay, Server
from proxy.server import LoginRefused, Passwords, Place, Unreachable
from proxy.session import SettingsBook, StartupSettings
from proxy.telemetry import BUCKET_BOUNDS_S, LimitedLog, Tally
from proxy.wire import messages

_log = logging.getLogger("pgweir.pool")

# How long reads leave a replica alone that could not be connected to. Short, as it may only have
# been restarted; while the monitor cannot reach it, nobody tries anyhow.
_RESPITE_S = 1.0

_QUEUED = messages.notice_response(
    "00000",
    "waiting in line for a server connection",
    hint="All connections that the limits allow are in use, or no server can be reached.",
)


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
        self._relay = relay
        self._book = book
        self._policy_of = policy_of
        self._clock = clock
        self._refusals = LimitedLog(_log, clock)
        self._basins: Basins = {}
        self._ended = Ended()
        self._serving = Serving(routing, place_of, self._ended)
        self._dialler = Dialler(
            relay, credential_of=credential_of, passwords=passwords, refusals=self._refusals
        )
        self._growth = Growth(
            self._basins,
            book,
            self._dialler,
            limits_of=self._limits_of,
            on_failed=self._note_failure,
            on_refused=self._note_refusal,
            on_unreachable=on_unreachable,
            refusals=self._refusals,
            clock=clock,
            call_later=relay.loop.call_later,
        )
        self._greeter = Greeter(book, self._dialler, self._growth.open_first)
        self._cancels = Cancels(relay)
        self._holds = Holds()
        self._disabled: set[str] = set()

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
        return await self._greeter.welcome(self._basin(database, user), startup)

    def _basin(self, database: str, user: str) -> Basin:
        basin = self._basins.get((database, user))
        if basin is not None and not basin.is_gone:
            return basin
        policy = self._policy_of(database, user)
        if policy is None:
            raise ClientError("3D000", f'database "{database}" does not exist')
        line = Line(database, user, "primary", BUCKET_BOUNDS_S)
        apply_policy(line, policy)
        if basin is not None:
            self._ended.count_basin(basin)
        basin = self._basins[database, user] = Basin(policy, line)
        self._heed_holds(basin)
        self._serving.connect(basin)
        self._serve(basin)
        return basin

    async def dedicate(
        self, database: str, user: str, startup: Mapping[str, str]
    ) -> tuple[Line, Welcome]:
        """Give a client a server connection of its own, such as replication needs.

        startup: parameters that its server is to be dialled with. The line has one pool of one
        connection, which goes when the client does.
        Raises ClientError.
        """
        shared = self._basin(database, user)
        source = await self._greeter.any_pool(shared)
        pool = Pool(source.cluster, source.node, source.role, database, user, 1, 0)
        spring: Spring = source.owner
        spring = pool.owner = Spring(shared.policy, spring.node, {**spring.startup, **startup})
        await self._growth.seat(pool, shared.policy)
        try:
            dialled = await self._dialler.dial(spring, spring.startup)
        except BaseException as failed:
            self._growth.release(pool)
            if isinstance(failed, Unreachable | PeerError):
                raise ClientError("08001", str(failed)) from None
            raise
        line = Line(database, user, source.role, BUCKET_BOUNDS_S)
        apply_policy(line, shared.policy)
        line.mode = SESSION_MODE
        line.tracks_statements = False
        settings = self._book.of_reported(dialled.parameters)
        dialled.link.enter(pool, dialled.pid, dialled.secret, settings)
        self._serving.apart.add(pool)
        line.serve_from([pool])
        return line, write_welcome(dialled.parameters, settings)

    def _serve(self, basin: Basin) -> None:
        self._serving.serve(basin)
        self._growth.open_first(basin)

    # --- nodes ---------------------------------------------------------------------------------

    def publish(self, cluster: str, nodes: tuple[NodePlace, ...]) -> None:
        """A cluster's nodes have changed: serve its lines from those that are right now."""
        self._serving.nodes[cluster] = nodes
        self._greeter.tell_news()
        for basin in list(self._basins.values()):
            if basin.policy.cluster == cluster:
                self._serve(basin)
        self._growth.refresh()

    def adopt(self) -> None:
        """The configuration has changed: go over to what holds now.

        A database that is gone serves those who are in it, and lets nobody else in.
        """
        self._greeter.forget()
        for key, basin in list(self._basins.items()):
            policy = self._policy_of(*key)
            basin.is_gone = policy is None
            if policy is None:
                if not basin.line.clients:
                    self._serving.drop(basin)
                    self._forget(key)
                continue
            before, basin.policy = basin.policy, policy
            self._heed_holds(basin)
            apply_policy(basin.line, policy)
            self._serving.connect(basin)
            if login_of(before) != login_of(policy):
                self._serving.drop(basin)
                basin.welcome = None
            for pool in basin.pools.values():
                apply_to_pool(pool, policy)
                spring: Spring = pool.owner
                spring.policy = policy
            self._serve(basin)
        self._growth.refresh()

    def _forget(self, key: tuple[str, str]) -> None:
        """A line is no more; what passed through it still counts."""
        self._ended.count_basin(self._basins.pop(key))

    def note_replayed(self, cluster: str, node: str, lsn: int, at_s: float) -> None:
        """A replica had replayed all up to `lsn` when it was asked, at `at_s`."""
        for basin in self._basins.values():
            if basin.policy.cluster == cluster and node in basin.pools:
                basin.pools[node].has_replayed(lsn, at_s)

    # --- server connections --------------------------------------------------------------------

    def grow(self, pool: Pool) -> None:
        """Open one more connection as soon as the limits allow it.

        `pool.connecting` counts it already; until it is granted it does so no more.
        """
        self._growth.grow(pool)

    def server_gone(self, pool: Pool) -> None:
        """A connection of the pool is closed."""
        if not pool.servers:
            self._serving.apart.discard(pool)
        self._growth.release(pool)

    def cancel(self, server: Server) -> None:
        """Send a cancel request for what the server runs, then let the relay know."""
        self._cancels.send(server)

    def _limits_of(self, pool: Pool) -> Mapping[Key, int]:
        spring: Spring = pool.owner
        policy = self._policy_of(pool.database, pool.user) or spring.policy
        return {
            ("database", pool.database): policy.max_db_connections,
            ("user", pool.user): policy.max_user_connections,
            ("node", pool.cluster, pool.node): self._serving.room_of(pool),
        }

    def _note_failure(self, pool: Pool) -> None:
        """Reads that have no connection there yet need not wait for one: others can answer them."""
        basin = self._basins.get((pool.database, pool.user))
        if basin is None or pool.servers or pool in basin.line.pools:
            return
        if pool in basin.serving:
            self._shun(basin, pool.node, _RESPITE_S)

    def _shun(self, basin: Basin, node: str, for_s: float) -> None:
        """Leave a node alone that others can read for."""
        basin.shunned[node] = self._clock() + for_s
        self._serve(basin)

    def _note_refusal(self, pool: Pool, refused: ClientError) -> None:
        """The server said no for good: waiting would only turn an answer into a timeout."""
        basin = self._basins.get((pool.database, pool.user))
        if basin is None:
            return
        if pool not in basin.line.pools:
            self._shun(basin, pool.node, basin.policy.server_login_retry)
            return
        if any(each.servers for each in basin.line.pools):
            return
        answer = _answer_to(pool, refused)
        basin.turn_away(answer)
        packet = messages.error_response(
            answer.sqlstate, answer.message, detail=answer.detail, hint=answer.hint
        )
        basin.line.refuse_all(packet, answer.sqlstate)
        if basin.welcome is None and not basin.line.clients:
            # Nobody has ever got in: a name that somebody made up leaves nothing behind.
            self._serving.drop(basin)
            self._forget((pool.database, pool.user))

    # --- time ----------------------------------------------------------------------------------

    def tick(self) -> None:
        """Several times a second: end what has waited or lasted too long."""
        if self._relay.suspended:
            return
        now_s = self._clock()
        if self._relay.has_limits or any(
            has_deadlines(basin.policy) for basin in self._basins.values()
        ):
            self._relay.check_times()
        for basin in self._basins.values():
            self._tick_basin(basin, basin.policy, now_s)
        if self._holds:
            # A connection may have been on its way.
            self._drain_held()
        self._growth.tick()

    def _tick_basin(self, basin: Basin, policy: Policy, now_s: float) -> None:
        for line in basin.lines:
            line.expire(now_s)
            if policy.query_wait_notify and line.waiting:
                line.notify(now_s, policy.query_wait_notify, _QUEUED)
        for pool in basin.serving:
            if pool.checking:
                pool.expire_checks(now_s, policy.server_connect_timeout or math.inf)
            self._growth.use_reserve(pool, policy)

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
                if not basin.line.held:
                    self._growth.fill(pool, policy, now_s)

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
        self._greeter.tell_news()

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

    def _heed_holds(self, basin: Basin) -> None:
        is_held = self._holds.cover(basin.policy.database, basin.policy.cluster)
        if is_held and not basin.line.held:
            basin.line.hold()
        elif basin.line.held and not is_held:
            basin.line.release()
            self._growth.open_first(basin)

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
        for pool in list(self._serving.apart):
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
    def connects(self) -> Tally[tuple[str, str, str]]:
        """Attempts to open a server connection, by cluster, node and outcome."""
        return self._dialler.connects

    @property
    def ended_queries(self) -> Counter[tuple[str, str, str]]:
        """Statements counted by pools that are no more, by (database, node, role)."""
        return self._ended.queries

    @property
    def routed(self) -> Counter[tuple[str, str, str]]:
        """Requests by where they were routed and why: (database, target, reason)."""
        routed = Counter(self._ended.routed)
        for line in (*self.lines, *self.reads):
            routed.update(routed_by(line))
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
            for cluster, nodes in self._serving.nodes.items()
            for node in nodes
            if node.max_connections
        }

    @property
    def pools_apart(self) -> list[Pool]:
        """Pools that still have connections and serve no line, or one client alone."""
        return list(self._serving.apart)

    def traffic(self) -> dict[str, Traffic]:
        """What has passed, by database."""
        found = dict(self._ended.traffic)
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
        self._growth.stop()
        await self._cancels.close()
        await self._growth.close()
        await self._greeter.close()
        for basin in self._basins.values():
            for pool in basin.pools.values():
                pool.retire()
                for server in list(pool.servers):
                    server.close()


def _retire_servers(pool: Pool) -> None:
    for server in list(pool.servers):
        if not server.retiring:
            server.retire()


def _answer_to(pool: Pool, refused: ClientError) -> ClientError:
    """What clients are told of a refusal."""
    is_its_own = isinstance(refused, LoginRefused)
    said = "Said by" if is_its_own else "About the login of the proxy to"
    return ClientError(
        refused.sqlstate if is_its_own else "08001",
        refused.message,
        detail=refused.detail or f"{said} node {pool.node}.",
        hint=refused.hint,
    )
