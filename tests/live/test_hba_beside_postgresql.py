"""Rules in force: whoever comes in any way is answered by the proxy as by real PostgreSQL."""

import itertools
import os
import pwd
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import (
    APP,
    CERT_USER,
    DATABASE,
    MD5_USER,
    PLAIN_USER,
    TRUST_USER,
    Postgres,
    PostgresWithTls,
)
from tests.live.side_by_side import first_words, in_force

StartPgweir = Callable[..., Pgweir]
Place = tuple[str, int] | str

ACCOUNT = pwd.getpwuid(os.getuid()).pw_name

# Methods serve as marks: what is asked for tells which rule it was.
OVER_TLS = f"""
local {DATABASE} {PLAIN_USER.name} reject
local sameuser,elsewhere all password
local replication {APP.name} scram-sha-256
hostnossl {DATABASE} {APP.name} 127.0.0.1 255.0.0.0 scram-sha-256
hostssl {DATABASE} {APP.name} 127.0.0.1/32 password
hostssl sameuser all samehost reject
host replication {APP.name} samenet reject
hostssl {DATABASE} {CERT_USER.name} all cert
hostssl {DATABASE} {TRUST_USER.name} all cert map=people
hostssl {DATABASE} {PLAIN_USER.name} all cert map=subjects clientname=DN
hostssl elsewhere {MD5_USER.name} all md5 clientcert=verify-ca
hostssl elsewhere {CERT_USER.name} all cert map=nobody
host {DATABASE},"all" {MD5_USER.name} all md5
hostgssenc all all all trust
host all "all" all password
hostssl all stranger 127.0.0.1/8 scram-sha-256
host postgres all 10.0.0.0/8 trust
host postgres all ::1/128 trust
host postgres {PLAIN_USER.name},stranger 127.0.0.1/32 password
"""
CERTIFICATE_MAPS = f"""
people /^(.*)_user$ {TRUST_USER.name}
subjects "CN={CERT_USER.name}" {PLAIN_USER.name}
nobody {CERT_USER.name}2 {CERT_USER.name}
"""
BY_ROLE = rf"""
local {DATABASE} {APP.name} peer map=name
local {DATABASE} {TRUST_USER.name} peer map=pattern
local {DATABASE} {MD5_USER.name} peer map=members
local {DATABASE} {PLAIN_USER.name} peer map=others
local {DATABASE} stranger peer
local all +{APP.name} password
local all all scram-sha-256
host samerole all 127.0.0.1/32 password
host {DATABASE} +{APP.name} 127.0.0.1/32 scram-sha-256
host "/^else, ?where$" /^(stranger|app)$ all password
host all "+{APP.name}" all reject
host all "/^a{{3,4}}$",/^md5_ samenet password
host /^\w+$ /r$ 127.0.0.1/32 scram-sha-256
"""
ACCOUNT_MAPS = rf"""
name {ACCOUNT} {APP.name}
pattern /^(.+)$ {TRUST_USER.name}
members {ACCOUNT} +{APP.name}
others /^(.)(.*)$ {PLAIN_USER.name}\1
others {ACCOUNT} "all"
others {ACCOUNT} /^plain$
others {ACCOUNT}x {PLAIN_USER.name}
"""


def answers(
    ways: Mapping[str, tuple[Place, ssl.SSLContext | None]],
    users: tuple[str, ...],
    databases: tuple[str, ...],
) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """First words by way, user and database; without a database for physical replication."""
    found = {}
    for way, user in itertools.product(ways, users):
        place, tls = ways[way]
        for database in databases:
            found[way, user, database] = first_words(place, tls, user=user, database=database)
        found[way, user] = first_words(place, tls, user=user, replication="true")
    return found


def by_rules(folder: Path, rules: str, maps: str, **auth: Any) -> dict[str, Any]:
    """The part of a configuration that is about logins."""
    (folder / "hba.conf").write_text(rules)
    (folder / "ident.conf").write_text(maps)
    known = {each.name: {"password": each.password} for each in (MD5_USER, PLAIN_USER)}
    return {
        "method": "hba",
        "hba_file": "hba.conf",
        "ident_file": "ident.conf",
        "failure_delay": 0,
        "users": {**known, TRUST_USER.name: {}, CERT_USER.name: {}},
        **auth,
    }


SERVED_AS = {"main": {"server": {"user": APP.name, "password": APP.password}}}


def test_addresses_tls_and_certificates_decide_as_in_postgresql(
    pg_tls: PostgresWithTls, start_pgweir: StartPgweir, tmp_path: Path
) -> None:
    files = pg_tls.certificates
    tls = {
        "mode": "allow",
        "cert": str(files.server_cert),
        "key": str(files.server_key),
        "ca": str(files.ca),
    }
    weir = start_pgweir(
        pg_tls,
        listen={"tls": tls, "unix_socket_dir": str(tmp_path)},
        auth=by_rules(tmp_path, OVER_TLS, CERTIFICATE_MAPS),
        clusters=SERVED_AS,
    )
    without, shown = (ssl.create_default_context(cafile=files.ca) for _ in range(2))
    shown.load_cert_chain(files.client_cert, files.client_key)
    for each in (without, shown):
        each.check_hostname = False

    def ask(tcp: tuple[str, int], unix: str) -> dict[tuple[str, ...], tuple[Any, ...]]:
        users = (*(each.name for each in (APP, MD5_USER, PLAIN_USER, CERT_USER)), "stranger")
        ways = {"tcp": (tcp, None), "tls": (tcp, without), "unix": (unix, None)}
        databases = (DATABASE, APP.name, "all", "postgres", "elsewhere")
        with_certificate = answers({"cert": (tcp, shown)}, users, (DATABASE, "elsewhere"))
        return answers(ways, users, databases) | with_certificate

    ours = ask(("127.0.0.1", weir.port), f"{tmp_path}/.s.PGSQL.{weir.port}")
    with in_force(pg_tls, OVER_TLS, CERTIFICATE_MAPS):
        socket_file = f"{pg_tls.socket_dir}/.s.PGSQL.{pg_tls.port}"
        theirs = ask((pg_tls.host, pg_tls.port), socket_file)
    assert ours == theirs
    assert {answer[:2] for answer in ours.values()} == {
        (b"R", 0),
        (b"R", 3),
        (b"R", 5),
        (b"R", 10),
        ("FATAL", "28000"),
    }


def test_roles_patterns_and_accounts_decide_as_in_postgresql(
    pg18: Postgres, start_pgweir: StartPgweir, tmp_path: Path
) -> None:
    # As the roles are in the server.
    members = [each.name for each in (MD5_USER, PLAIN_USER, TRUST_USER)]
    weir = start_pgweir(
        pg18,
        listen={"unix_socket_dir": str(tmp_path)},
        auth=by_rules(tmp_path, BY_ROLE, ACCOUNT_MAPS, groups={APP.name: members}),
        clusters=SERVED_AS,
    )
    users = (APP.name, *members, "stranger", f"+{APP.name}", "aaa")
    databases = (DATABASE, APP.name, "else, where", "else,where", "elsewhere")

    def ways(tcp: tuple[str, int], unix: str) -> dict[str, tuple[Place, ssl.SSLContext | None]]:
        return {"tcp": (tcp, None), "unix": (unix, None)}

    ours = answers(
        ways(("127.0.0.1", weir.port), f"{tmp_path}/.s.PGSQL.{weir.port}"), users, databases
    )
    with in_force(pg18, BY_ROLE, ACCOUNT_MAPS):
        socket_file = f"{pg18.socket_dir}/.s.PGSQL.{pg18.port}"
        theirs = answers(ways((pg18.host, pg18.port), socket_file), users, databases)
    assert ours == theirs
    assert {answer[:2] for answer in ours.values()} == {
        (b"R", 0),
        (b"R", 3),
        (b"R", 10),
        ("FATAL", "28000"),
    }
