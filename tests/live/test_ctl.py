"""`pgweir ctl` at the console of a proxy that runs."""

import csv
import io
import json
import os
import subprocess
import sys

import pytest

from tests.fixtures.console import ADMIN, LOOKER, Console
from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import DATABASE


def ctl(weir: Pgweir, *arguments: str, login: str = "") -> subprocess.CompletedProcess[str]:
    url = login or weir.dsn(ADMIN.name, ADMIN.password, "pgweir")
    return subprocess.run(
        [sys.executable, "-m", "proxy", "ctl", *arguments],
        env={**os.environ, "PGWEIR_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_table_is_printed(manned: Pgweir) -> None:
    done = ctl(manned, "show", "lists")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["list", "|", "items"]
    assert set(lines[1]) == set("-+")
    assert any(line.startswith("used_clients ") for line in lines)


def test_tables_for_programs(manned: Pgweir) -> None:
    rows = json.loads(ctl(manned, "show", "stats", "--json").stdout)
    assert "pgbouncer" in [row["database"] for row in rows]
    assert isinstance(rows[0]["total_query_count"], int)
    table = list(csv.DictReader(io.StringIO(ctl(manned, "--csv", "show", "databases").stdout)))
    assert {row["name"] for row in table} >= {DATABASE, "twin"}


def test_a_command_is_carried_out_and_its_tag_printed(manned: Pgweir, console: Console) -> None:
    assert ctl(manned, "pause", "twin").stdout == "PAUSE\n"
    assert console.one("DATABASES", name="twin")["paused"] == 1
    assert ctl(manned, "resume", "twin").stdout == "RESUME\n"
    assert "KILL_CLIENT id" in ctl(manned, "show help").stdout


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("show nonsense", 2, "invalid command"),
        ("pause nowhere", 1, "no such database: nowhere"),
    ],
)
def test_what_is_refused_is_an_error(manned: Pgweir, command: str, code: int, said: str) -> None:
    done = ctl(manned, command)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stdout == ""


def test_who_may_only_look_is_told(manned: Pgweir) -> None:
    url = manned.dsn(LOOKER.name, LOOKER.password, "pgweir")
    done = ctl(manned, "reload", login=url)
    assert done.returncode == 1
    assert "admin access needed" in done.stderr
    assert "HINT: " in done.stderr
