"""Where clients and operators come in, and what is logged."""

from typing import Literal

from pydantic import Field

from proxy.config.section import Count, FilePath, Host, ListenPort, PoolSize, Section, TlsMode


class ClientTls(Section):
    """TLS between clients and the proxy."""

    mode: TlsMode = Field(
        default="disable",
        description="`disable` offers none; `allow` and `prefer` leave the choice to the client; "
        "`require` refuses clients without it.",
    )
    cert: FilePath | None = Field(
        default=None, description="The proxy's certificate chain, a PEM file."
    )
    key: FilePath | None = Field(
        default=None, description="The private key of `cert`, a PEM file without a passphrase."
    )
    ca: FilePath | None = Field(
        default=None, description="Authorities that sign client certificates, a PEM file."
    )


class Listen(Section):
    """Where clients connect."""

    host: Host = Field(
        default="127.0.0.1", description="Address to listen on; `*` is every address."
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
    max_client_conn: PoolSize = Field(
        default=10_000,
        description="Most client connections at a time; the next one is refused with 53300. "
        "Console connections do not count.",
    )
    tls: ClientTls = Field(
        default_factory=ClientTls, description="TLS between clients and the proxy."
    )
    # PgBouncer's 128 overflows when thousands of clients reconnect at once after a restart, and
    # the kernel then drops handshakes for a second at a time. It is capped by net.core.somaxconn.
    backlog: Count = Field(
        default=1024, description="Connections the kernel may hold that are not yet accepted."
    )


class Http(Section):
    """The HTTP endpoint: `/metrics`, `/healthz`, `/readyz` and the status page."""

    host: Host = Field(default="127.0.0.1", description="Address to listen on.")
    port: ListenPort = Field(default=9127, description="TCP port; 0 takes a free one.")


class Log(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="`info` has one line per connect, disconnect and refusal, with its reason.",
    )
    format: Literal["text", "json"] = Field(
        default="text", description="`text` is for people, `json` has one object per line."
    )
