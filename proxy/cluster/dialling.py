"""How does the proxy get a connection of its own to a node? By asyncpg, which is told everything.

Called by `Probe`, and for `auth_query`. Each dial resolves the host name again. For whatever
asyncpg is not told it reads PGSSLMODE, PGPASSFILE and files in the home directory; a proxy does
what its configuration says, and the home of a daemon may not even be readable.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import asyncpg

from proxy.cluster.view import NodeAddress
from proxy.config import ServerTls
from proxy.server import AskedPassword, PasswordUnavailable
from proxy.tls import context_for_servers

APPLICATION_NAME = "pgweir monitor"

DIALLING_FAILURES = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server ended in between, or said what asyncpg does not know
)
"""What opening such a connection raises, and asking something on it. TimeoutError is an OSError."""


@dataclass(frozen=True, slots=True)
class ProbeLogin:
    """How the monitor logs in to every node of a cluster.

    password: plain, empty for none, or where it is asked for at each login.
    """

    user: str
    password: str | AskedPassword = field(default="", repr=False)
    database: str = "postgres"
    tls: ServerTls = field(default_factory=ServerTls)


_MONITOR_SETTINGS = {"application_name": APPLICATION_NAME}


async def dial(
    address: NodeAddress, login: ProbeLogin, settings: Mapping[str, str] = _MONITOR_SETTINGS
) -> Any:
    """Connect and log in; the result is an asyncpg connection. Waits as long as it takes.

    settings: in force from the start.

    Raises what asyncpg and the socket raise: `diagnose` knows them. Cancelled, it leaves no
    connection behind.
    """
    try:
        return await _dial_some_way(address, login, settings)
    except PasswordUnavailable as missing:
        # A node that we cannot log in to is no dead node.
        raise asyncpg.InterfaceError(str(missing)) from None
    except asyncpg.InvalidAuthorizationSpecificationError:
        if not isinstance(login.password, str):
            await login.password.doubt()
        raise


async def _dial_some_way(
    address: NodeAddress, login: ProbeLogin, settings: Mapping[str, str]
) -> Any:
    ways = tls_ways(login.tls, address.host)
    for way in ways[:-1]:
        try:
            return await _connect(address, login, way, settings)
        except Exception as error:
            if not _is_refusal_of_the_way(error):
                raise
    return await _connect(address, login, ways[-1], settings)


def tls_ways(tls: ServerTls, host: str) -> list[ssl.SSLContext | Literal[False]]:
    """List asyncpg's `ssl` arguments to try in turn, one or two.

    Raises OSError when a file cannot be read and ssl.SSLError when it holds no PEM.
    Source: PostgreSQL documentation, libpq, "SSL Support", table "SSL Mode Descriptions".
    """
    if tls.mode == "disable" or host.startswith("/"):
        return [False]
    context = context_for_servers(tls)
    if tls.mode == "allow":
        return [False, context]
    if tls.mode == "prefer":
        return [context, False]
    return [context]


def _is_refusal_of_the_way(error: Exception) -> bool:
    """Whether the other way (with TLS, or without) may succeed where this one failed.

    A wrong password (28P01) would be as wrong in clear text, and must not be sent that way.
    """
    if isinstance(error, asyncpg.InvalidPasswordError | ConnectionRefusedError):
        return False
    return isinstance(
        error,
        # `pg_hba.conf` does not let us in this way; the server has no TLS; the handshake failed.
        asyncpg.InvalidAuthorizationSpecificationError | ConnectionError | ssl.SSLError,
    )


async def _connect(
    address: NodeAddress,
    login: ProbeLogin,
    way: ssl.SSLContext | Literal[False],
    settings: Mapping[str, str],
) -> Any:
    return await asyncpg.connect(
        host=address.host,
        port=address.port,
        user=login.user,
        # None would make asyncpg look for a password file.
        password=login.password,
        database=login.database,
        ssl=way,
        direct_tls=way is not False and login.tls.negotiation == "direct",
        target_session_attrs="any",
        timeout=None,
        statement_cache_size=0,
        server_settings=dict(settings),
    )
