"""The root of the configuration, and the questions the program asks it.

Names of attributes are the YAML keys. The models check what can be checked about one value by
itself; what two values say together is judged in `contradictions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from pydantic import ConfigDict, Field, PrivateAttr

from proxy.config.access import Auth
from proxy.config.audit import Audit, Traces
from proxy.config.databases import Database, Route
from proxy.config.limits import Limits
from proxy.config.listening import Compat, Http, Listen, Log, Process
from proxy.config.policy import (
    Policy,
    find_database,
    looks_at_statements,
    pick_target,
    resolve_limits,
    resolve_login,
    resolve_password_source,
    resolve_require_auth,
)
from proxy.config.secret import Secret
from proxy.config.section import Count, Section
from proxy.config.sharing import Redis
from proxy.config.topology import Cluster


class Flags(TypedDict, total=False):
    """What the command line may say about the configuration; see `Origin`."""

    listen: str | None
    http: str | None
    pool_size: int | None
    quiet: bool
    verbose: bool
    user: str | None
    watch: bool


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a configuration came from: what is needed to read it again.

    path: the file, or None when it came from environment variables. text: what stood in it.
    included: the files that it includes, by the names it has for them, with what stood in them.
    Of the command line: listen, http: `HOST:PORT`. pool_size. user: the account to go over to.
    quiet: nothing goes to standard error. verbose: the log's level is debug. watch: read again when
    it has changed.
    """

    path: Path | None = None
    listen: str | None = None
    http: str | None = None
    pool_size: int | None = None
    quiet: bool = False
    verbose: bool = False
    user: str | None = None
    watch: bool = False
    text: str = field(default="", repr=False)
    included: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def flags(self) -> Flags:
        """What the command line said."""
        return Flags(
            listen=self.listen,
            http=self.http,
            pool_size=self.pool_size,
            quiet=self.quiet,
            verbose=self.verbose,
            user=self.user,
            watch=self.watch,
        )


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
        description="Processes that serve together; 0 is one per core. Limits on server "
        "connections are divided between them: what one does not use of its part, no other has.",
    )
    process: Process = Field(default_factory=Process, description="The process itself.")
    log: Log = Field(default_factory=Log, description="What is written, and where.")
    audit: Audit | None = Field(
        default=None, description="Who did what, in a file; nothing is written when this is absent."
    )
    traces: Traces | None = Field(
        default=None, description="Where spans of traced statements go; nowhere when absent."
    )
    compat: Compat = Field(
        default_factory=Compat, description="What is there for those who come from elsewhere."
    )
    redis: Redis | None = Field(
        default=None,
        description="Where several proxies tell each other what was written under keys; within "
        "this proxy alone when absent.",
    )
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

    def monitor_login(self, name: str) -> tuple[str, Secret | None]:
        """User and password to probe the nodes of a cluster with.

        Where nobody is named and none need be, since the probes do not decide who serves, it is
        the first listed user who could log in: a refused login each second fills others' logs.
        """
        cluster = self.clusters[name]
        user, password = cluster.monitor_login
        if password is None:
            password = self.auth.plain_password(user)
        is_named = cluster.monitor.user is not None or cluster.server.user is not None
        if is_named or cluster.serve_from == "primary":
            return user, password
        for each in self.auth.users:
            if (known := self.auth.plain_password(each)) is not None:
                return each, known
        return user, password

    @property
    def has_query(self) -> bool:
        """Whether users may be found by a query anywhere."""
        return any(self.auth.has_query(cluster) for cluster in self.clusters.values())

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
            reads_begin_on_replicas=entry.read_transactions == "first_statement",
            looks_at_statements=looks_at_statements(self.routes, database, user),
            share_unnamed=entry.share_unnamed,
            traced=self.traces is not None,
            audited=self.audit is not None and self.audit.may_log_statements(database, user),
            server_user=login[0],
            server_password=login[1],
            server_password_source=resolve_password_source(
                self.clusters[entry.cluster].server, entry.server
            ),
            server_tls=login[2],
            server_require_auth=resolve_require_auth(
                self.clusters[entry.cluster].server, entry.server
            ),
            server_settings=entry.server_settings,
            connect_query=entry.connect_query,
            **resolve_limits(self.limits, entry, self.auth.users.get(user)),
        )
