"""One console connection after its login: both protocols, spoken by a coroutine.

The link stays in its LOGIN stage, in which a coroutine reads and writes whole messages; the data
plane never sees it. Source: PostgreSQL documentation, "Message Flow".
"""

import asyncio
import contextlib
import logging
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from proxy.client.door import facts_of
from proxy.console.commands import Desk, Order, Role, read_order
from proxy.console.grammar import Statement, read_statements
from proxy.console.scene import Visitor
from proxy.console.table import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    EMPTY_QUERY_RESPONSE,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    TEXT,
    Answer,
    Row,
    data_row,
    formats_of,
    parameter_description,
    row_description,
)
from proxy.errors import ClientError, PeerError
from proxy.relay import Client, next_message
from proxy.telemetry import NoteAudit
from proxy.wire import messages

_log = logging.getLogger("pgweir.console")

# No command is longer.
_MOST_BYTES = 65_536
_MOST_PREPARED = 100
# So many bytes are made of rows before they are sent, and others have their turn.
_CHUNK_BYTES = 32_768
# Rows are made for so long at most before the data plane has its turn.
_SLICE_S = 0.002
# A client that does not read is not written to: so much may wait for it.
_MOST_UNSENT = 262_144
_LOOK_S = 0.02
# Of a command and its name, in the audit log.
_MOST_SHOWN = 4096
_MOST_NAMED = 64

_READY = messages.ready_for_query(b"I")


# As a count of them can be written.
_MOST_PARAMETERS = 65_535


@dataclass(frozen=True, slots=True)
class _Stored:
    """A statement that is prepared. order: None for an empty one. parameters: their types' oids."""

    order: Order | None = None
    parameters: tuple[int, ...] = ()


@dataclass(slots=True)
class _Portal:
    """A bound statement. rows: what is left of its answer, once it runs."""

    order: Order | None
    formats: list[int]
    answer: Answer | None = None
    rows: Iterator[Row] | None = None
    count: int = 0


@dataclass(slots=True)
class _Prepared:
    """Statements and portals by name."""

    statements: dict[str, _Stored] = field(default_factory=dict)
    portals: dict[str, _Portal] = field(default_factory=dict)


class Conversation:
    """Speaks with one visitor.

    secret: of the cancel key it was given. note: takes its commands, for the audit log.
    """

    def __init__(self, visitor: Visitor, desk: Desk, secret: bytes, note: NoteAudit) -> None:
        self._visitor = visitor
        self._link: Client = visitor.link
        self._desk = desk
        self._role: Role = "admin" if visitor.is_admin else "stats"
        self._prepared = _Prepared()
        self._skipping = False
        self._running: asyncio.Task[Answer] | None = None
        self._note = note
        self._whose = facts_of(visitor.link, visitor.startup)
        self.secret = secret

    def cancel(self) -> bool:
        """Wait no longer for the command that runs; True when one does. It is done all the same."""
        if self._running is None or self._running.done():
            return False
        self._running.cancel()
        return True

    async def hold(self) -> str:
        """Speak until the visitor leaves. Result: why it ended, "" when it said Terminate."""
        try:
            while True:
                kind, body = await next_message(self._link, _MOST_BYTES)
                if kind == b"X":
                    return ""
                await self._receive(kind, body)
                await self._wait_for_room()
        except ConnectionResetError:
            return "client closed the connection unexpectedly"
        except PeerError as broken:
            self._link.write(
                messages.error_response(broken.sqlstate, broken.message, severity="FATAL")
            )
            return broken.message

    async def _receive(self, kind: bytes, body: bytes) -> None:
        if kind == b"S":
            self._skipping = False
            self._prepared.portals.clear()
            self._link.write(_READY)
        elif kind == b"Q":
            self._skipping = False
            await self._query(body)
        elif kind == b"F":
            self._refuse(ClientError("0A000", "the console has no functions"))
            self._link.write(_READY)
        elif kind not in _EXTENDED:
            if kind not in b"dcf":
                raise PeerError(f"invalid frontend message type {kind[0]}")
        elif not self._skipping:
            try:
                await _EXTENDED[kind](self, body)
            except ClientError as refused:
                self._refuse(refused)
                self._skipping = True

    # --- the simple protocol ---------------------------------------------------------------------

    async def _query(self, body: bytes) -> None:
        try:
            statements = read_statements(_text_of(body))
            if not statements:
                self._link.write(EMPTY_QUERY_RESPONSE)
            for statement in statements:
                if statement.parameters:
                    raise ClientError("42P02", f"there is no parameter ${statement.parameters[0]}")
                order = self._read(statement)
                answer = await self._carry_out(order)
                if answer.columns:
                    self._link.write(row_description(answer.columns))
                formats = formats_of(answer.columns, ())
                count = await self._write_rows(answer, iter(answer.rows), formats, 0)
                self._write_complete(answer, count)
        except ClientError as refused:
            self._refuse(refused)
        self._link.write(_READY)

    def _refuse(self, refused: ClientError) -> None:
        self._link.write(
            messages.error_response(
                refused.sqlstate, refused.message, detail=refused.detail, hint=refused.hint
            )
        )

    def _write_complete(self, answer: Answer, count: int) -> None:
        tag = f"SELECT {count}" if answer.tag.startswith("SELECT") else answer.tag
        self._link.write(messages.command_complete(tag.encode("utf-8", "surrogateescape")))

    # --- the extended protocol -------------------------------------------------------------------

    async def _parse(self, body: bytes) -> None:
        fields = _Fields(body)
        name, text = fields.string(), fields.string()
        declared = [fields.int32() for _ in range(fields.count())]
        fields.end()
        if name and name in self._prepared.statements:
            raise ClientError("42P05", f'prepared statement "{name}" already exists')
        if len(self._prepared.statements) >= _MOST_PREPARED:
            raise ClientError("54000", "too many prepared statements")
        statements = read_statements(text)
        if len(statements) > 1:
            raise ClientError("42601", "cannot insert multiple commands into a prepared statement")
        stored = _Stored()
        if statements:
            parameters = _parameters_of(statements[0], declared)
            stored = _Stored(self._read(statements[0]), parameters)
        self._prepared.statements[name] = stored
        self._link.write(PARSE_COMPLETE)

    async def _bind(self, body: bytes) -> None:
        fields = _Fields(body)
        portal, name = fields.string(), fields.string()
        for _ in range(fields.count()):
            fields.int16()
        count = fields.count()
        for _ in range(count):
            fields.value()
        formats = [fields.int16() for _ in range(fields.count())]
        fields.end()
        stored = self._statement(name)
        order, needed = stored.order, len(stored.parameters)
        if count != needed:
            raise ClientError(
                "08P01",
                f"bind message supplies {count} parameters, but prepared statement "
                f'"{name}" requires {needed}',
            )
        shown = () if order is None else order.columns
        if len(self._prepared.portals) >= _MOST_PREPARED:
            raise ClientError("54000", "too many portals")
        self._prepared.portals[portal] = _Portal(order, formats_of(shown, formats))
        self._link.write(BIND_COMPLETE)

    async def _describe(self, body: bytes) -> None:
        fields = _Fields(body)
        kind, name = fields.byte(), fields.string()
        fields.end()
        if kind == b"S":
            stored = self._statement(name)
            shown = () if stored.order is None else stored.order.columns
            self._link.write(parameter_description(stored.parameters) + row_description(shown))
        elif kind == b"P":
            portal = self._portal(name)
            shown = () if portal.order is None else portal.order.columns
            self._link.write(row_description(shown, portal.formats))
        else:
            raise PeerError("invalid DESCRIBE message subtype")

    async def _execute(self, body: bytes) -> None:
        fields = _Fields(body)
        name, most = fields.string(), fields.int32()
        fields.end()
        portal = self._portal(name)
        if portal.order is None:
            self._link.write(EMPTY_QUERY_RESPONSE)
            return
        if portal.answer is None or portal.rows is None:
            portal.answer = await self._carry_out(portal.order)
            portal.rows = iter(portal.answer.rows)
        count = await self._write_rows(portal.answer, portal.rows, portal.formats, most)
        portal.count += count
        if most > 0 and count == most:
            self._link.write(PORTAL_SUSPENDED)
        else:
            self._write_complete(portal.answer, portal.count)

    async def _close(self, body: bytes) -> None:
        fields = _Fields(body)
        kind, name = fields.byte(), fields.string()
        fields.end()
        if kind == b"S":
            self._prepared.statements.pop(name, None)
        elif kind == b"P":
            self._prepared.portals.pop(name, None)
        else:
            raise PeerError("invalid CLOSE message subtype")
        self._link.write(CLOSE_COMPLETE)

    async def _flush(self, _body: bytes) -> None:
        """Nothing is held back."""

    def _statement(self, name: str) -> _Stored:
        try:
            return self._prepared.statements[name]
        except KeyError:
            raise ClientError("26000", f'prepared statement "{name}" does not exist') from None

    def _portal(self, name: str) -> _Portal:
        try:
            return self._prepared.portals[name]
        except KeyError:
            raise ClientError("34000", f'portal "{name}" does not exist') from None

    # --- carrying out ----------------------------------------------------------------------------

    def _read(self, statement: Statement) -> Order:
        try:
            return read_order(statement, self._role)
        except ClientError as refused:
            # What a string holds may be somebody's password, meant for somewhere else.
            said = " ".join(
                "'…'" if token.kind == "string" else token.text for token in statement.tokens
            )
            kind = statement.tokens[0].text.upper()[:_MOST_NAMED]
            self._note_command(kind, said, refused.sqlstate, 0.0)
            raise

    def _note_command(self, kind: str, text: str, result: str, spent_s: float) -> None:
        facts = {"result": result, "ms": round(spent_s * 1e3, 3), "statement": text[:_MOST_SHOWN]}
        self._note("admin", kind, self._whose, facts)

    async def _carry_out(self, order: Order) -> Answer:
        """Run it, and note that it was."""
        began_s = time.monotonic()
        result = "ok"
        try:
            return await self._run(order)
        except ClientError as refused:
            result = refused.sqlstate
            raise
        except ConnectionResetError:
            result = "57014"
            raise
        finally:
            if order.name is not None:
                spent_s = time.monotonic() - began_s
                self._note_command(order.name, order.deed or order.name, result, spent_s)

    async def _run(self, order: Order) -> Answer:
        """Run it, until it is done, or cancelled, or the visitor has left."""
        self._visitor.queries += 1
        self._visitor.request_s = time.monotonic()
        self._desk.statistics.count_query()
        if order.deed is not None:
            facts = {"command": order.deed, "user": self._visitor.startup.user}
            facts["addr"] = self._link.address
            _log.info("console command", extra={"facts": facts})
        task = self._running = asyncio.ensure_future(order.run(self._desk))
        try:
            # Most take no time.
            await asyncio.wait({task}, timeout=_LOOK_S)
            while not task.done():
                await asyncio.wait({task}, timeout=_LOOK_S)
                if self._link.is_closed or self._has_left():
                    raise ConnectionResetError
            return task.result()
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise ClientError(
                "57014",
                "canceling the wait for this command due to user request",
                hint="What it has begun goes on; RESUME ends a PAUSE.",
            ) from None
        finally:
            self._running = None
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ClientError):
                    await task

    def _has_left(self) -> bool:
        """Whether the visitor has closed its end; what it sent before is read all the same."""
        _ = self._link.has_unread
        return self._link.has_ended

    async def _write_rows(
        self, answer: Answer, rows: Iterator[Row], formats: list[int], most: int
    ) -> int:
        """Send rows, `most` of them, or all for 0. Result: how many."""
        if answer.notice is not None:
            self._link.write(messages.notice_response("00000", answer.notice, detail=answer.detail))
        count = 0
        chunk: list[bytes] = []
        size = 0
        until_s = time.monotonic() + _SLICE_S
        for row in rows:
            chunk.append(data_row(answer.columns, formats, row))
            size += len(chunk[-1])
            count += 1
            if size >= _CHUNK_BYTES or time.monotonic() >= until_s:
                self._link.write(b"".join(chunk))
                chunk.clear()
                size = 0
                await self._wait_for_room()
                until_s = time.monotonic() + _SLICE_S
            if count == most:
                break
        self._link.write(b"".join(chunk))
        return count

    async def _wait_for_room(self) -> None:
        """Let others have their turn, and the visitor read."""
        await asyncio.sleep(0)
        while self._link.unsent_bytes > _MOST_UNSENT:
            if self._link.is_closed or self._has_left():
                raise ConnectionResetError
            await asyncio.sleep(_LOOK_S)


_EXTENDED: Mapping[bytes, Callable[[Conversation, bytes], Awaitable[None]]] = {
    b"P": Conversation._parse,
    b"B": Conversation._bind,
    b"D": Conversation._describe,
    b"E": Conversation._execute,
    b"C": Conversation._close,
    b"H": Conversation._flush,
}


def _parameters_of(statement: Statement, declared: list[int]) -> tuple[int, ...]:
    """The types of a statement's parameters: as declared, else text, as nobody looks at them."""
    wrong = [each for each in statement.parameters if not 1 <= each <= _MOST_PARAMETERS]
    if wrong:
        raise ClientError("42P02", f"there is no parameter ${wrong[0]}")
    count = max(statement.parameters, default=0)
    oids = [oid or TEXT.oid for oid in declared]
    return (*oids, *(TEXT.oid for _ in range(count - len(oids))))


def _text_of(body: bytes) -> str:
    fields = _Fields(body)
    text = fields.string()
    fields.end()
    return text


class _Fields:
    """Reads a body piece by piece. Raises PeerError where it is too short, or too long."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def string(self) -> str:
        end = self._body.find(b"\0", self._at)
        if end < 0:
            raise PeerError("invalid string in message")
        octets = self._body[self._at : end]
        self._at = end + 1
        return octets.decode("utf-8", "surrogateescape")

    def byte(self) -> bytes:
        return self._take(1)

    def int16(self) -> int:
        return int(struct.unpack("!h", self._take(2))[0])

    def int32(self) -> int:
        return int(struct.unpack("!i", self._take(4))[0])

    def value(self) -> None:
        """Pass over a parameter's value, which has no length when it is null."""
        length = self.int32()
        if length >= 0:
            self._take(length)

    def count(self) -> int:
        """How many items follow: so many that they can be there."""
        number = int(struct.unpack("!H", self._take(2))[0])
        if number > len(self._body) - self._at:
            raise PeerError("insufficient data left in message")
        return number

    def end(self) -> None:
        if self._at != len(self._body):
            raise PeerError("invalid message format")

    def _take(self, count: int) -> bytes:
        if self._at + count > len(self._body):
            raise PeerError("insufficient data left in message")
        octets = self._body[self._at : self._at + count]
        self._at += count
        return octets
