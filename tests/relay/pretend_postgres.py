"""What PostgreSQL says to each message, as far as the order of replies depends on it.

Source: PostgreSQL documentation, "Message Flow", and the main loop of postgres.c: after an error in
the extended protocol all is skipped up to Sync; while COPY data are read, Sync and Flush are passed
over; data of a COPY that has failed are passed over, too.

Texts are of this small language: `row TOKEN`, `fail`, `BEGIN`, `COMMIT`, `ROLLBACK`, and
`COPY begin`, `COPY data`, `COPY end`, `COPY whole`, which fail before data are read, at the first
piece, at the end, or not at all. `show` tells the one setting of a session, which is set by
`SET name TO E'value'`, or by set_config() of the values of a Bind.
"""

import struct

from proxy.wire import messages
from tests.faults.raw_client import message

PARSED, BOUND, CLOSED = message(b"1"), message(b"2"), message(b"3")
NO_DATA, NO_PARAMETERS = message(b"n"), message(b"t", b"\0\0")
COPY_IN = message(b"G", b"\0\0\0")
ENDS = {b"COMMIT", b"ROLLBACK"}


def row(token: bytes) -> bytes:
    """A DataRow of one column."""
    return message(b"D", struct.pack("!hi", 1, len(token)) + token)


class PretendPostgres:
    """One session. `answer` gives the pieces of a reply, each of which PostgreSQL flushes."""

    def __init__(self, setting: bytes = b"") -> None:
        self.setting = setting
        self.status = b"I"
        self.statements: dict[bytes, bytes] = {}
        self.portal: bytes | None = None
        self._value = b""
        self._skips = False
        self._copy: tuple[bytes, bool] | None = None

    def answer(self, kind: bytes, body: bytes) -> list[bytes]:
        """What it says to this message."""
        if self._copy is not None and kind in (b"d", b"c", b"f", b"S", b"H"):
            return self._reads_copy(*self._copy, kind)
        if kind in (b"d", b"c", b"f", b"H", b"X"):
            return []
        if kind == b"S":
            self._skips = False
            return [self._ready()]
        if kind == b"Q":
            said = self._runs(body[:-1], is_extended=False)
            return said if self._copy else [*said, self._ready()]
        return [] if self._skips else self._extended(kind, body)

    def _extended(self, kind: bytes, body: bytes) -> list[bytes]:
        if kind == b"P":
            name, text = body.split(b"\0")[:2]
            if self.status == b"E" and text not in ENDS:
                return self._fails(b"25P02")
            if name and name in self.statements:
                return self._fails(b"42P05")
            self.statements[name] = text
            return [PARSED]
        if kind == b"B":
            text = self.statements.get(body.split(b"\0")[1], b"")
            if not text:
                return self._fails(b"26000")
            if self.status == b"E" and text not in ENDS:
                return self._fails(b"25P02")
            self.portal = text
            # The last value, before the count of result formats.
            self._value = body[:-2].rpartition(b"\0")[2][1:]
            return [BOUND]
        if kind == b"D":
            if body[:1] == b"P":
                return [NO_DATA]
            if body[1:-1] not in self.statements:
                return self._fails(b"26000")
            return self._fails(b"25P02") if self.status == b"E" else [NO_PARAMETERS + NO_DATA]
        if kind == b"C":
            self.statements.pop(body[1:-1], None)
            return [CLOSED]
        assert kind == b"E", kind
        if self.portal is None:
            return self._fails(b"34000")
        return self._runs(self.portal, is_extended=True)

    def _runs(self, text: bytes, *, is_extended: bool) -> list[bytes]:
        word, _, rest = text.partition(b" ")
        if word in ENDS:
            tag = word if self.status == b"T" else b"ROLLBACK"
            tag, self.status = (word if self.status == b"I" else tag), b"I"
            return [messages.command_complete(tag)]
        if not text or text == b";":
            return [message(b"I")]
        if self.status == b"E":
            return self._fails(b"25P02", is_extended)
        if word == b"BEGIN":
            self.status = b"T"
        elif word == b"fail":
            return self._fails(b"22012", is_extended)
        elif word == b"COPY":
            if rest == b"begin":
                return [COPY_IN, *self._fails(b"55000", is_extended)]
            self._copy = rest, is_extended
            return [COPY_IN]
        elif word == b"SET":
            self.setting = rest.split(b"'")[1]
        elif word == b"SELECT":
            assert b"set_config($1, $2, false)" in rest, text
            self.setting = self._value
            return [row(self.setting), messages.command_complete(b"SELECT 1")]
        elif word == b"show":
            return [row(self.setting), messages.command_complete(b"SHOW")]
        elif word == b"row":
            return [row(rest), messages.command_complete(b"SELECT 1")]
        return [messages.command_complete(word)]

    def _reads_copy(self, fails_at: bytes, is_extended: bool, kind: bytes) -> list[bytes]:
        if kind in (b"S", b"H"):
            return []
        if kind == b"d" and fails_at != b"data":
            return []
        self._copy = None
        if kind == b"c" and fails_at == b"whole":
            said = [messages.command_complete(b"COPY 1")]
        else:
            said = self._fails(b"22P02", is_extended)
        return said if is_extended else [*said, self._ready()]

    def _fails(self, sqlstate: bytes, is_extended: bool = True) -> list[bytes]:
        self.status = b"I" if self.status == b"I" else b"E"
        self._skips = is_extended
        return [messages.error_response(sqlstate.decode(), "no")]

    def _ready(self) -> bytes:
        return messages.ready_for_query(self.status)
