"""The door: listening sockets, and the login of whoever comes in.

One coroutine per connection, from accept to the moment the relay takes over. A stranger can make it
hold one packet of bounded size for a bounded time; what goes wrong ends in an ErrorResponse, a log
line with the reason, and a counter.
"""

import asyncio
import contextlib
import errno
import logging
import math
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from proxy.auth import AskedTheWay, Credential, NotAllowedError, Verifiers
from proxy.auth.authentication import OK_BODY
from proxy.client.address import is_among
from proxy.client.census import Census, Seats
from proxy.client.failures import FailedLogins
from proxy.client.greeting import greet
from proxy.client.judged import Proved
from proxy.client.keys import Cancellable, Keys
from proxy.client.listening import open_listeners, open_unix_listener
from proxy.client.proving import is_own_account, prove
from proxy.client.proxy_header import learn_address
from proxy.client.startup import Startup
from proxy.client.terms import DoorTerms
from proxy.errors import ClientError, PeerError
from proxy.pool import Reservoir
from proxy.relay import Client, Relay
from proxy.tcp import TcpOptions
from proxy.telemetry import LimitedLog, NoteAudit, Tally, keep_event
from proxy.tls import HandshakeFailed
from proxy.wire import messages

_log = logging.getLogger("pgweir.client")

# Accepted in one go before the other events get their turn.
_ACCEPTS_A_TURN = 64
# Who is refused because too many are logging in is heard first, if there are no more than these.
_DECLINED_POLITELY = 100
_DECLINED_WITHIN_S = 1.0
# A descriptor is not there to be had: accepting again at once would spin.
_PAUSE_WITHOUT_DESCRIPTORS_S = 0.1


class Console(Protocol):
    """Where those go who ask for the console. `proxy.console` implements it."""

    @property
    def by_pid(self) -> Mapping[int, Cancellable]:
        """Who is there, by the process id in their cancel key."""

    @property
    def greeting(self) -> bytes:
        """ParameterStatus messages for who comes in."""

    def is_console(self, database: str) -> bool:
        """Whether a client that asks for this database wants the console."""

    def welcome(self, link: Client, startup: Startup, *, is_own: bool) -> Any:
        """Say whether a user may come in. Raises ClientError.

        is_own: it is the account that runs this process, in the console's own name.
        """

    def receive(self, visitor: Any, pid: int, secret: bytes) -> None:
        """A visitor has been told that it is in. visitor: as of `welcome`."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The other processes, as far as a door has to do with them; none by default.

    index, count: which of how many this one is. seats: where clients are counted, those of all;
    None: in this process. forward_cancel: takes process, process id and secret of a key.
    """

    index: int = 0
    count: int = 1
    seats: Seats | None = None
    forward_cancel: Callable[[int, int, bytes], None] = lambda _owner, _pid, _secret: None


class Door:
    """Lets clients in.

    console: who wants that goes there, as soon as it is proved who it is. beside: the other
    processes.
    note: takes logins, accepted and refused, for the audit log.
    terms: asked for at each login, so that a reload holds for the next one.
    verifiers: kept between logins. clock: monotonic seconds.
    """

    def __init__(
        self,
        relay: Relay,
        reservoir: Reservoir,
        console: Console,
        *,
        note: NoteAudit,
        terms: Callable[[], DoorTerms],
        verifiers: Verifiers,
        clock: Callable[[], float],
        beside: Beside | None = None,
    ) -> None:
        self._relay = relay
        self._beside = beside or Beside()
        self._reservoir = reservoir
        self._console = console
        self._note = note
        self._terms = terms
        self._verifiers = verifiers
        self._keys = Keys(
            relay.clients, console.by_pid, index=self._beside.index, count=self._beside.count
        )
        self._listeners: list[socket.socket] = []
        # With their inodes: who takes our place makes a new one under the same name.
        self._socket_paths: dict[Path, int] = {}
        # Under way, the oldest first: who has lasted too long is taken out.
        self._logins: dict[Client, asyncio.Task[None]] = {}
        self._delayed: set[asyncio.Task[None]] = set()
        self._lines = LimitedLog(_log, clock)
        # By cluster, too: with `auth.query` each has users of its own.
        self._proofs: dict[tuple[str, str], Credential] = {}
        self.refusals: Tally[str] = Tally("other")
        self.cancels: Tally[str] = Tally("other")
        self._strangers: set[Client] = set()
        self._declined: set[asyncio.Task[None]] = set()
        self._census = Census(self._beside.seats)
        self._failures = FailedLogins(clock)
        self.is_open = False

    # --- listening -----------------------------------------------------------------------------

    def listen(
        self,
        host: str,
        port: int,
        backlog: int,
        tcp: TcpOptions,
        *,
        is_shared: bool = False,
        handed: Sequence[socket.socket] = (),
    ) -> int:
        """Listen on TCP, as `open_listeners`. Result: the port. Raises OSError."""
        sockets, port = open_listeners(host, port, backlog, tcp, is_shared=is_shared, handed=handed)
        self._listeners += sockets
        return port

    def listen_unix(
        self,
        folder: Path,
        port: int,
        backlog: int,
        mode: int = 0o777,
        group: str | None = None,
        *,
        handed: Sequence[socket.socket] = (),
    ) -> Path:
        """Listen on a Unix socket, as `open_unix_listener`. Raises OSError."""
        sock, path = open_unix_listener(folder, port, backlog, mode, group, handed=handed)
        self._listeners.append(sock)
        self._socket_paths[path] = path.stat().st_ino
        return path

    def take_over(self, sockets: Iterable[socket.socket], backlog: int) -> tuple[int, Path | None]:
        """Listen on sockets that somebody else has opened. Result: port, 0 if none, and path."""
        port, path = 0, None
        for sock in sockets:
            sock.listen(backlog)
            self._listeners.append(sock)
            if sock.family == socket.AF_UNIX:
                path = Path(sock.getsockname())
            else:
                port = sock.getsockname()[1]
        return port, path

    @property
    def listeners(self) -> Sequence[socket.socket]:
        """What is listened on."""
        return self._listeners

    def leave_paths(self) -> None:
        """Somebody else listens on our sockets, too: their names are to stay when we close."""
        self._socket_paths.clear()

    def adopt(self, tcp: TcpOptions) -> None:
        """Accept with these options from now on."""
        for sock in self._listeners:
            if sock.family != socket.AF_UNIX:
                tcp.apply_anew(sock)

    def open(self) -> None:
        """Begin to accept."""
        self.is_open = True
        for sock in self._listeners:
            self._relay.loop.add_reader(sock.fileno(), self._accept, sock)

    async def settle(self, patience_s: float) -> None:
        """Accept nobody any more; return once the logins under way have ended, or patience has."""
        self.stop_listening()
        if self._logins:
            await asyncio.wait(self._logins.values(), timeout=patience_s)

    def close(self) -> None:
        """Accept nobody any more, and end the logins under way."""
        self.stop_listening()
        for task in (*self._logins.values(), *self._delayed, *self._declined):
            task.cancel()

    def stop_listening(self) -> None:
        """Accept nobody any more."""
        self.is_open = False
        for sock in self._listeners:
            self._relay.loop.remove_reader(sock.fileno())
            sock.close()
        self._listeners.clear()
        for path, inode in self._socket_paths.items():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == inode:
                    path.unlink()
        self._socket_paths.clear()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                client = self._relay.accept(listener.fileno())
            except OSError as error:
                self._pause_accepting(listener, error)
                return
            if client is None:
                return
            if len(self._strangers) < self._terms().max_strangers:
                self._strangers.add(client)
                self._logins[client] = self._relay.loop.create_task(self._admit(client))
            elif len(self._declined) < _DECLINED_POLITELY:
                task = self._relay.loop.create_task(self._decline(client))
                self._declined.add(task)
                task.add_done_callback(self._declined.discard)
            else:
                self._turn_away(client)

    def _pause_accepting(self, listener: socket.socket, error: OSError) -> None:
        self._lines.log(
            logging.ERROR,
            "cannot accept connections",
            {"reason": error.strerror, "hint": "raise the limit of open files (ulimit -n)"},
        )
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            return
        loop = self._relay.loop
        loop.remove_reader(listener.fileno())

        def resume() -> None:
            if self.is_open:
                loop.add_reader(listener.fileno(), self._accept, listener)

        loop.call_later(_PAUSE_WITHOUT_DESCRIPTORS_S, resume)

    async def _decline(self, client: Client) -> None:
        """Task: hear what a stranger wants, shortly, and say that there are too many.

        An answer to the first packet of all, SSLRequest, would not be shown to anybody: it is not
        under TLS. And a cancel request is served: it is what helps when there are too many.
        """
        try:
            async with asyncio.timeout(_DECLINED_WITHIN_S):
                heard = await self._hear(client, self._terms()) is not None
        except (
            ClientError,
            PeerError,
            TimeoutError,
            ConnectionResetError,
            asyncio.CancelledError,
        ):
            heard = True
        except Exception as bug:  # noqa: BLE001 -- top of a task
            self._lines.log(logging.ERROR, "a login failed", {"addr": client.address}, bug)
            client.abandon()
            return
        if heard:
            self._turn_away(client)

    def _turn_away(self, client: Client) -> None:
        """Refuse a stranger: there are too many already."""
        # What has come is read, or closing would reset the connection and lose the answer.
        _ = client.has_unread
        answer = ClientError(
            "53300",
            "too many connections are being logged in (max_login_conn)",
            hint="Try again in a moment, or raise listen.max_login_conn.",
        )
        self._refuse(client, answer, "too_many_logins")

    # --- logging in ----------------------------------------------------------------------------

    async def _admit(self, client: Client) -> None:
        """Task: one connection's login."""
        terms = self._terms()
        startup: Startup | None = None
        try:
            startup = await self._hear(client, terms)
            if startup is not None:
                await self._log_in(client, startup, terms)
        except _Unproved as failed:
            await self._delay(client, terms)
            self._refuse(client, failed.refused, _reason_of(failed.refused), startup)
        except ClientError as refused:
            self._refuse(client, refused, _reason_of(refused), startup)
        except HandshakeFailed as failed:
            self.refusals.add("tls_failed")
            facts = {"addr": client.address, "reason": failed.message}
            self._lines.log(logging.INFO, "client refused", facts)
            self._note("login", "LOGIN", {"addr": client.address}, {
                "result": "08P01", "reason": failed.message,
            })  # fmt: skip
            client.close()
        except PeerError as broken:
            answer = ClientError(broken.sqlstate, broken.message)
            self._refuse(client, answer, "protocol_error", startup)
        except ConnectionResetError:
            self._lines.log(logging.DEBUG, "client left during its login", {"addr": client.address})
            client.abandon()
        except asyncio.CancelledError:
            if client in self._logins:
                answer, reason = ClientError("57P01", "the proxy is shutting down"), "shutting_down"
            else:
                said = "the login was not finished within client_login_timeout"
                answer, reason = ClientError("08006", said), "login_timeout"
            self._refuse(client, answer, reason, startup)
        except Exception as bug:  # noqa: BLE001 -- top of a task
            self._lines.log(logging.ERROR, "a login failed", {"addr": client.address}, bug)
            client.abandon()
        finally:
            self._strangers.discard(client)
            self._logins.pop(client, None)

    def expire(self, now_s: float) -> None:
        """Several times a second: end the logins that last too long.

        A timer for each login would cost as much as all its messages.
        """
        limit_s = self._terms().login_timeout_s or math.inf
        while self._logins:
            client, task = next(iter(self._logins.items()))
            if now_s - client.since_s < limit_s:
                return
            del self._logins[client]
            task.cancel()

    async def _delay(self, client: Client, terms: DoorTerms) -> None:
        """Let a client whose login failed wait for the answer, if its address has failed often."""
        delay_s = self._failures.note(client.address, terms.failure_delay_s)
        if not delay_s:
            return
        # The login is over: the time that it may take is no matter any more.
        task = self._logins.pop(client)
        self._delayed.add(task)
        # When the door closes, it is told at once.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(delay_s)
        self._delayed.discard(task)

    async def _hear(self, client: Client, terms: DoorTerms) -> Startup | None:
        """Take what a client says first. Result: as of `greet`."""
        if terms.balancers and is_among(client.address, terms.balancers):
            await learn_address(client)
        return await greet(client, terms, self._cancel)

    def cancel(self, pid: int, secret: bytes) -> None:
        """Another process has been sent a cancel request that is for a client of ours."""
        target = self._keys.find(pid, secret)
        if target is None:
            self.cancels.add("unknown_key")
        else:
            self.cancels.add("sent" if target.cancel() else "nothing_running")

    def _cancel(self, client: Client, packet: bytes) -> None:
        pid, secret = messages.read_cancel_request(packet)
        owner = self._keys.owner_of(pid)
        if owner is None:
            self.cancel(pid, secret)
        else:
            self._beside.forward_cancel(owner, pid, secret)
        client.close()

    async def _log_in(self, client: Client, startup: Startup, terms: DoorTerms) -> None:
        before = []
        if startup.negotiate:
            newest = messages.PROTOCOL_3_0 | startup.minor
            before.append(messages.negotiate_protocol_version(newest, startup.unsupported))
        if self._console.is_console(startup.database):
            is_own = self._console.is_console(startup.user) and is_own_account(client)
            if is_own:
                self._strangers.discard(client)
                answer = [*before, messages.authentication(OK_BODY)]
            else:
                answer, _ = await self._prove(client, startup, terms, before)
            self._show_in(client, startup, answer, is_own=is_own)
            return
        # Those who are not yet proved hold no place: strangers cannot keep clients out.
        self._census.check_total(terms.max_clients)
        answer, proof = await self._prove(client, startup, terms, before)
        if proof is not None:
            self._proofs[terms.cluster_of(startup.database), startup.user] = proof
        policy = self._reservoir.policy_of(startup.database, startup.user)
        self._census.enter(
            startup.database,
            startup.user,
            most=terms.max_clients,
            most_of_database=policy.max_db_client_connections,
            most_of_user=policy.max_user_client_connections,
        )
        try:
            await self._enter(client, startup, answer)
        except BaseException:
            self._census.leave(startup.database, startup.user)
            raise

    async def _prove(
        self, client: Client, startup: Startup, terms: DoorTerms, before: list[bytes]
    ) -> Proved:
        try:
            proved = await prove(client, startup, terms, self._verifiers, before)
        except ClientError as refused:
            if refused.sqlstate.startswith("28") and not isinstance(refused, AskedTheWay):
                raise _Unproved(refused) from None
            raise
        self._strangers.discard(client)
        return proved

    def _show_in(
        self, client: Client, startup: Startup, answer: list[bytes], *, is_own: bool
    ) -> None:
        """Hand a client over to the console. answer: what it is told first."""
        visitor = self._console.welcome(client, startup, is_own=is_own)
        pid, secret = self._keys.new(startup.minor)
        client.write(
            b"".join(
                [
                    *answer,
                    self._console.greeting,
                    messages.backend_key_data(pid, secret),
                    messages.ready_for_query(b"I"),
                ]
            )
        )
        self._console.receive(visitor, pid, secret)
        self._is_in(client, startup)

    async def _enter(self, client: Client, startup: Startup, answer: list[bytes]) -> None:
        """Hand a client over to the relay. answer: what it is told first."""
        settings = self._terms().habits.wanted(startup.parameters, client.address)
        if startup.wants_replication:
            dedicated = {"replication": startup.parameters["replication"], **settings.others}
            if settings.application_name is not None:
                dedicated["application_name"] = settings.application_name
            line, welcome = await self._reservoir.dedicate(
                startup.database, startup.user, dedicated
            )
        else:
            line = self._reservoir.line_of(startup.database, startup.user)
            welcome = await self._reservoir.welcome(startup.database, startup.user, settings)
        pid, secret = self._keys.new(startup.minor)
        answer.append(welcome.packet)
        answer.append(messages.backend_key_data(pid, secret))
        answer.append(messages.ready_for_query(b"I"))
        client.login = startup
        # Known before it can be shown: the client may cancel as soon as it has read this.
        client.write(b"".join(answer))
        client.enter(line, welcome.settings, pid, secret)
        self._is_in(client, startup)

    def _is_in(self, client: Client, startup: Startup) -> None:
        facts = facts_of(client, startup)
        _log.info("client connected", extra={"facts": facts})
        self._note("login", "LOGIN", facts, {"result": "ok"})

    @property
    def stranger_count(self) -> int:
        """How many are logging in."""
        return len(self._strangers)

    def let_out(self, client: Client) -> None:
        """A client that was inside is gone."""
        self._census.leave(client.login.database, client.login.user)

    def proof_of(self, cluster: str, user: str) -> Credential | None:
        """What the user's own last login proved that can log in to a server, or None."""
        return self._proofs.get((cluster, user))

    def _refuse(
        self, client: Client, refused: ClientError, reason: str, startup: Startup | None = None
    ) -> None:
        """startup: what it has said, if that much was heard."""
        whose = {"addr": client.address} if startup is None else facts_of(client, startup)
        facts = {"result": refused.sqlstate, "reason": refused.message}
        self._note("login", "LOGIN", whose, facts)
        self.refusals.add(reason)
        if refused.sqlstate == "53300":
            said = f"clients are refused: {refused.message}"
            keep_event("limit", said, level=logging.WARNING, logger=_log.name)
        self._lines.log(
            logging.INFO,
            "client refused",
            {"addr": client.address, "reason": refused.message, "sqlstate": refused.sqlstate},
        )
        client.write(
            messages.error_response(
                refused.sqlstate,
                refused.message,
                severity="FATAL",
                detail=refused.detail,
                hint=refused.hint,
            )
        )
        client.close()

    def tick(self) -> None:
        """Once in a while: say what was left out of the log."""
        self._lines.report_ended()


class _Unproved(Exception):  # noqa: N818 -- a client's failure, not ours
    """A client did not prove who it is."""

    def __init__(self, refused: ClientError) -> None:
        super().__init__(refused.message)
        self.refused = refused


def facts_of(client: Client, startup: Startup) -> dict[str, object]:
    """What a log line tells of a client."""
    facts: dict[str, object] = {
        "database": startup.database,
        "user": startup.user,
        "addr": client.address,
    }
    if (name := startup.parameters.get("application_name")) is not None:
        facts["application_name"] = name
    if (tls := startup.tls) is not None:
        facts["tls"] = tls.version
        if tls.has_certificate:
            facts["certificate"] = tls.peer_distinguished_name
    return facts


_REASONS = {
    "28P01": "login_failed",
    "53300": "too_many_clients",
    "3D000": "unknown_database",
    "08001": "server_unreachable",
}


def _reason_of(refused: ClientError) -> str:
    if refused.message == "TLS is required":
        return "tls_required"
    if isinstance(refused, NotAllowedError):
        return "not_allowed"
    return _REASONS.get(refused.sqlstate, "login_failed")
