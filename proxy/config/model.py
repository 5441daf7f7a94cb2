"""The root of the configuration, and the questions the program asks it.

Names of attributes are the YAML keys. The models check what can be checked about one value by
itself; what two values say together is judged in `contradictions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ConfigDict, Field, PrivateAttr

from proxy.config.access import Auth
from proxy.config.databases import Database, Route
from proxy.config.limits import Limits
from proxy.config.listening import Http, Listen, Log
from proxy.config.policy import (
    Policy,
    find_database,
    pick_target,
    resolve_limits,
    resolve_login,
    resolve_password_source,
    resolve_require_auth,
)
from proxy.config.section import Count, Section
from proxy.config.topology import Cluster


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a configuration came from: what is needed to read it again.

    path: the file, or None when it came from environment variables.
    listen, http: `HOST:PORT` of the command line, or None. pool_size: of the command line, or None.
    text: what stood in the file.
    """

    path: Path | None = None
    listen: str | None = None
    http: str | None = None
    pool_size: int | None = None
    text: str = field(default="", repr=False)


class Config(Section):
    """Everything the operator asked for."""

    # `clusters` and `databases` have defaults so that a file with a mistake in one of them can
    # still be judged as a whole; `contradictions` insists on both.
    model_config = ConfigDict(json_schema_extra={"required": ["clusters", "databases"]})

    listen: Listen = Field(default_factory=Listen, description="Where clients connect.")
    http: Http | None = Field(
        default=None, description="The HTTP endpoint; there is none when this is absent."
    )
    workers: Count = Field(
        default=1,
        description="Processes; 0 is one per core. This version always runs one.",
    )
    log: Log = Field(default_factory=Log, description="What is written to standard error.")
    auth: Auth = Field(default_factory=Auth, description="Who may come in, and how they prove it.")
    clusters: Mapping[str, Cluster] = Field(
        default_factory=dict,
        description="Primaries with their replicas, by a name of your choice.",
    )
    databases: Mapping[str, Database] = Field(
        default_factory=dict,
        description="Databases clients may ask for, by name; `*` is any other name.",
    )
    limits: Limits = Field(
        default_factory=Limits,
        description="Pool sizes, timeouts and bounds; a database or a user may set its own.",
    )
    routes: tuple[Route, ...] = Field(
        default=(), description="Where statements go, first match wins; else to the primary."
    )

    _warnings: tuple[str, ...] = PrivateAttr(default=())
    _origin: Origin = PrivateAttr(default=Origin())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was accepted but has no effect in this version, one line each with its place."""
        return self._warnings

    @property
    def origin(self) -> Origin:
        """Where this configuration came from."""
        return self._origin

    def noting(self, warnings: tuple[str, ...], origin: Origin) -> "Config":
        """The same configuration, with these warnings and this origin noted on it."""
        noted = self.model_copy()
        noted._warnings = warnings
        noted._origin = origin
        return noted

    def cluster_of(self, database: str) -> str:
        """The cluster of a database; of one that there is not, the first: nobody is to notice."""
        entry = find_database(self.databases, database)
        return next(iter(self.clusters)) if entry is None else entry.cluster

    def policy(self, database: str, user: str) -> Policy | None:
        """What holds for this user in this database, or None when there is no such database.

        Costs some microseconds: ask once per new (database, user) and keep the answer. It says
        nothing about whether the user may log in.
        """
        entry = find_database(self.databases, database)
        if entry is None:
            return None
        login = resolve_login(self.clusters[entry.cluster].server, entry.server)
        return Policy(
            database=database,
            user=user,
            dbname=entry.dbname or database,
            cluster=entry.cluster,
            target=pick_target(self.routes, database, user),
            read_write_split=entry.read_write_split,
            share_unnamed=entry.share_unnamed,
            server_user=login[0],
            server_password=login[1],
            server_password_source=resolve_password_source(
                self.clusters[entry.cluster].server, entry.server
            ),
            server_tls=login[2],
            server_require_auth=resolve_require_auth(
                self.clusters[entry.cluster].server, entry.server
            ),
            **resolve_limits(self.limits, entry, self.auth.users.get(user)),
        )
