"""Passwords change while the proxy runs, and nobody is locked out or disconnected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration
from tests.fixtures.postgres import APP, DATABASE, MD5_USER, Postgres

StartPgweir = Callable[..., Pgweir]

SERVED_AS: dict[str, Any] = {
    "clusters": {"main": {"server": {"user": APP.name, "password": APP.password}}}
}


def can_log_in(weir: Pgweir, password: str, user: str = APP.name) -> bool:
    try:
        psycopg.connect(weir.dsn(user, password)).close()
    except psycopg.OperationalError as error:
        assert "authentication failed" in str(error)
        return False
    return True


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_the_old_password_is_as_good_as_the_new_one(
    start_pgweir: StartPgweir, pg18: Postgres, method: str
) -> None:
    user = {"password": "new", "old_password": "old"}
    weir = start_pgweir(pg18, auth={"method": method, "users": {APP.name: user}}, **SERVED_AS)
    assert [can_log_in(weir, each) for each in ("new", "old", "other")] == [True, True, False]


def test_a_server_that_has_the_old_password_is_logged_in_to(
    start_pgweir: StartPgweir, pg18: Postgres
) -> None:
    user = {"password": "not-yet-at-the-server", "old_password": APP.password}
    weir = start_pgweir(pg18, auth={"users": {APP.name: user}})
    with psycopg.connect(weir.dsn(password="not-yet-at-the-server")) as connection:
        assert connection.execute("SELECT current_user::text").fetchone() == (APP.name,)


def test_a_password_file_that_changes_is_read_again(
    start_pgweir: StartPgweir, pg18: Postgres, tmp_path: Path
) -> None:
    file, old_file = tmp_path / "password", tmp_path / "old_password"
    file.write_text("one\n")
    old_file.write_text("")
    config = configuration(pg18, **SERVED_AS)
    files = {"password_file": str(file), "old_password_file": str(old_file)}
    config["auth"]["users"] = {APP.name: files}
    config["auth"]["failure_delay"] = 0
    weir = start_pgweir(config)
    with psycopg.connect(weir.dsn(password="one")) as connection:
        connection.execute("BEGIN")
        # As an orchestrator does it: another file takes its place.
        for target, content in ((old_file, "one"), (file, "two")):
            (tmp_path / "new").write_text(content)
            (tmp_path / "new").rename(target)
        weir.wait_until(lambda: can_log_in(weir, "two"))
        assert can_log_in(weir, "one")
        old_file.write_text("")
        weir.wait_until(lambda: not can_log_in(weir, "one"))
        weir.wait_for_log("passwords read again")
        file.unlink()
        weir.wait_for_log("passwords cannot be read.*the old ones stay")
        assert can_log_in(weir, "two")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_userlist_that_changes_is_read_again_and_an_edit_under_way_is_not(
    start_pgweir: StartPgweir, pg18: Postgres, tmp_path: Path
) -> None:
    userlist = tmp_path / "userlist.txt"
    userlist.write_text(f'"{APP.name}" "{APP.password}"\n')
    config = configuration(pg18)
    config["auth"] = {"users": {}, "userlist_file": str(userlist), "failure_delay": 0}
    weir = start_pgweir(config)
    assert not can_log_in(weir, MD5_USER.password, MD5_USER.name)
    file = next(tmp_path.glob("pgweir-*.yaml"))
    file.write_text(file.read_text() + "half: an edit\n")
    userlist.write_text(f'"{MD5_USER.name}" "{MD5_USER.password}"\n')
    weir.wait_until(lambda: can_log_in(weir, MD5_USER.password, MD5_USER.name))
    assert not can_log_in(weir, APP.password)


def test_the_servers_and_the_monitors_password_files_are_read_again(
    start_pgweir: StartPgweir, pg18: Postgres, tmp_path: Path
) -> None:
    pg18.execute("CREATE ROLE changing LOGIN PASSWORD 'first'")
    try:
        file = tmp_path / "password"
        file.write_text("first")
        config = configuration(pg18, auth={"method": "trust"})
        main = config["clusters"]["main"]
        main["server"] = {"user": "changing", "password_file": str(file)}
        main["monitor"] = {"interval": "200ms"}
        config["limits"] = {"server_lifetime": 0}
        weir = start_pgweir(config)
        dsn = f"postgres://{APP.name}@127.0.0.1:{weir.port}/{DATABASE}"
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT current_user::text").fetchone() == ("changing",)
        pg18.execute("ALTER ROLE changing PASSWORD 'second'")
        file.write_text("second")
        weir.wait_for_log("passwords read again")
        pg18.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'changing'"
        )
        weir.wait_until(lambda: weir.http("/readyz")[0] == 200)
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT current_user::text").fetchone() == ("changing",)
    finally:
        pg18.execute("DROP ROLE changing")
