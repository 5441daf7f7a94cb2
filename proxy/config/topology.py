"""Clusters: which nodes there are, and how the proxy speaks to them.

Which node is the primary is discovered by asking, never declared here.
"""

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from proxy.config.quantities import Duration, PositiveDuration, Size
from proxy.config.secret import Secret
from proxy.config.section import (
    Ciphers,
    Count,
    FilePath,
    Host,
    PoolSize,
    Port,
    Section,
    TlsMode,
    TlsVersion,
)


class Node(Section):
    """One PostgreSQL instance."""

    name: str = Field(
        default="",
        min_length=1,
        description="What it is called in logs, metrics and the console; `host:port` when absent.",
    )
    host: Host = Field(
        description="Name or address; a folder starting with `/` means the Unix socket in it."
    )
    port: Port = Field(default=5432, description="TCP port, also part of a Unix socket's name.")
    weight: Count = Field(
        default=1, description="Share of the reads it gets beside other replicas; 0 is none."
    )
    zone: str | None = Field(
        default=None,
        description="Where it stands; replicas in the proxy's own, `replicas.zone`, are preferred.",
    )
    max_connections: Count | None = Field(
        default=None,
        description="Most server connections to this node over all pools; 0 is no limit. When "
        "absent, what the node grants ordinary users (its own `max_connections` less what it "
        "reserves) less the cluster's `spare_connections`.",
    )
    roles: tuple[str, ...] = Field(
        default=(), description="Words of your choice that `routes` may send statements `to`."
    )
    priority: Count = Field(
        default=1,
        description="Of replicas that have received the same, the one with the highest is promoted "
        "first; 0 is never.",
    )
    replication_host: Host | None = Field(
        default=None,
        description="Where the other nodes replicate from when it is the primary; `host` when "
        "absent.",
    )
    replication_port: Port | None = Field(
        default=None, description="The port for the same; `port` when absent."
    )

    @model_validator(mode="before")
    @classmethod
    def _name_by_address(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("name") is None and "host" in given:
            port = given.get("port")
            return {**given, "name": f"{given['host']}:{5432 if port is None else port}"}
        return given


class ServerTls(Section):
    """TLS between the proxy and a node."""

    mode: TlsMode = Field(
        default="prefer",
        description="As libpq's `sslmode`; a Unix socket never has TLS.",
    )
    ca: FilePath | None = Field(
        default=None,
        description="Authorities that sign the nodes' certificates, a PEM file; the system's own "
        "when absent. Like `cert` and `key`, it is read again when it changes, for the connections "
        "from then on.",
    )
    cert: FilePath | None = Field(
        default=None, description="A certificate to show to the node, a PEM file."
    )
    key: FilePath | None = Field(default=None, description="The private key of `cert`, a PEM file.")
    min_version: TlsVersion = Field(default="TLSv1.2", description="The least version spoken.")
    ciphers: Ciphers | None = Field(
        default=None,
        description="OpenSSL's list of ciphers for TLS 1.2, such as `HIGH:!aNULL`; OpenSSL's own "
        "choice when absent. Those of TLS 1.3 are not chosen by it.",
    )
    negotiation: Literal["postgres", "direct"] = Field(
        default="postgres",
        description="As libpq's `sslnegotiation`: ask the node for TLS first, or begin with it at "
        "once, which PostgreSQL 17 and newer understand and which needs `require` or more.",
    )
    channel_binding: Literal["disable", "prefer", "require"] = Field(
        default="prefer",
        description="As libpq's: whether SCRAM logins are bound to the node's certificate "
        "(SCRAM-SHA-256-PLUS) where it offers that. `require` takes no login that is not, and "
        "does not hold for the probes of the monitor, which never are.",
    )


class ServerLogin(Section):
    """How the proxy logs in to a node."""

    user: str | None = Field(
        default=None,
        description="Log in as this user; when absent, as the client's user with what the client "
        "proved.",
    )
    password: Secret | None = Field(default=None, description="The password, in plain.")
    password_file: FilePath | None = Field(
        default=None,
        description="A file that holds the password, in place of `password`; it is read at each "
        "login.",
    )
    password_command: tuple[str, ...] = Field(
        default=(),
        description="A command that prints the password, in place of `password`: program and "
        "arguments, run without a shell, for 15s at most. For passwords that live for minutes, "
        "such as the tokens of a cloud's IAM.",
    )
    password_ttl: Duration = Field(
        default=600.0,
        description="How long what the command printed is used; when a node refuses it, the "
        "command is run again at once.",
    )
    tls: ServerTls = Field(
        default_factory=ServerTls, description="TLS between the proxy and the nodes."
    )
    require_auth: tuple[Literal["none", "password", "md5", "scram-sha-256"], ...] = Field(
        default=(),
        description="As libpq's: ways of logging in that a node may ask for; any when empty. With "
        "`[scram-sha-256]` nobody who answers in a node's stead learns the password. It does not "
        "hold for the probes of the monitor.",
    )


class Monitor(Section):
    """How the nodes are watched."""

    user: str | None = Field(
        default=None, description="User to probe as; `server.user` when absent."
    )
    password: Secret | None = Field(
        default=None,
        description="Its password; when absent, `server.password` if `user` is absent, too, else "
        "what the user has in `auth.users` in plain.",
    )
    password_file: FilePath | None = Field(
        default=None, description="A file that holds the password, in place of `password`."
    )
    dbname: str = Field(default="postgres", description="Database to connect to for a probe.")
    interval: PositiveDuration = Field(default=1.0, description="Time between two probes.")
    timeout: PositiveDuration = Field(
        default=1.0, description="A probe that takes longer has failed."
    )


class Replicas(Section):
    """Which replicas may answer, and which of them does."""

    max_lag: Duration = Field(
        default=1.0,
        description="A replica further behind gets no statements until it is behind by less than "
        "half of that; 0 is no limit.",
    )
    max_lag_bytes: Size = Field(
        default=16 << 20, description="The same in bytes of WAL; 0 is no limit."
    )
    balance: Literal["least_conn", "round_robin", "random"] = Field(
        default="least_conn",
        description="How one of several replicas is chosen: the one with the fewest statements for "
        "its weight, in turn, or by chance.",
    )
    zone: str | None = Field(
        default=None,
        description="Where this proxy stands: replicas of the same `zone` are preferred, others "
        "are used when those are full or gone.",
    )
    otherwise: Literal["primary", "wait", "refuse"] = Field(
        default="primary",
        description="What happens to a read when no replica is fit: the primary runs it, it waits "
        "up to `query_wait_timeout`, or it is refused with 08001.",
    )
    wait: Duration = Field(
        default=0.0,
        description="How long a read waits for a replica that has what its session wrote before "
        "the primary runs it.",
    )
    read_only_functions: tuple[str, ...] = Field(
        default=(),
        description="Functions that only read, whatever the catalogue says of them; with or "
        "without their schema.",
    )
    writing_functions: tuple[str, ...] = Field(
        default=(),
        description="Functions that do not only read, whatever the catalogue says of them.",
    )


class Etcd(Section):
    """etcd, where several proxies agree on who promotes."""

    endpoints: tuple[str, ...] = Field(
        default=(), description="Its URLs, such as `http://10.0.0.1:2379`, tried in turn."
    )
    user: str | None = Field(default=None, description="User to log in as, where it asks for one.")
    password: Secret | None = Field(default=None, description="The user's password.")
    password_file: FilePath | None = Field(
        default=None, description="A file that holds the password, in place of `password`."
    )
    ca: FilePath | None = Field(
        default=None,
        description="Authorities that sign its certificates; the system's when absent.",
    )
    cert: FilePath | None = Field(default=None, description="A certificate to show, a PEM file.")
    key: FilePath | None = Field(default=None, description="The private key of `cert`.")
    prefix: str = Field(default="/pgweir/", description="What all keys of pgweir begin with.")


class Kubernetes(Section):
    """The API server of the Kubernetes cluster that the proxies run in."""

    namespace: str | None = Field(
        default=None, min_length=1, description="Where the Lease is; the pod's own when absent."
    )
    lease: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$",
        description="Name of the Lease; `pgweir-` and the name of the cluster when absent.",
    )
    account: FilePath | None = Field(
        default=None,
        description="Folder with the service account's `token`, `ca.crt` and `namespace`; where "
        "pods have it when absent.",
    )


class Patroni(Section):
    """Patroni, where it is what promotes."""

    urls: tuple[str, ...] = Field(
        default=(),
        description="Its REST API on each node, such as `http://10.0.0.1:8008`, asked in turn.",
    )
    ca: FilePath | None = Field(
        default=None,
        description="Authorities that sign its certificates; the system's when absent.",
    )
    cert: FilePath | None = Field(
        default=None,
        description="A certificate to show, a PEM file; Patroni wants one with `verify_client: "
        "required`.",
    )
    key: FilePath | None = Field(default=None, description="The private key of `cert`.")
    user: str | None = Field(
        default=None, description="User to log in as (HTTP basic), where something asks for one."
    )
    password: Secret | None = Field(default=None, description="The user's password.")
    password_file: FilePath | None = Field(
        default=None, description="A file that holds the password, in place of `password`."
    )


class Coordinator(Section):
    """Where several proxies agree on who promotes."""

    etcd: Etcd | None = Field(default=None, description="In etcd, by its v3 API.")
    kubernetes: Kubernetes | None = Field(
        default=None, description="In a Kubernetes Lease; `{}` will do."
    )
    ttl: PositiveDuration = Field(
        default=10.0,
        description="How long a proxy that has stopped in the middle of a promotion keeps the "
        "others from it.",
    )


class Failover(Section):
    """What happens when the primary is gone."""

    mode: Literal["off", "follow", "promote"] = Field(
        default="off",
        description="`off` and `follow` go over to the primary somebody else promotes; with "
        "`promote` the proxy promotes a replica itself. See docs/failover.md.",
    )
    after: PositiveDuration = Field(
        default=1.0, description="How long the primary must be gone before it counts as dead."
    )
    starting_after: PositiveDuration = Field(
        default=10.0,
        description="The same for a primary that says it is starting up or shutting down: after a "
        "crash of one backend it is back within seconds.",
    )
    min_interval: Duration = Field(
        default=10.0, description="Least time between two promotions; clients wait meanwhile."
    )
    max_loss_bytes: Size = Field(
        default=1 << 20,
        description="A replica that lacks more of the WAL the dead primary is known to have "
        "written is not promoted. Where replication is synchronous this does not count.",
    )
    dry_run: bool = Field(
        default=False, description="Only say what would be promoted, and why, and do nothing."
    )
    fence: bool = Field(
        default=False,
        description="Make a former primary that comes back and takes writes read-only, and end "
        "its clients.",
    )
    drain_timeout: Duration = Field(
        default=10.0,
        description="How long a planned switchover waits for running transactions before it gives "
        "up; new statements wait meanwhile.",
    )
    on_promote: tuple[str, ...] = Field(
        default=(),
        description="A command to run when a node has been promoted: program and arguments, "
        "without a shell, with the facts in its environment.",
    )
    on_demote: tuple[str, ...] = Field(
        default=(),
        description="The same for the node that was the primary before, to make a replica of it.",
    )
    proxies: PoolSize = Field(
        default=1,
        description="How many proxies watch this cluster. With more than one, they must agree on "
        "who promotes.",
    )
    coordinator: Coordinator = Field(
        default_factory=Coordinator, description="Where several proxies agree on who promotes."
    )
    patroni: Patroni = Field(
        default_factory=Patroni,
        description="Whom to ask for the leader, with `follow`. Not needed to follow Patroni.",
    )
    hook_timeout: PositiveDuration = Field(
        default=60.0, description="How long such a command may run; then it is ended."
    )


class Cluster(Section):
    """A primary and its replicas."""

    model_config = ConfigDict(json_schema_extra={"required": ["nodes"]})

    # Empty by default for the same reason as `Config.clusters`; `contradictions` insists on one.
    nodes: tuple[Node, ...] = Field(
        default=(),
        json_schema_extra={"minItems": 1},
        description="The instances; which one is the primary is discovered, never declared.",
    )
    serve_from: Literal["primary", "any", "first"] = Field(
        default="primary",
        description="Which node databases are served from: the `primary`, which is discovered; "
        "`any` of the nodes that answer, whatever they are, in turn; or the `first` of them. The "
        "last two are what PgBouncer makes of a list of hosts.",
    )
    server: ServerLogin = Field(
        default_factory=ServerLogin, description="How the proxy logs in to the nodes."
    )
    query_user: str | None = Field(
        default=None, min_length=1, description="In place of `auth.query_user` here."
    )
    query: str | None = Field(
        default=None, min_length=1, description="In place of `auth.query` here."
    )
    query_database: str | None = Field(
        default=None, min_length=1, description="In place of `auth.query_database` here."
    )
    monitor: Monitor = Field(default_factory=Monitor, description="How the nodes are watched.")
    replicas: Replicas = Field(
        default_factory=Replicas, description="Which replicas may answer, and which one does."
    )
    consistency: Literal["none", "session", "key", "global"] = Field(
        default="session",
        description="Read-your-writes: not at all; within a session, and between sessions with the "
        "same `pgweir.consistency_key` (`session` and `key` alike); or for all who write through "
        "this proxy.",
    )
    spare_connections: Count = Field(
        default=5,
        description="Connections of each node that are left to others: the monitor, migrations, "
        "`psql`. It counts for nodes without `max_connections` here.",
    )
    failover: Failover = Field(
        default_factory=Failover, description="What happens when the primary is gone."
    )

    @property
    def monitor_login(self) -> tuple[str, Secret | None]:
        """User and password to probe the nodes with.

        `monitor.user` with its own password; else `server.user` with `monitor.password` or its
        own; else `postgres`, with `monitor.password` where there is one.
        """
        if self.monitor.user is not None:
            return self.monitor.user, self.monitor.password
        if self.server.user is not None:
            return self.server.user, self.monitor.password or self.server.password
        return "postgres", self.monitor.password
