"""SIGHUP: the configuration is read again, and nobody who is connected notices."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.fixtures.pgweir import Pgweir, configuration, merged, running
from tests.fixtures.postgres import APP, DATABASE, MD5_USER, Postgres


@pytest.fixture
def reloadable(pg18: Postgres, tmp_path: Path) -> Iterator[tuple[Pgweir, Path, dict[str, object]]]:
    config = configuration(pg18)
    with running(config, tmp_path) as weir:
        yield weir, next(tmp_path.glob("pgweir-*.yaml")), config


def reload(weir: Pgweir, path: Path, config: dict[str, object], outcome: str = " reloaded ") -> str:
    path.write_text(yaml.safe_dump(config))
    seen = len(weir.log)
    weir.send(signal.SIGHUP)
    return weir.wait_for_log(outcome, since=seen)


def test_a_user_added_by_a_reload_can_log_in(
    reloadable: tuple[Pgweir, Path, dict[str, object]],
) -> None:
    weir, path, config = reloadable
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(weir.dsn(MD5_USER.name, MD5_USER.password))
    users = {"auth": {"users": {MD5_USER.name: {"password": MD5_USER.password}}}}
    reload(weir, path, merged(config, users))
    with psycopg.connect(weir.dsn(MD5_USER.name, MD5_USER.password)) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (MD5_USER.name,)


def test_a_transaction_survives_a_reload(
    reloadable: tuple[Pgweir, Path, dict[str, object]],
) -> None:
    weir, path, config = reloadable
    with psycopg.connect(weir.dsn()) as connection:
        before = connection.execute("SELECT pg_backend_pid()").fetchone()
        reload(weir, path, merged(config, {"databases": {DATABASE: {"pool_size": 2}}}))
        assert connection.execute("SELECT pg_backend_pid()").fetchone() == before


def test_a_pool_mode_changed_by_a_reload_holds(
    reloadable: tuple[Pgweir, Path, dict[str, object]],
) -> None:
    weir, path, config = reloadable
    with psycopg.connect(weir.dsn(), autocommit=True) as connection:
        connection.execute("SELECT 1")
        assert weir.metric("pgweir_server_connections", state="active") == 0
        reload(weir, path, merged(config, {"databases": {DATABASE: {"pool_mode": "session"}}}))
        connection.execute("SELECT 1")
        assert weir.metric("pgweir_server_connections", state="active") == 1


def test_a_wrong_file_is_refused_whole(
    reloadable: tuple[Pgweir, Path, dict[str, object]],
) -> None:
    weir, path, config = reloadable
    line = reload(weir, path, {**config, "limitz": {}}, r"not reloaded: .*limitz")
    assert f"{path}:" in line
    with psycopg.connect(weir.dsn()) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (APP.name,)


def test_what_needs_a_restart_is_named(
    reloadable: tuple[Pgweir, Path, dict[str, object]],
) -> None:
    weir, path, config = reloadable
    line = reload(weir, path, merged(config, {"listen": {"backlog": 77}}))
    assert "needs_restart=listen.backlog" in line
