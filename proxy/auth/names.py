"""Lists of users and databases in rules: what an element means, and whether a name is meant.

Source: PostgreSQL documentation, "The pg_hba.conf File" (database, user).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from proxy.auth.hba_text import Field, UnreadableLineError, Word
from proxy.auth.patterns import Pattern


class Kind(Enum):
    """What an element of a list stands for."""

    NAME = auto()
    ALL = auto()
    MEMBER = auto()
    PATTERN = auto()
    SAME_USER = auto()
    SAME_ROLE = auto()
    REPLICATION = auto()


@dataclass(frozen=True, slots=True)
class Entry:
    """One element. text: the name, the group behind its `+`, or a pattern behind its `/`."""

    kind: Kind
    text: str = ""
    pattern: Pattern | None = None


_USER_KEYWORDS = {"all": Kind.ALL}
_DATABASE_KEYWORDS = {
    "all": Kind.ALL,
    "sameuser": Kind.SAME_USER,
    "samerole": Kind.SAME_ROLE,
    "samegroup": Kind.SAME_ROLE,
    "replication": Kind.REPLICATION,
}


def read_users(field: Field, groups: "Groups") -> "Names":
    """Read a list of users. Raises UnreadableLineError, also for a group nobody has described."""
    return Names(read_user(word, groups) for word in field)


def read_user(word: Word, groups: "Groups") -> Entry:
    """Read one element of a list of users. Raises UnreadableLineError."""
    if not word.quoted and word.text.startswith("+"):
        name = word.text[1:]
        # A rule that rejects a group must not turn into nothing by a slip of the pen.
        if name not in groups:
            raise UnreadableLineError(
                f'there is no group "{name}"; describe it under auth.groups'
                + (f" (known are {', '.join(sorted(groups))})" if len(groups) else "")
            )
        return Entry(Kind.MEMBER, name)
    return _read_name(word, _USER_KEYWORDS)


def read_databases(field: Field) -> "Names":
    """Read a list of databases. Raises UnreadableLineError."""
    return Names(_read_name(word, _DATABASE_KEYWORDS) for word in field)


def _read_name(word: Word, keywords: Mapping[str, Kind]) -> Entry:
    if not word.quoted and word.text in keywords:
        return Entry(keywords[word.text])
    # As in PostgreSQL even in quotes: they are how a pattern with a comma is written.
    if word.text.startswith("/"):
        return Entry(Kind.PATTERN, word.text[1:], Pattern(word.text[1:]))
    return Entry(Kind.NAME, word.text)


class Groups:
    """Who is in which group, for `+name` and `samerole`.

    members: users by group; `+name` among them stands for another group's members.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, Sequence[str]] | None = None) -> None:
        given = members or {}
        self._members = {name: frozenset(_resolve(name, given)) for name in given}

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def has(self, name: str, user: str) -> bool:
        """Whether the user is in the group. Like a role, everybody is a member of themselves."""
        return user == name or user in self._members.get(name, ())


def _resolve(name: str, given: Mapping[str, Sequence[str]]) -> set[str]:
    """All members of a group; groups that hold each other do no harm."""
    users: set[str] = set()
    seen, ahead = {name}, [name]
    while ahead:
        for member in given.get(ahead.pop(), ()):
            if not member.startswith("+"):
                users.add(member)
            elif member[1:] not in seen:
                seen.add(member[1:])
                ahead.append(member[1:])
    return users


class Names:
    """A list of users or of databases. Does not change.

    Names that stand for themselves are found at once: a file of thousands of users is one list.
    """

    __slots__ = ("_has_all", "_plain", "_rest", "entries")

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._has_all = any(each.kind is Kind.ALL for each in self.entries)
        self._plain = frozenset(each.text for each in self.entries if each.kind is Kind.NAME)
        self._rest = tuple(each for each in self.entries if each.kind is not Kind.NAME)

    def has_user(self, user: str, groups: Groups) -> bool:
        """Whether it has this user."""
        return (
            self._has_all
            or user in self._plain
            or any(is_user(each, user, groups) for each in self._rest)
        )

    def has_database(self, database: str, user: str, groups: Groups) -> bool:
        """Whether it has this database for this user."""
        return (
            self._has_all
            or database in self._plain
            or any(_is_database(each, database, user, groups) for each in self._rest)
        )

    @property
    def has_replication(self) -> bool:
        """Whether it has physical replication, which has no database."""
        return any(each.kind is Kind.REPLICATION for each in self._rest)


def is_user(entry: Entry, user: str, groups: Groups) -> bool:
    """Whether one element of a list of users means this one."""
    match entry.kind:
        case Kind.ALL:
            return True
        case Kind.MEMBER:
            return groups.has(entry.text, user)
        case Kind.PATTERN:
            return entry.pattern is not None and entry.pattern.matches(user)
        case _:
            return entry.text == user


def _is_database(entry: Entry, database: str, user: str, groups: Groups) -> bool:
    match entry.kind:
        case Kind.ALL:
            return True
        case Kind.SAME_USER:
            return database == user
        case Kind.SAME_ROLE:
            return groups.has(database, user)
        case Kind.PATTERN:
            return entry.pattern is not None and entry.pattern.matches(database)
        case Kind.REPLICATION:
            return False
        case _:
            return entry.text == database
