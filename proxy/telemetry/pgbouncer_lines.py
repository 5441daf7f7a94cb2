"""One log record as PgBouncer would write it. Pure.

For whose scripts read its log: `C-0x…: database/user@address closing because: reason (age=…s)`.
What PgBouncer has no line for is the message with its facts. Source: PgBouncer's src/objects.c and
src/util.c (log_generic).
"""

import logging
import os
import time
import zlib
from collections.abc import Callable, Mapping

from proxy.telemetry.lines import facts_in_words, one_line

_LEVELS = {"INFO": "LOG"}
# Ours -> PgBouncer's words for the same.
_REASONS = {
    "client said Terminate": "client close request",
    "client closed the connection": "client unexpected eof",
}

Facts = Mapping[str, object]


def _client(facts: Facts) -> str:
    address = str(facts.get("addr", ""))
    # PgBouncer has a pointer there: the same for all lines of one connection.
    number = zlib.crc32(address.encode("utf-8", "replace"))
    database, user = facts.get("database", "(nodb)"), facts.get("user", "(nouser)")
    return f"C-{number:#x}: {database}/{user}@{address}"


def _server(facts: Facts) -> str:
    number = zlib.crc32(str(facts.get("node")).encode("utf-8", "replace"))
    return f"S-{number:#x}: {facts.get('database')}/{facts.get('user')}@{facts.get('node')}"


def _connected(facts: Facts) -> str:
    tls = facts.get("tls", "no")
    return (
        f"{_client(facts)} login attempt: db={facts.get('database')} user={facts.get('user')} "
        f"tls={tls}"
    )


def _closing(facts: Facts) -> str:
    reason = str(facts.get("reason"))
    age_s = facts.get("seconds", 0)
    whole = int(age_s) if isinstance(age_s, int | float) else 0
    return f"{_client(facts)} closing because: {_REASONS.get(reason, reason)} (age={whole}s)"


def _server_closing(facts: Facts) -> str:
    return f"{_server(facts)} closing because: {facts.get('reason')}"


_SAID: dict[str, Callable[[Facts], str]] = {
    "client connected": _connected,
    "client disconnected": _closing,
    "client refused": _closing,
    "server connection closed": _server_closing,
}


def pgbouncer_line(record: logging.LogRecord) -> str:
    """`2026-01-31 12:00:00.123 UTC [4711] LOG …`, without the newline."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
    level = _LEVELS.get(record.levelname, record.levelname)
    message, facts = facts_in_words(record)
    say = _SAID.get(record.msg)
    if say is not None:
        found = getattr(record, "facts", None)
        message, facts = say(found if isinstance(found, Mapping) else {}), []
    opening = f"{moment}.{int(record.msecs):03d} UTC [{os.getpid()}] {level}"
    return one_line(record, [opening, message, *facts])
