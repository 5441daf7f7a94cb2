"""Where log lines go: one handler on the loggers below "pgweir", and on those of our libraries.

Rooms log through the standard library, so that a room below this one needs no import of it:

    log = logging.getLogger("pgweir.client")
    log.info("client connected", extra={"facts": {"database": database, "addr": addr}})

The message is a constant, what varies is a fact. With the level off that costs an attribute and a
dict; where even this counts, ask `log.isEnabledFor` first.
"""

import logging
import os
import select
import sys
from collections.abc import Callable, Collection
from io import UnsupportedOperation
from pathlib import Path
from typing import Literal, TextIO

from proxy.errors import ProxyBug
from proxy.telemetry.lines import json_line, text_line
from proxy.telemetry.pgbouncer_lines import pgbouncer_line

LogFormat = Literal["text", "json", "pgbouncer"]

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_FORMATS: dict[str, Callable[[logging.LogRecord], str]] = {
    "text": text_line,
    "json": json_line,
    "pgbouncer": pgbouncer_line,
}

_LIBRARIES = ("asyncio", "aiohttp", "py.warnings")
"""They quote what strangers sent in messages of theirs; through our handler it cannot do harm."""


def configure(
    level: str = "info",
    log_format: LogFormat = "text",
    stream: TextIO | None = None,
    *,
    file: Path | None = None,
    is_quiet: bool = False,
    silent: Collection[str] = (),
) -> None:
    """Send the log from `level` on to `stream`, standard error by default, and to a file.

    level: a key of `LEVELS`. May be called again, at a reload for instance: the last call counts,
    and the file is opened anew. is_quiet: to the file alone. silent: messages that are left out.
    Of libraries only warnings and worse are logged.
    Raises OSError when the file cannot be opened; then all stays as it was.
    Raises ProxyBug for a level or format there is not; the configuration has checked both.
    """
    if level not in LEVELS or log_format not in _FORMATS:
        raise ProxyBug(f"no such log level or format: {level!r}, {log_format!r}")
    handlers = []
    if file is not None:
        opened = file.open("a", encoding="utf-8")
        handlers.append(LineHandler(opened, _FORMATS[log_format], owns_stream=True))
    if not is_quiet:
        handlers.append(LineHandler(sys.stderr if stream is None else stream, _FORMATS[log_format]))
    unsaid = frozenset(silent)
    for handler in handlers:
        handler.addFilter(lambda record: record.msg not in unsaid)
    ended = set()
    for name in ("pgweir", *_LIBRARIES):
        logger = logging.getLogger(name)
        for earlier in [known for known in logger.handlers if isinstance(known, LineHandler)]:
            logger.removeHandler(earlier)
            ended.add(earlier)
        for handler in handlers:
            logger.addHandler(handler)
        logger.setLevel(LEVELS[level] if name == "pgweir" else max(LEVELS[level], logging.WARNING))
    for handler in ended:
        handler.close()
    # What stands in no line need not be found out for each of them.
    # Source: Python documentation, "Logging HOWTO", Optimization.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class LineHandler(logging.Handler):
    """Writes each record as one line, and never raises or waits.

    Whoever reads the other end of a pipe may be slow, stopped or gone, and the proxy must not stop
    with him: a line that cannot be written at once is dropped and counted, and the count is logged
    when lines can be written again. Lines are no longer than PIPE_BUF, so a pipe that is ready
    takes one whole.

    lost: lines dropped and not reported yet.
    """

    def __init__(
        self,
        stream: TextIO,
        to_line: Callable[[logging.LogRecord], str],
        *,
        owns_stream: bool = False,
    ) -> None:
        super().__init__()
        self.lost = 0
        self._owns_stream = owns_stream
        self._stream = stream
        self._to_line = to_line
        self._broken_line = False
        self._fd = _descriptor(stream)
        self._poll = select.poll()
        if self._fd is not None:
            self._poll.register(self._fd, select.POLLOUT)

    def close(self) -> None:
        """Write no more."""
        super().close()
        if self._owns_stream:
            self._stream.close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line, or count it as lost."""
        try:
            if self.lost:
                lost = self.lost
                self._write(self._to_line(_loss(lost)))
                self.lost -= lost
            self._write(self._to_line(record))
        except Exception:  # noqa: BLE001 -- there is nowhere left to log it, and callers come first
            self.lost += 1

    def _write(self, line: str) -> None:
        """Raises OSError or ValueError when the line could not be written now."""
        if self._fd is None:
            self._stream.write(line + "\n")
            self._stream.flush()
            return
        if self._stream.closed:  # the number may be a client's socket by now
            raise ValueError("the log's stream is closed")
        if not self._poll.poll(0):
            raise BlockingIOError("the log's reader does not keep up")
        encoded = f"{line}\n".encode()
        if self._broken_line:
            encoded = b"\n" + encoded
        written = os.write(self._fd, encoded)
        self._broken_line = written < len(encoded)  # a full disk takes a part
        if self._broken_line:
            raise OSError("a part of the line was written")


def _descriptor(stream: TextIO) -> int | None:
    """The stream's descriptor, to write to without its buffer; None when it is not a file."""
    try:
        return stream.fileno()
    except (UnsupportedOperation, AttributeError, ValueError):
        return None


def _loss(lines: int) -> logging.LogRecord:
    record = logging.LogRecord(
        "pgweir.log", logging.WARNING, __file__, 0, "log lines lost", None, None
    )
    record.facts = {"lines": lines}
    return record
