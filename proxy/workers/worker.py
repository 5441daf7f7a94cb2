"""One process of the proxy: every room, put together, its beginning and its end.

What a low room needs from a high one is handed to it here. What the relay asks is answered in
answers.py; adoption.py goes over to another configuration, clusters.py follows the nodes,
leaving.py sends clients away.
"""

import asyncio
import errno
import logging
import math
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import proxy
from proxy.auth import Credential, Md5Secret, PlainSecret, Verifiers
from proxy.channels import Hub
from proxy.client import Door
from proxy.cluster import NodeAddress
from proxy.config import Change, Config, Listen, Policy
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
from proxy.failover import Event
from proxy.pool import Reservoir
from proxy.relay import Relay, WriteTimes
from proxy.server import Passwords, Place
from proxy.session import SettingsBook
from proxy.telemetry import (
    BUCKET_BOUNDS_S,
    Figures,
    LimitedLog,
    LoopLag,
    RedisFigures,
    build_registry,
)
from proxy.workers.adoption import Adoption
from proxy.workers.answers import Answers, Rooms
from proxy.workers.clusters import Clusters
from proxy.workers.company import Company, Own
from proxy.workers.leaving import GRACE_S, Leaving
from proxy.workers.observing import Observer, Seen
from proxy.workers.pinned import Pinned
from proxy.workers.reading import read_figures
from proxy.workers.share import Share
from proxy.workers.succession import Offer
from proxy.workers.terms import open_marks, read_tcp

_log = logging.getLogger("pgweir")

_TICK_S = 0.1
_TIDY_S = 1.0
# How often we look whether the process before us has closed its HTTP endpoint.
_LATE_S = 0.2
# What the audit log calls the console, and what it shows of an HTTP request at most.
_CONSOLE = "pgweir"
_MOST_SHOWN = 200
# What processes tell each other when one of them is asked to /drain, or to RELOAD.
_DRAIN = "DRAIN"
_RELOAD = "RELOAD"


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of reading the configuration again: why it is refused, or what has changed."""

    refusal: str | None = None
    changes: Sequence[Change] = ()


class Worker:
    """One process. `start` it, then `stop` it once."""

    def __init__(self, config: Config, share: Share | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        clock = time.monotonic
        self._share = share
        own = Own(
            self.figures,
            self._seen,
            self._read_table,
            self._standing,
            self._cancel_by_key,
            self._obey,
            self._hear,
            self._code_changed,
        )
        self._company = Company(share, own)
        self._bugs = LimitedLog(_log, clock)
        book = SettingsBook()
        answers = Answers(loop, book, self._bugs)
        self._relay = Relay(loop, answers, BUCKET_BOUNDS_S)
        self._passwords = Passwords(clock)
        verifiers = Verifiers(os.urandom(32)) if share is None else share.verifiers
        self._adoption = Adoption(
            config,
            self._company,
            self._passwords,
            verifiers,
            primary_of=self._primary_of,
            bugs=self._bugs,
        )
        self._clusters = Clusters(
            lambda: self._adoption.in_force,
            self._passwords,
            room=self._company.room,
            times=WriteTimes() if share is None else share.times,
            member=self._company.member,
            tell_of=self._company.tell_of,
            tell_code=self._company.tell_code,
            clock=clock,
        )
        self._marks = open_marks(self.config, self._clusters.switchboard, clock)
        self._reservoir = Reservoir(
            self._relay,
            book,
            policy_of=self._policy_of,
            credential_of=self._credential_of,
            place_of=self._place_of,
            passwords=self._passwords,
            routing=self._clusters.switchboard,
            on_unreachable=self._clusters.poke,
            clock=clock,
        )
        self._observer = Observer(self._relay, self._reservoir, lambda: self.config)
        self._pinned = Pinned(self._clusters.policy_of, clock)
        self._hub = Hub(
            self._clusters.primary_of, self._clusters.ear_login, self._clusters.notifier_of
        )
        self._clusters.attend(self._reservoir, self._relay, self._hub)
        self._reload: Callable[[], Awaitable[Reloaded]] | None = None
        self._reload_alone: Callable[[], Awaitable[Reloaded]] | None = None
        self._shut_down: Callable[[Shutdown], None] | None = None
        scene = Scene(
            self._relay,
            self._reservoir,
            config=lambda: self._adoption.config,
            views=lambda: self._clusters.views,
            strangers=lambda: self._door.stranger_count,
            pins=self.pins,
            events=self._observer.events.newest,
            queries=self._observer.queries.top,
            others=self._company,
        )
        levers = Levers(
            self._reload_for_console,
            self.adopt,
            self._shut_down_for_console,
            self.failover,
        )
        note = self._observer.note
        self._reception = Reception(scene, levers, lambda: self.config, note)
        self._exporter = ExporterMetrics(
            self._reception.desk, lambda: self.config.compat.pgbouncer_metrics
        )
        self._door = Door(
            self._relay,
            self._reservoir,
            self._reception,
            note=note,
            terms=lambda: self._adoption.in_force.terms,
            verifiers=verifiers,
            clock=clock,
            beside=self._company.beside,
        )
        self._adoption.attend(self._door, self._clusters, self._reservoir, self.steering)
        self._leaving = Leaving(self._relay, self._door, self._company)
        answers.attend(
            Rooms(
                self._reservoir,
                self._door,
                self._clusters,
                self._observer,
                self._pinned,
                self._hub,
                self._marks,
            )
        )
        self._clock_task: asyncio.Task[None] | None = None
        self._loop_lag = LoopLag(loop)
        self._http: HttpEndpoint | None = None
        self._late_http: asyncio.Task[None] | None = None
        self._telling_others: asyncio.Task[None] | None = None
        self._stopping = False

    # --- life ----------------------------------------------------------------------------------

    async def start(
        self,
        inherited: Sequence[socket.socket] = (),
        *,
        handed: Sequence[socket.socket] = (),
        is_successor: bool = False,
    ) -> dict[str, object]:
        """Begin to serve. Result: the addresses, for the log.

        inherited: sockets that are listened on already, in place of those of the configuration.
        handed: those of a process whose place we take, for where they are the configuration's.
        is_successor: another process is about to end, whose HTTP endpoint goes last.
        Raises OSError when an address is taken; it may be tried again then.
        """
        config = self.config
        await self._adoption.prepare()
        try:
            facts = self._listen(config.listen, inherited, handed)
        except OSError:
            self._door.close()
            raise
        await self._company.start()
        if self._share is not None and self._share.is_anew:
            # What was paused, disabled or set is so for all, and for who comes later.
            for command, argument in await self._company.standing():
                await self.steering.obey(command, argument)
        if (http := config.http) is not None:
            self._http = HttpEndpoint(
                http.host,
                http.port,
                build_registry(
                    lambda: self._company.together(self.figures()),
                    self._exporter,
                ),
                lambda: True,
                self.why_not_ready,
                page=StatusPage(self.status, self._company.look_at_others),
                drain=self._empty_all,
                on_drain=self._note_drain,
                # A reload that drops the section does not stop the endpoint, nor open it.
                auth=lambda: (self.config.http or http).auth,
                prepare=self._prepare_scrape,
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
        if self._marks is not None:
            self._marks.start()
        self._clusters.start()
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

    def _listen(
        self,
        listen: Listen,
        inherited: Sequence[socket.socket],
        handed: Sequence[socket.socket],
    ) -> dict[str, object]:
        if inherited:
            port, path = self._door.take_over(inherited, listen.backlog)
        else:
            port = self._door.listen(
                listen.host,
                listen.port,
                listen.backlog,
                read_tcp(self.config),
                is_shared=listen.so_reuseport,
                handed=handed,
            )
            path = None
            if listen.unix_socket_dir is not None:
                path = self._door.listen_unix(
                    listen.unix_socket_dir,
                    port,
                    listen.backlog,
                    int(listen.unix_socket_mode, 8),
                    listen.unix_socket_group,
                    handed=handed,
                )
        facts: dict[str, object] = {"host": listen.host or "none", "port": port}
        if path is not None:
            facts["unix"] = str(path)
        return facts

    def offer(self) -> Offer:
        """What we listen on, for who takes our place."""
        return Offer(self._listened_on, self._door.leave_paths)

    def _listened_on(self) -> list[int]:
        endpoint = [] if self._http is None else self._http.descriptors
        return [*(sock.fileno() for sock in self._door.listeners), *endpoint]

    @property
    def config(self) -> Config:
        """The configuration in force, as far as it is this process's."""
        return self._adoption.in_force.config

    @property
    def steering(self) -> Steering:
        """What an administrator may have it do."""
        return self._reception.steering

    def attend(
        self,
        reload: Callable[[], Awaitable[Reloaded]],
        reload_alone: Callable[[], Awaitable[Reloaded]],
        shut_down: Callable[[Shutdown], None],
    ) -> None:
        """Say who does for administrators what is not this worker's.

        reload: has all processes read the configuration again. reload_alone: this one. shut_down:
        begins to end the process.
        """
        self._reload, self._reload_alone, self._shut_down = reload, reload_alone, shut_down

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
        return (*self.config.warnings, *self._adoption.in_force.terms.admission.warnings)

    async def have_others_reload(self) -> None:
        """Have all other processes read the configuration again, and wait until they have."""
        await self._company.obey(_RELOAD, None)

    async def adopt(self, config: Config) -> tuple[Change, ...]:
        """Go over to another configuration, as `Adoption.adopt`."""
        return await self._adoption.adopt(config)

    async def stop(self, *, patience_s: float | None, waits_for_clients: bool = False) -> None:
        """Accept nobody any more, let transactions finish, then close everything.

        patience_s: how long to wait for them; None is for ever, 0 not at all.
        waits_for_clients: until they leave of their own accord.
        """
        if self._stopping:
            return
        self._stopping = True
        if patience_s != 0:
            await self._door.settle(GRACE_S)
        self._door.close()
        if self._relay.suspended:
            self._relay.resume(self._reservoir.servers())
        await self._leaving.drain(patience_s, dismisses=not waits_for_clients)
        self._leaving.dismiss_all()
        if self._marks is not None:
            await self._marks.stop()
        tasks = [*self._clusters.stop(), *self._adoption.stop(), *self._leaving.stop()]
        for task in (self._clock_task, self._late_http):
            if task is not None:
                task.cancel()
                tasks.append(task)
        if tasks:
            await asyncio.wait(tasks)
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
        """Have clients leave for good, as `Leaving.empty`."""
        return len(self._relay.clients) if self._stopping else self._leaving.empty(after_s)

    def hurry(self) -> None:
        """Wait for transactions no longer: somebody asked a second time."""
        self._leaving.hurry()

    async def _keep_time(self) -> None:
        """Task: the coarse tick."""
        tidy_at_s = 0.0
        while True:
            try:
                self._reservoir.tick()
                self._relay.unpark()
                self._clusters.tick()
                now_s = time.monotonic()
                self._door.expire(now_s)
                if now_s >= tidy_at_s:
                    # In the same moment in all processes: what they count a second is added.
                    tidy_at_s = math.floor(now_s / _TIDY_S + 1) * _TIDY_S
                    self._reservoir.tidy()
                    self._pinned.enforce()
                    self._hub.tidy()
                    self._door.tick()
                    self._reception.tick()
                    self._adoption.tick()
                    self._observer.tick(self._clusters.views)
                    self._bugs.report_ended()
            except Exception as bug:  # noqa: BLE001 -- top of a task: time must go on
                self._bugs.log(logging.ERROR, "the tick failed", {}, bug)
            await asyncio.sleep(_TICK_S)

    # --- what rooms ask ------------------------------------------------------------------------

    def _primary_of(self, cluster: str) -> NodeAddress | None:
        return self._clusters.primary_of(cluster)

    def _policy_of(self, database: str, user: str) -> Policy | None:
        return self.config.policy(database, user)

    def _credential_of(self, cluster: str, user: str) -> Credential | None:
        secret = self._adoption.in_force.roster.lookup(user)
        if isinstance(secret, PlainSecret | Md5Secret):
            return secret
        return self._door.proof_of(cluster, user) or secret

    def _place_of(self, place: Place, policy: Policy) -> Place:
        tls = policy.server_tls
        return replace(
            place,
            tls=tls,
            context=self._adoption.in_force.contexts[tls],
            require_auth=policy.server_require_auth,
        )

    def pins(self) -> list[Pin]:
        """Who keeps a server connection for itself: the rows of SHOW PINS."""
        return self._pinned.pins()

    async def failover(self, cluster: str, node: str | None = None) -> str:
        """Make another node the primary of a cluster. Result: what was done. Raises ClientError."""
        return await self._clusters.failover(cluster, node)

    def events(self) -> list[Event]:
        """What was decided about clusters, when and why; oldest first."""
        return self._clusters.events()

    def why_not_ready(self) -> str | None:
        """None while it accepts clients and every cluster has a primary, else what is missing."""
        if self._leaving.is_emptying:
            return "draining"
        if not self._door.is_open:
            return "shutting down"
        return self._clusters.why_not_ready()

    async def _obey(self, command: str, argument: str | None) -> None:
        """A command that another process was given, for all of them."""
        if command == _DRAIN:
            self.empty(float(argument or 0))
        elif command == _RELOAD and self._reload_alone is not None:
            await self._reload_alone()
        else:
            await self.steering.obey(command, argument)

    def _empty_all(self, after_s: float) -> int:
        """As `empty`, and in all other processes."""
        others = self._company.obey(_DRAIN, str(after_s))
        self._telling_others = self._loop.create_task(others)
        return self.empty(after_s)

    def note_command(
        self, kind: str, addr: str, statement: str, result: str, spent_s: float = 0.0
    ) -> None:
        """Somebody had the proxy do something other than at the console, for the audit log."""
        facts = {"result": result, "ms": round(spent_s * 1e3, 3), "statement": statement}
        self._observer.note("admin", kind, {"database": _CONSOLE, "addr": addr}, facts)

    def _note_drain(self, addr: str, target: str, result: str) -> None:
        self.note_command("DRAIN", addr, f"POST {target}"[:_MOST_SHOWN], result)

    def _seen(self, after_s: float | None) -> Seen:
        """What this process has observed, for another one."""
        return self._observer.seen(after_s)

    def _standing(self) -> list[tuple[str, str | None]]:
        """What it has been told at the console that still holds, for one that is new."""
        return self.steering.standing()

    def _read_table(self, table: str) -> Iterable[Any]:
        """Its rows of a table of the console, for another process."""
        return self._reception.desk.read(table)

    async def _prepare_scrape(self) -> None:
        """Ask the other processes what they have counted."""
        await self._company.listen_to_others()
        await self._exporter.prepare()

    def _hear(self, cluster: str, told: Mapping[str, Any]) -> object:
        """What another process says of a cluster whose roles it changes. Result: the answer."""
        return self._clusters.hear(cluster, told)

    def _code_changed(self, cluster: str, dbname: str) -> None:
        """Another process has seen functions, or what stands for them, change in a database."""
        self._clusters.switchboard.code_changed(cluster, dbname)

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
            views=self._clusters.views,
            client_limit=self.config.listen.max_client_conn,
            pins=self._pinned.counts(),
            loop_lag=self._loop_lag.read(),
            audit_lines=self._observer.audit.lines.read(),
            spans=self._observer.span_counts.read(),
            failovers=self._clusters.failovers,
            redis=RedisFigures() if self._marks is None else self._marks.figures(),
        )

    def status(self) -> dict[str, object]:
        """What the status page shows."""
        picture = self._observer.picture(
            figures=self._company.together(self.figures()),
            seen=self._company.seen_by_all(),
            views=self._clusters.views,
            not_ready=self.why_not_ready(),
            is_draining=self._stopping or self._leaving.is_emptying,
            warnings=self.warnings,
        )
        return render_status(picture)
