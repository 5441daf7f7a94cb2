"""What a host name resolves to may change, or fail, while the proxy runs.

The program is given a resolver of the test's: a file has the addresses of the one name it knows. It
runs on asyncio's own loop, as uvloop's asks the system directly.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.raw_client import RawClient, query
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres

NAME = "primary.invalid"
RESOLVING_BY_FILE = f"""
import asyncio, socket, sys, uvloop
from pathlib import Path
from proxy.cli import main

zone, by_the_system = Path(sys.argv.pop(1)), socket.getaddrinfo

def getaddrinfo(host, port, *more, **named):
    if host != {NAME!r}:
        return by_the_system(host, port, *more, **named)
    if named.get("flags", 0) & socket.AI_NUMERICHOST:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    found = zone.read_text().split()
    if not found:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return [each for address in found for each in by_the_system(address, port, *more, **named)]

socket.getaddrinfo, uvloop.run = getaddrinfo, asyncio.run
main()
"""

SOMEBODY_ELSE = "127.0.0.2"  # nobody listens there


@pytest.fixture
def zone(tmp_path: Path, pg18: Postgres) -> Path:
    """The file with the addresses of `NAME`."""
    zone = tmp_path / "zone"
    zone.write_text(pg18.host)
    return zone


@pytest.fixture
def weir(pg18: Postgres, tmp_path: Path, zone: Path) -> Iterator[Pgweir]:
    config = configuration(
        pg18,
        auth={"method": "trust"},
        clusters={"main": {"nodes": [{"name": "db1", "host": NAME, "port": pg18.port}]}},
        databases={DATABASE: {"server_login_retry": "100ms"}},
    )
    with running(config, tmp_path, program=["-c", RESOLVING_BY_FILE, str(zone)]) as weir:
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 1)
        yield weir


@pytest.mark.parametrize("answer", [SOMEBODY_ELSE, ""], ids=["another address", "a failure"])
def test_another_answer_leaves_open_connections_alone_and_is_for_new_ones(
    weir: Pgweir, pg18: Postgres, zone: Path, answer: str
) -> None:
    def enter() -> RawClient:
        return RawClient.logged_in(weir.port, APP.name, DATABASE)

    with enter() as first, enter() as second, enter() as third:
        first.ask("BEGIN")
        server = first.value("SELECT pg_backend_pid()")
        zone.write_text(answer)
        line = len(weir.log)
        second.send(query("SELECT 'served'"))
        weir.wait_for_log("cannot connect to server", since=line)
        assert first.value("SELECT pg_backend_pid()") == server
        assert weir.metric("pgweir_node_up") == 1
        first.ask("COMMIT")
        # The one connection there is goes from client to client.
        assert [each.columns for each in second.read_until(b"Z") if each.kind == b"D"]
        assert third.value("SELECT pg_backend_pid()") == server
        first.ask("BEGIN")
        assert first.value("SELECT pg_backend_pid()") == server
        zone.write_text(pg18.host)
        assert second.value("SELECT pg_backend_pid()") != server
        first.ask("COMMIT")


def test_of_several_addresses_one_that_answers_is_used(
    weir: Pgweir, pg18: Postgres, zone: Path
) -> None:
    zone.write_text(f"{SOMEBODY_ELSE} {pg18.host}")
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        assert client.value("SELECT 'served'") == "served"
