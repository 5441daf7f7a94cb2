"""PgBouncer's file as text: sections, `key = value`, `%include`, and connection strings.

Knows no key. Source: PgBouncer's documentation, "pgbouncer.ini", and libusual's cfparser.c: a
comment is a whole line, a value goes to the end of its line, what is given twice counts the last
time, and a name in double quotes may hold anything.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from proxy.config.problems import Problem

# libusual's limit (MAX_INCLUDE in cfparser.c): deeper is a file that includes itself.
_MOST_LEVELS = 10

_SECTION = re.compile(r"\[([^\]\n]*)\](.*)")
_ENTRY = re.compile(r'("(?:[^"]|"")+"|[A-Za-z0-9_.*-]+)[ \t]*=[ \t]*(.*)')
_INCLUDE = re.compile(r"%include[ \t]+(.+)")
_PAIR = re.compile(r"\s*([^=\s]+)\s*=\s*(?:'((?:[^']|'')*)'|([^\s']\S*))(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key = value`. file, line: where it stands, for the reader of a message."""

    file: str
    line: int
    section: str
    key: str
    value: str


class IniText:
    """The entries of a file and of those it includes, in the order they count.

    include: gives the text of an included file; raises OSError. problems: what could not be read.
    """

    def __init__(self, text: str, file: str, include: Callable[[str], str]) -> None:
        self.entries: list[Entry] = []
        self.problems: list[Problem] = []
        self._include = include
        self._section: str | None = None
        self._read(text, file, 0)

    def _read(self, text: str, file: str, level: int) -> None:
        # Not splitlines: U+2028 and its like may be in a password.
        for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
            line = raw.strip()
            if not line or line[0] in "#;":
                continue
            if (found := _SECTION.fullmatch(line)) is not None:
                self._section = found[1]
                if found[2].strip():
                    self._note(file, number, f"[{found[1]}]", "a section has a line of its own")
            elif (found := _INCLUDE.fullmatch(line)) is not None:
                self._read_included(found[1], file, number, level + 1)
            elif (found := _ENTRY.fullmatch(line)) is None:
                self._note(file, number, "(line)", "not understood; write key = value")
            elif self._section is None:
                self._note(file, number, found[1], "stands before the first section")
            else:
                key = found[1]
                if key.startswith('"'):
                    key = key[1:-1].replace('""', '"')
                self.entries.append(Entry(file, number, self._section, key, found[2]))

    def _read_included(self, name: str, file: str, number: int, level: int) -> None:
        if level > _MOST_LEVELS:
            self._note(file, number, "%include", "nested too deeply; a file includes itself")
            return
        try:
            text = self._include(name)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            self._note(
                file, number, "%include", f"{name} cannot be read ({reason}); name a file that can"
            )
            return
        self._read(text, name, level)

    def _note(self, file: str, line: int, key: str, text: str) -> None:
        self.problems.append(Problem(file, line, key, text))


def read_pairs(text: str) -> Iterator[tuple[str, str]]:
    """Read a connection string: `key=value` by spaces, `'` around values with spaces, `''` in them.

    Raises ValueError with a sentence when it is none. It quotes nothing: there may be a password.
    """
    at = 0
    text = text.rstrip()
    while at < len(text):
        found = _PAIR.match(text, at)
        if found is None:
            raise ValueError(
                "not a connection string; write key=value, separated by spaces, with single "
                "quotes around a value that has spaces"
            )
        quoted = found[2]
        if quoted == "":
            raise ValueError(f"{found[1]} is empty; leave it out")
        yield found[1], found[3] if quoted is None else quoted.replace("''", "'")
        at = found.end()
