"""Run the proxy in this process until a signal or a cancellation ends it."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from proxy.config import Config
from proxy.telemetry import configure
from proxy.workers.worker import Worker

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
    configure(config.log.level, config.log.format)
    for warning in config.warnings:
        _log.warning("%s", warning)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[signal.Signals] = loop.create_future()

    def end(which: signal.Signals) -> None:
        if not ended.done():
            ended.set_result(which)

    worker = Worker(config)
    facts = await worker.start()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, end, which)
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
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
        await worker.stop(patience_s=patience_s)
        _log.info("stopped")
    return 0
