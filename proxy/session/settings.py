"""The settings of a session, and how to bring another session into them.

A client keeps its settings from one server connection to the next: those that PostgreSQL reports
(ParameterStatus) as the server last reported them, and those it asked for in its startup packet.
Equal settings are one object, so that the relay compares pointers, and only a difference costs
anything at all. Nothing here has a value that a server has not accepted before.
"""

from collections.abc import Iterator, Mapping
from weakref import WeakValueDictionary

# Reported settings that a session may change. The rest of what is reported describes the server
# (server_version, in_hot_standby, …) or who logged in (is_superuser, session_authorization).
# Source: PostgreSQL documentation, "Asynchronous Operations" of the protocol.
FOLLOWED = {
    name.lower(): name
    for name in (
        "application_name",
        "client_encoding",
        "DateStyle",
        "IntervalStyle",
        "search_path",
        "standard_conforming_strings",
        "TimeZone",
    )
}

# Reported as well, and followed once a client has set it. What a server was configured with is not:
# an operator who makes a node read-only by its configuration must not be overruled by that.
_FOLLOWED_WHEN_SET = frozenset({*FOLLOWED, "default_transaction_read_only"})

# Values of these are lists of quoted names: SET would take the text for one name of the list.
# Source: PostgreSQL, GUC_LIST_QUOTE in src/backend/utils/misc/guc_tables.c.
_QUOTED_LISTS = frozenset(
    {
        "search_path",
        "temp_tablespaces",
        "local_preload_libraries",
        "session_preload_libraries",
        "shared_preload_libraries",
        "unix_socket_directories",
    }
)


# By which PostgreSQL reads the constants in a text: they are values from then on.
# Source: its input functions, src/backend/utils/adt, and the scanner, src/backend/parser/scan.l.
_READ_BY = frozenset(
    {
        "array_nulls",
        "backslash_quote",
        "client_encoding",
        "datestyle",
        "intervalstyle",
        "lc_monetary",
        "standard_conforming_strings",
        "timezone",
        "timezone_abbreviations",
        "transform_null_equals",
        "xmloption",
    }
)

# What else decides what a text means.
DECIDE_READING = _READ_BY | {"search_path"}

# Settings of a kind of their own: whom a session acts as. In the order in which one may be set.
ROLES = ("session_authorization", "role")


# A switch of more settings than that is no statement of its own: each number of them is one.
_MOST_VALUES = 16
_APART = _FOLLOWED_WHEN_SET | {"default_transaction_isolation", "default_transaction_deferrable"}

# Names and values; None is the default.
Values = tuple[tuple[str, str | None], ...]

# Names and texts.
Statements = tuple[tuple[str, str], ...]


class Settings(Mapping[str, str]):
    """Names and values, immutable. Equal ones made by one `SettingsBook` are one object.

    explicit: reported settings, lower case, that are in force because somebody SET them. Where the
    same value is a server's default, RESET would otherwise not show.
    statements: names and texts of what PREPARE made, in order; channels: what LISTEN named. They
    are no settings of PostgreSQL's, but like those they are there or not there in a session.
    literals: those by which constants in a text are read; path: search_path, None where it is not
    known to be other than the server's own.
    """

    __slots__ = (
        "__weakref__",
        "_texts",
        "_values",
        "channels",
        "explicit",
        "literals",
        "path",
        "statements",
    )

    def __init__(
        self,
        values: Mapping[str, str],
        explicit: frozenset[str] = frozenset(),
        statements: Statements = (),
        channels: frozenset[str] = frozenset(),
    ) -> None:
        self._values = dict(values)
        self._texts: dict[str, str] = {}
        self.explicit = explicit
        self.statements = statements
        self.channels = channels
        folded = {name.lower(): value for name, value in values.items()}
        self.literals = tuple(sorted((n, folded[n]) for n in folded.keys() & _READ_BY))
        self.path = folded.get("search_path")

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def text_of(self, name: str) -> str:
        """Give the SQL that brings a session this one; written once, as it is needed often."""
        text = self._texts.get(name)
        if text is None:
            text = self._texts[name] = _write_setting(name, self._values[name])
        return text

    # One object per value: identity is equality, and hashing is cheap.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class SettingsBook:
    """Makes `Settings`, one object for equal values, as long as somebody holds it."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[
            tuple[frozenset[tuple[str, str]], frozenset[str], Statements, frozenset[str]], Settings
        ] = WeakValueDictionary()

    def of(
        self,
        values: Mapping[str, str],
        explicit: frozenset[str] = frozenset(),
        statements: Statements = (),
        channels: frozenset[str] = frozenset(),
    ) -> Settings:
        """Give the Settings with these values."""
        key = frozenset(values.items()), explicit, statements, channels
        settings = self._known.get(key)
        if settings is None:
            settings = self._known[key] = Settings(values, explicit, statements, channels)
        return settings

    def with_statements(self, settings: Settings, statements: Statements) -> Settings:
        """Give the same settings with these statements in place of theirs."""
        return self.of(settings, settings.explicit, statements, settings.channels)

    def with_channels(self, settings: Settings, channels: frozenset[str]) -> Settings:
        """Give the same settings with these channels in place of theirs."""
        return self.of(settings, settings.explicit, settings.statements, channels)

    def of_reported(self, reported: Mapping[str, str]) -> Settings:
        """Give the Settings of a new session from all that its server reported at login."""
        return self.of(
            {name: value for name, value in reported.items() if name.lower() in FOLLOWED}
        )

    def reported(self, settings: Settings, name: str, value: str) -> Settings:
        """Give the settings after a ParameterStatus; the same object when nothing changes."""
        if name.lower() not in _FOLLOWED_WHEN_SET or settings.get(name) == value:
            return settings
        values = {**settings, name: value}
        return self.of(values, settings.explicit, settings.statements, settings.channels)


def switch(have: Settings, want: Settings) -> str:
    """Write the SQL that takes a session from `have` to `want`; "" when they agree.

    What is in `have` alone goes back to the session's own default. Everything is done as the user
    of the login, who may set what a client was once allowed to.
    """
    if have is want:
        return ""
    # This is done whenever a client meets a server connection in the settings of somebody else, of
    # whom there may be many: so it looks at what differs, and writes nothing that was written once.
    had, wanted = have._values, want._values
    newly_explicit = want.explicit - have.explicit
    statements = [f"RESET {quote_name(name)}" for name in ROLES if name in had]
    if not had.keys() <= wanted.keys():
        statements += [
            f"RESET {quote_name(name)}" for name in had if name not in wanted and name not in ROLES
        ]
    statements += [
        want.text_of(name)
        for name, value in wanted.items()
        if (had.get(name) != value or (newly_explicit and name.lower() in newly_explicit))
        and name not in ROLES
    ]
    # Going back to the login's role has undone these, even where they agree.
    statements += [want.text_of(name) for name in ROLES if name in wanted]
    if have.literals != want.literals:
        # Functions keep the constants in their statements, as they were read before.
        statements.append("DISCARD PLANS")
    return "; ".join(statements)


def switch_values(have: Settings, want: Settings) -> Values:
    """Write the same as names and values for set_config(); None is the default.

    () where nothing but the SQL of `switch` will do. What a server reports is told with the next
    ReadyForQuery, if it is another value by then: after a switch without one of its own a client's
    SET to what was there before would not be heard of. A transaction with isolation of its own may
    have to wait. What a client was allowed to set it may not be as the role that it took then. And
    where constants are read otherwise, plans go, too.
    """
    had, wanted = have._values, want._values
    if want.explicit - have.explicit or any(name in had or name in wanted for name in ROLES):
        return ()
    if have.literals != want.literals:
        return ()
    differ = tuple(
        [(name, None) for name in had if name not in wanted]
        + [(name, value) for name, value in wanted.items() if had.get(name) != value]
    )
    if len(differ) > _MOST_VALUES or any(name.lower() in _APART for name, _ in differ):
        return ()
    return differ


def _write_setting(name: str, value: str) -> str:
    if name.lower() in _QUOTED_LISTS:
        return f"SELECT pg_catalog.set_config({quote_text(name)}, {quote_text(value)}, false)"
    return f"SET {quote_name(name)} TO {quote_text(value)}"


def quote_name(name: str) -> str:
    """Quote a setting's name; a dot parts an extension's prefix from the rest.

    SET folds names only when they are not quoted, but compares them without regard to case.
    """
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def quote_text(text: str) -> str:
    """Quote a text so that `standard_conforming_strings` makes no difference."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
