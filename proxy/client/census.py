"""How many clients are inside, and whether one more may come in."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from proxy.errors import ClientError

_ALL = "clients"


class Seats(Protocol):
    """Counts what there may be so many of, in all processes of one proxy."""

    def take(self, wanted: Mapping[str, int]) -> str | None:
        """Take one seat of each name, or none of any. wanted: how many there are; 0 is no limit.

        Result: the first name that has none left, else None.
        """

    def give_back(self, names: Iterable[str]) -> None:
        """Give back one seat of each."""

    def taken(self, name: str) -> int:
        """How many are taken."""


class OwnSeats:
    """Those of a process that is alone."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def take(self, wanted: Mapping[str, int]) -> str | None:
        """As `Seats`."""
        taken = self._taken
        for name, limit in wanted.items():
            if 0 < limit <= taken.get(name, 0):
                return name
        for name in wanted:
            taken[name] = taken.get(name, 0) + 1
        return None

    def give_back(self, names: Iterable[str]) -> None:
        """As `Seats`."""
        for name in names:
            self._taken[name] -= 1
            # `*` lets clients make up names of databases.
            if not self._taken[name]:
                del self._taken[name]

    def taken(self, name: str) -> int:
        """As `Seats`."""
        return self._taken.get(name, 0)


class Census:
    """Counts clients from their proof of who they are until they are gone. seats: where."""

    def __init__(self, seats: Seats | None = None) -> None:
        self._seats = seats or OwnSeats()

    @property
    def total(self) -> int:
        """How many are inside, in all processes."""
        return self._seats.taken(_ALL)

    def check_total(self, most: int) -> None:
        """Raise ClientError (53300) when `most` are inside."""
        if self.total >= most:
            raise _too_many()

    def enter(
        self,
        database: str,
        user: str,
        *,
        most: int = 0,
        most_of_database: int,
        most_of_user: int,
    ) -> None:
        """Count one client more; `leave` takes it out again.

        most: of all. most_of_database: in this database, whoever they are. most_of_user: of this
        user, wherever. 0 is no limit. Raises ClientError (53300) when there are so many already.
        """
        in_all, in_database, of_user = _names(database, user)
        full = self._seats.take(
            {in_all: most, in_database: most_of_database, of_user: most_of_user}
        )
        if full == in_all:
            raise _too_many()
        if full == in_database:
            raise _full(
                "max_db_client_connections", f'Raise it for database "{database}" or under limits'
            )
        if full == of_user:
            raise _full(
                "max_user_client_connections", f'Raise it for user "{user}" or under limits'
            )

    def leave(self, database: str, user: str) -> None:
        """A client that was counted is gone."""
        self._seats.give_back(_names(database, user))


def _names(database: str, user: str) -> tuple[str, str, str]:
    return _ALL, f"database {database}", f"user {user}"


def _too_many() -> ClientError:
    return _full("max_client_conn", "Raise listen.max_client_conn")


def _full(limit: str, remedy: str) -> ClientError:
    return ClientError(
        "53300",
        f"no more connections allowed ({limit})",
        hint=f"{remedy}, or close connections that are not used.",
    )
