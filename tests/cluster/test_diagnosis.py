"""From an exception to a failure, and whether the node behind it is alive."""

import socket
import ssl

import asyncpg
import pytest

from proxy.cluster import Failure
from proxy.cluster.diagnosis import diagnose, is_lost


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (asyncpg.InvalidPasswordError("no"), Failure.LOGIN_REFUSED),
        (asyncpg.InvalidAuthorizationSpecificationError("no"), Failure.LOGIN_REFUSED),
        (asyncpg.InvalidCatalogNameError("no such database"), Failure.LOGIN_REFUSED),
        (asyncpg.TooManyConnectionsError("full"), Failure.FULL),
        (asyncpg.CannotConnectNowError("starting up"), Failure.NOT_ACCEPTING),
        (asyncpg.AdminShutdownError("bye"), Failure.NOT_ACCEPTING),
        (asyncpg.InsufficientPrivilegeError("no"), Failure.QUERY_REFUSED),
        (asyncpg.OutOfMemoryError("no memory"), Failure.BROKEN),
        (asyncpg.ConnectionDoesNotExistError("closed"), Failure.BROKEN),
        (asyncpg.InterfaceError("unsupported authentication method"), Failure.LOGIN_REFUSED),
        (asyncpg.ClientConfigurationError("ours"), Failure.BROKEN),
        (ConnectionRefusedError(111, "refused"), Failure.UNREACHABLE),
        (FileNotFoundError(2, "no socket"), Failure.UNREACHABLE),
        (OSError(113, "no route to host"), Failure.UNREACHABLE),
        (ConnectionResetError(104, "reset"), Failure.BROKEN),
        (ssl.SSLCertVerificationError("self-signed"), Failure.BROKEN),
        (socket.gaierror(-2, "unknown"), Failure.NAME_UNKNOWN),
        (TimeoutError(), Failure.NO_ANSWER),
        (ValueError("nonsense from the server"), Failure.BROKEN),
    ],
)
def test_failure_is_named_after_what_went_wrong(error: Exception, failure: Failure) -> None:
    assert diagnose(error)[0] is failure


def test_a_servers_text_cannot_break_the_line_of_a_log() -> None:
    reason = diagnose(asyncpg.InvalidPasswordError("no\nERROR forged=1\r\n"))[1]
    assert reason == "28P01 no ERROR forged=1"


def test_a_servers_text_is_cut() -> None:
    assert len(diagnose(asyncpg.InvalidPasswordError("x" * 100_000))[1]) == 200


def test_an_error_without_text_is_told_by_its_name() -> None:
    assert diagnose(TimeoutError())[1] == "TimeoutError"


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.AdminShutdownError("bye"),
        asyncpg.ConnectionDoesNotExistError("closed"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionResetError(104, "reset"),
    ],
)
def test_a_lost_connection_is_worth_a_new_one(error: Exception) -> None:
    assert is_lost(error)


@pytest.mark.parametrize(
    "error", [asyncpg.InsufficientPrivilegeError("no"), asyncpg.QueryCanceledError("timeout")]
)
def test_an_error_of_the_query_is_not_a_lost_connection(error: Exception) -> None:
    assert not is_lost(error)
