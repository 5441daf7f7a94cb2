"""User maps: which database users somebody known by another name may be.

The other name is one that an authority vouches for: a certificate's, the operating system's.

Source: PostgreSQL documentation, "User Name Maps".
"""

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.auth.hba_text import Fault, Line, UnreadableLineError, read_each
from proxy.auth.names import Entry, Groups, Kind, is_user, read_user
from proxy.auth.patterns import Pattern


@dataclass(frozen=True, slots=True)
class Mapped:
    """One line of a map. outside: a name, or a pattern whose first group fills a `\\1` inside."""

    map: str
    outside: str | Pattern
    inside: Entry

    def allows(self, known_as: str, user: str, groups: Groups) -> bool:
        """Whether who is known by that name outside may be this user."""
        if isinstance(self.outside, str):
            return self.outside == known_as and is_user(self.inside, user, groups)
        if not self.outside.matches(known_as):
            return False
        if self.inside.kind is not Kind.NAME or "\\1" not in self.inside.text:
            return is_user(self.inside, user, groups)
        held = self.outside.first_group(known_as)
        return held is not None and self.inside.text.replace("\\1", held, 1) == user


class UserMaps:
    """All maps by name. Does not change."""

    __slots__ = ("_groups", "_lines")

    def __init__(self, lines: Iterable[Mapped] = (), groups: Groups | None = None) -> None:
        self._groups = groups or Groups()
        self._lines: dict[str, list[Mapped]] = {}
        for line in lines:
            self._lines.setdefault(line.map, []).append(line)

    def __contains__(self, name: object) -> bool:
        return name in self._lines

    def allows(self, name: str | None, known_as: str, user: str) -> bool:
        """Whether somebody may be this user. name: of the map; without one both must be the same.

        An empty outside name is nobody's.
        """
        if not known_as:
            return False
        if not name:
            return known_as == user
        return any(line.allows(known_as, user, self._groups) for line in self._lines.get(name, ()))


def read_maps(lines: Iterable[Line], groups: Groups) -> tuple[list[Mapped], list[Fault]]:
    """Read the lines of a user map file."""
    return read_each(lines, lambda line: _read_line(line, groups))


def _read_line(line: Line, groups: Groups) -> Mapped:
    if len(line.fields) < 3 or any(len(field) > 1 for field in line.fields[:3]):
        raise UnreadableLineError("not an entry; write MAP OUTSIDE-NAME DATABASE-USER")
    (name,), (outside,), (inside,) = line.fields[:3]
    entry = read_user(inside, groups)
    if not outside.text.startswith("/"):
        return Mapped(name.text, outside.text, entry)
    captures = entry.kind is Kind.NAME and "\\1" in entry.text
    return Mapped(name.text, Pattern(outside.text[1:], captures=captures), entry)
