"""The door: listening sockets, and the login of whoever comes in.

One coroutine per connection, from accept to the moment the relay takes over. A stranger can make it
hold one packet of bounded size for a bounded time; what goes wrong ends in an ErrorResponse, a log
line with the reason, and a counter.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from proxy.auth import Credential, Verifiers
from proxy.client.address import is_among
from proxy.client.greeting import greet
from proxy.client.keys import Keys
from proxy.client.proving import prove
from proxy.client.proxy_header import learn_address
from proxy.client.startup import Startup
from proxy.client.terms import DoorTerms
from proxy.errors import ClientError, PeerError
from proxy.pool import Reservoir
from proxy.relay import Client, Relay
from proxy.session import read_startup_settings
from proxy.tcp import TcpOptions
from proxy.telemetry import LimitedLog, Tally
from proxy.tls import HandshakeFailed
from proxy.wire import messages

_log = logging.getLogger("pgweir.client")

# Accepted in one go before the other events get their turn.
_ACCEPTS_A_TURN = 64
# A descriptor is not there to be had: accepting again at once would spin.
_PAUSE_WITHOUT_DESCRIPTORS_S = 0.1


class Door:
    """Lets clients in.

    terms: asked for at each login, so that a reload holds for the next one.
    verifiers: kept between logins. clock: monotonic seconds.
    """

    def __init__(
        self,
        relay: Relay,
        reservoir: Reservoir,
        *,
        terms: Callable[[], DoorTerms],
        verifiers: Verifiers,
        clock: Callable[[], float],
    ) -> None:
        self._relay = relay
        self._reservoir = reservoir
        self._terms = terms
        self._verifiers = verifiers
        self._keys = Keys(relay.clients)
        self._listeners: list[socket.socket] = []
        self._socket_paths: list[Path] = []
        self._logins: set[asyncio.Task[None]] = set()
        self._lines = LimitedLog(_log, clock)
        self._proofs: dict[str, Credential] = {}
        self.refusals: Tally[str] = Tally("other")
        self.cancels: Tally[str] = Tally("other")
        # Logins that have a place among `max_clients` and are not yet in the relay.
        self._entering = 0
        self.is_open = False

    # --- listening -----------------------------------------------------------------------------

    def listen(self, host: str, port: int, backlog: int, tcp: TcpOptions) -> int:
        """Listen on TCP; port 0 takes a free one. Result: the port. Raises OSError."""
        address = None if host == "*" else host
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, _, _, place in found:
            sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # What is accepted inherits them.
                tcp.apply(sock)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                bound = (place[0], port, *place[2:])
                sock.bind(bound)
                sock.listen(backlog)
            except BaseException:
                sock.close()
                raise
            port = sock.getsockname()[1]
            self._listeners.append(sock)
        return port

    def listen_unix(self, folder: Path, port: int, backlog: int) -> Path:
        """Listen on a Unix socket, named as PostgreSQL names it. Raises OSError."""
        path = folder / f".s.PGSQL.{port}"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            _remove_stale(path)
            sock.bind(str(path))
            path.chmod(0o777)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        self._listeners.append(sock)
        self._socket_paths.append(path)
        return path

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

    def close(self) -> None:
        """Accept nobody any more, and end the logins under way."""
        self.is_open = False
        for sock in self._listeners:
            self._relay.loop.remove_reader(sock.fileno())
            sock.close()
        self._listeners.clear()
        for path in self._socket_paths:
            path.unlink(missing_ok=True)
        self._socket_paths.clear()
        for login in self._logins:
            login.cancel()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                client = self._relay.accept(listener.fileno())
            except OSError as error:
                self._pause_accepting(listener, error)
                return
            if client is None:
                return
            task = self._relay.loop.create_task(self._admit(client))
            self._logins.add(task)
            task.add_done_callback(self._logins.discard)

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

    # --- logging in ----------------------------------------------------------------------------

    async def _admit(self, client: Client) -> None:
        """Task: one connection's login."""
        terms = self._terms()
        try:
            async with asyncio.timeout(terms.login_timeout_s or None):
                if terms.balancers and is_among(client.address, terms.balancers):
                    await learn_address(client)
                startup = await greet(client, terms, self._cancel)
                if startup is not None:
                    await self._log_in(client, startup, terms)
        except ClientError as refused:
            self._refuse(client, refused, _reason_of(refused))
        except HandshakeFailed as failed:
            self.refusals.add("tls_failed")
            self._lines.log(
                logging.INFO,
                "client refused",
                {"addr": client.address, "reason": failed.message},
            )
            client.close()
        except PeerError as broken:
            answer = ClientError(broken.sqlstate, broken.message)
            self._refuse(client, answer, "protocol_error")
        except TimeoutError:
            answer = ClientError("08006", "the login was not finished within client_login_timeout")
            self._refuse(client, answer, "login_timeout")
        except ConnectionResetError:
            self._lines.log(logging.DEBUG, "client left during its login", {"addr": client.address})
            client.abandon()
        except asyncio.CancelledError:
            self._refuse(
                client, ClientError("57P01", "the proxy is shutting down"), "shutting_down"
            )
        except Exception as bug:  # noqa: BLE001 -- top of a task
            self._lines.log(logging.ERROR, "a login failed", {"addr": client.address}, bug)
            client.abandon()

    def _cancel(self, client: Client, packet: bytes) -> None:
        pid, secret = messages.read_cancel_request(packet)
        target = self._keys.find(pid, secret)
        if target is None:
            self.cancels.add("unknown_key")
        else:
            self.cancels.add("sent" if target.cancel() else "nothing_running")
        client.close()

    async def _log_in(self, client: Client, startup: Startup, terms: DoorTerms) -> None:
        before = []
        if startup.negotiate:
            newest = messages.PROTOCOL_3_0 | startup.minor
            before.append(messages.negotiate_protocol_version(newest, startup.unsupported))
        if len(self._relay.clients) + self._entering >= terms.max_clients:
            raise ClientError(
                "53300",
                "no more connections allowed (max_client_conn)",
                hint="Raise listen.max_client_conn, or close connections that are not used.",
            )
        self._entering += 1
        try:
            answer, proof = await prove(client, startup, terms, self._verifiers, before)
            if proof is not None:
                self._proofs[startup.user] = proof
            await self._enter(client, startup, answer)
        finally:
            self._entering -= 1

    async def _enter(self, client: Client, startup: Startup, answer: list[bytes]) -> None:
        """Hand a client over to the relay. answer: what it is told first."""
        settings = read_startup_settings(startup.parameters)
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
        if _log.isEnabledFor(logging.INFO):
            _log.info("client connected", extra={"facts": facts_of(client, startup)})

    def proof_of(self, user: str) -> Credential | None:
        """What the user's own last login proved that can log in to a server, or None."""
        return self._proofs.get(user)

    def _refuse(self, client: Client, refused: ClientError, reason: str) -> None:
        self.refusals.add(reason)
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
    return _REASONS.get(refused.sqlstate, "login_failed")


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on; one that is in use is left, and bind fails."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            pass
