"""A configuration without a file: `DATABASE_URL`, `DATABASE_REPLICA_URLS` and flags.

For a proxy beside one application. The URL's user and password are both what the application logs
in with and what the proxy logs in to the nodes with; every database of the cluster is passed
through under its own name.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import ValidationError

from proxy.config.access import Auth, User
from proxy.config.databases import Database
from proxy.config.listening import Http
from proxy.config.model import Config, Flags, Origin
from proxy.config.problems import ConfigError, Problem, describe
from proxy.config.secret import Secret
from proxy.config.topology import Cluster, Monitor, Node, ServerLogin, ServerTls

_EXAMPLE = "postgresql://user:password@host:5432/database"
_PRIMARY = "DATABASE_URL"
_REPLICAS = "DATABASE_REPLICA_URLS"

# libpq's names of connection parameters -> our keys under `tls`.
_TLS_KEYS = {
    "sslmode": "mode",
    "sslrootcert": "ca",
    "sslcert": "cert",
    "sslkey": "key",
    "sslnegotiation": "negotiation",
    "channel_binding": "channel_binding",
    "ssl_min_protocol_version": "min_version",
}


@dataclass(frozen=True, slots=True)
class _Url:
    """What a connection URL says; what it leaves out is None."""

    node: Node
    user: str | None
    password: Secret | None
    database: str | None
    tls: ServerTls | None


def from_environment(environ: Mapping[str, str], **flags: Unpack[Flags]) -> Config:
    """A configuration from environment variables and flags.

    environ: `DATABASE_URL` names the primary, `DATABASE_REPLICA_URLS` the replicas, separated by
    commas. flags: the command line's; there is no HTTP endpoint unless one asks for it.
    Raises ConfigError with all problems; no URL is ever part of one.
    """
    reading = _Urls(environ)
    primary = reading.primary()
    replicas = reading.replicas(primary)
    if primary is None or reading.problems:
        raise ConfigError(reading.problems)
    user = primary.user or ""
    login = ServerLogin(user=user, password=primary.password, tls=primary.tls or ServerTls())
    cluster = Cluster(
        nodes=(primary.node, *(replica.node for replica in replicas)),
        server=login,
        monitor=Monitor(dbname=primary.database or user),
    )
    config = Config(
        auth=Auth(
            method="trust" if primary.password is None else "scram-sha-256",
            users={user: User(password=primary.password)},
        ),
        clusters={"main": cluster},
        databases={"*": Database(cluster="main", read_write_split=bool(replicas))},
    )
    origin = Origin(**flags)
    config = apply_flags(config, origin)
    warnings: tuple[str, ...] = ()
    if primary.password is None:
        if not _is_loopback(config.listen.host):
            raise ConfigError(
                [
                    _wrong(
                        _PRIMARY, f"no password, and clients come from elsewhere; write {_EXAMPLE}"
                    )
                ]
            )
        warnings = (f"{_PRIMARY}: no password, so clients of this machine are let in without one.",)
    return config.noting(warnings, origin)


def apply_flags(config: Config, origin: Origin) -> Config:
    """The configuration with what the command line says in place of its own.

    Raises ConfigError when an address is not `HOST:PORT`.
    """
    problems: list[Problem] = []
    changes: dict[str, Any] = {}
    if origin.listen is not None and (address := _address("--listen", origin.listen, problems)):
        changes["listen"] = config.listen.model_copy(
            update={"host": address[0], "port": address[1]}
        )
    if origin.http is not None and (address := _address("--http", origin.http, problems)):
        # Who may look at it still holds.
        changes["http"] = (config.http or Http()).model_copy(
            update={"host": address[0], "port": address[1]}
        )
    if origin.pool_size is not None:
        if not 1 <= origin.pool_size < 1 << 31:
            problems.append(_wrong("--pool-size", "expected 1 or more, and less than 2147483648"))
        changes["limits"] = config.limits.model_copy(update={"pool_size": origin.pool_size})
    if origin.quiet or origin.verbose:
        said: dict[str, Any] = {"stderr": False} if origin.quiet else {}
        if origin.verbose:
            said["level"] = "debug"
        changes["log"] = config.log.model_copy(update=said)
    process: dict[str, Any] = {} if origin.user is None else {"user": origin.user}
    if origin.watch:
        process["watch"] = True
    if process:
        changes["process"] = config.process.model_copy(update=process)
    if problems:
        raise ConfigError(problems)
    return config.model_copy(update=changes)


def _wrong(name: str, text: str) -> Problem:
    """A problem of a variable or a flag, which has no file and no line."""
    return Problem(None, 0, name, text)


def _address(flag: str, written: str, problems: list[Problem]) -> tuple[str, int] | None:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`, or None with a problem noted."""
    host, colon, port = written.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        problems.append(_wrong(flag, f"expected HOST:PORT such as 127.0.0.1:6432, got {written!r}"))
        return None
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Urls:
    """Reads the URLs and notes what is wrong with them, without quoting them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[Problem] = []

    def primary(self) -> _Url | None:
        """What `DATABASE_URL` says, or None with problems noted."""
        written = self._environ.get(_PRIMARY, "").strip()
        if not written:
            self._note(
                _PRIMARY,
                f"not set, and no file was given; set it to {_EXAMPLE} or name a file with -c",
            )
            return None
        url = self._read(_PRIMARY, written)
        if url is not None and not url.user:
            self._note(_PRIMARY, f"names no user; write {_EXAMPLE}")
        return url

    def replicas(self, primary: _Url | None) -> list[_Url]:
        """What `DATABASE_REPLICA_URLS` says; a login, if given, has to be the primary's."""
        replicas: list[_Url] = []
        written = self._environ.get(_REPLICAS, "").split(",")
        for number, each in enumerate((url.strip() for url in written if url.strip()), start=1):
            name = f"{_REPLICAS}[{number}]"
            url = self._read(name, each)
            if url is None:
                continue
            if primary is not None:
                self._compare(name, url, primary)
                if url.node.name in (primary.node.name, *(other.node.name for other in replicas)):
                    self._note(name, f"{url.node.name} is already named; name each node once")
            replicas.append(url)
        return replicas

    def _compare(self, name: str, replica: _Url, primary: _Url) -> None:
        for what, given, expected in (
            ("user", replica.user, primary.user),
            ("password", replica.password, primary.password),
            ("TLS", replica.tls, primary.tls),
        ):
            if given is not None and given != expected:
                self._note(
                    name,
                    f"another {what} than in {_PRIMARY}; leave it out, or write a file in which "
                    "each cluster has its own",
                )

    def _note(self, name: str, text: str) -> None:
        self.problems.append(_wrong(name, text))

    def _read(self, name: str, written: str) -> _Url | None:
        """One URL in the form libpq takes, or None with a problem noted.

        Source: PostgreSQL documentation, "Connection URIs". One host per URL; of the parameters,
        those for TLS and `host` and `port` count, the others are the client's business.
        """
        try:
            parts = urlsplit(written)
            port = parts.port
        except ValueError:
            # Also what urllib says of two hosts in one URL, since the port is then no number.
            self._note(name, f"not a URL with one host; write {_EXAMPLE}, replicas in {_REPLICAS}")
            return None
        if parts.scheme not in ("postgres", "postgresql"):
            self._note(name, f"not a PostgreSQL URL; write {_EXAMPLE}")
            return None
        parameters = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        host = _host(parts.netloc) or parameters.get("host", "localhost")
        if "," in host:
            self._note(name, f"more than one host; write {_EXAMPLE}, replicas in {_REPLICAS}")
            return None
        # libpq's word for the authorities of the system, which are the default here.
        if parameters.get("sslrootcert") == "system":
            del parameters["sslrootcert"]
        tls = {ours: parameters[key] for key, ours in _TLS_KEYS.items() if key in parameters}
        for key in ("ca", "cert", "key"):
            if key in tls and not Path(tls[key]).is_file():
                self._note(name, f"there is no file {tls[key]}; name one that exists")
        weak = tls.get("mode", "prefer") in ("disable", "allow", "prefer")
        if tls.get("negotiation") == "direct" and weak:
            self._note(
                name, "sslnegotiation=direct has no way back; write sslmode=require or more with it"
            )
        try:
            node = Node.model_validate({"host": host, "port": port or parameters.get("port", 5432)})
            return _Url(
                node=node,
                user=_text(parts.username),
                password=_secret(parts.password),
                database=_text(parts.path.removeprefix("/")),
                tls=ServerTls.model_validate(tls, context={"folder": Path.cwd()}) if tls else None,
            )
        except ValidationError as error:
            for each in error.errors(include_url=False, include_input=False):
                self._note(name, f"{each['loc'][0]}: {describe(each, Node, {})}")
            return None


def _host(netloc: str) -> str:
    """The host of a URL, decoded; empty when absent. urllib's would be in lower case, which a
    folder with a Unix socket must not be.
    """
    address = netloc.rpartition("@")[2]
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return unquote(address.partition(":")[0])


def _text(quoted: str | None) -> str | None:
    """Percent-decoded text of a part of a URL, or None when it is absent or empty."""
    return unquote(quoted) if quoted else None


def _secret(quoted: str | None) -> Secret | None:
    return Secret(unquote(quoted)) if quoted else None
