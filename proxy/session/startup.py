"""What a startup packet asks of the session: its settings.

Everything in a startup packet but the few names of the protocol itself is a setting, and `options`
holds more of them in the form of command-line switches.
Source: PostgreSQL documentation, StartupMessage; "Shaping the Behavior of Clients", PGOPTIONS.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from proxy.errors import ClientError
from proxy.session.settings import FOLLOWED

_NOT_SETTINGS = frozenset({"user", "database", "replication", "options"})
# isspace() in C: Unicode has more of them.
_BLANKS = " \t\n\v\f\r"
# NAMEDATALEN - 1: PostgreSQL cuts application_name there.
_MOST_NAME_BYTES = 63
# Packets whose settings are remembered: clients of an application ask for the same.
_MOST_REMEMBERED = 128


@dataclass(frozen=True, slots=True)
class StartupSettings:
    """The settings a startup packet asks for.

    application_name: cleaned as PostgreSQL cleans it; None when absent.
    others: by name, reported ones in PostgreSQL's spelling; a server has still to accept them.
    """

    application_name: str | None
    others: Mapping[str, str]


def read_startup_settings(parameters: Mapping[str, str]) -> StartupSettings:
    """Read the settings out of a startup packet's parameters.

    A setting of its own wins over the same in `options`, as the server processes it later.
    Raises ClientError (42601) when `options` holds a switch that is no setting.
    """
    return _read(tuple(parameters.items()))


@lru_cache(_MOST_REMEMBERED)
def _read(parameters: tuple[tuple[str, str], ...]) -> StartupSettings:
    asked = [each for name, text in parameters if name == "options" for each in _read_options(text)]
    for name, value in parameters:
        if name not in _NOT_SETTINGS and not name.startswith("_pq_."):
            asked.append((name, value))
    # PostgreSQL compares names without regard to case.
    settings = {FOLLOWED.get(folded := name.lower(), folded): value for name, value in asked}
    application_name = settings.pop("application_name", None)
    if application_name is not None:
        application_name = clean_application_name(application_name)
    return StartupSettings(application_name, MappingProxyType(settings))


def clean_application_name(name: str) -> str:
    """Replace what is not printable ASCII, then cut to 63 bytes, as PostgreSQL 16 and newer do.

    Source: pg_clean_ascii in src/common/string.c: `\\xNN` for each byte.
    """
    if name.isascii() and name.isprintable():
        return name[:_MOST_NAME_BYTES]
    raw = name.encode("utf-8", "surrogateescape")
    cleaned = "".join(chr(b) if 32 <= b <= 126 else f"\\x{b:02x}" for b in raw)
    return cleaned[:_MOST_NAME_BYTES]


def _read_options(options: str) -> list[tuple[str, str]]:
    """Read `-c name=value`, `-cname=value` and `--name=value`."""
    settings = []
    words = iter(_split(options))
    for word in words:
        if word == "-c":
            assignment = next(words, "")
        elif word.startswith(("-c", "--")):
            assignment = word[2:]
        else:
            raise ClientError(
                "42601",
                f'unsupported switch in startup option "options": {word}',
                hint="Use -c name=value.",
            )
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise ClientError("42601", f'a setting in "options" has no value: {word}')
        # In a switch, a dash stands for an underscore.
        settings.append((name.replace("-", "_"), value))
    return settings


def _split(options: str) -> list[str]:
    """Split at white space; a backslash takes the next character as it is (pg_split_opts)."""
    words: list[str] = []
    word: list[str] | None = None
    letters = iter(options)
    for letter in letters:
        if letter in _BLANKS:
            if word is not None:
                words.append("".join(word))
                word = None
            continue
        if word is None:
            word = []
        word.append(next(letters, "") if letter == "\\" else letter)
    if word is not None:
        words.append("".join(word))
    return words
