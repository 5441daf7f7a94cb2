"""Which lines are held: nobody in them is given a server connection until they are released.

A scope says which: everything, one database, one cluster. Holds of different scopes are independent
of each other: a line goes on when the last one that covers it is gone. Pure.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """What a command or a failover is about; all that is given must agree."""

    database: str | None = None
    cluster: str | None = None

    def covers(self, database: str, cluster: str) -> bool:
        """Whether a line of this database, which is in this cluster, is meant."""
        return self.database in (None, database) and self.cluster in (None, cluster)


EVERYTHING = Scope()


class Holds:
    """The scopes that are held. A scope that drains has its server connections closed, too."""

    def __init__(self) -> None:
        self._drains: dict[Scope, bool] = {}

    def __contains__(self, scope: Scope) -> bool:
        return scope in self._drains

    def __bool__(self) -> bool:
        return bool(self._drains)

    @property
    def scopes(self) -> list[Scope]:
        """All that are held."""
        return list(self._drains)

    def add(self, scope: Scope, *, drain: bool) -> None:
        """Hold it from now on."""
        self._drains[scope] = drain

    def remove(self, scope: Scope) -> None:
        """Hold it no longer."""
        self._drains.pop(scope, None)

    def cover(self, database: str, cluster: str) -> bool:
        """Whether a line of this database is held."""
        return any(scope.covers(database, cluster) for scope in self._drains)

    def drain(self, database: str, cluster: str) -> bool:
        """Whether its server connections are to be closed."""
        return any(
            drains and scope.covers(database, cluster) for scope, drains in self._drains.items()
        )
