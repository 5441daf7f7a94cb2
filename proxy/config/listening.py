"""Where clients and operators come in, and what is logged."""

from typing import Annotated, Literal

from pydantic import Field

from proxy.config.quantities import Duration
from proxy.config.secret import Secret
from proxy.config.section import (
    Addresses,
    Ciphers,
    Count,
    FileMode,
    FilePath,
    Host,
    ListenPort,
    Network,
    PoolSize,
    Section,
    TlsMode,
    TlsVersion,
)

# What the kernel accepts (MAX_TCP_KEEPIDLE, MAX_TCP_KEEPCNT).
TcpTime = Annotated[Duration, Field(le=32_767)]
TcpTries = Annotated[Count, Field(le=127)]


# A few health checks must not fill the door of a proxy for a few clients.
_LEAST_STRANGERS = 100


class ClientTls(Section):
    """TLS between clients and the proxy."""

    mode: TlsMode = Field(
        default="disable",
        description="`disable` offers none; `allow` and `prefer` leave the choice to the client; "
        "`require` refuses clients without it; `verify-ca` and `verify-full`, which are the same, "
        "also refuse those without a certificate that `ca` has signed.",
    )
    cert: FilePath | None = Field(
        default=None,
        description="The proxy's certificate chain, a PEM file. Like `key` and `ca`, it is read "
        "again when it changes, for the connections from then on.",
    )
    key: FilePath | None = Field(
        default=None, description="The private key of `cert`, a PEM file without a passphrase."
    )
    ca: FilePath | None = Field(
        default=None,
        description="Authorities that sign client certificates, a PEM file. Below `verify-ca`, "
        "certificates are only looked at where `auth.method` is `cert` or `hba`.",
    )
    min_version: TlsVersion = Field(default="TLSv1.2", description="The least version spoken.")
    ciphers: Ciphers | None = Field(
        default=None,
        description="OpenSSL's list of ciphers for TLS 1.2, such as `HIGH:!aNULL`; OpenSSL's own "
        "choice when absent. Those of TLS 1.3 are not chosen by it.",
    )


class Listen(Section):
    """Where clients connect."""

    host: Addresses = Field(
        default="127.0.0.1",
        description="Addresses to listen on, separated by commas; `*` is every address, and with "
        "an empty text there is no TCP.",
    )
    port: ListenPort = Field(
        default=6432,
        description="TCP port, also part of the Unix socket's name; 0 takes a free one, which "
        "the `ready` line names.",
    )
    unix_socket_dir: FilePath | None = Field(
        default=None,
        description="Folder for a Unix socket besides TCP; none is made when it is absent.",
    )
    unix_socket_mode: FileMode = Field(
        default="0777", description="Permissions of the Unix socket, in octal."
    )
    unix_socket_group: str | None = Field(
        default=None, min_length=1, description="The group the Unix socket is given to."
    )
    so_reuseport: bool = Field(
        default=False,
        description="Let other processes listen on the same TCP port; the kernel shares the "
        "connections between them.",
    )
    max_client_conn: PoolSize = Field(
        default=10_000,
        description="Most client connections at a time; the next one is refused with 53300. "
        "Console connections do not count.",
    )
    max_login_conn: Count = Field(
        default=0,
        description="Most connections at a time whose clients have not yet proved who they are; "
        "the next one is refused with 53300 at once. They do not count for `max_client_conn`. "
        "0 is as many as `max_client_conn`, so that all clients may come back at the same time, "
        "and at least 100.",
    )
    tls: ClientTls = Field(
        default_factory=ClientTls, description="TLS between clients and the proxy."
    )
    # PgBouncer's 128 overflows when thousands of clients reconnect at once after a restart, and
    # the kernel then drops handshakes for a second at a time. It is capped by net.core.somaxconn.
    backlog: Count = Field(
        default=1024, description="Connections the kernel may hold that are not yet accepted."
    )
    ignore_startup_parameters: tuple[str, ...] = Field(
        default=(),
        description="Settings of a client's startup packet that are left out, `options` as a "
        "whole among them. All others follow the client.",
    )
    application_name_add_host: bool = Field(
        default=False,
        description="Add the client's address to the `application_name` it comes with.",
    )
    proxy_protocol_from: tuple[Network, ...] = Field(
        default=(),
        description="Balancers that speak the PROXY protocol (version 1 or 2), by address or "
        "network: each of their connections must begin with its header, and the client's address "
        "is the one it names. From anybody else the header is refused.",
    )
    tcp_keepalive: bool = Field(
        default=True,
        description="Have the kernel ask silent peers whether they are still there. This and the "
        "other `tcp_` keys hold for client and for server connections.",
    )
    tcp_keepidle: TcpTime = Field(
        default=0.0,
        description="Silence before the first such question; 0 is the system's, often two hours.",
    )
    tcp_keepintvl: TcpTime = Field(
        default=0.0, description="Time between two such questions; 0 is the system's."
    )
    tcp_keepcnt: TcpTries = Field(
        default=0,
        description="Questions without an answer after which the peer is gone; 0 is the system's.",
    )
    tcp_user_timeout: Duration = Field(
        default=0.0,
        description="How long what was sent may stay unacknowledged before the peer is gone; 0 is "
        "the system's. PgBouncer takes milliseconds here: write `30s` for its 30000.",
    )

    @property
    def most_strangers(self) -> int:
        """How many may be logging in at a time."""
        return self.max_login_conn or max(self.max_client_conn, _LEAST_STRANGERS)


class HttpAuth(Section):
    """Who may look at the HTTP endpoint; `/healthz` and `/readyz` answer everybody."""

    user: str | None = Field(
        default=None,
        min_length=1,
        description="Name for HTTP's basic authentication; with it, a password.",
    )
    password: Secret | None = Field(default=None, description="The password of `user`.")
    password_file: FilePath | None = Field(
        default=None, description="File that holds the password of `user`."
    )
    token: Secret | None = Field(
        default=None,
        description="A bearer token, for scrapers; a browser may give it as the password of any "
        "name.",
    )
    token_file: FilePath | None = Field(default=None, description="File that holds the token.")


class Http(Section):
    """The HTTP endpoint: `/metrics`, `/healthz`, `/readyz` and the status page."""

    host: Host = Field(default="127.0.0.1", description="Address to listen on.")
    port: ListenPort = Field(default=9127, description="TCP port; 0 takes a free one.")
    auth: HttpAuth | None = Field(
        default=None,
        description="Who may look at the figures and the status page; everybody when it is absent.",
    )


class Compat(Section):
    """What is there for those who come from elsewhere."""

    pgbouncer_metrics: bool = Field(
        default=False,
        description="Serve at `/metrics` also what pgbouncer_exporter would, under its names.",
    )


class Log(Section):
    """What is logged, and where to."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="`info` has one line per connect, disconnect and refusal, with its reason.",
    )
    format: Literal["text", "json", "pgbouncer"] = Field(
        default="text",
        description="`text` is for people, `json` has one object per line, `pgbouncer` is what "
        "PgBouncer writes, as far as it says the same.",
    )
    stderr: bool = Field(default=True, description="Whether lines go to standard error.")
    file: FilePath | None = Field(
        default=None,
        description="A file that gets the lines as well; a reload opens it anew, for those who "
        "rotate it.",
    )
    connections: bool = Field(default=True, description="Whether each login has a line.")
    disconnections: bool = Field(
        default=True, description="Whether each client's end has a line, with its reason."
    )
    refusals: bool = Field(
        default=True, description="Whether each client that is not let in has a line."
    )
    literals: bool = Field(
        default=False,
        description="Show statements in the log with the constants that clients wrote, passwords "
        "and names of people among them, rather than with placeholders.",
    )

    @property
    def silent(self) -> tuple[str, ...]:
        """The messages that are left out."""
        said = {
            "client connected": self.connections,
            "client disconnected": self.disconnections,
            "client refused": self.refusals,
        }
        return tuple(message for message, is_wanted in said.items() if not is_wanted)


class Process(Section):
    """The process itself."""

    pidfile: FilePath | None = Field(
        default=None,
        description="A file that holds the number of the process while it runs. A second one is "
        "not started.",
    )
    user: str | None = Field(
        default=None,
        min_length=1,
        description="Become this account before anything is opened; for who starts as root.",
    )
    watch: bool = Field(
        default=False,
        description="Reload when the configuration file has changed, or one that it includes or "
        "names, without being asked. Files with passwords and certificates are looked at in any "
        "case.",
    )
