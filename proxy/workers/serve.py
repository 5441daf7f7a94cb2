"""Run the proxy in this process until a signal or a cancellation ends it."""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path

from proxy.config import Change, Config, ConfigError, needs_restart, reload
from proxy.console import Shutdown
from proxy.tasks import in_thread
from proxy.telemetry import keep_event
from proxy.workers.descriptors import missing_descriptors, raise_descriptor_limit
from proxy.workers.pidfile import stays_claimed
from proxy.workers.share import CLOSE, RELOADED, Share
from proxy.workers.succession import Offer, take
from proxy.workers.systemd import Notifier
from proxy.workers.terms import open_log
from proxy.workers.watching import Watching, files_of_refused
from proxy.workers.worker import Reloaded, Worker

_log = logging.getLogger("pgweir")

# How long another process may take to let go of its sockets, and how often we look.
_TAKING_OVER_S = 10.0
_TAKEN_S = 0.02
_STATUS = "accepting clients"
# How often the configuration file is looked at.
_LOOK_S = 1.0
# What ends the process, and when.
_ENDING: Mapping[signal.Signals, Shutdown] = {
    signal.SIGTERM: "servers",
    signal.SIGINT: "now",
    signal.SIGQUIT: "now",
}


# What a signal asks for, in the console's words.
_SAID = {
    "SIGHUP": "RELOAD",
    "SIGUSR1": "PAUSE",
    "SIGUSR2": "RESUME",
    **{which.name: "SHUTDOWN" for which in _ENDING},
}


async def serve(
    config: Config,
    *,
    source: Path | None = None,
    on_ready: Callable[[str], None] | None = None,
    replaces: int | None = None,
    inherited: Sequence[socket.socket] = (),
    share: Share | None = None,
) -> int:
    """Serve until SIGTERM (transactions finish first) or SIGINT (at once), or until cancelled.

    source: the file the configuration came from, for the log.
    on_ready: called with a line of the addresses once clients are accepted.
    replaces: the process whose place this one takes. inherited: sockets that are listened on
    already, in place of those of the configuration. share: this is one process of several; what is
    the same for all of them is said by the one that looks after them.
    Result: the exit code. Raises OSError when an address cannot be bound.
    """
    open_log(config.log)
    service = _Service(config, share)
    handed = [] if replaces is None or inherited else take(replaces)
    if share is not None:
        inherited = share.sockets
    facts = await _start(service.worker, inherited, handed, replaces)
    for sock in handed:
        sock.close()
    if replaces is not None:
        service.spawn(_keep_pidfile(config.process.pidfile, replaces))
    service.hear_signals()
    if share is None and config.process.pidfile is not None:
        service.offer_listeners()
    # Objects made until now live as long as the process: no collection need look at them again.
    gc.collect()
    gc.freeze()
    if source is not None:
        facts["config"] = str(source)
    service.say("ready", facts)
    service.notifier.ready(_STATUS)
    if share is None and source is not None:
        watching = Watching(service.worker.config, lambda: service.refused_files)
        service.spawn(_watch(service.worker, watching, service.reload_soon))
    if on_ready is not None:
        on_ready(" ".join(f"{name}={value}" for name, value in facts.items()))
    return await service.last()


class _Service:
    """One process that serves: its worker, and who may tell it what."""

    def __init__(self, config: Config, share: Share | None) -> None:
        self._config = config
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[tuple[str, Shutdown]] = self._loop.create_future()
        self._tasks: set[asyncio.Task[object]] = set()
        self._offer: Offer | None = None
        # Of a configuration that was refused, as long as it is.
        self.refused_files: tuple[Path, ...] = ()
        self.notifier = Notifier(os.environ)
        self.worker = Worker(config, share)
        self.worker.attend(self._reload_for_console, self._reload, self._end_for_console)
        if share is None:
            _look_at_descriptors(config)
            for warning in self.worker.warnings:
                _log.warning("%s", warning)
        elif share.index > 0:
            # All of them probe, and see the same: one says it.
            logging.getLogger("pgweir.cluster").setLevel(logging.ERROR)
        if share is not None and share.is_anew:
            facts = {"worker": share.index}
            keep_event("process", "started in place of one that had ended", facts, logging.ERROR)

    def say(self, what: str, facts: Mapping[str, object] | None = None) -> None:
        """Tell of something that the one in charge logs for all, where there is one."""
        level = logging.INFO if self._share is None else logging.DEBUG
        _log.log(level, what, extra={"facts": facts or {}})
        keep_event("process", what, facts)

    def spawn(self, work: Coroutine[object, object, object]) -> None:
        """Do something that ends with the process at the latest."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def hear_signals(self) -> None:
        """Do what signals say from now on."""
        hear, steering = self._loop.add_signal_handler, self.worker.steering
        for which in _ENDING:
            hear(which, self._end_by_signal, which)
        hear(signal.SIGHUP, lambda: self.spawn(self._obey("SIGHUP", self._reload_by_signal)))
        hear(signal.SIGUSR1, lambda: self.spawn(self._obey("SIGUSR1", steering.pause_by_signal)))
        hear(signal.SIGUSR2, lambda: self.spawn(self._obey("SIGUSR2", steering.resume_by_signal)))

    def offer_listeners(self) -> None:
        """Have what we listen on ready for who takes our place."""
        self._offer = self.worker.offer()
        self._loop.add_reader(self._offer.fileno(), self._offer.answer)

    def reload_soon(self) -> None:
        """Read the configuration again."""
        self.spawn(self._reload())

    async def last(self) -> int:
        """Serve until the end has been said. Result: the exit code."""
        patience_s: float | None = 0.0
        waits_for_clients = False
        try:
            why, when = await self._ended
            self.say("stopping", {"signal": why})
            if why == "SIGTERM":
                patience_s = self._config.limits.shutdown_timeout or None
            elif when != "now":
                patience_s = None
            waits_for_clients = when == "clients"
        finally:
            self.notifier.stopping()
            if self._offer is not None:
                self._loop.remove_reader(self._offer.fileno())
                self._offer.close()
            for task in self._tasks:
                task.cancel()
            await self.worker.stop(patience_s=patience_s, waits_for_clients=waits_for_clients)
            for which in (*_ENDING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                self._loop.remove_signal_handler(which)
            self.say("stopped")
        return 0

    async def _obey(self, which: str, act: Callable[[], Awaitable[str]]) -> None:
        """Do what a signal says, and note it, with how it ended, for the audit log."""
        began_s = self._loop.time()
        result = await act()
        self._note(which, result, self._loop.time() - began_s)

    def _note(self, which: str, result: str, spent_s: float = 0.0) -> None:
        # All of several processes hear it: one notes it.
        if self._share is None or self._share.index == 0:
            said = _SAID[which]
            self.worker.note_command(said, which, said, result, spent_s)

    async def _reload_by_signal(self) -> str:
        done = await self._reload()
        return "ok" if done.refusal is None else "F0000"

    def _end_by_signal(self, which: signal.Signals) -> None:
        self._note(which.name, "ok")
        self._end(which.name, _ENDING[which])

    def _end(self, why: str, when: Shutdown) -> None:
        if self._ended.done():
            self.worker.hurry()
        else:
            self._ended.set_result((why, when))

    # --- for the console -----------------------------------------------------------------------

    def _end_for_console(self, when: Shutdown) -> None:
        """End all processes; when clients have left, this one alone, and nobody comes in."""
        if self._share is None:
            self._end("SHUTDOWN", when)
        elif when == "clients":
            os.kill(self._share.supervisor, CLOSE)
            self._end("SHUTDOWN", when)
        else:
            which = signal.SIGINT if when == "now" else signal.SIGTERM
            os.kill(self._share.supervisor, which)

    async def _reload_for_console(self) -> Reloaded:
        """Reload, and have the others do so, and the one in charge."""
        done = await self._reload()
        if self._share is not None and done.refusal is None:
            await self.worker.have_others_reload()
            # It says what has changed, and starts by it whom it starts from now on.
            os.kill(self._share.supervisor, RELOADED)
        return done

    # --- reload --------------------------------------------------------------------------------

    async def _reload(self) -> Reloaded:
        """Read the configuration again and go over to it, or say why not and stay."""
        self.notifier.reloading()
        try:
            return await self._adopt_anew()
        finally:
            self.notifier.ready(_STATUS)

    async def _adopt_anew(self) -> Reloaded:
        worker = self.worker
        config: Config | None = None
        try:
            config = await in_thread(reload, worker.config, os.environ)
            changes = await worker.adopt(config)
        except (ConfigError, OSError, ssl.SSLError) as wrong:
            self.refused_files = files_of_refused(config, wrong)
            for line in str(wrong).splitlines():
                _log.error("not reloaded: %s", line)
            keep_event("reload", "not reloaded", {"reason": str(wrong)}, logging.ERROR)
            return Reloaded(str(wrong))
        except Exception:  # noqa: BLE001 -- top of a task
            _log.exception("the reload failed")
            return Reloaded("an error of the proxy; its log says more")
        self.refused_files = ()
        worker.steering.forget_changes()
        what = "; ".join(map(str, changes))
        keep_event("reload", "reloaded", {"changes": len(changes), "what": what})
        if self._share is None:
            for warning in worker.warnings:
                _log.warning("%s", warning)
            _look_at_descriptors(config)
            log_changes(changes)
        return Reloaded(changes=changes)


def log_changes(changes: Sequence[Change]) -> None:
    """Say what a reload has changed, and when it holds."""
    for change in changes:
        _log.info("changed", extra={"facts": {"what": str(change)}})
    later = ",".join(needs_restart(changes)) or "nothing"
    _log.info("reloaded", extra={"facts": {"changes": len(changes), "needs_restart": later}})


def _look_at_descriptors(config: Config) -> None:
    """Say whether there are too few for the limits."""
    if (lack := missing_descriptors(config, raise_descriptor_limit())) is not None:
        _log.warning("%s", lack)


async def _start(
    worker: Worker,
    inherited: Sequence[socket.socket],
    handed: Sequence[socket.socket],
    replaces: int | None,
) -> dict[str, object]:
    """Begin to serve, and have the process end whose place we take. Raises OSError.

    Where it has handed its sockets over, or both may listen (`so_reuseport`), no client is turned
    away in between; where not, the other closes its sockets at once when it is told, and they are
    ours a moment later.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _TAKING_OVER_S
    is_told = False
    while True:
        facts: dict[str, object] | None = None
        try:
            facts = await worker.start(inherited, handed=handed, is_successor=replaces is not None)
        except OSError as refused:
            is_taken = refused.errno == errno.EADDRINUSE
            if replaces is None or not is_taken or loop.time() > until_s:
                raise
        # A second signal would have it wait for its transactions no longer.
        if replaces is not None and not is_told:
            is_told = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(replaces, signal.SIGTERM)
        if facts is not None:
            return facts
        await asyncio.sleep(_TAKEN_S)


async def _keep_pidfile(file: Path | None, replaces: int) -> None:
    """Task: see that the pidfile outlives the process whose place we have taken."""
    is_there = True
    while is_there:
        await asyncio.sleep(_LOOK_S)
        is_there = stays_claimed(file, replaces)


async def _watch(worker: Worker, watching: Watching, changed: Callable[[], None]) -> None:
    """Task: look at the configuration's files now and then."""
    while True:
        await asyncio.sleep(_LOOK_S)
        if watching.has_changed(worker.config) and worker.config.process.watch:
            _log.info("the configuration file has changed")
            changed()
