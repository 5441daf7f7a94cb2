"""Who did what, in a file, from real clients."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres

SIGNALS = [
    (signal.SIGHUP, "RELOAD"),
    (signal.SIGUSR1, "PAUSE"),
    (signal.SIGUSR2, "RESUME"),
]
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    folder = tmp_path_factory.mktemp("audit")
    each = {"cluster": "main", "dbname": DATABASE}
    config = configuration(
        pg18,
        audit={
            "file": str(folder / "audit.log"),
            "rules": [
                {"table": "pg_class", "log": False},
                {"database": "audited", "classes": ["disconnect"]},
                {"database": "audited"},
                {"classes": ["login", "admin"]},
            ],
        },
        auth={
            "users": {"looker": {"password": "looks"}},
            "admins": [APP.name],
            "stats": ["looker"],
        },
        databases={"audited": each, "other": each},
    )
    with running(config, folder) as weir:
        weir.audit = folder / "audit.log"  # type: ignore[attr-defined]
        yield weir


def entries(weir: Pgweir, containing: str) -> list[dict[str, Any]]:
    file: Path = weir.audit  # type: ignore[attr-defined]
    if not file.exists():
        return []
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [entry for entry in found if containing in entry.get("statement", "")]


def happened(weir: Pgweir, kind: str, who: str) -> list[dict[str, Any]]:
    """Entries of this kind of clients that called themselves so."""
    return [
        entry
        for entry in entries(weir, "")
        if entry["kind"] == kind and entry.get("application_name") == who
    ]


def test_every_statement_that_the_rules_choose_has_a_line(weir: Pgweir) -> None:
    for database in ("audited", "other"):
        with psycopg.connect(weir.dsn(database=database), autocommit=True) as client:
            for number in range(100):
                client.execute(f"SELECT {number} AS chosen_one")
            client.execute("SELECT 1 AS not_chosen FROM pg_class")
            client.execute(f"SELECT 1 AS chosen_last /*traceparent='{TRACEPARENT}'*/")
    weir.wait_until(lambda: bool(entries(weir, "chosen_last")))
    assert len(entries(weir, "chosen_one")) == 100
    assert entries(weir, "not_chosen") == []
    assert {entry["database"] for entry in entries(weir, "chosen")} == {"audited"}
    assert entries(weir, "chosen_last")[0]["traceparent"] == TRACEPARENT


def test_what_failed_has_its_sqlstate(weir: Pgweir) -> None:
    with (
        psycopg.connect(weir.dsn(database="audited"), autocommit=True) as client,
        pytest.raises(psycopg.errors.UndefinedTable),
    ):
        client.execute("DELETE FROM nowhere WHERE name = 'hush'")
    weir.wait_until(lambda: bool(entries(weir, "nowhere")))
    (entry,) = entries(weir, "nowhere")
    assert (entry["result"], entry["kind"], entry["tables"]) == ("42P01", "DELETE", ["nowhere"])
    assert "hush" not in json.dumps(entry)


def test_a_login_has_a_line_accepted_or_refused_with_its_reason(weir: Pgweir) -> None:
    with psycopg.connect(weir.dsn(database="other"), application_name="comes in"):
        pass
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(weir.dsn(password="guessed-wrong"), application_name="stays out")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(weir.dsn(database="nowhere"), application_name="goes nowhere")
    weir.wait_until(lambda: bool(happened(weir, "LOGIN", "goes nowhere")))
    (accepted,) = happened(weir, "LOGIN", "comes in")
    (refused,) = happened(weir, "LOGIN", "stays out")
    (lost,) = happened(weir, "LOGIN", "goes nowhere")
    assert (accepted["class"], accepted["result"]) == (["login"], "ok")
    assert (accepted["user"], accepted["database"]) == (APP.name, "other")
    assert accepted["addr"].startswith("127.0.0.1:")
    assert (refused["user"], refused["result"]) == (APP.name, "28P01")
    assert "password authentication failed" in refused["reason"]
    assert (lost["database"], lost["result"]) == ("nowhere", "3D000")
    assert "guessed-wrong" not in weir.audit.read_text()  # type: ignore[attr-defined]


def test_what_is_no_login_at_all_has_a_line_with_its_address(weir: Pgweir) -> None:
    with socket.create_connection((weir.host, weir.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
        address = "{}:{}".format(*stranger.getsockname())
        stranger.recv(1000)

    def of_stranger() -> list[dict[str, Any]]:
        return [entry for entry in entries(weir, "") if entry["addr"] == address]

    weir.wait_until(lambda: bool(of_stranger()))
    (entry,) = of_stranger()
    assert (entry["kind"], entry["result"]) == ("LOGIN", "08P01")
    assert "user" not in entry


def test_a_disconnect_has_a_line_where_a_rule_asks_for_it(weir: Pgweir) -> None:
    for database in ("other", "audited"):
        with psycopg.connect(weir.dsn(database=database), application_name="leaves"):
            pass
    weir.wait_until(lambda: bool(happened(weir, "DISCONNECT", "leaves")))
    (entry,) = happened(weir, "DISCONNECT", "leaves")
    assert (entry["database"], entry["class"]) == ("audited", ["disconnect"])
    assert entry["reason"] == "client said Terminate"
    assert entry["seconds"] >= 0


def test_each_command_at_the_console_has_a_line(weir: Pgweir) -> None:
    with psycopg.connect(
        weir.dsn(database="pgweir"), application_name="admin", autocommit=True
    ) as admin:
        admin.execute("SET default_pool_size = 5")
        admin.execute("SHOW POOLS")
        with pytest.raises(psycopg.Error):
            admin.execute("DISABLE nowhere")
        with pytest.raises(psycopg.Error):
            admin.execute("ALTER ROLE app PASSWORD 'hush hush'")
    with (
        psycopg.connect(
            weir.dsn("looker", "looks", "pgbouncer"), application_name="looker", autocommit=True
        ) as looker,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        looker.execute("SHUTDOWN")
    weir.wait_until(lambda: bool(happened(weir, "SHUTDOWN", "looker")))
    commands = [
        (entry["kind"], entry["statement"], entry["result"])
        for entry in entries(weir, "")
        if entry["class"] == ["admin"]
    ]
    assert commands[:2] == [
        ("SET", "SET default_pool_size = 5", "ok"),
        ("SHOW POOLS", "SHOW POOLS", "ok"),
    ]
    assert commands[2][:2] == ("DISABLE", "DISABLE nowhere")
    assert commands[2][2] != "ok"
    assert commands[3] == ("ALTER", "ALTER ROLE app PASSWORD '…'", "42601")
    assert commands[4] == ("SHUTDOWN", "SHUTDOWN", "42501")
    assert len(commands) == 5


def commands_from(weir: Pgweir, addr: str, count: int) -> list[tuple[str, str, str, str]]:
    """What the first lines say that were asked for from there; so many are waited for."""

    def found() -> list[dict[str, Any]]:
        return [entry for entry in entries(weir, "") if entry["addr"] == addr]

    weir.wait_until(lambda: len(found()) >= count)
    return [
        (entry["kind"], entry["statement"], entry["result"], entry["database"]) for entry in found()
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_signals_and_http_ask_for_has_a_line(
    pg18: Postgres, tmp_path: Path, workers: int
) -> None:
    rules = [{"classes": ["admin"]}]
    audit = {"file": str(tmp_path / "audit.log"), "rules": rules}
    config = configuration(pg18, audit=audit, workers=workers)
    with running(config, tmp_path) as weir:
        weir.audit = tmp_path / "audit.log"  # type: ignore[attr-defined]
        for which, said in SIGNALS:
            weir.send(which)
            assert commands_from(weir, which.name, 1) == [(said, said, "ok", "pgweir")]
        if workers == 1:
            (file,) = tmp_path.glob("pgweir-*.yaml")
            file.write_text(f"{file.read_text()}wat: 1\n")
            weir.send(signal.SIGHUP)
            assert commands_from(weir, "SIGHUP", 2)[1] == ("RELOAD", "RELOAD", "F0000", "pgweir")
        url = f"http://127.0.0.1:{weir.http_port}/drain?after=60"
        with pytest.raises(HTTPError):
            urlopen(Request(url, method="POST", headers={"Origin": "http://x"}), timeout=10)
        urlopen(Request(url, method="POST"), timeout=10).close()
        # Each process writes down what it was asked, when it does.
        assert sorted(commands_from(weir, "127.0.0.1", 2)) == [
            ("DRAIN", "POST /drain?after=60", result, "pgweir") for result in ("403", "ok")
        ]
    assert commands_from(weir, "SIGINT", 1) == [("SHUTDOWN", "SHUTDOWN", "ok", "pgweir")]


def test_lines_are_counted(weir: Pgweir) -> None:
    weir.wait_until(lambda: weir.metric("pgweir_audit_lines_total", result="written") > 0)
    assert weir.metric("pgweir_audit_lines_total", result="dropped") == 0
