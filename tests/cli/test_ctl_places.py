"""Where `pgweir ctl` finds the console, and what it makes of a shell's words."""

import socket
import threading
from typing import Any

import click
import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.cli.ctl import place_of, text_of
from proxy.config import parse

REST = (
    "clusters: {main: {nodes: [{host: h}], monitor: {user: m}}}\ndatabases: {a: {cluster: main}}\n"
)
USERS = (
    "auth: {users: {app: {password: x}, ops: {password: geheim}, eye: {password: y}},"
    " admins: [ops], stats: [eye]}\n"
)


def place(text: str) -> Any:
    return place_of(parse(text + REST, {}, file="pgweir.yaml"))


def test_the_first_administrator_logs_in_where_clients_do() -> None:
    assert place(USERS) == {
        "host": "127.0.0.1",
        "port": 6432,
        "database": "pgweir",
        "ssl": "disable",
        "user": "ops",
        "password": "geheim",
    }


@pytest.mark.parametrize(
    ("host", "wanted"),
    [("'*'", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("'::'", "::1"), ("10.0.0.1", "10.0.0.1")],
)
def test_every_address_is_reached_by_the_nearest(host: str, wanted: str) -> None:
    assert place(f"listen: {{host: {host}, port: 7000}}\n{USERS}")["host"] == wanted


@pytest.mark.parametrize(
    "auth",
    [
        "auth: {users: {ops: {password: md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}, admins: [ops]}\n",
        "auth: {users: {app: {password: x}}}\n",
    ],
)
def test_without_a_password_in_plain_there_is_nobody_to_log_in_as(auth: str) -> None:
    with pytest.raises(click.UsageError, match="PGWEIR_URL"):
        place(auth)


def test_who_is_trusted_needs_no_password() -> None:
    assert place("auth: {method: trust, admins: [ops]}\n")["user"] == "ops"


def test_without_a_password_the_unix_socket_will_do() -> None:
    place_there = place("listen: {unix_socket_dir: /tmp}\n")
    assert (place_there["host"], place_there["user"]) == ("/tmp", "pgweir")


def test_a_port_that_the_kernel_chooses_is_not_known() -> None:
    with pytest.raises(click.UsageError, match="where clients connect"):
        place("listen: {port: 0}\n" + USERS)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["show pools"], "show pools"),
        (["show", "pools"], "show pools"),
        (["pause", "my db"], 'pause "my db"'),
        (["set", "server_check_query", "=", "select 2"], 'set server_check_query = "select 2"'),
        (["failover", "main", "to", "10.0.0.1:5432"], "failover main to 10.0.0.1:5432"),
    ],
)
def test_words_become_a_command(words: list[str], text: str) -> None:
    assert text_of(words) == text


def test_whatever_else_answers_there_is_told_in_a_line() -> None:
    def talk_nonsense() -> None:
        peer, _ = door.accept()
        with peer:
            peer.recv(1)
            # An authentication request that is too short.
            peer.sendall(b"R\0\0\0\5\0")

    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=talk_nonsense)
        thread.start()
        url = f"postgres://ops:x@127.0.0.1:{door.getsockname()[1]}/pgweir?sslmode=disable"
        done = CliRunner().invoke(main, ["ctl", "show", "pools"], env={"PGWEIR_URL": url})
        thread.join()
    assert done.exit_code == 1
    assert done.stderr.startswith("pgweir ctl: cannot reach the console: ")


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "said"),
    [
        (["show", "pools"], {"PGWEIR_URL": None}, 2, "PGWEIR_URL"),
        ([], {"PGWEIR_URL": None}, 2, "COMMAND"),
        (["-c", "/nowhere.yaml", "show", "pools"], {"PGWEIR_URL": None}, 2, "/nowhere.yaml"),
        (
            ["show", "pools"],
            {"PGWEIR_URL": "postgres://ops:x@127.0.0.1:1/pgweir"},
            1,
            "cannot reach",
        ),
    ],
)
def test_exit_codes_tell_usage_from_failure(
    arguments: list[str], environ: dict[str, str | None], code: int, said: str
) -> None:
    done = CliRunner().invoke(main, ["ctl", *arguments], env=environ)
    assert done.exit_code == code
    assert said in done.stderr
