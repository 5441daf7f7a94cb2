"""How many clients are inside, and whether one more may come in."""

from collections import Counter
from collections.abc import Callable

from proxy.errors import ClientError


class Census:
    """Counts clients from their proof of who they are until they are gone.

    total: all of them. beside: how many there are in other processes, which count for the total.
    note: is told each new total.
    """

    def __init__(
        self,
        beside: Callable[[], int] = lambda: 0,
        note: Callable[[int], None] = lambda _total: None,
    ) -> None:
        self.total = 0
        self._beside = beside
        self._note = note
        self._by_database: Counter[str] = Counter()
        self._by_user: Counter[str] = Counter()

    def check_total(self, most: int) -> None:
        """Raise ClientError (53300) when `most` are inside."""
        if self.total + self._beside() >= most:
            raise _full("max_client_conn", "Raise listen.max_client_conn")

    def enter(self, database: str, user: str, *, most_of_database: int, most_of_user: int) -> None:
        """Count one client more; `leave` takes it out again.

        most_of_database: in this database, whoever they are. most_of_user: of this user, wherever.
        0 is no limit. Raises ClientError (53300) when there are so many already.
        """
        if most_of_database and self._by_database[database] >= most_of_database:
            raise _full(
                "max_db_client_connections", f'Raise it for database "{database}" or under limits'
            )
        if most_of_user and self._by_user[user] >= most_of_user:
            raise _full(
                "max_user_client_connections", f'Raise it for user "{user}" or under limits'
            )
        self.total += 1
        self._note(self.total)
        self._by_database[database] += 1
        self._by_user[user] += 1

    def leave(self, database: str, user: str) -> None:
        """A client that was counted is gone."""
        self.total -= 1
        self._note(self.total)
        _take_one(self._by_database, database)
        _take_one(self._by_user, user)


def _take_one(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    # `*` lets clients make up names of databases.
    if not counts[name]:
        del counts[name]


def _full(limit: str, remedy: str) -> ClientError:
    return ClientError(
        "53300",
        f"no more connections allowed ({limit})",
        hint=f"{remedy}, or close connections that are not used.",
    )
