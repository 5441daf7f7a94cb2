"""One question to a session, about all that is to be known of it, in one SQL statement. Pure."""

from dataclasses import dataclass

from proxy.relay import About
from proxy.session.following import (
    Question,
    read_answer,
    read_rows,
    write_question,
    write_reports,
)
from proxy.session.pins import PIN_QUESTION, UNPORTABLE, take_pins
from proxy.session.settings import Settings, SettingsBook
from proxy.session.statements import MADE, OTHER, STATEMENTS_QUESTION, Prepared, take_statements

# What PREPARE made, texts by names, and names of the protocol's statements.
StatementsAnswer = tuple[dict[bytes, bytes], frozenset[bytes]]
# Settings of the server and of its client, ParameterStatus messages for the client, pins,
# statements and channels. What was not asked for is None.
SessionAnswer = tuple[
    Settings | None,
    Settings | None,
    bytes,
    tuple[str, ...] | None,
    StatementsAnswer | None,
    frozenset[str] | None,
]

# In place of a setting's name.
_CHANNEL = "#"
_CHANNELS_QUESTION = (
    f"SELECT '{_CHANNEL}', channel FROM pg_catalog.pg_listening_channels() AS channel"  # noqa: S608
)


NO_SETTINGS = (MADE, OTHER, _CHANNEL)
"""What the first column begins with when the row is about something else."""


@dataclass(frozen=True, slots=True)
class SessionQuestion:
    """What is asked.

    believed: the client's settings. settings: None when they are not asked for.
    """

    believed: Settings
    settings: Question | None
    about: About

    def text(self) -> str:
        """Write the SQL; "" when nothing need be asked."""
        parts = []
        if self.settings is not None and (question := write_question(self.settings)):
            parts.append(question)
        if About.PINS in self.about:
            parts.append(PIN_QUESTION)
        if About.STATEMENTS in self.about:
            parts.append(STATEMENTS_QUESTION)
        if About.CHANNELS in self.about:
            parts.append(_CHANNELS_QUESTION)
        return " UNION ALL ".join(parts)

    def answered(self, rows: list[bytes], book: SettingsBook) -> SessionAnswer:
        """Read the answer. Raises PeerError."""
        told = read_rows(rows)
        pins = take_pins(told) if About.PINS in self.about else None
        of_server = of_client = None
        reports = b""
        statements = None
        if self.settings is not None:
            settings = [each for each in told if each[0][:1] not in NO_SETTINGS]
            of_server, of_client = read_answer(self.settings, settings, book)
            reports = write_reports(self.settings, of_client)
        if About.STATEMENTS in self.about:
            prepared = take_statements(told)
            statements = _for_relay(prepared)
            if not prepared.is_portable:
                pins = (*(pins or ()), UNPORTABLE)
            of_server = book.with_statements(of_server or self.believed, prepared.made)
            of_client = book.with_statements(of_client or self.believed, prepared.made)
        channels = None
        if About.CHANNELS in self.about:
            channels = frozenset(
                value for name, value in told if name == _CHANNEL and value is not None
            )
            of_server = book.with_channels(of_server or self.believed, channels)
            of_client = book.with_channels(of_client or self.believed, channels)
        return of_server, of_client, reports, pins, statements, channels


def _for_relay(prepared: Prepared) -> StatementsAnswer:
    return (
        {_octets(name): _octets(text) for name, text in prepared.made},
        frozenset(_octets(name) for name in prepared.others),
    )


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
