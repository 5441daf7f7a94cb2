"""Several processes that serve together, and the one that looks after them.

It opens the sockets, starts the processes, passes signals on, and starts anew who dies; it carries
no bytes. It has neither a loop nor a thread, so that it may fork at any time. Each process has
TCP sockets of its own on the same port, between which the kernel deals out the connections; they
stay open here, so that what waits in the line of a process that has died is served by the next one.
"""

import contextlib
import ctypes
import errno
import logging
import math
import os
import select
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.auth import Verifiers, read_admission
from proxy.client import open_listeners, open_unix_listener
from proxy.config import Config, ConfigError, changes_between, reload
from proxy.relay import WriteTimes
from proxy.workers.addresses import Addresses
from proxy.workers.descriptors import missing_descriptors, raise_descriptor_limit
from proxy.workers.encryption import read_contexts, read_offer
from proxy.workers.pidfile import stays_claimed
from proxy.workers.seats import Seats
from proxy.workers.serve import log_changes
from proxy.workers.share import CLOSE, RELOADED, Share
from proxy.workers.succession import Offer, take
from proxy.workers.systemd import Notifier
from proxy.workers.terms import open_log, read_roster, read_tcp
from proxy.workers.watching import Watching, files_of_refused

_log = logging.getLogger("pgweir")

_FORWARDED = (signal.SIGUSR1, signal.SIGUSR2)
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_HEARD = (*_FORWARDED, *_ENDING, signal.SIGHUP, signal.SIGCHLD, CLOSE, RELOADED)

_START_S = 60.0
# How long another process may take to let go of its sockets, and how often we look.
_TAKING_OVER_S = 10.0
_TAKEN_S = 0.02
_LOOK_S = 1.0
# Who dies at once is not started at once again.
_PAUSES_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
_SETTLED_S = 10.0
_PR_SET_PDEATHSIG = 1
_READY = b"1"

Run = Callable[[Config, Share, Callable[[], None]], int]
"""Serves as one of them until it is told to stop; calls back once it does. Result: exit code."""


@dataclass(slots=True)
class _Child:
    share: Share
    pid: int = 0
    started_s: float = 0.0
    deaths: int = 0
    due_s: float = 0.0


class Supervisor:
    """Looks after `count` processes.

    source: the file the configuration came from. run: what each of them does.
    """

    def __init__(self, config: Config, count: int, *, source: Path | None, run: Run) -> None:
        self._config = config
        self._count = count
        self._source = source
        self._run = run
        self._addresses = Addresses(count)
        self._seats = Seats(count)
        self._times = WriteTimes()
        self._children: list[_Child] = []
        self._notifier = Notifier(os.environ)
        self._ending: signal.Signals | None = None
        self._is_closed = False
        self._unix: Path | None = None
        self._endpoint: socket.socket | None = None
        self._replaces: int | None = None
        self._has_told_other = False
        self._offer: Offer | None = None
        self._refused_files: tuple[Path, ...] = ()

    def serve(
        self,
        *,
        on_ready: Callable[[], None] | None = None,
        replaces: int | None = None,
        inherited: Sequence[socket.socket] = (),
    ) -> int:
        """Serve until a signal ends it. Result: the exit code. Raises OSError, ConfigError.

        on_ready, replaces, inherited: as for one process.
        """
        config = self._config
        open_log(config.log)
        limit = raise_descriptor_limit()
        if (lack := missing_descriptors(config, limit)) is not None:
            _log.warning("%s", lack)
        admission = read_admission(config)
        for warning in (*config.warnings, *admission.warnings):
            _log.warning("%s", warning)
        verifiers = Verifiers(os.urandom(32))
        methods = admission.rules.methods
        read_roster(config).prepare(
            verifiers, derive=not methods.isdisjoint(("scram-sha-256", "password"))
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        try:
            facts = self._open(verifiers, inherited, replaces)
            self._start_all()
            self._end_other(replaces)
            self._replaces = replaces
            if self._config.process.pidfile is not None:
                self._offer = Offer(self._listened_on, self._leave_path)
            if self._source is not None:
                facts["config"] = str(self._source)
            _log.info("ready", extra={"facts": facts})
            self._notifier.ready(f"{self._count} processes accept clients")
            if on_ready is not None:
                on_ready()
            self._look_after()
        except BaseException:
            self._tell(signal.SIGINT)
            raise
        finally:
            self._notifier.stopping()
            if self._offer is not None:
                self._offer.close()
            self._close()
            self._wait_for_all()
            _log.info("stopped")
        return 0

    # --- sockets -------------------------------------------------------------------------------

    def _open(
        self,
        verifiers: Verifiers,
        inherited: Sequence[socket.socket],
        replaces: int | None,
    ) -> dict[str, object]:
        """Open what clients and scrapers come in by. Result: the addresses, for the log."""
        listen, http = self._config.listen, self._config.http
        handed = [] if replaces is None or inherited else take(replaces)
        sockets: Sequence[Sequence[socket.socket]] = [inherited]
        port = listen.port
        if not inherited:
            sockets, port = self._take_over(replaces, handed)
        shared: list[socket.socket] = []
        if listen.unix_socket_dir is not None and not inherited:
            sock, self._unix = open_unix_listener(
                listen.unix_socket_dir,
                port,
                listen.backlog,
                int(listen.unix_socket_mode, 8),
                listen.unix_socket_group,
                handed=handed,
            )
            shared.append(sock)
        endpoint = None
        if http is not None:
            endpoint = _open_endpoint(http.host, http.port, handed)
        self._endpoint = endpoint
        for sock in handed:
            sock.close()
        self._children = [
            _Child(
                Share(
                    index,
                    self._count,
                    self._addresses,
                    verifiers,
                    self._seats,
                    self._times,
                    (*sockets[index % len(sockets)], *shared),
                    endpoint,
                    os.getpid(),
                )
            )
            for index in range(self._count)
        ]
        first = next((each for each in sockets[0] if each.family != socket.AF_UNIX), None)
        facts: dict[str, object] = {
            "host": listen.host or "none",
            "port": port if first is None else first.getsockname()[1],
            "workers": self._count,
        }
        if self._unix is not None:
            facts["unix"] = str(self._unix)
        if endpoint is not None:
            facts["http"] = f"{http.host if http else ''}:{endpoint.getsockname()[1]}"
        return facts

    def _take_over(
        self, replaces: int | None, handed: Sequence[socket.socket]
    ) -> tuple[list[list[socket.socket]], int]:
        """Open the sockets; where the process whose place we take hands none over, once it is told
        to end and has let go of them."""
        until_s = time.monotonic() + _TAKING_OVER_S
        while True:
            try:
                return self._open_tcp(handed)
            except OSError as refused:
                is_taken = refused.errno == errno.EADDRINUSE
                if replaces is None or not is_taken or time.monotonic() > until_s:
                    raise
            self._end_other(replaces)
            time.sleep(_TAKEN_S)

    def _end_other(self, replaces: int | None) -> None:
        """Tell the process whose place we take, once: a second signal would have it hurry."""
        if replaces is not None and not self._has_told_other:
            self._has_told_other = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(replaces, signal.SIGTERM)

    def _open_tcp(self, handed: Sequence[socket.socket]) -> tuple[list[list[socket.socket]], int]:
        """One list of sockets for each process, and the port."""
        listen, port = self._config.listen, self._config.listen.port
        opened: list[list[socket.socket]] = []
        handed = sorted(
            (sock for sock in handed if sock.family != socket.AF_UNIX),
            key=socket.socket.getsockname,
        )
        for sock in handed:
            # Where there are too few of them, others are to be opened beside them.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            for index in range(self._count):
                found, port = open_listeners(
                    listen.host,
                    port,
                    listen.backlog,
                    read_tcp(self._config),
                    is_shared=True,
                    handed=handed[index :: self._count],
                )
                opened.append(found)
        except OSError:
            for each in opened:
                for sock in each:
                    sock.close()
            raise
        return opened, port

    def _listened_on(self) -> list[int]:
        """By all processes."""
        found = {sock.fileno() for each in self._children for sock in each.share.sockets}
        if self._endpoint is not None:
            found.add(self._endpoint.fileno())
        return sorted(found)

    def _leave_path(self) -> None:
        """Somebody else listens on our Unix socket, too: its name is to stay when we close."""
        self._unix = None

    def _close(self) -> None:
        """Let go of the sockets: who would come in by them now would wait for nobody."""
        self._is_closed = True
        for child in self._children:
            for sock in child.share.sockets:
                sock.close()
        if self._unix is not None:
            self._unix.unlink(missing_ok=True)
            self._unix = None

    # --- processes -----------------------------------------------------------------------------

    def _start_all(self) -> None:
        """Start all of them, and wait until they serve. Raises OSError when one does not."""
        pipes = [self._start(child) for child in self._children]
        until_s = time.monotonic() + _START_S
        for child, pipe in zip(self._children, pipes, strict=True):
            left_s = max(0.0, until_s - time.monotonic())
            is_there = select.select([pipe], [], [], left_s)[0] and os.read(pipe, 1) == _READY
            os.close(pipe)
            if not is_there:
                raise OSError(f"process {child.share.index} did not start; its log says why")

    def _start(self, child: _Child) -> int:
        """Start one process. Result: a pipe in which it says that it serves."""
        read_end, write_end = os.pipe()
        child.started_s = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            self._be(child.share, write_end)
        os.close(write_end)
        child.pid = pid
        child.share = replace(child.share, is_anew=True)
        return read_end

    def _be(self, share: Share, write_end: int) -> None:
        """The whole life of a process of ours; never returns."""
        code = 1
        try:
            # Nobody is left behind, however the one that looks after them ends.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            os.environ.pop("NOTIFY_SOCKET", None)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
            if self._offer is not None:
                self._offer.close()
            own = set(map(id, share.sockets))
            for child in self._children:
                for sock in child.share.sockets:
                    if id(sock) not in own:
                        sock.close()
            if os.getppid() == share.supervisor:

                def serves() -> None:
                    # Who is started in the place of another is not waited for.
                    with contextlib.suppress(BrokenPipeError):
                        os.write(write_end, _READY)
                    os.close(write_end)

                code = self._run(self._config, share, serves)
        except (ConfigError, OSError, ssl.SSLError) as wrong:
            _log.error("a process cannot serve", extra={"facts": {"reason": str(wrong)}})
        except BaseException:  # noqa: BLE001 -- the top of a process
            _log.exception("a process has failed")
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _tell(self, which: signal.Signals) -> None:
        for child in self._children:
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, which)

    def _look_after(self) -> None:
        """Wait for signals until one ends us."""
        watching = Watching(self._config, lambda: self._refused_files)
        look_s = time.monotonic() + _LOOK_S
        while self._ending is None:
            found = signal.sigtimedwait(_HEARD, self._time_left_s(look_s))
            if found is not None:
                self._hear(found.si_signo)
            if self._is_closed and not any(child.pid for child in self._children):
                _log.info("all clients have left")
                return
            now_s = time.monotonic()
            for child in self._children:
                if not child.pid and child.due_s <= now_s and self._ending is None:
                    os.close(self._start(child))
            if self._offer is not None:
                self._offer.answer()
            if now_s >= look_s:
                look_s = now_s + _LOOK_S
                if self._replaces is not None and not stays_claimed(
                    self._config.process.pidfile, self._replaces
                ):
                    self._replaces = None
                if watching.has_changed(self._config) and self._config.process.watch:
                    _log.info("the configuration file has changed")
                    self._reload()

    def _time_left_s(self, look_s: float) -> float:
        due_s = min([look_s, *(child.due_s for child in self._children if not child.pid)])
        return max(0.0, due_s - time.monotonic())

    def _hear(self, which: int) -> None:
        if which == signal.SIGCHLD:
            self._bury()
        elif which == signal.SIGHUP:
            self._reload()
        elif which == RELOADED:
            self._reload(tells=False)
        elif which == CLOSE:
            self._close()
        elif which in _FORWARDED:
            self._tell(signal.Signals(which))
        else:
            self._ending = signal.Signals(which)
            _log.info("stopping", extra={"facts": {"signal": self._ending.name}})
            self._close()
            self._tell(self._ending)

    def _bury(self) -> list[_Child]:
        """Take note of those who have ended."""
        ended: list[_Child] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            for child in self._children:
                if child.pid == pid:
                    ended.append(child)
                    self._note_end(child, status)

    def _note_end(self, child: _Child, status: int) -> None:
        now_s = time.monotonic()
        child.pid = 0
        self._seats.forget(child.share.index)
        if self._ending is not None or self._is_closed:
            child.due_s = math.inf
            return
        child.deaths = 0 if now_s - child.started_s > _SETTLED_S else child.deaths + 1
        pause_s = _PAUSES_S[min(child.deaths, len(_PAUSES_S) - 1)]
        child.due_s = now_s + pause_s
        code = os.waitstatus_to_exitcode(status)
        facts = {"worker": child.share.index, "code": code, "again_in_s": pause_s}
        _log.error("a process has ended, and is started anew", extra={"facts": facts})

    def _wait_for_all(self) -> None:
        """Wait until all have ended; a second signal is passed on like the first."""
        self._ending = self._ending or signal.SIGTERM
        while any(child.pid for child in self._children):
            found = signal.sigtimedwait(_HEARD, _LOOK_S)
            if found is not None and found.si_signo in _ENDING:
                self._tell(signal.Signals(found.si_signo))
            self._bury()

    # --- reload --------------------------------------------------------------------------------

    def _reload(self, *, tells: bool = True) -> None:
        """Read the configuration again, or say why not and stay. tells: have all go over to it."""
        self._notifier.reloading()
        config: Config | None = None
        try:
            config = reload(self._config, os.environ)
            read_admission(config)
            read_roster(config)
            read_offer(config)
            read_contexts(config, {})
            open_log(config.log)
        except (ConfigError, OSError, ssl.SSLError) as wrong:
            self._refused_files = files_of_refused(config, wrong)
            for line in str(wrong).splitlines():
                _log.error("not reloaded: %s", line)
        else:
            self._refused_files = ()
            changes = changes_between(self._config, config)
            self._config = config
            if tells:
                self._tell(signal.SIGHUP)
            log_changes(changes)
        self._notifier.ready(f"{self._count} processes accept clients")


def _open_endpoint(host: str, port: int, handed: Sequence[socket.socket]) -> socket.socket:
    """Listen for HTTP, on the socket of the process whose place we take where it has one there.

    Raises OSError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for sock in handed:
        if sock.family == family and sock.getsockname()[:2] == (host, port):
            return sock.dup()
    endpoint = socket.create_server((host, port), family=family)
    endpoint.setblocking(False)
    return endpoint
