"""Certificates as a way in: alone, mapped, and besides a password."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from proxy.embedded import Login
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import (
    APP,
    CERT_USER,
    DATABASE,
    MD5_USER,
    PLAIN_USER,
    TRUST_USER,
    Certificates,
    Postgres,
)

StartPgweir = Callable[..., Pgweir]

RULES = f"""
hostssl all {CERT_USER.name} all cert
hostssl all {TRUST_USER.name} all cert map=people
hostssl all {PLAIN_USER.name} all cert map=subjects clientname=DN
hostssl all {APP.name} all scram-sha-256 clientcert=verify-ca
hostssl all {MD5_USER.name} all md5 clientcert=verify-full
hostssl all stranger all cert map=people
"""
MAPS = f"""
people /^(.*)_user$ trust_user
people {CERT_USER.name} stranger
subjects "CN={CERT_USER.name}" {PLAIN_USER.name}
"""
NO_CERTIFICATE = "connection requires a valid client certificate"


def tls_configuration(node: Postgres, certificates: Certificates, **auth: Any) -> dict[str, Any]:
    tls = {
        "mode": "allow",
        "cert": str(certificates.server_cert),
        "key": str(certificates.server_key),
        "ca": str(certificates.ca),
    }
    known = {each.name: {"password": each.password} for each in (MD5_USER, PLAIN_USER)}
    return configuration(
        node,
        listen={"tls": tls},
        auth={
            "users": {**known, TRUST_USER.name: {}, CERT_USER.name: {}},
            "ident_file": "ident.conf",
            "failure_delay": 0,
            **auth,
        },
        # Who comes in by a certificate has no password to log in to the server with.
        clusters={"main": {"server": {"user": APP.name, "password": APP.password}}},
    )


@pytest.fixture(scope="module")
def weir(
    pg18: Postgres, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pgweir]:
    folder = tmp_path_factory.mktemp("hba-tls")
    (folder / "hba.conf").write_text(RULES)
    (folder / "ident.conf").write_text(MAPS)
    config = tls_configuration(pg18, certificates, method="hba", hba_file="hba.conf")
    with running(config, folder) as weir:
        yield weir


def outcome(weir: Pgweir, user: Login, certificates: Certificates | None) -> str:
    """Come in over TLS, with this certificate or none: "in", or what libpq is told."""
    shown = ("allow", certificates.client_cert, certificates.client_key) if certificates else None
    mode, cert, key = shown or ("disable", os.devnull, os.devnull)
    try:
        with psycopg.connect(
            weir.dsn(user.name, user.password or "-"),
            sslmode="require",
            sslcertmode=mode,
            sslcert=str(cert),
            sslkey=str(key),
        ) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            return "in"
    except psycopg.OperationalError as refused:
        return str(refused).partition("FATAL:  ")[2].splitlines()[0]


@pytest.mark.parametrize(
    ("user", "with_certificate", "without"),
    [
        (CERT_USER, "in", NO_CERTIFICATE),
        (TRUST_USER, "in", NO_CERTIFICATE),
        (PLAIN_USER, "in", NO_CERTIFICATE),
        (APP, "in", NO_CERTIFICATE),
        (
            Login(APP.name, "wrong"),
            'password authentication failed for user "app"',
            NO_CERTIFICATE,
        ),
        (MD5_USER, 'certificate authentication failed for user "md5_user"', NO_CERTIFICATE),
        (
            Login("stranger", ""),
            'certificate authentication failed for user "stranger"',
            NO_CERTIFICATE,
        ),
    ],
    ids=["its-own", "mapped", "subject", "besides", "wrong-password", "other-name", "unknown"],
)
def test_a_certificate_is_as_good_as_its_rule_says(
    weir: Pgweir, certificates: Certificates, user: Login, with_certificate: str, without: str
) -> None:
    assert outcome(weir, user, certificates) == with_certificate
    assert outcome(weir, user, None) == without


def test_a_rule_for_tls_is_none_without_it(weir: Pgweir) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry.*no encryption"):
        psycopg.connect(weir.dsn(CERT_USER.name, "-"), sslmode="disable")


async def test_asyncpg_comes_in_by_its_certificate(
    weir: Pgweir, certificates: Certificates
) -> None:
    import ssl

    context = ssl.create_default_context(cafile=certificates.ca)
    context.load_cert_chain(certificates.client_cert, certificates.client_key)
    connection = await asyncpg.connect(
        host="127.0.0.1", port=weir.port, user=CERT_USER.name, database=DATABASE, ssl=context
    )
    try:
        assert await connection.fetchval("SELECT 1") == 1
    finally:
        await connection.close()


def test_a_certificate_may_be_the_one_way_in(
    start_pgweir: StartPgweir, pg18: Postgres, certificates: Certificates, tmp_path: Any
) -> None:
    (tmp_path / "ident.conf").write_text(MAPS)
    weir = start_pgweir(tls_configuration(pg18, certificates, method="cert", map="people"))
    assert outcome(weir, TRUST_USER, certificates) == "in"
    assert outcome(weir, TRUST_USER, None) == NO_CERTIFICATE
    refused = outcome(weir, CERT_USER, certificates)
    assert refused == f'certificate authentication failed for user "{CERT_USER.name}"'
    with pytest.raises(psycopg.OperationalError, match=NO_CERTIFICATE):
        psycopg.connect(weir.dsn(TRUST_USER.name, "-"), sslmode="disable")
