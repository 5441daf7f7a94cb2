"""Why did a probe fail? From the exception to a `Failure` and a sentence. Pure.

Called by `Probe`. The distinction that matters: a server that answers but will not have us is
alive, and one that does not answer may be dead.
"""

import socket
import ssl

import asyncpg

from proxy.cluster.view import Failure

# Appendix "PostgreSQL Error Codes". A class (two characters) holds for what is not listed whole.
_BY_SQLSTATE = {
    "28": Failure.LOGIN_REFUSED,
    "3D000": Failure.LOGIN_REFUSED,
    "55000": Failure.LOGIN_REFUSED,  # the database does not accept connections (datallowconn)
    "53300": Failure.FULL,
    "42": Failure.QUERY_REFUSED,
    "0A000": Failure.QUERY_REFUSED,
    "57P01": Failure.NOT_ACCEPTING,
    "57P02": Failure.NOT_ACCEPTING,
    "57P03": Failure.NOT_ACCEPTING,
}

# The first that fits; what fits none is BROKEN.
_BY_TYPE: tuple[tuple[type[Exception], Failure], ...] = (
    (socket.gaierror, Failure.NAME_UNKNOWN),
    (ConnectionRefusedError, Failure.UNREACHABLE),
    (TimeoutError, Failure.NO_ANSWER),
    (ConnectionError, Failure.BROKEN),
    (ssl.SSLError, Failure.BROKEN),
    (OSError, Failure.UNREACHABLE),
    (asyncpg.ClientConfigurationError, Failure.BROKEN),
    # asyncpg's way to say that the server asks for a kind of login it does not know.
    (asyncpg.InterfaceError, Failure.LOGIN_REFUSED),
)

_LONGEST_REASON = 200


def diagnose(error: Exception) -> tuple[Failure, str]:
    """Name the failure and say it in one line.

    The text of a server's error is cut and flattened: it comes from a peer and goes to our log.
    """
    if isinstance(error, asyncpg.PostgresError):
        sqlstate = error.sqlstate or "?????"
        failure = _BY_SQLSTATE.get(sqlstate) or _BY_SQLSTATE.get(sqlstate[:2], Failure.BROKEN)
        return failure, _flat(f"{sqlstate} {error.args[0] if error.args else ''}")
    failure = next((found for kind, found in _BY_TYPE if isinstance(error, kind)), Failure.BROKEN)
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return failure, _flat(said or type(error).__name__)


def is_lost(error: Exception) -> bool:
    """Whether this says only that a kept connection is gone, which a new one may not be.

    The server may have been restarted, or the session ended by an operator or a timeout.
    """
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:3] in ("080", "57P")
    return isinstance(error, (OSError, asyncpg.InterfaceError))


def _flat(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_REASON]
