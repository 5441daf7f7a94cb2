"""One process of the proxy: every room, put together.

What a low room needs from a high one is handed to it here. This is also the `Control` that the
relay talks to.
"""

import asyncio
import errno
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import proxy
from proxy.auth import (
    USUAL_SECRET,
    Credential,
    Md5Secret,
    PlainSecret,
    Verifiers,
    read_admission,
)
from proxy.channels import Hub
from proxy.channels import Place as ChannelPlace
from proxy.client import Directory, Door, DoorTerms, Inquiry
from proxy.client.door import facts_of
from proxy.cluster import (
    ClusterView,
    Monitor,
    NodeAddress,
    ProbeLogin,
    cast_nodes,
)
from proxy.config import (
    Change,
    Cluster,
    Config,
    ConfigError,
    Listen,
    Policy,
    changes_between,
    reload_secrets,
    secret_files,
)
from proxy.console import (
    ExporterMetrics,
    HttpEndpoint,
    Levers,
    Pin,
    Reception,
    Scene,
    Shutdown,
    StatusPage,
    Steering,
    render_status,
)
from proxy.errors import ClientError
from proxy.failover import (
    Event,
    EventLog,
    Failover,
    Hands,
)
from proxy.pool import NodePlace, Reservoir
from proxy.relay import About, Client, Decision, Ended, Link, Pool, Relay, Router, Server
from proxy.routing import Rule
from proxy.server import Passwords, Place
from proxy.session import Settings, SettingsBook
from proxy.session.asking import SessionAnswer, SessionQuestion
from proxy.session.following import Question, Touched, merge, read_touched
from proxy.session.foresight import explained, pin_foreseen, read_listened, write_explanation
from proxy.session.statements import write_switch
from proxy.tasks import in_thread
from proxy.telemetry import (
    BUCKET_BOUNDS_S,
    Figures,
    LimitedLog,
    LoopLag,
    build_registry,
)
from proxy.watch import Watch
from proxy.wire import messages
from proxy.workers.company import Company
from proxy.workers.encryption import asked_of_nodes, read_contexts
from proxy.workers.observing import Observer
from proxy.workers.pinned import Pinned
from proxy.workers.reading import read_figures
from proxy.workers.share import Share
from proxy.workers.switchboard import Switchboard
from proxy.workers.terms import (
    ask_password,
    new_monitor,
    open_log,
    probe_login,
    read_failover,
    read_inquiry,
    read_lease,
    read_places,
    read_roster,
    read_tcp,
    read_terms,
    room_of,
)

_log = logging.getLogger("pgweir")
_client_log = logging.getLogger("pgweir.client")
_server_log = logging.getLogger("pgweir.server")

_TICK_S = 0.1
_TIDY_S = 1.0
# How long a closing link may take over its last bytes.
_LINGER_S = 5.0
# How often we look whether the process before us has closed its HTTP endpoint.
_LATE_S = 0.2
# What processes tell each other when one of them is asked to /drain.
_DRAIN = "DRAIN"


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of reading the configuration again: why it is refused, or what has changed."""

    refusal: str | None = None
    changes: Sequence[Change] = ()


class Worker:
    """One process. `start` it, then `stop` it once; `reached` tells whether a primary is there."""

    def __init__(self, config: Config, share: Share | None = None) -> None:
        self._share = share
        self._company = Company(
            share,
            figures=self.figures,
            cancel=self._cancel_by_key,
            obey=self._obey,
        )
        self._config = config = self._company.part(config)
        loop = asyncio.get_running_loop()
        self._loop = loop
        clock = time.monotonic
        self._book = SettingsBook()
        self._passwords = Passwords(clock)
        self._relay = Relay(loop, self, BUCKET_BOUNDS_S)
        self._roster = read_roster(config)
        self._verifiers = Verifiers(os.urandom(32)) if share is None else share.verifiers
        admission = read_admission(config)
        self._contexts = read_contexts(config, {})
        self._places = read_places(config, self._contexts)
        self._directory = self._new_directory(read_inquiry(config, self._passwords))
        self._terms = read_terms(config, self._roster, admission, self._directory)
        self._monitors: dict[str, Monitor] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._switchboard = Switchboard(
            config,
            primary_of=self._primary_of,
            login_of=self._login_of,
            pace=lambda name, interval_s: self._monitors[name].set_interval(interval_s),
            on_rotation=lambda name: self._failovers[name].see(self._monitors[name].view),
            clock=clock,
        )
        self._failovers: dict[str, Failover] = {}
        self._events = EventLog(time.time)
        self._reservoir = Reservoir(
            self._relay,
            self._book,
            policy_of=self._policy_of,
            credential_of=self._credential_of,
            place_of=self._place_of,
            passwords=self._passwords,
            routing=self._switchboard,
            on_unreachable=self._poke,
            clock=clock,
        )
        self._observer = Observer(self._relay, self._reservoir, lambda: self._config)
        self._reload: Callable[[], Awaitable[Reloaded]] | None = None
        self._shut_down: Callable[[Shutdown], None] | None = None
        scene = Scene(
            self._relay,
            self._reservoir,
            config=lambda: self._config,
            views=lambda: [monitor.view for monitor in self._monitors.values()],
            strangers=lambda: self._door.stranger_count,
            pins=self.pins,
            events=self._observer.events.newest,
            queries=self._observer.queries.top,
        )
        levers = Levers(
            self._reload_for_console,
            self.adopt,
            self._shut_down_for_console,
            self.failover,
            self._company.have_others_obey,
        )
        self._reception = Reception(scene, levers, lambda: self._config)
        self._door = Door(
            self._relay,
            self._reservoir,
            self._reception,
            terms=lambda: self._terms,
            verifiers=self._verifiers,
            clock=clock,
            beside=self._company.beside,
        )
        for name, cluster in config.clusters.items():
            self._watch_over(name, cluster)
        self._clock_task: asyncio.Task[None] | None = None
        self._loop_lag = LoopLag(loop)
        self._bugs = LimitedLog(_log, clock)
        self._pinned = Pinned(self._policy_of_client, clock)
        self._hub = Hub(self._primary_of, self._ear_login, self._notifier_of)
        self._http: HttpEndpoint | None = None
        self._secrets = Watch(secret_files(config))
        self._adopting = asyncio.Lock()
        self._reading_secrets: asyncio.Task[None] | None = None
        self._late_http: asyncio.Task[None] | None = None
        self._telling_others: asyncio.Task[None] | None = None
        self._emptying: asyncio.Task[None] | None = None
        self._stopping = False
        self._hurried = False

    # --- life ----------------------------------------------------------------------------------

    async def start(
        self, inherited: Sequence[socket.socket] = (), *, is_successor: bool = False
    ) -> dict[str, object]:
        """Begin to serve. Result: the addresses, for the log.

        inherited: sockets that are listened on already, in place of those of the configuration.
        is_successor: another process is about to end, whose HTTP endpoint goes last.
        Raises OSError when an address is taken; it may be tried again then.
        """
        config = self._config
        await self._prepare(config, self._terms)
        try:
            facts = self._listen(config.listen, inherited)
        except OSError:
            self._door.close()
            raise
        await self._company.start()
        if (http := config.http) is not None:
            self._http = HttpEndpoint(
                http.host,
                http.port,
                build_registry(
                    lambda: self._company.together(self.figures()),
                    ExporterMetrics(
                        self._reception.desk, lambda: self._config.compat.pgbouncer_metrics
                    ),
                ),
                lambda: True,
                self.why_not_ready,
                page=StatusPage(self.status, self._company.listen_to_others),
                drain=self._empty_all,
                # A reload that drops the section does not stop the endpoint, nor open it.
                auth=lambda: (self._config.http or http).auth,
                prepare=self._company.listen_to_others,
                sock=None if self._share is None else self._share.http,
            )
            try:
                await self._http.start()
                facts["http"] = f"{http.host}:{self._http.port}"
            except OSError as refused:
                if not is_successor or refused.errno != errno.EADDRINUSE:
                    self._door.close()
                    raise
                self._late_http = self._loop.create_task(self._start_http_late(self._http))
        self._loop.add_reader(self._relay.fileno(), self._relay.poll)
        for name in self._monitors:
            self._publish_unasked(name)
            self._watching[name] = self._loop.create_task(self._watch(name))
        self._clock_task = self._loop.create_task(self._keep_time())
        self._loop_lag.start()
        self._observer.start()
        self._door.open()
        return facts

    async def _start_http_late(self, http: HttpEndpoint) -> None:
        """Task: open the HTTP endpoint once the process before us has closed its own."""
        while True:
            await asyncio.sleep(_LATE_S)
            try:
                await http.start()
            except OSError as refused:
                if refused.errno == errno.EADDRINUSE:
                    continue
                _log.error("no HTTP endpoint", extra={"facts": {"reason": refused.strerror}})
            return

    def _listen(self, listen: Listen, inherited: Sequence[socket.socket]) -> dict[str, object]:
        if inherited:
            port, path = self._door.take_over(inherited, listen.backlog)
        else:
            port = self._door.listen(
                listen.host,
                listen.port,
                listen.backlog,
                read_tcp(self._config),
                is_shared=listen.so_reuseport,
            )
            path = None
            if listen.unix_socket_dir is not None:
                path = self._door.listen_unix(
                    listen.unix_socket_dir,
                    port,
                    listen.backlog,
                    int(listen.unix_socket_mode, 8),
                    listen.unix_socket_group,
                )
        facts: dict[str, object] = {"host": listen.host or "none", "port": port}
        if path is not None:
            facts["unix"] = str(path)
        return facts

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    @property
    def steering(self) -> Steering:
        """What an administrator may have it do."""
        return self._reception.steering

    def attend(
        self,
        reload: Callable[[], Awaitable[Reloaded]],
        shut_down: Callable[[Shutdown], None],
    ) -> None:
        """Say who does for administrators what is not this worker's.

        reload: reads the configuration again. shut_down: begins to
        end the process.
        """
        self._reload, self._shut_down = reload, shut_down

    async def _reload_for_console(self) -> Sequence[str]:
        done = Reloaded("nobody reads it again") if self._reload is None else await self._reload()
        if done.refusal is not None:
            text = "RELOAD failed: the old configuration holds"
            raise ClientError("F0000", text, detail=done.refusal)
        return [str(change) for change in done.changes]

    def _shut_down_for_console(self, when: Shutdown) -> None:
        if self._shut_down is None:
            raise ClientError("0A000", "nobody ends this process")
        self._shut_down(when)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What in it was accepted and does nothing, one line each."""
        return (*self._config.warnings, *self._terms.admission.warnings)

    def part(self, config: Config) -> Config:
        """What of a configuration this process has, of several."""
        return self._company.part(config)

    async def adopt(self, config: Config) -> tuple[Change, ...]:
        """Go over to another configuration, as `_go_over`; one at a time."""
        async with self._adopting:
            return await self._go_over(config)

    async def _go_over(self, config: Config) -> tuple[Change, ...]:
        """Go over to another configuration. Result: what has changed, and when it holds.

        Nobody is disconnected: users and TLS hold for the next login, limits at once, and server
        connections to what is no longer right are closed as they become free.
        Raises ConfigError when a rule for logins is wrong, OSError or ssl.SSLError when a TLS file
        is unusable; then nothing has changed.
        """
        roster = read_roster(config)
        admission = await in_thread(read_admission, config)
        directory = self._directory
        if (inquiry := read_inquiry(config, self._passwords)) != (directory and directory.inquiry):
            directory = self._new_directory(inquiry)
        terms = read_terms(config, roster, admission, directory)
        contexts = read_contexts(config, self._contexts)
        places = read_places(config, contexts)
        await self._prepare(config, terms)
        open_log(config.log)
        before, self._config = self._config, config
        self._secrets = Watch(secret_files(config))
        self._roster, self._terms = roster, terms
        self._contexts, self._places = contexts, places
        tcp = read_tcp(config)
        if not (same_tcp := read_tcp(before) == tcp):
            self._door.adopt(tcp)
        if self._directory is not None and self._directory is not directory:
            self._directory.close()
        self._directory = directory
        self._switchboard.adopt(config)
        for name in set(self._monitors) - set(config.clusters):
            del self._monitors[name], self._failovers[name]
            self._watching.pop(name).cancel()
            self._reservoir.publish(name, ())
        for name, cluster in config.clusters.items():
            is_same = name in before.clusters and before.clusters[name] == cluster
            if not is_same or before.monitor_login(name) != config.monitor_login(name):
                self._watch_anew(name, cluster)
            elif not same_tcp:
                self._failovers[name].see(self._monitors[name].view)
        self._reservoir.adopt()
        return changes_between(before, config)

    async def _prepare(self, config: Config, terms: DoorTerms) -> None:
        """Make verifiers and decoys ready for these users."""
        methods = terms.admission.rules.methods
        await in_thread(
            terms.roster.prepare,
            self._verifiers,
            derive=not methods.isdisjoint(("scram-sha-256", "password")),
            beside=(USUAL_SECRET,) if config.has_query else (),
        )

    def _new_directory(self, inquiry: Inquiry | None) -> Directory | None:
        return None if inquiry is None else Directory(inquiry, self._primary_of, time.monotonic)

    def _primary_of(self, cluster: str) -> NodeAddress | None:
        if cluster not in self._monitors:
            return None
        serve_from = self._config.clusters[cluster].serve_from
        serving = cast_nodes(self._monitors[cluster].view, serve_from)
        return next((node.address for node, part in serving if part == "primary"), None)

    def _watch_over(self, name: str, cluster: Cluster) -> None:
        """A cluster's monitor, and who acts on what it sees; both know what those before knew."""
        before = self._monitors.get(name)
        login = self._login_of(name, cluster.monitor.dbname)
        lease = read_lease(name, cluster, self._config.workers)
        if name in self._failovers:
            self._failovers[name].adopt(read_failover(cluster), login, lease)
        else:
            hands = Hands(self._publish, self._cut, self._count_servers)
            self._failovers[name] = Failover(
                name,
                read_failover(cluster),
                login,
                hands,
                lease=lease,
                events=self._events,
                clock=time.monotonic,
            )
        failover = self._failovers[name]
        self._monitors[name] = new_monitor(
            name,
            cluster,
            login,
            publish=failover.see,
            observe=self._observe,
            known=None if before is None else before.view,
        )
        failover.watch(self._monitors[name])

    def _login_of(self, cluster: str, dbname: str) -> ProbeLogin:
        whom = self._config.monitor_login(cluster)
        return probe_login(self._config.clusters[cluster], whom, dbname, self._passwords)

    def _observe(self, view: ClusterView) -> None:
        self._switchboard.observe(view, self._reservoir)
        self._relay.unpark()

    def _watch_anew(self, name: str, cluster: Cluster) -> None:
        """A cluster has changed."""
        if name in self._watching:
            self._watching[name].cancel()
        self._watch_over(name, cluster)
        self._failovers[name].see(self._monitors[name].view)
        self._watching[name] = self._loop.create_task(self._watch(name))

    async def _watch(self, name: str) -> None:
        """Task: watch a cluster and act, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._monitors[name].run())
            group.create_task(self._failovers[name].run())

    async def stop(self, *, patience_s: float | None, waits_for_clients: bool = False) -> None:
        """Accept nobody any more, let transactions finish, then close everything.

        patience_s: how long to wait for them; None is for ever, 0 not at all.
        waits_for_clients: until they leave of their own accord.
        """
        if self._stopping:
            return
        self._stopping = True
        self._door.close()
        if self._relay.suspended:
            self._relay.resume(self._reservoir.servers())
        await self._drain(patience_s, dismisses=not waits_for_clients)
        for client in list(self._relay.clients.values()):
            client.dismiss("57P01", "the proxy is shutting down")
        tasks = [*self._watching.values(), *self._switchboard.close()]
        if self._clock_task is not None:
            tasks.append(self._clock_task)
        started = (self._reading_secrets, self._late_http, self._emptying)
        tasks += [task for task in started if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._directory is not None:
            self._directory.close()
        await self._hub.aclose()
        self._passwords.close()
        await self._reception.close()
        await self._reservoir.close()
        await self._company.stop()
        if self._http is not None:
            await self._http.stop()
        self._loop_lag.stop()
        await self._observer.stop()
        self._loop.remove_reader(self._relay.fileno())
        self._relay.close()

    def empty(self, after_s: float) -> int:
        """Be not ready from now on; after a while accept nobody, and send clients away as their
        transactions end. Result: how many there are still. Asked again, it only says that."""
        if self._emptying is None and not self._stopping:
            _log.info("draining", extra={"facts": {"after_s": after_s}})
            self._emptying = self._loop.create_task(self._empty(after_s))
        return len(self._relay.clients)

    async def _empty(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._door.close()
        self._company.close_door()
        await self._drain(None, dismisses=True)
        _log.info("drained")

    def hurry(self) -> None:
        """Wait for transactions no longer: somebody asked a second time."""
        self._hurried = True

    async def _drain(self, patience_s: float | None, *, dismisses: bool) -> None:
        """Wait until all clients are gone. dismisses: send them away as their transactions end."""
        until_s = None if patience_s is None else time.monotonic() + patience_s
        while not self._hurried:
            for client in list(self._relay.clients.values()) if dismisses else ():
                # Who waits while all is paused would wait for ever.
                if client.is_idle or (client.is_waiting and client.line.held):
                    client.dismiss("57P01", "the proxy is shutting down")
            if not self._relay.clients:
                return
            if until_s is not None and time.monotonic() >= until_s:
                _log.warning(
                    "shutdown_timeout is over",
                    extra={"facts": {"clients": len(self._relay.clients)}},
                )
                return
            await asyncio.sleep(0.02)

    async def _keep_time(self) -> None:
        """Task: the coarse tick."""
        tidy_at_s = 0.0
        while True:
            try:
                self._reservoir.tick()
                self._relay.unpark()
                self._switchboard.tick({name: each.view for name, each in self._monitors.items()})
                now_s = time.monotonic()
                if now_s >= tidy_at_s:
                    tidy_at_s = now_s + _TIDY_S
                    self._reservoir.tidy()
                    self._pinned.enforce()
                    self._hub.tidy()
                    self._door.tick()
                    self._terms.judges.tick()
                    self._reception.tick()
                    if self._directory is not None:
                        self._directory.tick()
                    self._look_at_files()
                    self._observer.tick([monitor.view for monitor in self._monitors.values()])
                    self._bugs.report_ended()
            except Exception as bug:  # noqa: BLE001 -- top of a task: time must go on
                self._bugs.log(logging.ERROR, "the tick failed", {}, bug)
            await asyncio.sleep(_TICK_S)

    def _look_at_files(self) -> None:
        asked = (self._contexts[tls] for tls in asked_of_nodes(self._config))
        for each in (self._terms.tls, *asked):
            if each is not None:
                each.look()
        if self._secrets.has_changed() and not self._adopting.locked():
            self._reading_secrets = self._loop.create_task(self._read_secrets())

    async def _read_secrets(self) -> None:
        """Task: passwords in files have changed; use them, or say why not and try again."""
        try:
            async with self._adopting:
                watch = self._secrets
                config = await in_thread(reload_secrets, self._config, os.environ)
                config = self._company.part(config)
                watch.settle()
                config = self._reception.steering.with_changes(config)
                if config == self._config:
                    return
                await self._go_over(config)
        except (ConfigError, ClientError, OSError, ValueError) as wrong:
            facts = {"reason": str(wrong)}
            self._bugs.log(logging.ERROR, "passwords cannot be read, the old ones stay", facts)
        except Exception as bug:  # noqa: BLE001 -- top of a task
            self._bugs.log(logging.ERROR, "reading passwords again failed", {}, bug)
        else:
            _log.info("passwords read again", extra={"facts": {"files": len(watch.files)}})

    # --- what rooms ask ------------------------------------------------------------------------

    def _policy_of(self, database: str, user: str) -> Policy | None:
        return self._config.policy(database, user)

    def _credential_of(self, cluster: str, user: str) -> Credential | None:
        secret = self._roster.lookup(user)
        if isinstance(secret, PlainSecret | Md5Secret):
            return secret
        return self._door.proof_of(cluster, user) or secret

    def _policy_of_client(self, client: Client) -> Policy | None:
        return self._policy_of(client.line.database, client.line.user)

    def _channel_place(self, client: Client) -> ChannelPlace | None:
        policy = self._policy_of_client(client)
        return None if policy is None else ChannelPlace(policy.cluster, policy.dbname)

    def _ear_login(self, place: ChannelPlace) -> ProbeLogin:
        """As whom to listen: as the proxy logs in to its nodes, else as the monitor."""
        cluster = self._config.clusters[place.cluster]
        user, password = cluster.server.user, cluster.server.password
        if user is None:
            user, password = cluster.monitor_login
        asked = ask_password(cluster, user, self._passwords)
        return ProbeLogin(
            user, str(password or "") or asked or "", place.dbname, cluster.server.tls
        )

    def _notifier_of(self, place: ChannelPlace, pid: int) -> int:
        """Which client said NOTIFY last in that session of the primary, 0 if that is not known."""
        primary = self._primary_of(place.cluster)
        if primary is None:
            return 0
        servers = self._reservoir.servers_on(place.cluster, primary.name)
        return next((server.notifier for server in servers if server.pid == pid), 0)

    def pins(self) -> list[Pin]:
        """Who keeps a server connection for itself: the rows of SHOW PINS."""
        return self._pinned.pins()

    def _place_of(self, place: Place, policy: Policy) -> Place:
        tls = policy.server_tls
        return replace(
            place,
            tls=tls,
            context=self._contexts[tls],
            require_auth=policy.server_require_auth,
        )

    def _poke(self, cluster: str, node: str) -> None:
        if cluster in self._monitors:
            self._monitors[cluster].poke(node)

    def _publish(self, view: ClusterView) -> None:
        if view.name not in self._places:
            return
        make_place = self._places[view.name]
        cluster = self._config.clusters[view.name]
        primary = view.primary_node
        # While there is none to fall behind, a replica without a receiver is as fresh as any.
        lets_stale_read = primary is None or primary.state != "up"
        nodes = tuple(
            NodePlace(
                node.name,
                make_place(node.address),
                part,
                node.address.roles,
                node.state in ("up", "suspect")
                and (
                    lets_stale_read
                    or (not node.stale and self._switchboard.why_out(view.name, node.name) is None)
                ),
                self._company.room(room_of(node, cluster)),
                node.state == "up",
                node.address.weight,
                node.address.zone is not None and node.address.zone == cluster.replicas.zone,
            )
            for node, part in cast_nodes(view, cluster.serve_from)
        )
        self._reservoir.publish(view.name, nodes)
        self._hub.look(view.name)

    def _publish_unasked(self, name: str) -> None:
        """Where no role decides, nodes serve before the first probe has ended."""
        if self._config.clusters[name].serve_from != "primary":
            self._publish(self._monitors[name].view)

    def _cut(self, cluster: str, node: str, reason: str) -> None:
        """End every server connection to a node: whoever uses one gets an error and goes on."""
        if self._config.clusters[cluster].serve_from != "primary":
            return
        for server in self._reservoir.servers_on(cluster, node):
            server.lose(reason.encode())

    def _count_servers(self, cluster: str, node: str) -> int:
        return len(self._reservoir.servers_on(cluster, node))

    async def failover(self, cluster: str, node: str | None = None) -> str:
        """Make another node the primary of a cluster. Result: what was done. Raises ClientError."""
        if cluster not in self._failovers:
            raise ClientError("42704", f"there is no cluster {cluster}")
        return await self._failovers[cluster].switch_over(node)

    def events(self) -> list[Event]:
        """What was decided about clusters, when and why; oldest first."""
        return self._events.read()

    def why_not_ready(self) -> str | None:
        """None while it accepts clients and every cluster has a primary, else what is missing."""
        if self._emptying is not None:
            return "draining"
        if not self._door.is_open:
            return "shutting down"
        for name, monitor in self._monitors.items():
            if self._config.clusters[name].serve_from != "primary":
                if all(node.state == "down" for node in monitor.view.nodes):
                    return f"cluster {name} has no node that answers"
            elif monitor.view.primary is None:
                return f"cluster {name} has no primary: {monitor.view.reason}"
        return None

    async def _obey(self, command: str, argument: str | None) -> None:
        """A command that another process was given, for all of them."""
        if command == _DRAIN:
            self.empty(float(argument or 0))
        else:
            await self.steering.obey(command, argument)

    def _empty_all(self, after_s: float) -> int:
        """As `empty`, and in all other processes."""
        others = self._company.have_others_obey(_DRAIN, str(after_s))
        self._telling_others = self._loop.create_task(others)
        return self.empty(after_s)

    def _cancel_by_key(self, pid: int, secret: bytes) -> None:
        """Another process has been shown a cancel key of ours."""
        self._door.cancel(pid, secret)

    def figures(self) -> Figures:
        """Read all counters."""
        return read_figures(
            version=proxy.__version__,
            relay=self._relay,
            reservoir=self._reservoir,
            door=self._door,
            views=[monitor.view for monitor in self._monitors.values()],
            client_limit=self._config.listen.max_client_conn,
            pins=self._pinned.counts(),
            loop_lag=self._loop_lag.read(),
            audit_lines=self._observer.audit.lines.read(),
            spans=self._observer.span_counts.read(),
            failovers=list(self._failovers.values()),
        )

    def status(self) -> dict[str, object]:
        """What the status page shows."""
        picture = self._observer.picture(
            figures=self._company.together(self.figures()),
            views=[monitor.view for monitor in self._monitors.values()],
            not_ready=self.why_not_ready(),
            is_draining=self._stopping or self._emptying is not None,
            warnings=self.warnings,
        )
        return render_status(picture)

    # --- Control: what the relay asks ------------------------------------------------------------

    def grow(self, pool: Pool) -> None:
        """A pool wants one more connection."""
        self._reservoir.grow(pool)

    def cancel(self, server: Server) -> None:
        """A server's statement is to be cancelled."""
        self._reservoir.cancel(server)

    def client_gone(self, client: Client, reason: str) -> None:
        """A client's connection is over."""
        self._door.let_out(client)
        self._observer.client_gone(client)
        self._pinned.forget(client)
        self._hub.forget(client)
        if client.line is not None and client.login.wants_replication:
            for pool in client.line.pools:
                self._loop.call_soon(pool.retire)
        if _client_log.isEnabledFor(logging.INFO):
            facts = facts_of(client, client.login)
            facts["reason"] = reason or "client said Terminate"
            facts["seconds"] = round(self._relay.now_s - client.since_s, 3)
            _client_log.info("client disconnected", extra={"facts": facts})

    def server_gone(self, server: Server, reason: str) -> None:
        """A server's connection is over."""
        pool = server.pool
        self._reservoir.server_gone(pool)
        if reason:
            self._poke(pool.cluster, pool.node)
        level = logging.WARNING if reason else logging.DEBUG
        if _server_log.isEnabledFor(level):
            facts = {
                "cluster": pool.cluster,
                "node": pool.node,
                "database": pool.database,
                "user": pool.user,
                "reason": reason or "closed by the proxy",
            }
            _server_log.log(level, "server connection closed", extra={"facts": facts})

    def server_violated(self, server: Server, what: str) -> None:
        """A server sent what it must not."""
        self._bugs.log(
            logging.ERROR,
            "server broke the protocol",
            {"node": server.pool.node, "database": server.pool.database, "what": what},
        )

    def link_lingers(self, link: Link) -> None:
        """A closing link's peer does not read."""
        self._loop.call_later(_LINGER_S, link.abandon)

    def settings_reported(self, settings: Settings, name: str, value: str) -> Settings:
        """The settings after a ParameterStatus."""
        return self._book.reported(settings, name, value)

    def settings_switch(self, have: Settings, want: Settings) -> tuple[bytes, tuple[bytes, ...]]:
        """SQL between two settings."""
        return write_switch(have, want)

    def settings_without_statements(self, settings: Settings) -> Settings:
        """Settings after a DEALLOCATE ALL."""
        return self._book.with_statements(settings, ())

    def settings_touched(self, text: bytes | None, values: bytes | None) -> Touched:
        """What a statement may do to settings."""
        return read_touched(text, values)

    def settings_of(self, settings: Settings) -> Touched:
        """What touches just these settings."""
        return Touched(frozenset(name.lower() for name in settings), True)

    def session_question(
        self,
        server: Server,
        client: Client,
        touched: list[Touched] | None,
        about: int,
    ) -> tuple[bytes, SessionQuestion]:
        """SQL that asks what was left in a session."""
        settings = None
        if touched is not None:
            login = server.pool.owner.policy.server_user or server.pool.user
            reported = frozenset(name.lower() for name in server.defaults)
            believed, startup = client.settings, client.startup
            settings = Question(believed, startup, merge(touched), login, reported)
        if about & About.CHANNELS:
            self._hub.commits(client)
        asked = SessionQuestion(client.settings, settings, About(about))
        return asked.text().encode("utf-8", "surrogateescape"), asked

    def session_answered(self, asked: SessionQuestion, rows: list[bytes]) -> SessionAnswer:
        """What was left in a session."""
        return asked.answered(rows, self._book)

    def client_pinned(
        self, client: Client, server: Server, pins: tuple[str, ...], cause: bytes
    ) -> bytes:
        """A client keeps its server connection, or no longer."""
        self._observer.client_pinned(client, pins)
        return self._pinned.note(client, server, pins, cause)

    def may_run(self, client: Client, text: bytes, pins_refused: bool) -> bytes | None:
        """Whether a client may run a text that may LISTEN or pin."""
        if pins_refused:
            reason = pin_foreseen(text, client.line.session_functions)
            if reason is not None:
                return messages.error_response(
                    "0A000",
                    f"this would keep a server connection for its client: {reason}",
                    hint="pins: refuse is configured here; do it within one transaction, or use "
                    "a database in session mode.",
                )
        place = self._channel_place(client)
        channels = read_listened(text)
        if place is None or not channels:
            return None
        return self._hub.may_listen(client, place, channels)

    def client_listens(self, client: Client, channels: frozenset[str]) -> None:
        """To these channels, from now on."""
        if (place := self._channel_place(client)) is not None:
            self._hub.listens(client, place, channels)

    def notified(self, client: Client, server: Server, body: bytes) -> bool:
        """Whether a notification of its server connection is a client's to hear."""
        return self._hub.notified(client, server, body)

    def explain_pooling(self, client: Client, text: bytes) -> bytes:
        """SQL that answers EXPLAIN POOLING."""
        return write_explanation(
            explained(text),
            client.line.session_functions,
            lambda statement: self._foresee(client, statement),
        )

    def _foresee(self, client: Client, statement: bytes) -> tuple[str, str]:
        """Say where a client's statement would go, and why."""
        if client.line.router is not None:
            return self._switchboard.foresee(client, statement)
        policy = self._policy_of_client(client)
        if policy is None or policy.target == "primary":
            return "primary", "nothing here goes by what a statement does"
        return policy.target, "a rule says so"

    def statement_ended(self, client: Client, server: Server, ended: Ended) -> None:
        """A statement was slow, or is one of a sample."""
        self._observer.statement_ended(client, server, ended)

    def routing_of(self, client: Client) -> tuple[Router, int, bool, bool, str | None, str | None]:
        """Who decides where a client's statements go."""
        return self._switchboard.routing_of(client)

    def decide(self, router: Router, text: bytes, options: int) -> Decision:
        """What is to be known of a new text."""
        return self._switchboard.decide(router, text, options)

    def rule_met(self, client: Client, note: Rule) -> None:
        """A rule wants a statement logged."""
        self._switchboard.rule_met(client, note)

    def writes_begin(self, pool: Pool) -> None:
        """A cluster is written to, for the first time since it was quiet."""
        self._switchboard.writes_begin(pool)

    def schema_changed(self, pool: Pool) -> None:
        """A database's catalogue has changed."""
        self._switchboard.schema_changed(pool)

    def bug(self, link: Link, error: Exception) -> None:
        """Handling a link raised."""
        self._bugs.log(logging.ERROR, "a bug closed a connection", {"addr": link.address}, error)
