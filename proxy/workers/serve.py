"""Run the proxy in this process until a signal or a cancellation ends it."""

import asyncio
import gc
import logging
import os
import signal
import ssl
from collections.abc import Callable
from pathlib import Path

from proxy.config import Config, ConfigError, reload
from proxy.tasks import in_thread
from proxy.workers.descriptors import missing_descriptors, raise_descriptor_limit
from proxy.workers.worker import Worker, open_log

_log = logging.getLogger("pgweir")


async def serve(
    config: Config,
    *,
    source: Path | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> int:
    """Serve until SIGTERM (transactions finish first) or SIGINT (at once), or until cancelled.

    source: the file the configuration came from, for the log.
    on_ready: called with a line of the addresses once clients are accepted.
    Result: the exit code. Raises OSError when an address cannot be bound.
    """
    open_log(config.log)
    _look_at_descriptors(config)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[signal.Signals] = loop.create_future()

    def end(which: signal.Signals) -> None:
        if ended.done():
            worker.hurry()
        else:
            ended.set_result(which)

    worker = Worker(config)
    for warning in worker.warnings:
        _log.warning("%s", warning)
    facts = await worker.start()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, end, which)
    reloads: set[asyncio.Task[None]] = set()

    def begin_reload() -> None:
        task = loop.create_task(_reload(worker))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, begin_reload)
    # Objects made until now live as long as the process: no collection need look at them again.
    gc.collect()
    gc.freeze()
    if source is not None:
        facts["config"] = str(source)
    _log.info("ready", extra={"facts": facts})
    if on_ready is not None:
        on_ready(" ".join(f"{name}={value}" for name, value in facts.items()))
    patience_s: float | None = 0.0
    try:
        which = await ended
        _log.info("stopping", extra={"facts": {"signal": which.name}})
        if which == signal.SIGTERM:
            patience_s = config.limits.shutdown_timeout or None
    finally:
        await worker.stop(patience_s=patience_s)
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(each)
        _log.info("stopped")
    return 0


def _look_at_descriptors(config: Config) -> None:
    """Say whether there are too few for the limits."""
    if (lack := missing_descriptors(config, raise_descriptor_limit())) is not None:
        _log.warning("%s", lack)


async def _reload(worker: Worker) -> None:
    """Task: read the configuration again and go over to it, or say why not and stay."""
    try:
        config = await in_thread(reload, worker.config, os.environ)
        later = await worker.adopt(config)
    except (ConfigError, OSError, ssl.SSLError) as wrong:
        for line in str(wrong).splitlines():
            _log.error("not reloaded: %s", line)
        return
    except Exception:  # noqa: BLE001 -- top of a task
        _log.exception("the reload failed")
        return
    for warning in worker.warnings:
        _log.warning("%s", warning)
    _look_at_descriptors(config)
    _log.info("reloaded", extra={"facts": {"needs_restart": ",".join(later) or "nothing"}})
