"""The audit log: who came, and did what, from where, to which tables, and how it ended. One JSON
line each.

Nobody waits for it. Lines stand in a bounded queue until a short-lived thread writes them, once a
second; what finds the queue full is dropped and counted. The file is opened for each writing, so
whoever renames it gets a new one without asking.
"""

import asyncio
import fcntl
import json
import logging
import os
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from proxy.config import Audit, AuditClass
from proxy.relay import Ended
from proxy.sql.facts import Facts
from proxy.sql.grammar import GrammarError, parse
from proxy.sql.reading import read_facts
from proxy.telemetry.counting import Tally
from proxy.telemetry.events import report
from proxy.telemetry.fingerprints import Fingerprint

MAX_QUEUED = 10_000
MAX_TEXT_CHARS = 4096

_log = logging.getLogger("pgweir.audit")


@dataclass(frozen=True, slots=True)
class Deed:
    """What a statement is known to do. kind: as PostgreSQL calls it. tables: as written."""

    kind: str
    classes: frozenset[AuditClass]
    tables: tuple[str, ...]


NoteAudit = Callable[[AuditClass, str, Mapping[str, object], Mapping[str, object]], None]
"""Takes what is no statement of the data plane: its class and kind, whose it is, and more facts."""

_UNKNOWN = Deed("unknown", frozenset({"unknown"}), ())


def deed_of(key: bytes) -> Deed:
    """Read what the statements of a key do, together."""
    try:
        facts = [read_facts(tree) for tree in parse(key)]
    except GrammarError:
        return _UNKNOWN
    if not facts:
        return Deed("empty", frozenset({"read"}), ())
    tables = {str(name) for each in facts for name in (*each.reads, *each.writes)}
    return Deed(
        "; ".join(each.kind for each in facts)[:200],
        frozenset(_class_of(each) for each in facts),
        tuple(sorted(tables)),
    )


def _class_of(facts: Facts) -> AuditClass:
    if facts.is_ddl:
        return "ddl"
    if facts.changes or facts.writes:
        return "write"
    if facts.transaction is not None:
        return "transaction"
    if facts.effects:
        return "session"
    return "unknown" if facts.unknown else "read"


def is_chosen(audit: Audit, database: str, user: str, deed: Deed) -> bool:
    """Whether the rules want this written down: the first that matches says."""
    for rule in audit.rules:
        # Each login ends: that it did is written only where it is asked for.
        matches = "disconnect" not in deed.classes
        if rule.classes:
            matches = not deed.classes.isdisjoint(rule.classes)
        if (
            matches
            and rule.may_match(database, user)
            and (rule.table is None or rule.table in deed.tables)
        ):
            return rule.log
    return False


class AuditLog:
    """Chooses, queues and writes.

    in_thread: runs a function where it may block. today: seconds since the Unix epoch.
    """

    def __init__(
        self,
        in_thread: Callable[..., Awaitable[object]],
        today: Callable[[], float] = time.time,
        max_queued: int = MAX_QUEUED,
        max_known: int = 2000,
    ) -> None:
        self.lines: Tally[str] = Tally("failed")
        self._in_thread = in_thread
        self._today = today
        self._max_queued = max_queued
        self._max_known = max_known
        self._queue: deque[str] = deque()
        self._deeds: OrderedDict[str, Deed] = OrderedDict()
        self._writing: asyncio.Task[None] | None = None
        self._has_failed = False

    def add(
        self,
        audit: Audit,
        whose: Mapping[str, object],
        fingerprint: Fingerprint,
        ended: Ended,
        traceparent: str | None,
    ) -> None:
        """Queue a line for a statement that has ended, if the rules choose it.

        whose: database, user, addr and what else is known of client and node.
        """
        deed = self._deed_of(fingerprint)
        if not self._has_room_for(audit, whose, deed):
            return
        text = fingerprint.text
        if audit.literals and ended.text:
            text = ended.text.decode("utf-8", "backslashreplace")
        facts = {
            "tables": deed.tables,
            "result": ended.sqlstate or "ok",
            "rows": ended.rows,
            "ms": round(ended.spent_s * 1e3, 3),
            "fingerprint": fingerprint.id,
            "statement": text[:MAX_TEXT_CHARS],
        }
        if traceparent is not None:
            facts["traceparent"] = traceparent
        self._put(whose, deed, facts)

    def note(
        self, audit: Audit, whose: Mapping[str, object], deed: Deed, facts: Mapping[str, object]
    ) -> None:
        """Queue a line for what is no statement of the data plane, if the rules choose it.

        whose: addr, and of database, user and the like what is known.
        """
        if self._has_room_for(audit, whose, deed):
            self._put(whose, deed, facts)

    def _has_room_for(self, audit: Audit, whose: Mapping[str, object], deed: Deed) -> bool:
        if not is_chosen(audit, str(whose.get("database")), str(whose.get("user")), deed):
            return False
        if len(self._queue) >= self._max_queued:
            self.lines.add("dropped")
            return False
        return True

    def _put(self, whose: Mapping[str, object], deed: Deed, facts: Mapping[str, object]) -> None:
        now_s = self._today()
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s))
            + f".{int(now_s % 1 * 1000):03d}Z",
            **whose,
            "kind": deed.kind,
            "class": sorted(deed.classes),
            **facts,
        }
        self._queue.append(json.dumps(entry, default=str))

    def tick(self, audit: Audit | None) -> None:
        """Begin to write what is queued, unless that is under way."""
        if audit is None or not self._queue or self._writing is not None:
            return
        self._writing = asyncio.get_running_loop().create_task(self._write(audit))

    async def close(self, audit: Audit | None) -> None:
        """Write what is left."""
        if self._writing is not None:
            await self._writing
        if audit is not None and self._queue:
            await self._write(audit)

    async def _write(self, audit: Audit) -> None:
        lines = list(self._queue)
        self._queue.clear()
        try:
            await self._in_thread(write_lines, audit, lines)
        except OSError as error:
            self.lines.add("failed", len(lines))
            if not self._has_failed:
                facts = {"file": str(audit.file), "reason": error.strerror, "lines": len(lines)}
                report(_log, "audit", "the audit log cannot be written", facts, logging.ERROR)
            self._has_failed = True
        else:
            self.lines.add("written", len(lines))
            self._has_failed = False
        finally:
            self._writing = None

    def _deed_of(self, fingerprint: Fingerprint) -> Deed:
        deed = self._deeds.get(fingerprint.id)
        if deed is None:
            deed = self._deeds[fingerprint.id] = deed_of(fingerprint.text.encode())
            if len(self._deeds) > self._max_known:
                self._deeds.popitem(last=False)
        return deed


def write_lines(audit: Audit, lines: Iterable[str]) -> None:
    """Add lines to the file, and rename it when it has become too long. Raises OSError.

    Several processes may share it: one at a time writes, and lines stay whole.
    """
    octets = "".join(f"{line}\n" for line in lines).encode("ascii")
    while True:
        with audit.file.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_still(audit.file, file.fileno()):
                continue  # renamed by another while we waited
            file.write(octets)
            file.flush()
            if audit.max_bytes and file.tell() >= audit.max_bytes:
                rotate(audit.file, audit.keep)
            return


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def rotate(file: Path, keep: int) -> None:
    """Rename `file` to `file.1`, that to `file.2` and so on; the one beyond `keep` goes."""
    aged = [file, *(file.with_name(f"{file.name}.{number}") for number in range(1, keep + 1))]
    if keep == 0:
        file.unlink()
    for number in range(keep, 0, -1):
        if aged[number - 1].exists():
            aged[number - 1].replace(aged[number])
