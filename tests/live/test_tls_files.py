"""Certificates that are replaced while the proxy runs."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import (
    CERT_USER,
    DATABASE,
    Certificates,
    PostgresWithTls,
    make_certificates,
)

StartPgweir = Callable[..., Pgweir]

READ_AGAIN = "TLS files read again"
UNUSABLE = "TLS files cannot be used"


@pytest.fixture
def renewed(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The same names, signed by a new authority."""
    return make_certificates(tmp_path_factory.mktemp("renewed"))


def is_trusted(weir: Pgweir, ca: Path) -> bool:
    """Does libpq, which trusts this authority, believe the proxy's certificate?"""
    try:
        psycopg.connect(
            weir.dsn(), sslmode="verify-full", sslrootcert=str(ca), channel_binding="require"
        ).close()
    except psycopg.OperationalError as error:
        assert "SSL error" in str(error), error
        return False
    return True


def replace(file: Path, by: Path) -> None:
    """As certbot does: all at once."""
    other = file.with_suffix(".new")
    shutil.copy(by, other)
    other.replace(file)


def test_new_connections_see_the_new_certificate_and_open_ones_go_on(
    start_pgweir: StartPgweir,
    pg_tls: PostgresWithTls,
    tmp_path: Path,
    renewed: Certificates,
) -> None:
    old = pg_tls.certificates
    cert, key, ca = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    for file, source in ((cert, old.server_cert), (key, old.server_key), (ca, old.ca)):
        shutil.copy(source, file)
        os.utime(file, (1_000_000_000, 1_000_000_000))
    weir = start_pgweir(
        pg_tls,
        listen={"tls": {"mode": "require", "cert": str(cert), "key": str(key)}},
        clusters={"main": {"server": {"tls": {"mode": "verify-full", "ca": str(ca)}}}},
        limits={"query_wait_timeout": "500ms", "server_login_retry": "50ms"},
    )
    with psycopg.connect(weir.dsn(), sslmode="require") as opened:
        opened.execute("SELECT 1")  # in a transaction: it has the only server connection
        assert (is_trusted(weir, renewed.ca), is_trusted(weir, old.ca)) == (False, True)

        replace(cert, renewed.server_cert)
        weir.wait_for_log(UNUSABLE)
        assert is_trusted(weir, old.ca)
        replace(key, renewed.server_key)
        weir.wait_for_log(READ_AGAIN)
        assert (is_trusted(weir, renewed.ca), is_trusted(weir, old.ca)) == (True, False)

        since = len(weir.log)
        replace(ca, renewed.ca)
        weir.wait_for_log(READ_AGAIN, since=since)
        with (
            psycopg.connect(weir.dsn(), sslmode="require") as second,
            pytest.raises(psycopg.Error),
        ):
            second.execute("SELECT 1")
        assert opened.execute("SELECT 'still'").fetchone() == ("still",)

        since = len(weir.log)
        replace(ca, old.ca)
        weir.wait_for_log(READ_AGAIN, since=since)
        with psycopg.connect(weir.dsn(), sslmode="require") as third:
            assert third.execute("SELECT 'again'").fetchone() == ("again",)


def test_the_proxy_shows_its_certificate_to_a_server_that_wants_one(
    start_pgweir: StartPgweir, pg_tls: PostgresWithTls
) -> None:
    known = pg_tls.certificates
    tls = {
        "mode": "verify-full",
        "ca": str(known.ca),
        "cert": str(known.client_cert),
        "key": str(known.client_key),
    }
    weir = start_pgweir(
        pg_tls,
        auth={"method": "trust"},
        clusters={"main": {"server": {"user": CERT_USER.name, "tls": tls}}},
    )
    with psycopg.connect(weir.dsn(database=DATABASE), sslmode="disable") as connection:
        row = connection.execute("SELECT current_user::text").fetchone()
        assert row == (CERT_USER.name,)
