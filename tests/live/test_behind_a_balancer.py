"""A balancer in front: HAProxy with the PROXY protocol, and strangers who pretend to be one."""

import contextlib
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults.raw_client import RawClient, startup
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres

StartPgweir = Callable[..., Pgweir]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    """A proxy that takes everybody on this machine for a balancer."""
    config = configuration(
        pg18,
        auth={"method": "trust"},
        listen={"proxy_protocol_from": ["127.0.0.0/8"]},
        limits={"client_login_timeout": "1s"},
        clusters={"main": {"server": {"user": APP.name, "password": APP.password}}},
    )
    with running(config, tmp_path_factory.mktemp("balanced")) as weir:
        yield weir


@contextlib.contextmanager
def haproxy(target: int, how: str, folder: Path) -> Iterator[int]:
    """Run HAProxy before a port on this machine; the result is its own port."""
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        config = folder / "haproxy.cfg"
        config.write_text(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n"
            "  timeout server 30s\n"
            f"listen balanced\n  bind fd@{listener.fileno()}\n"
            f"  server weir 127.0.0.1:{target} {how}\n"
        )
        process = subprocess.Popen(
            [program, "-db", "-f", str(config)],
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield port
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
def test_haproxys_client_is_known_by_its_own_address(
    weir: Pgweir, tmp_path: Path, how: str
) -> None:
    with haproxy(weir.port, how, tmp_path) as port:
        seen = len(weir.log)
        dsn = f"postgres://{APP.name}@127.0.0.1:{port}/{DATABASE}"
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            with socket.socket(fileno=connection.pgconn.socket) as sock:
                client_port = sock.getsockname()[1]
                sock.detach()
            weir.wait_for_log(rf"client connected.*addr=127\.0\.0\.1:{client_port}\b", since=seen)


def test_a_balancers_health_check_leaves_no_trace(weir: Pgweir, tmp_path: Path) -> None:
    seen = len(weir.log)
    with haproxy(weir.port, "send-proxy-v2 check inter 100ms", tmp_path):
        weir.wait_for_log("client left during its login", since=seen)
    assert not [line for line in weir.log[seen:] if "client refused" in line]


def header_v2(source: str, port: int) -> bytes:
    addresses = socket.inet_aton(source) + bytes(4) + struct.pack("!HH", port, 6432)
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(addresses)) + addresses


@pytest.mark.parametrize(
    "header",
    [b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 6432\r\n", header_v2("192.0.2.9", 4711)],
    ids=["v1", "v2"],
)
def test_a_header_may_come_byte_by_byte_and_together_with_the_startup_packet(
    weir: Pgweir, header: bytes
) -> None:
    seen = len(weir.log)
    hello = startup(user=APP.name, database=DATABASE)
    with RawClient(weir.port) as in_pieces, RawClient(weir.port) as at_once:
        for octet in header:
            in_pieces.send(bytes([octet]))
        in_pieces.send(hello)
        at_once.send(header + hello)
        for client in (in_pieces, at_once):
            client.read_welcome()
            assert client.value("SELECT 1") == "1"
    for _ in range(2):
        line = weir.wait_for_log(r"client connected.*addr=192\.0\.2\.9:4711\b", since=seen)
        seen = weir.log.index(line, seen) + 1


def test_a_balancer_must_send_the_header(weir: Pgweir) -> None:
    with RawClient(weir.port) as client:
        client.send(startup(user=APP.name, database=DATABASE))
        (answer,) = client.read_to_end()
    assert answer.fields["C"] == "08P01"
    assert "PROXY header was expected" in answer.fields["M"]


def test_half_a_header_ends_at_the_deadline(weir: Pgweir) -> None:
    with RawClient(weir.port) as client:
        client.send(SIGNATURE + b"\x21\x11\xff\xff")
        (answer,) = client.read_to_end()
    assert "client_login_timeout" in answer.fields["M"]


@pytest.mark.parametrize(
    "header",
    [b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 6432\r\n", header_v2("192.0.2.9", 4711)],
    ids=["v1", "v2"],
)
def test_from_anybody_else_the_header_is_garbage(
    start_pgweir: StartPgweir, pg18: Postgres, header: bytes
) -> None:
    """Whoever is believed from everywhere can say that he is anybody (CVE-2026-48772)."""
    weir = start_pgweir(pg18)
    with RawClient(weir.port) as client:
        client.send(header + startup(user=APP.name, database=DATABASE))
        (answer,) = client.read_to_end()
    assert answer.fields["C"] == "08P01"
    refused = weir.wait_for_log("client refused")
    assert "192.0.2.9" not in refused
    assert "addr=127.0.0.1:" in refused


def test_a_reload_changes_who_is_a_balancer(
    start_pgweir: StartPgweir, pg18: Postgres, tmp_path: Path
) -> None:
    config = {"auth": {"method": "trust"}, "listen": {"proxy_protocol_from": ["::1"]}}
    weir = start_pgweir(pg18, **config)
    RawClient.logged_in(weir.port, APP.name, DATABASE).close()
    file = next(tmp_path.glob("pgweir-*.yaml"))
    file.write_text(file.read_text().replace("::1", "127.0.0.1/32"))
    weir.send(signal.SIGHUP)
    weir.wait_for_log("reloaded")
    with RawClient(weir.port) as client:
        client.send(startup(user=APP.name, database=DATABASE))
        assert client.read_to_end()[0].fields["C"] == "08P01"


def test_rules_and_delays_go_by_the_address_behind_the_balancer(
    start_pgweir: StartPgweir, pg18: Postgres, tmp_path: Path
) -> None:
    rules = tmp_path / "pg_hba.conf"
    rules.write_text("host all all 192.0.2.0/24 trust\nhost all all 198.51.100.0/24 password\n")
    config = {
        "auth": {"method": "hba", "hba_file": str(rules), "failure_delay": "1h"},
        "listen": {"proxy_protocol_from": ["127.0.0.1"]},
    }
    weir = start_pgweir(pg18, **config)

    def knock(source: str) -> RawClient:
        client = RawClient(weir.port)
        client.send(header_v2(source, 4711) + startup(user=APP.name, database=DATABASE))
        return client

    def guess(source: str) -> RawClient:
        client = knock(source)
        assert client.read() is not None
        client.send(b"p\0\0\0\x0awrong\0")
        return client

    with knock("192.0.2.9") as client:
        client.read_welcome()
    with knock("203.0.113.1") as client:
        (answer,) = client.read_to_end()
        assert answer.fields["C"] == "28000"
        assert "203.0.113.1" in answer.fields["M"]
    with contextlib.ExitStack() as stack:
        for _ in range(25):
            stack.enter_context(guess("198.51.100.1"))
        # Another client of the same balancer is answered at once.
        with guess("198.51.100.2") as client:
            assert client.read_to_end()[-1].fields["C"] == "28P01"
