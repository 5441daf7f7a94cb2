"""TLS on both sides: modes, handshakes, and large things through it."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.faults.raw_client import SSL_REQUEST, RawClient, packet, startup
from tests.fixtures.pgweir import Pgweir, merged
from tests.fixtures.postgres import (
    APP,
    DATABASE,
    TLS_USER,
    Certificates,
    Postgres,
    PostgresWithTls,
)

StartPgweir = Callable[..., Pgweir]


def offering(certificates: Certificates, mode: str) -> dict[str, Any]:
    """A configuration that offers TLS to clients."""
    tls = {
        "mode": mode,
        "cert": str(certificates.server_cert),
        "key": str(certificates.server_key),
    }
    return {"listen": {"tls": tls}}


def demanding(certificates: Certificates, mode: str, **more: str) -> dict[str, Any]:
    """A configuration that asks servers for TLS."""
    tls = {"mode": mode, "ca": str(certificates.ca), **more}
    return {"clusters": {"main": {"server": {"tls": tls}}}}


def is_encrypted(weir: Pgweir, sslmode: str, **more: Any) -> bool:
    """Connect with libpq; is the client's connection encrypted?"""
    with psycopg.connect(weir.dsn(), sslmode=sslmode, **more) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        return bool(connection.pgconn.ssl_in_use)


# mode of the proxy, sslmode of the client, encrypted or refused (None)
CLIENT_MODES = [
    ("disable", "disable", False),
    ("disable", "allow", False),
    ("disable", "prefer", False),
    ("disable", "require", None),
    ("allow", "disable", False),
    ("allow", "prefer", True),
    ("allow", "require", True),
    ("prefer", "disable", False),
    ("prefer", "prefer", True),
    ("prefer", "verify-full", True),
    ("require", "disable", None),
    ("require", "allow", True),
    ("require", "prefer", True),
    ("require", "require", True),
    ("require", "verify-full", True),
]


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_a_client_is_encrypted_as_both_sides_want_it(
    start_pgweir: StartPgweir, pg18: Postgres, certificates: Certificates, mode: str
) -> None:
    weir = start_pgweir(pg18, **offering(certificates, mode))
    found: dict[str, bool | None] = {}
    for ours, sslmode, _ in CLIENT_MODES:
        if ours != mode:
            continue
        try:
            more = {"sslrootcert": str(certificates.ca)} if sslmode == "verify-full" else {}
            found[sslmode] = is_encrypted(weir, sslmode, **more)
        except psycopg.OperationalError:
            found[sslmode] = None
    assert found == {sslmode: result for ours, sslmode, result in CLIENT_MODES if ours == mode}


def test_asyncpg_speaks_tls(
    start_pgweir: StartPgweir, pg18: Postgres, certificates: Certificates
) -> None:
    weir = start_pgweir(pg18, **offering(certificates, "require"))
    context = ssl.create_default_context(cafile=certificates.ca)

    async def ask() -> object:
        connection = await asyncpg.connect(weir.dsn(), ssl=context)
        try:
            return await connection.fetchval("SELECT length($1::text)", "x" * 1_000_000)
        finally:
            await connection.close()

    assert asyncio.run(ask()) == 1_000_000


def test_without_tls_where_it_is_required_the_client_hears_why(
    start_pgweir: StartPgweir, pg18: Postgres, certificates: Certificates
) -> None:
    weir = start_pgweir(pg18, **offering(certificates, "require"))
    with RawClient(weir.port) as client:
        client.send(startup(user=APP.name, database=DATABASE))
        *_, last = client.read_to_end()
        assert last.fields["C"] == "28000"
    assert weir.metric("pgweir_refusals_total", reason="tls_required") == 1


def test_bytes_stuffed_behind_the_ssl_request_are_refused(
    start_pgweir: StartPgweir, pg18: Postgres, certificates: Certificates
) -> None:
    """CVE-2021-23214: they would pass for what came over TLS."""
    weir = start_pgweir(pg18, **offering(certificates, "allow"))
    with RawClient(weir.port) as client:
        stuffed = startup(user=APP.name, database=DATABASE)
        client.send(packet(struct.pack("!i", SSL_REQUEST)) + stuffed)
        octets = b""
        try:
            while more := client.socket.recv(4096):
                octets += more
        except ConnectionResetError:
            pass
        assert b"S" not in octets[:1]


def hello(context: ssl.SSLContext) -> bytes:
    """What a client says first."""
    said = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said).do_handshake()
    return said.read()


def trickle(sock: socket.socket, octets: bytes) -> None:
    """Say them one by one, until the other side has enough of it."""
    sock.settimeout(0.1)
    for at in range(len(octets)):
        with contextlib.suppress(TimeoutError):
            sock.sendall(octets[at : at + 1])
            if not sock.recv(1):
                return


def stay_silent(sock: socket.socket, context: ssl.SSLContext) -> None:
    end = context.wrap_socket(sock.dup(), do_handshake_on_connect=True)
    end.detach()


# Each leaves the connection where it would stay, were there no deadline.
STALLS = {
    "asked and not shaken hands": lambda sock, context: None,
    "half a hello": lambda sock, context: sock.sendall(hello(context)[:40]),
    "a byte of its hello now and then": lambda sock, context: trickle(sock, hello(context)),
    "a hello and no more": lambda sock, context: sock.sendall(hello(context)),
    "shaken hands and silent": stay_silent,
}


@pytest.mark.parametrize("stall", STALLS.values(), ids=STALLS.keys())
def test_a_handshake_that_takes_too_long_is_ended(
    start_pgweir: StartPgweir,
    pg18: Postgres,
    certificates: Certificates,
    stall: Callable[[socket.socket, ssl.SSLContext], None],
) -> None:
    weir = start_pgweir(
        pg18, **offering(certificates, "allow"), limits={"client_login_timeout": "1s"}
    )
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.check_hostname = False
    with RawClient(weir.port) as client:
        client.send(packet(struct.pack("!i", SSL_REQUEST)))
        assert client.socket.recv(1) == b"S"
        with contextlib.suppress(ConnectionError):
            stall(client.socket, context)
        client.socket.settimeout(10)
        with contextlib.suppress(ConnectionError):
            while client.socket.recv(4096):
                pass
    assert weir.metric("pgweir_refusals_total", reason="login_timeout") == 1
    assert is_encrypted(weir, "require")


def test_a_handshake_that_is_none_is_refused(
    start_pgweir: StartPgweir, pg18: Postgres, certificates: Certificates
) -> None:
    weir = start_pgweir(pg18, **offering(certificates, "allow"))
    with RawClient(weir.port) as client:
        client.send(packet(struct.pack("!i", SSL_REQUEST)))
        assert client.socket.recv(1) == b"S"
        client.send(b"this is no ClientHello" * 10)
        with pytest.raises((ConnectionResetError, StopIteration)):
            while client.socket.recv(4096):
                pass
            raise StopIteration
    assert is_encrypted(weir, "require")


def test_a_server_that_sends_bytes_behind_its_answer_to_the_ssl_request_is_refused(
    start_pgweir: StartPgweir,
) -> None:
    """CVE-2021-23222: the proxy must hang up, not shake hands over them."""
    hellos: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(5)
                    sock.recv(8)
                    sock.sendall(b"S" + b"E\0\0\0\x05\0")
                    hellos.append(sock.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        place = SimpleNamespace(host="127.0.0.1", port=listener.getsockname()[1])
        # The monitor's own client sends its ClientHello in any case; it must not trust the rest.
        weir = start_pgweir(place, clusters={"main": {"server": {"tls": {"mode": "require"}}}})
        weir.wait_until(lambda: bool(hellos))
        assert weir.http("/readyz")[0] == 503
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


SERVER_MODES = {
    "disable": False,
    "allow": False,
    "prefer": True,
    "require": True,
    "verify-ca": True,
    "verify-full": True,
}


@pytest.mark.parametrize(("mode", "encrypted"), SERVER_MODES.items(), ids=SERVER_MODES.keys())
def test_a_server_connection_is_encrypted_as_the_mode_says(
    start_pgweir: StartPgweir, pg_tls: PostgresWithTls, mode: str, encrypted: bool
) -> None:
    weir = start_pgweir(
        pg_tls, **merged(demanding(pg_tls.certificates, mode), {"auth": {"method": "trust"}})
    )
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert client.value(sql) == ("t" if encrypted else "f")


def test_a_database_has_tls_of_its_own(
    start_pgweir: StartPgweir, pg_tls: PostgresWithTls, tmp_path: Path
) -> None:
    tls = {"mode": "verify-full", "ca": str(pg_tls.certificates.ca)}
    weir = start_pgweir(
        pg_tls,
        auth={"method": "trust"},
        clusters={"main": {"server": {"tls": {"mode": "disable"}}}},
        databases={"safe": {"cluster": "main", "dbname": DATABASE, "server": {"tls": tls}}},
    )
    sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    with (
        RawClient.logged_in(weir.port, APP.name, DATABASE) as plain,
        RawClient.logged_in(weir.port, APP.name, "safe") as safe,
    ):
        assert (plain.value(sql), safe.value(sql)) == ("f", "t")
        file = next(tmp_path.glob("pgweir-*.yaml"))
        file.write_text(file.read_text().replace("mode: verify-full", "mode: disable"))
        weir.send(signal.SIGHUP)
        weir.wait_for_log(" reloaded")
        assert (plain.value(sql), safe.value(sql)) == ("f", "f")


def test_mode_allow_turns_to_tls_when_the_server_insists(
    start_pgweir: StartPgweir, pg_tls: PostgresWithTls
) -> None:
    login = {"user": TLS_USER.name, "password": TLS_USER.password}
    weir = start_pgweir(
        pg_tls,
        **merged(
            demanding(pg_tls.certificates, "allow"),
            {"auth": {"method": "trust"}, "clusters": {"main": {"server": login}}},
        ),
    )
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        assert client.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_server_without_tls_is_not_used_where_it_is_demanded(
    start_pgweir: StartPgweir, pg18: Postgres, certificates: Certificates, mode: str
) -> None:
    weir = start_pgweir(
        pg18,
        **merged(
            demanding(certificates, mode),
            {"auth": {"method": "trust"}, "limits": {"query_wait_timeout": "500ms"}},
        ),
    )
    with RawClient(weir.port) as client:
        client.send(startup(user=APP.name, database=DATABASE))
        *_, last = client.read_to_end()
        assert last.fields["C"] == "08001"


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_server_whose_certificate_another_authority_signed_is_not_used(
    start_pgweir: StartPgweir,
    pg_tls: PostgresWithTls,
    tmp_path_factory: pytest.TempPathFactory,
    mode: str,
) -> None:
    from tests.fixtures.postgres import make_certificates

    others = make_certificates(tmp_path_factory.mktemp("others"))
    weir = start_pgweir(
        pg_tls,
        **merged(
            demanding(others, mode),
            {"auth": {"method": "trust"}, "limits": {"query_wait_timeout": "500ms"}},
        ),
    )
    with RawClient(weir.port) as client:
        client.send(startup(user=APP.name, database=DATABASE))
        *_, last = client.read_to_end()
        assert last.fields["C"] == "08001"


@pytest.fixture(scope="module")
def tls_weir(pg_tls: PostgresWithTls, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A proxy with TLS on both sides."""
    from tests.fixtures.pgweir import configuration, running

    config = configuration(
        pg_tls,
        **merged(
            offering(pg_tls.certificates, "require"),
            demanding(pg_tls.certificates, "verify-full"),
        ),
        databases={DATABASE: {"pool_size": 2}},
    )
    with running(config, tmp_path_factory.mktemp("tls")) as weir:
        yield weir


def connect(weir: Pgweir) -> psycopg.Connection[Any]:
    return psycopg.connect(weir.dsn(), sslmode="require", autocommit=True)


def test_a_large_result_comes_through_tls_on_both_sides(tls_weir: Pgweir) -> None:
    with connect(tls_weir) as connection:
        sql = "SELECT repeat(md5(n::text), 30000) FROM generate_series(1, 40) n"
        lengths = [len(each) for (each,) in connection.execute(sql)]
        assert lengths == [960_000] * 40


def test_many_small_rows_come_through_tls_on_both_sides(tls_weir: Pgweir) -> None:
    with connect(tls_weir) as connection:
        rows = connection.execute("SELECT n FROM generate_series(1, 200000) n").fetchall()
        assert rows[-1] == (200_000,)
        assert len(rows) == 200_000


def test_copy_in_and_out_goes_through_tls(tls_weir: Pgweir) -> None:
    with connect(tls_weir) as connection, connection.transaction():
        cursor = connection.cursor()
        cursor.execute("CREATE TEMP TABLE copied (line text) ON COMMIT DROP")
        lines = [os.urandom(20).hex() for _ in range(100_000)]
        with cursor.copy("COPY copied FROM STDIN") as copy:
            copy.write("\n".join(lines) + "\n")
        with cursor.copy("COPY copied TO STDOUT") as copy:
            out = b"".join(bytes(each) for each in copy).decode().split()
        assert out == lines


def test_a_slow_reader_over_tls_holds_back_its_server_only(tls_weir: Pgweir) -> None:
    pid = tls_weir.process.pid

    def resident_bytes() -> int:
        with open(f"/proc/{pid}/statm") as statm:  # noqa: PTH123
            return int(statm.read().split()[1]) * 4096

    with connect(tls_weir) as slow, connect(tls_weir) as other:
        other.execute("SELECT 1")
        before = resident_bytes()
        slow.pgconn.send_query(b"SELECT repeat('x', 1000000) FROM generate_series(1, 60)")
        assert other.execute("SELECT 'other'").fetchone() == ("other",)
        threading.Event().wait(0.5)
        assert resident_bytes() - before < 16 << 20
        result = slow.pgconn.get_result()
        assert result is not None and result.ntuples == 60
        assert slow.pgconn.get_result() is None


def test_a_cancel_goes_through_tls(tls_weir: Pgweir) -> None:
    with connect(tls_weir) as connection:
        timer = threading.Timer(0.3, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")
        timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_client_that_vanishes_over_tls_leaves_nothing_behind(tls_weir: Pgweir) -> None:
    for _ in range(10):
        connection = connect(tls_weir)
        connection.pgconn.send_query(b"SELECT pg_sleep(60)")
        with socket.socket(fileno=os.dup(connection.fileno())) as own:
            own.shutdown(socket.SHUT_RDWR)
        connection.close()
    with connect(tls_weir) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    tls_weir.wait_until(lambda: tls_weir.metric("pgweir_client_connections") == 0)
