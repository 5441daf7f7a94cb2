"""Logins that a directory judges."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faults.raw_client import RawClient, message, startup
from tests.fixtures.pgweir import Pgweir, configuration, merged, running
from tests.fixtures.postgres import APP, DATABASE, Postgres
from tests.fixtures.slapd import BASE, SEARCHER, SEARCHER_PASSWORD, Slapd
from tests.live.test_login import connect, refusal

StartPgweir = Callable[..., Pgweir]


def judged(node: Postgres, slapd: Slapd, **ldap: Any) -> dict[str, Any]:
    """A configuration in which no user is listed."""
    config = configuration(node)
    asked = {
        "ldapserver": "127.0.0.1",
        "ldapport": slapd.port,
        "ldapbasedn": BASE,
        "ldapbinddn": SEARCHER,
        "ldapbindpasswd": SEARCHER_PASSWORD,
        **ldap,
    }
    config["auth"] = {"method": "ldap", "ldap": asked}
    return config


@pytest.fixture(scope="module")
def weir(
    pg18: Postgres, slapd: Slapd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pgweir]:
    with running(judged(pg18, slapd), tmp_path_factory.mktemp("ldap")) as weir:
        yield weir


def test_the_password_that_the_directory_knows_opens_the_server_too(weir: Pgweir) -> None:
    """In PostgreSQL the role has the same one, by SCRAM."""
    assert connect(weir) == APP.name


@pytest.mark.parametrize(("user", "password"), [(APP.name, "wrong"), ("nobody", APP.password)])
def test_a_refusal_says_the_same_to_everybody(weir: Pgweir, user: str, password: str) -> None:
    seen = len(weir.log)
    assert f'LDAP authentication failed for user "{user}"' in refusal(weir, password, user)
    weir.wait_for_log("login refused.*reason=", since=seen)
    assert "sqlstate=28000" in weir.wait_for_log("client refused", since=seen)


def test_an_empty_password_is_refused(weir: Pgweir) -> None:
    with RawClient(weir.port) as client:
        client.send(startup(user=APP.name, database=DATABASE))
        client.read()
        client.send(message(b"p", b"\0"))
        *_, last = client.read_to_end()
        assert "LDAP authentication failed" in last.fields["M"]


def test_a_rule_may_name_another_directory(
    start_pgweir: StartPgweir, pg18: Postgres, slapd: Slapd, tmp_path: Path
) -> None:
    name = f'ldapprefix="uid=" ldapsuffix=",ou=people,{BASE}"'
    rule = f"ldapserver=127.0.0.1 ldapport={slapd.port} {name}"
    (tmp_path / "hba.conf").write_text(f"host all app all ldap {rule}\nhost all ann all ldap\n")
    config = judged(pg18, slapd)
    config["auth"] |= {"method": "hba", "hba_file": str(tmp_path / "hba.conf")}
    login = {"server": {"user": APP.name, "password": APP.password}}
    weir = start_pgweir(merged(config, {"clusters": {"main": login}}))
    assert connect(weir) == APP.name
    assert connect(weir, "ann-password", "ann") == APP.name
    assert "LDAP authentication failed" in refusal(weir, "wrong")


def test_a_directory_that_is_gone_is_told_as_such_and_holds_up_nobody_else(
    start_pgweir: StartPgweir, pg18: Postgres, slapd: Slapd
) -> None:
    weir = start_pgweir(judged(pg18, slapd, ldapserver="127.0.0.2"))
    assert "cannot be judged" in refusal(weir, APP.password)
    assert "sqlstate=08001" in weir.wait_for_log("client refused")
    assert "127.0.0.2" in weir.wait_for_log("a login cannot be judged")


def test_nothing_secret_is_written(weir: Pgweir) -> None:
    connect(weir)
    refusal(weir, "a-wrong-password")
    everything = "\n".join((*weir.log, weir.http("/metrics")[1]))
    secrets = (APP.password, SEARCHER_PASSWORD, "a-wrong-password")
    assert [each for each in secrets if each in everything] == []


@pytest.mark.parametrize("allowed", [False, True])
def test_a_password_is_not_asked_for_where_others_may_listen(
    start_pgweir: StartPgweir, pg18: Postgres, slapd: Slapd, allowed: bool
) -> None:
    config = judged(pg18, slapd)
    config["auth"]["allow_cleartext"] = allowed
    weir = start_pgweir(merged(config, {"listen": {"proxy_protocol_from": ["127.0.0.1/32"]}}))
    with RawClient(weir.port) as client:
        client.send(b"PROXY TCP4 203.0.113.9 127.0.0.1 5555 6432\r\n")
        client.send(startup(user=APP.name, database=DATABASE))
        answer = client.read()
        assert answer is not None
        assert answer.kind == (b"R" if allowed else b"E")


def test_over_tls_it_is_asked_for_wherever_the_client_is(
    start_pgweir: StartPgweir, pg18: Postgres, slapd: Slapd
) -> None:
    tls = {
        "mode": "require",
        "cert": str(slapd.certificates.server_cert),
        "key": str(slapd.certificates.server_key),
    }
    weir = start_pgweir(merged(judged(pg18, slapd), {"listen": {"tls": tls}}))
    with psycopg.connect(weir.dsn(), sslmode="require") as connection:
        assert connection.execute("SELECT current_user::text").fetchone() == (APP.name,)
