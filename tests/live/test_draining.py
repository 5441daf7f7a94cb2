"""`/drain` and `pgweir drain`: a proxy is emptied at the ends of transactions, and then stopped."""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import Postgres


def drain(weir: Pgweir, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "proxy", "drain", "--http", f"127.0.0.1:{weir.http_port}"]
    return subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True)


def post(weir: Pgweir, path: str, **headers: str) -> int:
    url = f"http://127.0.0.1:{weir.http_port}{path}"
    request = urllib.request.Request(url, method="POST", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_transaction_ends_before_its_client_is_sent_away(
    pg18: Postgres, start_pgweir: Callable[..., Pgweir]
) -> None:
    weir = start_pgweir(pg18)
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        client.execute("BEGIN")
        client.execute("SELECT 1")
        asked = drain(weir)
        weir.wait_until(lambda: weir.http("/readyz") == (503, "draining\n"))
        with pytest.raises(psycopg.OperationalError):
            weir.wait_until(lambda: psycopg.connect(weir.dsn()).close() is not None)
        assert client.execute("SELECT 2").fetchone() == (2,)
        assert asked.poll() is None
        client.execute("COMMIT")
        assert asked.wait(20) == 0
    assert asked.communicate() == (None, "")
    assert weir.http("/healthz")[0] == 200


def test_before_it_begins_clients_are_still_accepted(
    pg18: Postgres, start_pgweir: Callable[..., Pgweir]
) -> None:
    weir = start_pgweir(pg18)
    asked = drain(weir, "--after", "600s", "--wait", "0s")
    weir.wait_until(lambda: weir.http("/readyz") == (503, "draining\n"))
    with psycopg.connect(weir.dsn()) as client:
        assert client.execute("SELECT 1").fetchone() == (1,)
    asked.kill()
    asked.wait()
    assert asked.stderr is not None
    asked.stderr.close()


def test_who_may_not_drain(pgweir: Pgweir) -> None:
    assert post(pgweir, "/drain", Origin="http://evil.example") == 403
    assert post(pgweir, "/drain", **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert post(pgweir, "/drain?after=x") == 400
    assert post(pgweir, "/drain?after=-1") == 400
    assert pgweir.http("/drain")[0] == 405
    assert "draining" not in pgweir.http("/readyz")[1]


def test_nobody_there_to_drain_is_an_error(pgweir: Pgweir) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "proxy", "drain", "--http", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (asked.returncode, "does not drain" in asked.stderr) == (1, True)
