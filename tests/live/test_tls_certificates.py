"""Clients that show certificates, and clients that must."""

import os
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import CERT_USER, Certificates, Postgres, make_certificates

StartPgweir = Callable[..., Pgweir]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The same names, signed by another authority."""
    return make_certificates(tmp_path_factory.mktemp("foreign"))


def offering(certificates: Certificates, mode: str, **more: Any) -> dict[str, Any]:
    """A configuration that offers TLS to clients and knows who signs their certificates."""
    tls = {
        "mode": mode,
        "cert": str(certificates.server_cert),
        "key": str(certificates.server_key),
        "ca": str(certificates.ca),
    }
    return {"listen": {"tls": {**tls, **more}}}


def is_let_in(weir: Pgweir, certificates: Certificates | None, sslmode: str = "require") -> bool:
    """Does libpq get in with the client's certificate of this authority, or without one?"""
    shown = (None, None)
    if certificates is not None:
        shown = (str(certificates.client_cert), str(certificates.client_key))
    try:
        with psycopg.connect(
            weir.dsn(),
            sslmode=sslmode,
            # Not the developer's own files.
            sslcert=shown[0] or os.devnull,
            sslkey=shown[1] or os.devnull,
            sslcertmode="disable" if certificates is None else "allow",
        ) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


# mode -> is a client let in without a certificate, with a right one, with a foreign one, in clear?
WHO_GETS_IN = {
    "allow": (True, True, True, True),
    "prefer": (True, True, True, True),
    "require": (True, True, True, False),
    "verify-ca": (False, True, False, False),
    "verify-full": (False, True, False, False),
}


@pytest.mark.parametrize("mode", WHO_GETS_IN)
def test_the_mode_says_whose_certificate_is_looked_at(
    start_pgweir: StartPgweir,
    pg18: Postgres,
    certificates: Certificates,
    foreign: Certificates,
    mode: str,
) -> None:
    weir = start_pgweir(pg18, **offering(certificates, mode))
    found = (
        is_let_in(weir, None),
        is_let_in(weir, certificates),
        is_let_in(weir, foreign),
        is_let_in(weir, None, "disable"),
    )
    assert found == WHO_GETS_IN[mode]
    if mode.startswith("verify"):
        assert weir.metric("pgweir_refusals_total", reason="tls_failed") == 2
        assert weir.metric("pgweir_refusals_total", reason="tls_required") == 1
        weir.wait_for_log(f"client connected.* certificate=.?CN={CERT_USER.name}")


def test_a_certificate_is_asked_for_and_does_not_replace_the_password(
    start_pgweir: StartPgweir, pg18: Postgres, certificates: Certificates
) -> None:
    weir = start_pgweir(pg18, **offering(certificates, "verify-full"))
    with pytest.raises(psycopg.OperationalError, match="certificate required"):
        psycopg.connect(weir.dsn(), sslmode="require", sslcertmode="disable")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(
            weir.dsn(password="wrong"),
            sslmode="require",
            sslcert=str(certificates.client_cert),
            sslkey=str(certificates.client_key),
        )
