"""One question to a session: its settings, its pins, or both in one statement. Pure."""

from dataclasses import dataclass

from proxy.session.following import (
    Question,
    read_answer,
    read_rows,
    write_question,
    write_reports,
)
from proxy.session.pins import PIN_QUESTION, take_pins
from proxy.session.settings import Settings, SettingsBook

# Settings of the server and of its client, ParameterStatus messages for the client, and pins. What
# was not asked for is None.
SessionAnswer = tuple[Settings | None, Settings | None, bytes, tuple[str, ...] | None]


@dataclass(frozen=True, slots=True)
class SessionQuestion:
    """What is asked. settings: None when only pins are."""

    settings: Question | None
    pins: bool

    def text(self) -> str:
        """Write the SQL; "" when nothing need be asked."""
        parts = []
        if self.settings is not None and (question := write_question(self.settings)):
            parts.append(question)
        if self.pins:
            parts.append(PIN_QUESTION)
        return " UNION ALL ".join(parts)

    def answered(self, rows: list[bytes], book: SettingsBook) -> SessionAnswer:
        """Read the answer, bodies of DataRow. Raises PeerError."""
        told = read_rows(rows)
        pins = take_pins(told) if self.pins else None
        if self.settings is None:
            return None, None, b"", pins
        of_server, of_client = read_answer(self.settings, told, book)
        return of_server, of_client, write_reports(self.settings, of_client), pins
