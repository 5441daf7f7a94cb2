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
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path

from proxy.config import Config, ConfigError, needs_restart, reload
from proxy.console import Shutdown
from proxy.tasks import in_thread
from proxy.watch import Watch
from proxy.workers.descriptors import missing_descriptors, raise_descriptor_limit
from proxy.workers.systemd import Notifier
from proxy.workers.worker import Worker, open_log

_log = logging.getLogger("pgweir")

# How long another process may take to let go of its sockets, and how often we look.
_TAKING_OVER_S = 10.0
_TAKEN_S = 0.02
# How often the configuration file is looked at.
_LOOK_S = 1.0
# What ends the process, and when.
_ENDING: Mapping[signal.Signals, Shutdown] = {
    signal.SIGTERM: "servers",
    signal.SIGINT: "now",
    signal.SIGQUIT: "now",
}


async def serve(
    config: Config,
    *,
    source: Path | None = None,
    on_ready: Callable[[str], None] | None = None,
    replaces: int | None = None,
    inherited: Sequence[socket.socket] = (),
) -> int:
    """Serve until SIGTERM (transactions finish first) or SIGINT (at once), or until cancelled.

    source: the file the configuration came from, for the log.
    on_ready: called with a line of the addresses once clients are accepted.
    replaces: the process whose place this one takes. inherited: sockets that are listened on
    already, in place of those of the configuration.
    Result: the exit code. Raises OSError when an address cannot be bound.
    """
    open_log(config.log)
    _look_at_descriptors(config)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[str, Shutdown]] = loop.create_future()

    def end(why: str, when: Shutdown) -> None:
        if ended.done():
            worker.hurry()
        else:
            ended.set_result((why, when))

    worker = Worker(config)
    for warning in worker.warnings:
        _log.warning("%s", warning)
    notifier = Notifier(os.environ)
    worker.attend(lambda: _reload(worker, notifier), lambda when: end("SHUTDOWN", when))
    facts = await _start(worker, inherited, replaces)
    for which, when in _ENDING.items():
        loop.add_signal_handler(which, end, which.name, when)
    tasks: set[asyncio.Task[object]] = set()

    def begin(work: Callable[[], Coroutine[None, None, object]]) -> None:
        task = loop.create_task(work())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def begin_reload() -> None:
        begin(lambda: _reload(worker, notifier))

    loop.add_signal_handler(signal.SIGHUP, begin_reload)
    loop.add_signal_handler(signal.SIGUSR1, begin, worker.steering.pause_by_signal)
    loop.add_signal_handler(signal.SIGUSR2, begin, worker.steering.resume_by_signal)
    # Objects made until now live as long as the process: no collection need look at them again.
    gc.collect()
    gc.freeze()
    if source is not None:
        facts["config"] = str(source)
    _log.info("ready", extra={"facts": facts})
    notifier.ready("accepting clients")
    watching = loop.create_task(_watch(worker, source, begin_reload))
    if on_ready is not None:
        on_ready(" ".join(f"{name}={value}" for name, value in facts.items()))
    patience_s: float | None = 0.0
    when = "now"
    try:
        why, when = await ended
        _log.info("stopping", extra={"facts": {"signal": why}})
        if when != "now":
            patience_s = (config.limits.shutdown_timeout or None) if why == "SIGTERM" else None
    finally:
        notifier.stopping()
        watching.cancel()
        await worker.stop(patience_s=patience_s, waits_for_clients=when == "clients")
        for each in (*_ENDING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            loop.remove_signal_handler(each)
        _log.info("stopped")
    return 0


def _look_at_descriptors(config: Config) -> None:
    """Say whether there are too few for the limits."""
    if (lack := missing_descriptors(config, raise_descriptor_limit())) is not None:
        _log.warning("%s", lack)


async def _start(
    worker: Worker, inherited: Sequence[socket.socket], replaces: int | None
) -> dict[str, object]:
    """Begin to serve, and have the process end whose place we take. Raises OSError.

    Where both may listen (`so_reuseport`), no client is turned away in between; where not, the
    other closes its sockets at once when it is told, and they are ours a moment later.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _TAKING_OVER_S
    is_told = False
    while True:
        facts: dict[str, object] | None = None
        try:
            facts = await worker.start(inherited, is_successor=replaces is not None)
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


async def _watch(worker: Worker, source: Path | None, changed: Callable[[], None]) -> None:
    """Task: look at the configuration file now and then."""
    if source is None:
        return
    watch = Watch([source])
    while True:
        await asyncio.sleep(_LOOK_S)
        if watch.has_changed():
            watch.settle()
            if worker.config.process.watch:
                _log.info("the configuration file has changed")
                changed()


async def _reload(worker: Worker, notifier: Notifier) -> str | None:
    """Read the configuration again and go over to it, or say why not and stay.

    Result: why not, for who asked.
    """
    notifier.reloading()
    try:
        return await _adopt_anew(worker)
    finally:
        notifier.ready("accepting clients")


async def _adopt_anew(worker: Worker) -> str | None:
    try:
        config = await in_thread(reload, worker.config, os.environ)
        changes = await worker.adopt(config)
    except (ConfigError, OSError, ssl.SSLError) as wrong:
        for line in str(wrong).splitlines():
            _log.error("not reloaded: %s", line)
        return str(wrong)
    except Exception:  # noqa: BLE001 -- top of a task
        _log.exception("the reload failed")
        return "an error of the proxy; its log says more"
    for warning in worker.warnings:
        _log.warning("%s", warning)
    _look_at_descriptors(config)
    for change in changes:
        _log.info("changed", extra={"facts": {"what": str(change)}})
    later = ",".join(needs_restart(changes)) or "nothing"
    _log.info("reloaded", extra={"facts": {"changes": len(changes), "needs_restart": later}})
    return None
