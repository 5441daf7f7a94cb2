"""Who may come in: client users, and who of them may use the console."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from proxy.config.elsewhere import Ldap, Oauth, Pam
from proxy.config.limits import UserOverrides
from proxy.config.quantities import Duration
from proxy.config.secret import ClientSecret, Secret, is_hashed
from proxy.config.section import FilePath, Section
from proxy.config.topology import Cluster

DEFAULT_QUERY = (
    "SELECT rolname, CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now() "
    "THEN NULL ELSE rolpassword END FROM pg_catalog.pg_authid "
    "WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin"
)
"""Source: PgBouncer's documentation, `auth_query`; names qualified (CVE-2025-12819)."""


class User(UserOverrides):
    """One user that clients may log in as; any limit set here holds for this user."""

    password: ClientSecret | None = Field(
        default=None,
        description="A plain password, an `md5…` hash or a `SCRAM-SHA-256$…` verifier.",
    )
    password_file: FilePath | None = Field(
        default=None, description="A file that holds the password, in place of `password`."
    )
    old_password: ClientSecret | None = Field(
        default=None,
        description="The password before, which is valid as well: for the time until every client "
        "has the new one. It has the form of `password`; a verifier has the same salt, too.",
    )
    old_password_file: FilePath | None = Field(
        default=None,
        description="A file that holds the password before, in place of `old_password`.",
    )


class Auth(Section):
    """How clients prove who they are."""

    method: Literal[
        "any", "trust", "password", "md5", "scram-sha-256", "cert", "hba", "ldap", "pam", "oauth"
    ] = Field(
        default="scram-sha-256",
        description="What a client is asked for. `any` is `trust` for names that no list has, "
        "too. `cert` is a certificate in the user's name; "
        "with `ldap`, `pam` and `oauth` somebody else judges what it shows; with `hba` the first "
        "rule of `hba_file` that matches a connection says.",
    )
    hba_file: FilePath | None = Field(
        default=None,
        description="Rules in the format of `pg_hba.conf`, for `method: hba`.",
    )
    ident_file: FilePath | None = Field(
        default=None,
        description="User maps in the format of `pg_ident.conf`, for certificates and peers.",
    )
    map: str | None = Field(
        default=None,
        min_length=1,
        description="The map of `ident_file` that `method: cert` and `method: oauth` use; without "
        "it a certificate's common name, or a token's claim, is the user.",
    )
    groups: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Users by group, for `+group` and `samerole` in rules; `+other` among them "
        "are the users of another group.",
    )
    users: Mapping[str, User] = Field(
        default_factory=dict, description="The users clients may log in as, by name."
    )
    userlist_file: FilePath | None = Field(
        default=None,
        description="Users in the format of PgBouncer's `userlist.txt`; they are added to "
        "`users`, whose own passwords win.",
    )
    query: str | None = Field(
        default=None,
        min_length=1,
        description="A query that finds the secret of a user who is not among `users`: `$1` is "
        "the name, the columns are name and secret. PgBouncer's `auth_query`. In use when this or "
        "`query_user` is given; without this it reads `pg_authid`, and respects `VALID UNTIL` and "
        "`NOLOGIN`.",
    )
    query_user: str | None = Field(
        default=None,
        min_length=1,
        description="Ask the query as this user; as the cluster's `server.user` when absent.",
    )
    query_password: Secret | None = Field(
        default=None,
        description="The password of `query_user`; when absent, the one this user has as "
        "`server.user`, as `monitor.user`, or in `users` in plain.",
    )
    query_password_file: FilePath | None = Field(
        default=None, description="A file that holds the password, in place of `query_password`."
    )
    query_database: str = Field(
        default="postgres",
        min_length=1,
        description="The database in which the query is asked, in the cluster that the client "
        "wants to use.",
    )
    query_ttl: Duration = Field(
        default=30.0,
        description="How long an answer of the query is used before it is asked for again; 0 "
        "asks at each login. After a refused login it is asked for again at once.",
    )
    failure_delay: Duration = Field(
        default=1.0,
        description="How long the refusal of a failed login is delayed at most. From the sixth "
        "failure of an address on, each is delayed twice as long as the one before, beginning "
        "with 100ms; one failure is forgotten every ten seconds. Logins that succeed are never "
        "delayed. 0 is off.",
    )
    ldap: Ldap = Field(
        default_factory=Ldap, description="The directory that judges passwords, for `ldap`."
    )
    pam: Pam = Field(default_factory=Pam, description="The service that judges them, for `pam`.")
    oauth: Oauth = Field(default_factory=Oauth, description="Which tokens are good, for `oauth`.")
    allow_cleartext: bool = Field(
        default=False,
        description="With `ldap`, `pam` and `oauth`, ask for passwords and tokens on connections "
        "without TLS, too, and not only on those from this machine.",
    )
    admins: tuple[str, ...] = Field(
        default=(), description="Users who may use the admin console in full."
    )
    stats: tuple[str, ...] = Field(
        default=(), description="Users who may only `SHOW` in the admin console."
    )

    @property
    def is_judged_elsewhere(self) -> bool:
        """Whether it takes no list of users to let one in."""
        return self.method in ("ldap", "pam", "oauth")

    def has_query(self, cluster: Cluster) -> bool:
        """Whether users of a cluster may be found by a query."""
        asked = (self.query, self.query_user, cluster.query, cluster.query_user)
        return any(each is not None for each in asked)

    def query_login(self, cluster: Cluster) -> tuple[str, str]:
        """User and password to ask the query with, the password empty where none is known."""
        asks_as = cluster.query_user or self.query_user
        if asks_as is None:
            return cluster.server.user or "", str(cluster.server.password or "")
        if cluster.query_user is None and self.query_password is not None:
            return asks_as, str(self.query_password)
        for user, password in (
            (cluster.server.user, cluster.server.password),
            cluster.monitor_login,
            (asks_as, self.plain_password(asks_as)),
        ):
            if user == asks_as and password is not None:
                return asks_as, str(password)
        return asks_as, ""

    def plain_password(self, user: str) -> Secret | None:
        """The password of a listed user, as far as it can log in somewhere else."""
        listed = self.users.get(user)
        secret = None if listed is None else listed.password
        return None if secret is None or is_hashed(secret) else secret
