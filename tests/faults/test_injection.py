"""One client's bytes must never reach another client's server connection, nor its replies them."""

import struct
import threading
from collections.abc import Callable
from functools import partial

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
from tests.faults.stage import Stage
from tests.faults.wire import Scripted, Wire, reply, row
from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import APP, DATABASE, Postgres
from tests.live.conversation import SERVER_STATEMENTS


def test_a_server_is_kept_while_a_copy_data_message_is_half_sent(
    wired: tuple[Wire, Pgweir],
) -> None:
    _, weir = wired
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
    wired: tuple[Wire, Pgweir],
) -> None:
    _, weir = wired
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as bad:
        bad.send(query("SELECT 'bad'") + b"H" + struct.pack("!i", 1004) + b"x" * 10)
        bad.read_until(b"Z")
        with RawClient.logged_in(weir.port, APP.name, DATABASE) as good:
            good.send(query("SELECT 'good'"))
            bad.close()
            assert [each.columns for each in good.read_until(b"Z") if each.kind == b"D"] == [
                [b"good"]
            ]


VICTIM = query("SELECT 'good'")
# The victim's own bytes come to lie over the first of these.
# Longer than max_statement_bytes: what is shorter is sent on only when all of it is here.
LONG = 1_100_000
LEFT_OVER = b" " * len(VICTIM) + query("CREATE TABLE smuggled()")


def test_the_rest_of_a_copy_data_message_does_not_reach_the_next_clients_server(
    wired: tuple[Wire, Pgweir],
) -> None:
    requests: list[bytes] = []
    wire, weir = wired
    wire.on_request = noted(requests)
    with (
        RawClient.logged_in(weir.port, APP.name, DATABASE) as bad,
        RawClient.logged_in(weir.port, APP.name, DATABASE) as good,
    ):
        head = b"d" + struct.pack("!i", 4 + 10 + len(LEFT_OVER)) + b"x" * 10
        bad.send(query("SELECT 1") + head)
        bad.read_until(b"Z")
        bad.send(LEFT_OVER)
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 0)
        good.send(VICTIM)
        weir.wait_until(lambda: any(VICTIM[:-1] in each for each in requests))
    assert b"".join(requests).count(VICTIM) == 1


def test_the_rest_of_a_query_whose_server_died_does_not_reach_the_next_clients_server(
    wired: tuple[Wire, Pgweir],
) -> None:
    requests: list[bytes] = []
    wire, weir = wired
    wire.on_request = noted(requests)
    with (
        RawClient.logged_in(weir.port, APP.name, DATABASE) as bad,
        RawClient.logged_in(weir.port, APP.name, DATABASE) as good,
    ):
        bad.send(b"Q" + struct.pack("!i", 4 + LONG + len(LEFT_OVER)) + b" " * LONG)
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 1)
        wire.cut()
        bad.read_until(b"Z")
        requests.clear()
        before = weir.metric("pgweir_bytes_total", direction="received")
        bad.send(LEFT_OVER)
        weir.wait_until(
            lambda: (
                weir.metric("pgweir_bytes_total", direction="received") == before + len(LEFT_OVER)
            )
        )
        replies = good.ask("SELECT 'good'")
        assert [each.columns for each in replies if each.kind == b"D"] == [[b"good"]]
    spoken = b"".join(each for each in requests if not each.startswith((b"p", b"X")))
    assert spoken == VICTIM


def noted(requests: list[bytes]) -> Callable[[bytes], bool]:
    """A tap that keeps what the proxy sends and lets it pass."""

    def note(octets: bytes) -> bool:
        requests.append(octets)
        return True

    return note


def test_a_client_whose_server_died_in_the_middle_of_its_query_goes_on(
    wired: tuple[Wire, Pgweir], pg18: Postgres
) -> None:
    _, weir = wired
    sql = b"SELECT 1 --" + b" " * 2 * LONG + b"\0"
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        pid = client.value("SELECT pg_backend_pid()")
        whole = message(b"Q", sql)
        client.send(whole[:LONG])
        weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 1)
        pg18.fetch("SELECT pg_terminate_backend($1)", int(pid))
        assert [each.kind for each in client.read_until(b"Z")] == [b"E", b"Z"]
        client.send(whole[LONG:])
        assert client.value("SELECT 'on'") == "on"


def test_a_notice_to_an_idle_server_does_not_make_it_two(
    stage: Stage,
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

    database = stage.play(script)
    with stage.client_of(database) as client:
        client.ask("notice")
        threading.Event().wait(0.3)
        gauge = partial(stage.weir.metric, "pgweir_server_connections", database=database)
        assert gauge(state="idle") == 1
        assert gauge(state="closing") == 0


def test_half_a_row_sent_to_nobody_is_not_shown_to_the_next_client(
    stage: Stage,
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

    database = stage.play(script)
    with stage.client_of(database) as first:
        assert first.value("first") == "first"
        with stage.client_of(database) as second:
            rows = [each.columns for each in second.ask("second") if each.kind == b"D"]
            assert rows in ([[b"second"]], [])


@pytest.mark.parametrize("reference", ["bind", "describe", "deallocate", "close"])
def test_our_name_of_a_statement_is_no_name_for_another_client(
    open_weir: Pgweir, reference: str
) -> None:
    """A client that guesses the servers' name of somebody's statement finds nothing behind it."""
    secret = f"secret-{reference}"
    with (
        RawClient.logged_in(open_weir.port, APP.name, DATABASE) as owner,
        RawClient.logged_in(open_weir.port, APP.name, DATABASE) as thief,
    ):
        sql = f"SELECT name FROM {SERVER_STATEMENTS} WHERE statement LIKE '%{secret}%'"
        owner.send(parse("mine", sql) + SYNC)
        owner.read_until(b"Z")
        owner.send(bind("", "mine") + execute() + SYNC)
        rows = [each.columns for each in owner.read_until(b"Z") if each.kind == b"D"]
        (ours,) = [name.decode() for (name,) in rows if name is not None]
        attempt = {
            "bind": bind("", ours) + execute() + SYNC,
            "describe": describe("S", ours) + SYNC,
            "deallocate": query(f'DEALLOCATE "{ours}"'),
            "close": close("S", ours) + SYNC,
        }[reference]
        thief.send(attempt)
        answers = thief.read_until(b"Z")
        assert [each for each in answers if each.kind == b"D"] == []
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
    stage: Stage,
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

    received = partial(stage.weir.metric, "pgweir_bytes_total", direction="sent")
    with stage.enter(script) as client:
        before = received()
        client.send(query("SELECT"))
        assert sent.wait(5)
        stage.weir.wait_until(lambda: received() > before + 19_000)
        client.send(b"\x01" + struct.pack("!i", 4))
        assert [each.kind for each in client.read_to_end()] == []
