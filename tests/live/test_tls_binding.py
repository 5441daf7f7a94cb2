"""Logins bound to certificates, and TLS from the first byte on: libpq, asyncpg, and strangers."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.faults.interceptor import Interceptor, intercepting
from tests.faults.raw_client import SSL_REQUEST, Message, message, packet, startup
from tests.fixtures.pgweir import Pgweir, configuration, merged, running
from tests.fixtures.postgres import (
    APP,
    DATABASE,
    MONITOR,
    Certificates,
    Postgres,
    PostgresWithTls,
    make_certificates,
)

StartPgweir = Callable[..., Pgweir]


def listening(certificates: Certificates) -> dict[str, Any]:
    """Keys that demand TLS of clients."""
    tls = {
        "mode": "require",
        "cert": str(certificates.server_cert),
        "key": str(certificates.server_key),
    }
    return {"listen": {"tls": tls}}


def towards(**tls: Any) -> dict[str, Any]:
    """Keys that demand TLS of servers."""
    return {"clusters": {"main": {"server": {"tls": tls}}}}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The same names, signed by another authority."""
    return make_certificates(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="module")
def bound_weir(
    pg_tls: PostgresWithTls, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pgweir]:
    """TLS on both sides, and no login to the server that is not bound to its certificate."""
    known = pg_tls.certificates
    config = configuration(
        pg_tls,
        **merged(
            listening(known),
            towards(mode="verify-full", ca=str(known.ca), channel_binding="require"),
        ),
    )
    with running(config, tmp_path_factory.mktemp("bound")) as weir:
        yield weir


def answer(weir: Pgweir, **how: Any) -> object:
    """What libpq gets for a query, or why it did not get in."""
    try:
        with psycopg.connect(weir.dsn(), **how) as connection:
            row = connection.execute("SELECT 'in'").fetchone()
            return None if row is None else row[0]
    except psycopg.OperationalError as error:
        return str(error)


LIBPQ = [
    {"sslmode": sslmode, "channel_binding": binding, "sslnegotiation": negotiation}
    for sslmode in ("require", "verify-full")
    for binding in ("disable", "prefer", "require")
    for negotiation in ("postgres", "direct")
]


@pytest.mark.parametrize("how", LIBPQ, ids=lambda how: "-".join(how.values()))
def test_libpq_comes_in(
    bound_weir: Pgweir, certificates: Certificates, how: dict[str, str]
) -> None:
    more = {"sslrootcert": str(certificates.ca)} if how["sslmode"] == "verify-full" else {}
    assert answer(bound_weir, **how, **more) == "in"


def test_a_wrong_password_is_one_with_binding_too(bound_weir: Pgweir) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(
            bound_weir.dsn(password="wrong"), sslmode="require", channel_binding="require"
        )


def test_a_cancel_comes_in_by_direct_tls(bound_weir: Pgweir) -> None:
    with psycopg.connect(
        bound_weir.dsn(), sslmode="require", sslnegotiation="direct", autocommit=True
    ) as connection:
        before = bound_weir.metric("pgweir_cancel_requests_total", result="nothing_running")
        connection.cancel_safe()
        bound_weir.wait_until(
            lambda: (
                bound_weir.metric("pgweir_cancel_requests_total", result="nothing_running")
                == before + 1
            )
        )


def test_asyncpg_comes_in_by_direct_tls(bound_weir: Pgweir, certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=certificates.ca)
    context.set_alpn_protocols(["postgresql"])

    async def ask() -> object:
        connection = await asyncpg.connect(bound_weir.dsn(), ssl=context, direct_tls=True)
        try:
            return await connection.fetchval("SELECT length($1::text)", "x" * 1_000_000)
        finally:
            await connection.close()

    assert asyncio.run(ask()) == 1_000_000


# -- somebody in between -----------------------------------------------------------------------


@pytest.fixture
def before_the_proxy(bound_weir: Pgweir, foreign: Certificates) -> Iterator[Interceptor]:
    with intercepting(("127.0.0.1", bound_weir.port), foreign) as interceptor:
        yield interceptor


def through(interceptor: Interceptor, binding: str) -> str:
    """What libpq, which verifies nothing, gets from somebody in between."""
    dsn = f"postgres://{APP.name}:{APP.password}@127.0.0.1:{interceptor.port}/{DATABASE}"
    try:
        with psycopg.connect(dsn, sslmode="require", channel_binding=binding) as connection:
            return str(connection.execute("SELECT 'in'").fetchone())
    except psycopg.OperationalError as error:
        return str(error)


def test_who_does_not_bind_is_read_along(before_the_proxy: Interceptor) -> None:
    assert "in" in through(before_the_proxy, "disable")
    assert b"SELECT 'in'" in b"".join(before_the_proxy.read_along)


def test_a_bound_login_is_not_passed_on(before_the_proxy: Interceptor) -> None:
    assert "another certificate" in through(before_the_proxy, "prefer")


def test_a_smaller_offer_is_noticed(before_the_proxy: Interceptor) -> None:
    before_the_proxy.strips = True
    assert "taken it out of the offer" in through(before_the_proxy, "prefer")


def test_the_proxy_does_not_log_in_through_somebody_in_between(
    start_pgweir: StartPgweir, pg_tls: PostgresWithTls, foreign: Certificates
) -> None:
    with intercepting((pg_tls.host, pg_tls.port), foreign) as interceptor:
        weir = start_pgweir(
            interceptor,
            **towards(mode="require"),
            limits={"query_wait_timeout": "500ms", "server_login_retry": "100ms"},
        )
        # The probes pass: they are not bound, and nobody verifies.
        weir.wait_until(lambda: weir.http("/readyz")[0] == 200)
        for strips, said in ((False, "channel binding check failed"), (True, "does not")):
            interceptor.strips = strips
            assert said in str(answer(weir, sslmode="disable"))
        assert b"SELECT 'in'" not in b"".join(interceptor.read_along)


# -- TLS from the first byte on ----------------------------------------------------------------


def begin_direct(weir: Pgweir, alpn: list[str]) -> ssl.SSLSocket:
    """Shake hands at once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", weir.port), 10))


def read_to_end(sock: socket.socket) -> bytes:
    octets = b""
    try:
        while more := sock.recv(4096):
            octets += more
    except (ConnectionResetError, ssl.SSLError):
        pass
    return octets


@pytest.mark.parametrize("alpn", [[], ["http/1.1"], ["h2", "postgresql2"]])
def test_direct_tls_for_another_protocol_is_refused(bound_weir: Pgweir, alpn: list[str]) -> None:
    """What a browser was made to send, as in the ALPACA attack."""
    with begin_direct(bound_weir, alpn) as sock:
        kind, body = (octets := read_to_end(sock))[:1], octets[5:]
        assert kind == b"E"
        assert Message(kind, body).fields["C"] == "08P01"


def test_direct_tls_is_taken_when_the_protocol_is_among_others(bound_weir: Pgweir) -> None:
    with begin_direct(bound_weir, ["h2", "postgresql"]) as sock:
        assert sock.selected_alpn_protocol() == "postgresql"
        sock.sendall(startup(user=APP.name, database=DATABASE))
        head = sock.recv(9)
        assert (head[:1], head[5:]) == (b"R", b"\0\0\0\x0a")


def test_there_is_no_tls_within_tls(bound_weir: Pgweir) -> None:
    with begin_direct(bound_weir, ["postgresql"]) as sock:
        sock.sendall(packet(struct.pack("!i", SSL_REQUEST)))
        assert read_to_end(sock)[:1] == b"E"


def test_what_is_sent_in_clear_behind_a_direct_handshake_is_not_heard(bound_weir: Pgweir) -> None:
    encrypted = begin_direct(bound_weir, ["postgresql"])
    with socket.socket(fileno=encrypted.detach()) as sock:
        sock.settimeout(10)
        sock.sendall(startup(user=APP.name, database=DATABASE))
        assert read_to_end(sock)[:1] in (b"", b"\x15", b"\x17")


# What comes in one piece, before anybody has shaken hands -> the first byte of the answer.
STUFFED = {
    "startup behind SSLRequest": packet(struct.pack("!i", SSL_REQUEST))
    + startup(user=APP.name, database=DATABASE),
    "hello behind SSLRequest": packet(struct.pack("!i", SSL_REQUEST)) + b"\x16\3\1\0\5hello",
    "query behind SSLRequest": packet(struct.pack("!i", SSL_REQUEST)) + message(b"Q", b"x\0"),
    "hello that is none": b"\x16\3\1\0\5hello" + startup(user=APP.name, database=DATABASE),
    "hello cut off by a startup packet": b"\x16\3\1\2\0" + startup(user=APP.name) * 20,
}


@pytest.mark.parametrize("octets", STUFFED.values(), ids=STUFFED.keys())
def test_bytes_before_the_handshake_are_never_taken_for_encrypted_ones(
    bound_weir: Pgweir, octets: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", bound_weir.port), 10) as sock:
        sock.sendall(octets)
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock)[:1] in (b"", b"E", b"\x15")
    assert answer(bound_weir, sslmode="require") == "in"


def test_a_handshake_that_takes_too_long_ends_without_a_word_in_clear(
    start_pgweir: StartPgweir, pg18: Postgres, certificates: Certificates
) -> None:
    weir = start_pgweir(pg18, **listening(certificates), limits={"client_login_timeout": "200ms"})
    with socket.create_connection(("127.0.0.1", weir.port), 10) as sock:
        sock.sendall(packet(struct.pack("!i", SSL_REQUEST)))
        assert read_to_end(sock) == b"S"
    assert weir.metric("pgweir_refusals_total", reason="login_timeout") == 1


def test_direct_tls_where_there_is_none_is_refused(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    weir = start_pgweir(pg18)
    with pytest.raises((ConnectionResetError, ssl.SSLError)):
        begin_direct(weir, ["postgresql"])
    assert weir.metric("pgweir_refusals_total", reason="tls_failed") == 1


def test_the_proxy_begins_with_tls_where_it_is_told_to(
    start_pgweir: StartPgweir, pg18: Postgres, pg_tls: PostgresWithTls, certificates: Certificates
) -> None:
    """PostgreSQL 17 and newer know direct TLS, but those with TLS here are older: two proxies."""
    far = start_pgweir(
        pg18,
        **listening(certificates),
        auth={"users": {MONITOR.name: {"password": MONITOR.password}}},
        databases={"*": {"cluster": "main"}},
    )
    tls = {
        "mode": "verify-full",
        "ca": str(certificates.ca),
        "negotiation": "direct",
        "channel_binding": "require",
    }
    old = {"name": "old", "host": pg_tls.host, "port": pg_tls.port}
    near = start_pgweir(
        far,
        **merged(
            towards(**tls),
            {
                "clusters": {"old": {"nodes": [old], "server": {"tls": tls}}},
                "databases": {"old": {"cluster": "old", "dbname": DATABASE}},
                "limits": {"query_wait_timeout": "500ms"},
            },
        ),
    )
    assert answer(near, sslmode="disable") == "in"
    far.wait_for_log(f"client connected.* user={APP.name}.* tls=TLSv1.3")
    assert far.metric("pgweir_refusals_total") == 0
    with pytest.raises(psycopg.OperationalError, match="no server for database"):
        psycopg.connect(near.dsn(database="old"), sslmode="disable")
