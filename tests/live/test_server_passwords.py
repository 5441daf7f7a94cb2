"""How the proxy comes by the passwords of server users, and what happens when they change."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faults.raw_client import RawClient, startup
from tests.fixtures.pgweir import Pgweir, configuration
from tests.fixtures.postgres import APP, DATABASE, MONITOR, PLAIN_USER, TRUST_USER, Postgres

StartPgweir = Callable[..., Pgweir]

CLOUD_USER = "cloud_user"
# Pools of their own, all with the same server user.
EVERYBODY = {"method": "trust", "users": {"somebody": {}, "a-new-pool": {}}}


@pytest.fixture
def give_token(pg18: Postgres) -> Iterator[Callable[[str], None]]:
    """Change the password of the cloud user, whose role is there for this test."""
    pg18.execute(f"CREATE ROLE {CLOUD_USER} LOGIN")
    yield lambda token: pg18.execute(f"ALTER ROLE {CLOUD_USER} PASSWORD '{token}'")
    pg18.execute(f"DROP ROLE {CLOUD_USER}")


def with_command(pg18: Postgres, script: str, *arguments: object) -> dict[str, Any]:
    """A proxy whose server user, and so its monitor, has what a script prints."""
    config = configuration(pg18, auth=EVERYBODY)
    command = ["/bin/sh", "-c", script, "sh", *map(str, arguments)]
    config["clusters"]["main"]["server"] = {"user": CLOUD_USER, "password_command": command}
    config["clusters"]["main"]["monitor"] = {"interval": "200ms"}
    return config


def user_seen(weir: Pgweir, database: str = DATABASE, user: str = APP.name) -> str:
    with RawClient.logged_in(weir.port, user, database) as client:
        return client.value("SELECT current_user")


def test_each_database_may_have_a_server_user_of_its_own(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    def served_as(**server: object) -> dict[str, object]:
        return {"cluster": "main", "dbname": DATABASE, "server": server}

    config = configuration(
        pg18,
        clusters={"main": {"server": {"user": APP.name, "password": APP.password}}},
        databases={
            "plain": served_as(user=PLAIN_USER.name, password=PLAIN_USER.password),
            "printed": served_as(
                user=MONITOR.name, password_command=["/bin/echo", MONITOR.password]
            ),
            "trusted": served_as(user=TRUST_USER.name),
        },
    )
    weir = start_pgweir(config)
    seen = []
    for database in (DATABASE, "plain", "printed", "trusted"):
        with psycopg.connect(weir.dsn(database=database)) as connection:
            row = connection.execute("SELECT current_user::text").fetchone()
            assert row is not None
            seen.append(row[0])
    assert seen == [APP.name, PLAIN_USER.name, MONITOR.name, TRUST_USER.name]


def test_a_command_is_run_again_when_what_it_printed_is_refused(
    start_pgweir: StartPgweir,
    pg18: Postgres,
    tmp_path: Path,
    give_token: Callable[[str], None],
) -> None:
    token, runs = tmp_path / "token", tmp_path / "runs"
    give_token("token-of-today")
    token.write_text("token-of-today\n")
    weir = start_pgweir(with_command(pg18, 'echo run >> "$2"; cat "$1"', token, runs))
    assert user_seen(weir) == CLOUD_USER
    assert user_seen(weir, user="somebody") == CLOUD_USER
    # One for the monitor and all pools.
    assert runs.read_text() == "run\n"
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        before = client.value("SELECT pg_backend_pid()")
        give_token("token-of-tomorrow")
        token.write_text("token-of-tomorrow\n")
        assert user_seen(weir, user="a-new-pool") == CLOUD_USER
        # What was opened with the token of today goes on.
        assert client.value("SELECT pg_backend_pid()") == before
    assert runs.read_text() == "run\n" * 2
    assert not [line for line in weir.log if "token-of" in line]


def test_a_monitor_whose_password_is_refused_asks_for_another(
    start_pgweir: StartPgweir,
    pg18: Postgres,
    tmp_path: Path,
    give_token: Callable[[str], None],
) -> None:
    token = tmp_path / "token"
    token.write_text("not-yet\n")
    give_token("right")
    weir = start_pgweir(with_command(pg18, 'cat "$1"', token))
    weir.wait_for_log("28P01")
    token.write_text("right\n")
    watching = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"
    # Nobody else has this user here.
    weir.wait_until(lambda: pg18.value(watching, CLOUD_USER) == 1)
    assert user_seen(weir) == CLOUD_USER


def test_a_command_that_fails_is_told_and_tried_again(
    start_pgweir: StartPgweir,
    pg18: Postgres,
    tmp_path: Path,
    give_token: Callable[[str], None],
) -> None:
    token = tmp_path / "token"
    give_token("right")
    config = with_command(pg18, 'cat "$1"', token)
    config["clusters"]["main"]["monitor"] = {"user": MONITOR.name, "password": MONITOR.password}
    weir = start_pgweir(config)
    with RawClient(weir.port) as client:
        client.send(startup(user=APP.name, database=DATABASE))
        weir.wait_for_log("cannot connect to server.*/bin/sh ended with status 1")
        token.write_text("right")
        client.read_welcome()
        assert client.value("SELECT current_user") == CLOUD_USER


def test_a_password_file_is_read_at_each_login(
    start_pgweir: StartPgweir,
    pg18: Postgres,
    tmp_path: Path,
    give_token: Callable[[str], None],
) -> None:
    file = tmp_path / "password"
    give_token("one")
    file.write_text("one\n")
    config = configuration(pg18, auth=EVERYBODY)
    config["clusters"]["main"]["server"] = {"user": CLOUD_USER, "password_file": str(file)}
    weir = start_pgweir(config)
    with RawClient.logged_in(weir.port, APP.name, DATABASE) as client:
        before = client.value("SELECT pg_backend_pid()")
        give_token("two")
        file.write_text("two\n")
        assert user_seen(weir, user="a-new-pool") == CLOUD_USER
        weir.wait_for_log("passwords read again")
        assert client.value("SELECT pg_backend_pid()") == before


def test_a_node_that_asks_for_less_than_require_auth_is_left(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    """As one does that stands in the node's place and hopes for the password."""
    config = configuration(pg18, auth=EVERYBODY)
    strict = {"user": TRUST_USER.name, "password": "secret", "require_auth": ["scram-sha-256"]}
    config["clusters"]["main"]["server"] = strict
    lax = {**strict, "require_auth": ["scram-sha-256", "none"]}
    config["databases"]["lax"] = {"cluster": "main", "dbname": DATABASE, "server": lax}
    weir = start_pgweir(config)
    assert user_seen(weir, "lax") == TRUST_USER.name
    with RawClient(weir.port) as client:
        client.send(startup(user=APP.name, database=DATABASE))
        weir.wait_for_log("lets us in without a login, and server.require_auth has scram-sha-256")
