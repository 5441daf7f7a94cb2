"""Rules for logins, in force: real drivers come in by every method, or are refused."""

import asyncio
import os
import pwd
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from proxy.embedded import Login
from tests.faults.raw_client import RawClient, startup
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import (
    APP,
    DATABASE,
    MD5_USER,
    PLAIN_USER,
    TRUST_USER,
    Postgres,
)

ACCOUNT = pwd.getpwuid(os.getuid()).pw_name
STRANGER = Login("stranger", "nothing")
LOOPBACK = "127.0.0.0 255.0.0.0"

RULES = f"""
local {DATABASE} {PLAIN_USER.name} trust
local all all peer map=accounts
host {DATABASE} {TRUST_USER.name} 127.0.0.1/32 trust
host {DATABASE} {MD5_USER.name} samehost md5
host {DATABASE} {PLAIN_USER.name} {LOOPBACK} password
host replication all all reject
host nowhere all all trust
host all +banned all reject
host {DATABASE} /^(app|stranger)$ samenet scram-sha-256
"""
MAPS = f"""
accounts {ACCOUNT} {APP.name}
accounts /^({ACCOUNT[:-1]}).$ {TRUST_USER.name}
accounts {ACCOUNT} {STRANGER.name}
accounts other {MD5_USER.name}
"""


def hba_configuration(node: Postgres, folder: Path, rules: str = RULES) -> dict[str, Any]:
    (folder / "hba.conf").write_text(rules)
    (folder / "ident.conf").write_text(MAPS)
    (folder / "run").mkdir(exist_ok=True)
    users = {each.name: {"password": each.password} for each in (MD5_USER, PLAIN_USER)}
    return configuration(
        node,
        listen={"unix_socket_dir": str(folder / "run")},
        auth={
            "method": "hba",
            "failure_delay": 0,
            "hba_file": "hba.conf",
            "ident_file": "ident.conf",
            "groups": {"banned": ["mallory", "+worse"], "worse": ["trudy"]},
            "users": {**users, TRUST_USER.name: {}, "mallory": {"password": "known"}},
        },
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hba")


@pytest.fixture(scope="module")
def weir(pg18: Postgres, folder: Path) -> Iterator[Pgweir]:
    with running(hba_configuration(pg18, folder), folder) as weir:
        yield weir


def log_in(weir: Pgweir, user: Login, folder: Path | None = None, **more: Any) -> str:
    """Come in and ask the server who we are; folder: of the Unix socket."""
    place = weir.dsn(user.name, user.password)
    if folder is not None:
        more["host"] = str(folder / "run")
    with psycopg.connect(place, **more) as connection:
        row = connection.execute("SELECT current_user::text").fetchone()
        assert row is not None
        return str(row[0])


def refusal(weir: Pgweir, user: Login, folder: Path | None = None, **more: Any) -> str:
    """What libpq is told, without the address."""
    with pytest.raises(psycopg.OperationalError) as caught:
        log_in(weir, user, folder, **more)
    return str(caught.value).partition("FATAL:  ")[2].splitlines()[0]


@pytest.mark.parametrize(
    "user", [APP, MD5_USER, PLAIN_USER, TRUST_USER], ids=lambda user: user.name
)
def test_libpq_comes_in_by_the_method_of_its_rule(weir: Pgweir, user: Login) -> None:
    assert log_in(weir, user) == user.name


@pytest.mark.parametrize(
    "user", [APP, MD5_USER, PLAIN_USER, TRUST_USER], ids=lambda user: user.name
)
def test_asyncpg_comes_in_by_the_method_of_its_rule(weir: Pgweir, user: Login) -> None:
    async def ask() -> object:
        connection = await asyncpg.connect(weir.dsn(user.name, user.password))
        try:
            return await connection.fetchval("SELECT current_user::text")
        finally:
            await connection.close()

    assert asyncio.run(ask()) == user.name


@pytest.mark.parametrize(
    ("user", "asked"),
    [(APP, 10), (MD5_USER, 5), (PLAIN_USER, 3), (TRUST_USER, 0), (STRANGER, 10)],
    ids=lambda each: getattr(each, "name", None),
)
def test_what_is_asked_for_is_what_the_rule_says(weir: Pgweir, user: Login, asked: int) -> None:
    with RawClient(weir.port) as client:
        client.send(startup(user=user.name, database=DATABASE))
        first = client.read()
        assert first is not None
        assert (first.kind, int.from_bytes(first.body[:4])) == (b"R", asked)


@pytest.mark.parametrize("user", [APP, MD5_USER, PLAIN_USER], ids=lambda user: user.name)
def test_a_wrong_password_is_refused_by_every_method(weir: Pgweir, user: Login) -> None:
    said = refusal(weir, Login(user.name, "wrong"))
    assert said == f'password authentication failed for user "{user.name}"'


def test_who_does_not_exist_is_refused_in_the_words_for_a_wrong_password(weir: Pgweir) -> None:
    wrong = refusal(weir, Login(APP.name, "wrong"))
    assert refusal(weir, STRANGER) == wrong.replace(APP.name, STRANGER.name)


@pytest.mark.parametrize("name", ["mallory", "trudy"])
def test_a_rejection_does_not_tell_who_exists(weir: Pgweir, name: str) -> None:
    assert refusal(weir, Login(name, "known")) == (
        f'pg_hba.conf rejects connection for host "127.0.0.1", user "{name}", '
        f'database "{DATABASE}", no encryption'
    )


def test_without_a_rule_nobody_comes_in(weir: Pgweir) -> None:
    assert refusal(weir, APP, dbname="elsewhere") == (
        'no pg_hba.conf entry for host "127.0.0.1", user "app", database "elsewhere", no encryption'
    )
    assert "sqlstate=28000" in weir.wait_for_log("client refused.*elsewhere")
    assert weir.metric("pgweir_refusals_total", reason="not_allowed") >= 1


def test_replication_needs_a_rule_of_its_own(weir: Pgweir) -> None:
    assert refusal(weir, APP, replication="true") == (
        'pg_hba.conf rejects replication connection for host "127.0.0.1", user "app", no encryption'
    )


def test_trust_is_for_users_who_exist(weir: Pgweir) -> None:
    assert refusal(weir, STRANGER, dbname="nowhere").endswith('failed for user "stranger"')


def test_the_account_at_a_unix_socket_is_the_user_it_maps_to(weir: Pgweir, folder: Path) -> None:
    assert log_in(weir, Login(APP.name, ""), folder) == APP.name


def test_a_pattern_maps_accounts(weir: Pgweir, folder: Path) -> None:
    assert log_in(weir, TRUST_USER, folder) == TRUST_USER.name


@pytest.mark.parametrize("user", [MD5_USER, STRANGER, Login("nobody", "")], ids=lambda u: u.name)
def test_an_account_is_nobody_else(weir: Pgweir, folder: Path, user: Login) -> None:
    assert refusal(weir, user, folder) == f'Peer authentication failed for user "{user.name}"'


def test_a_rule_before_holds_for_unix_sockets_too(weir: Pgweir, folder: Path) -> None:
    assert log_in(weir, Login(PLAIN_USER.name, ""), folder) == PLAIN_USER.name


def test_asyncpg_comes_in_by_its_account(weir: Pgweir, folder: Path) -> None:
    async def ask() -> object:
        connection = await asyncpg.connect(
            host=str(folder / "run"), port=weir.port, user=APP.name, database=DATABASE
        )
        try:
            return await connection.fetchval("SELECT current_user::text")
        finally:
            await connection.close()

    assert asyncio.run(ask()) == APP.name


def test_the_log_says_which_rule_refused(weir: Pgweir, folder: Path) -> None:
    seen = len(weir.log)
    refusal(weir, Login(PLAIN_USER.name, "wrong"))
    line = weir.wait_for_log("login refused.*wrong password", since=seen)
    number = RULES.split("\n").index(f"host {DATABASE} {PLAIN_USER.name} {LOOPBACK} password") + 1
    assert re.search(rf"rule={re.escape(str(folder))}/hba.conf:{number}\b", line)


def test_rules_hold_after_a_reload_and_wrong_ones_do_not(pg18: Postgres, tmp_path: Path) -> None:
    config = hba_configuration(pg18, tmp_path)
    with running(config, tmp_path) as weir:
        assert log_in(weir, APP) == APP.name
        (tmp_path / "hba.conf").write_text("host all all all trsut\n")
        weir.send(signal.SIGHUP)
        said = weir.wait_for_log("not reloaded")
        assert f"{tmp_path}/hba.conf:1: (rule): " in said
        assert log_in(weir, APP) == APP.name
        (tmp_path / "hba.conf").write_text(f"host all {TRUST_USER.name} all trust\n")
        weir.send(signal.SIGHUP)
        weir.wait_for_log(" reloaded ")
        assert log_in(weir, TRUST_USER) == TRUST_USER.name
        assert refusal(weir, APP).startswith("no pg_hba.conf entry for host")
