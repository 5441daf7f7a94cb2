"""One client's bytes must never reach another client's server connection, nor its replies them."""

import struct
import threading
from collections.abc import Callable

import pytest

from tests.faults.raw_client import (
    SYNC,
    RawClient,
    bind,
    close,
    describe,
    execute,
    message,
    parse,
    query,
)
from tests.faults.wire import Scripted, reply, row
from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import APP, DATABASE, Postgres

POOL_OF_ONE = {"databases": {DATABASE: {"pool_size": 1}}, "auth": {"method": "trust"}}


def test_a_server_is_kept_while_a_copy_data_message_is_half_sent(
    start_pgweir: Callable[..., Pgweir], pg18: Postgres
) -> None:
    weir = start_pgweir(pg18, **POOL_OF_ONE)
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as bad:
        # The query ends, the CopyData behind it does not.
        bad.send(query("SELECT 'bad'") + b"d" + struct.pack("!i", 1004) + b"x" * 10)
        bad.read_until(b"Z")
        with RawClient.logged_in(weir.port, APP.name, DATABASE) as good:
            good.send(query("SELECT 'good'"))
            bad.close()
            assert [each.columns for each in good.read_until(b"Z") if each.kind == b"D"] == [
                [b"good"]
            ]


def test_a_server_is_kept_while_a_flush_message_is_half_sent(
    start_pgweir: Callable[..., Pgweir], pg18: Postgres
) -> None:
    weir = start_pgweir(pg18, **POOL_OF_ONE)
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as bad:
        bad.send(query("SELECT 'bad'") + b"H" + struct.pack("!i", 1004) + b"x" * 10)
        bad.read_until(b"Z")
        with RawClient.logged_in(weir.port, APP.name, DATABASE) as good:
            good.send(query("SELECT 'good'"))
            bad.close()
            assert [each.columns for each in good.read_until(b"Z") if each.kind == b"D"] == [
                [b"good"]
            ]


def test_the_rest_of_a_copy_data_message_does_not_reach_the_next_clients_server(
    start_pgweir: Callable[..., Pgweir], pg18: Postgres
) -> None:
    pg18.execute("DROP TABLE IF EXISTS smuggled")
    weir = start_pgweir(pg18, **POOL_OF_ONE)
    smuggled = query("CREATE TABLE smuggled()")
    with (
        RawClient.logged_in(weir.port, APP.name, DATABASE) as bad,
        RawClient.logged_in(weir.port, APP.name, DATABASE) as good,
    ):
        bad.send(query("SELECT 1") + b"d" + struct.pack("!i", 4 + 10 + len(smuggled)) + b"x" * 10)
        bad.read_until(b"Z")
        bad.send(smuggled)
        # Whatever is made of the first client, the second is served, and by its own words only.
        replies = good.ask("SELECT 'good'")
        assert [each.columns for each in replies if each.kind == b"D"] == [[b"good"]]
    assert pg18.value("SELECT to_regclass('smuggled') IS NULL")


def test_the_rest_of_a_query_whose_server_died_does_not_reach_the_next_clients_server(
    start_pgweir: Callable[..., Pgweir], pg18: Postgres
) -> None:
    pg18.execute("DROP TABLE IF EXISTS smuggled")
    weir = start_pgweir(pg18, **POOL_OF_ONE)
    smuggled = query("CREATE TABLE smuggled()")
    size = 20_000 + len(smuggled)
    with (
        RawClient.logged_in(weir.port, APP.name, DATABASE) as bad,
        RawClient.logged_in(weir.port, APP.name, DATABASE) as good,
    ):
        pid = good.value("SELECT pg_backend_pid()")
        bad.send(b"Q" + struct.pack("!i", size + 4) + b" " * 20_000)
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 1)
        pg18.fetch("SELECT pg_terminate_backend($1)", int(pid))
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 0)
        bad.send(smuggled)
        replies = good.ask("SELECT 'good'")
        assert [each.columns for each in replies if each.kind == b"D"] == [[b"good"]]
    assert pg18.value("SELECT to_regclass('smuggled') IS NULL")


def test_a_client_whose_server_died_in_the_middle_of_its_query_goes_on(
    start_pgweir: Callable[..., Pgweir], pg18: Postgres
) -> None:
    weir = start_pgweir(pg18, **POOL_OF_ONE)
    sql = b"SELECT 1 --" + b" " * 40_000 + b"\0"
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        pid = client.value("SELECT pg_backend_pid()")
        whole = message(b"Q", sql)
        client.send(whole[:20_000])
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 1)
        pg18.fetch("SELECT pg_terminate_backend($1)", int(pid))
        assert [each.kind for each in client.read_until(b"Z")] == [b"E", b"Z"]
        client.send(whole[20_000:])
        assert client.value("SELECT 'on'") == "on"


def test_a_message_to_an_idle_server_does_not_make_it_two(
    start_pgweir: Callable[..., Pgweir], pg18: Postgres
) -> None:
    """A ParameterStatus after a reload of the server's configuration, for one."""
    weir = start_pgweir(pg18, **POOL_OF_ONE)
    with (
        RawClient.logged_in(weir.port, APP.name, DATABASE) as one,
        RawClient.logged_in(weir.port, APP.name, DATABASE) as two,
    ):
        one.ask("SELECT 1")
        idle = {"database": DATABASE, "state": "idle"}
        try:
            pg18.execute("ALTER SYSTEM SET timezone = 'Asia/Tokyo'")
            pg18.fetch("SELECT pg_reload_conf()")
            weir.wait_until(
                lambda: pg18.value("SELECT setting FROM pg_settings WHERE name = 'TimeZone'")
                == "Asia/Tokyo"
            )
            assert weir.metric("pgweir_server_connections", **idle) == 1
            one.send(query("SELECT pg_sleep(0.3), 'one'"))
            two.send(query("SELECT pg_sleep(0.1), 'two'"))
            for client, token in ((one, b"one"), (two, b"two")):
                rows = [each.columns[1] for each in client.read_until(b"Z") if each.kind == b"D"]
                assert rows == [token]
        finally:
            pg18.execute("ALTER SYSTEM RESET timezone")
            pg18.fetch("SELECT pg_reload_conf()")


def test_a_notice_to_an_idle_server_does_not_make_it_two(
    start_wired: Callable[..., tuple[object, Pgweir]],
) -> None:
    def script(server: Scripted) -> None:
        server.log_in()
        while (asked := server.read()) is not None:
            if asked.kind == b"Q":
                text = asked.body[:-1].decode()
                server.answer(text)
                if "notice" in text:
                    threading.Event().wait(0.1)  # the proxy has it back in its pool by then
                    server.send(message(b"N", b"SNOTICE\0C00000\0Mhello\0\0"))

    _, weir = start_wired(script, databases={DATABASE: {"pool_size": 1}})
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.ask("notice")
        threading.Event().wait(0.3)
        assert weir.metric("pgweir_server_connections", state="idle") == 1
        assert weir.metric("pgweir_server_connections", state="closing") == 0


def test_half_a_row_sent_to_nobody_is_not_shown_to_the_next_client(
    start_wired: Callable[..., tuple[object, Pgweir]],
) -> None:
    foreign = row("foreign")

    def script(server: Scripted) -> None:
        server.log_in()
        asked = server.read()
        if asked is None or asked.kind != b"Q":
            return
        if asked.body.startswith(b"first"):
            server.send(reply("first") + foreign[:8])
            if server.read() is not None:
                server.send(foreign[8:] + reply("late"))
        else:
            server.answer(asked.body[:-1].decode())
        server.wait_for_end()

    _, weir = start_wired(script, databases={DATABASE: {"pool_size": 1}})
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as first:
        assert first.value("first") == "first"
        with RawClient.logged_in(weir.port, APP.name, DATABASE) as second:
            rows = [each.columns for each in second.ask("second") if each.kind == b"D"]
            assert rows in ([[b"second"]], [])


@pytest.mark.parametrize("reference", ["bind", "describe", "execute", "deallocate", "close"])
def test_our_name_of_a_statement_is_no_name_for_another_client(
    open_weir: Pgweir, reference: str
) -> None:
    """A client that guesses the servers' name of somebody's statement finds nothing behind it."""
    with (
        RawClient.logged_in(open_weir.port, APP.name, DATABASE) as owner,
        RawClient.logged_in(open_weir.port, APP.name, DATABASE) as thief,
    ):
        owner.send(parse("mine", "SELECT 'secret', name FROM pg_prepared_statements") + SYNC)
        owner.read_until(b"Z")
        owner.send(bind("", "mine") + execute() + SYNC)
        rows = [each.columns for each in owner.read_until(b"Z") if each.kind == b"D"]
        ours = next(
            name.decode()
            for (_, name) in rows
            if name is not None and name.startswith(b"_pgweir_")
        )
        attempt = {
            "bind": bind("", ours) + execute() + SYNC,
            "describe": describe("S", ours) + SYNC,
            "execute": query(f'EXECUTE "{ours}"'),
            "deallocate": query(f'DEALLOCATE "{ours}"'),
            "close": close("S", ours) + SYNC,
        }[reference]
        thief.send(attempt)
        answers = thief.read_until(b"Z")
        assert not [each for each in answers if each.kind == b"D" and b"secret" in each.body]
        for _ in range(4):
            owner.send(bind("", "mine") + execute() + SYNC)
            kinds = [each.kind for each in owner.read_until(b"Z")]
            assert b"E" not in kinds


def test_a_client_may_use_names_that_look_like_ours(open_weir: Pgweir) -> None:
    with RawClient.logged_in(open_weir.port, APP.name, DATABASE) as client:
        for number in range(1, 4):
            client.send(parse(f"_pgweir_{number}", f"SELECT 'mine {number}'") + SYNC)
            client.read_until(b"Z")
        for number in range(1, 4):
            client.send(bind("", f"_pgweir_{number}") + execute() + SYNC)
            rows = [each.columns for each in client.read_until(b"Z") if each.kind == b"D"]
            assert rows == [[f"mine {number}".encode()]]


def test_an_error_for_one_client_is_not_put_into_the_middle_of_its_row(
    start_wired: Callable[..., tuple[object, Pgweir]],
) -> None:
    """A row that was cut short must not be completed with the bytes of an error."""
    big = row("x" * 20_000)
    sent = threading.Event()

    def script(server: Scripted) -> None:
        server.log_in()
        if server.read() is not None:
            server.send(big[:-40])
            sent.set()
            server.wait_for_end()

    _, weir = start_wired(script)
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        client.send(query("SELECT"))
        assert sent.wait(5)
        weir.wait_until(lambda: weir.metric("pgweir_bytes_total", direction="sent") > 19_000)
        client.send(b"\x01" + struct.pack("!i", 4))
        assert [each.kind for each in client.read_to_end()] == []
