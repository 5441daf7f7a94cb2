"""The commands as a shell sees them: what is printed where, and the exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy import __version__
from proxy.cli import main

SOUND = """\
auth: {users: {app: {password: hunter2}}}
clusters: {main: {nodes: [{name: db1, host: h1}, {host: h2}], monitor: {user: m}}}
databases: {shop: {cluster: main, pool_mode: session}, "*": {cluster: main, dbname: all}}
"""


def invoke(*arguments: str | Path, **environ: str | None) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], env=environ)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pgweir.yaml"
    path.write_text(SOUND)
    return path


def test_check_says_ok_and_what_the_file_comes_to(file: Path) -> None:
    result = invoke("check", "-c", file)
    assert result.exit_code == 0
    assert result.stdout == (
        f"{file}: ok\n"
        "  listen: 127.0.0.1:6432 (tls disable), http none\n"
        "  auth: scram-sha-256, 1 user\n"
        "  cluster main: db1 (h1:5432), h2:5432\n"
        "  database shop: same name on main, session pooling, pool size 20\n"
        "  database *: all on main, transaction pooling, pool size 20\n"
    )


def test_check_prints_warnings_beside_the_result(file: Path) -> None:
    file.write_text(SOUND.replace(", monitor: {user: m}", ""))
    result = invoke("check", "-c", file)
    assert (result.exit_code, result.stderr) == (
        0,
        f"warning: {file}:2: clusters.main.monitor.user: no user to probe the nodes as is given "
        "here or under server, so they are probed as postgres.\n",
    )


def test_check_says_what_a_statement_would_do() -> None:
    result = invoke(
        "check", "--sql", "/* pgweir: replica */ SELECT max(id) FROM orders WHERE id < 9"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "only reads: a replica may run it\n"
        "hint: replica\n"
        "SELECT: reads orders; calls max\n"
        "key: select max ( id ) from orders where id < 1\n"
        "fingerprint: 15e82b674743df44\n"
    )


def test_check_says_why_a_statement_is_for_the_primary() -> None:
    result = invoke("check", "--sql", "SET a.b = 'c'; SELECT 1 FROM orders FOR UPDATE")
    assert result.exit_code == 0
    assert result.stdout == (
        "for the primary:\n"
        "  it changes a setting of the session: a.b\n"
        "  it locks rows (FOR UPDATE, FOR SHARE)\n"
        "SET\n"
        "SELECT: reads orders\n"
        "session: setting: a.b\n"
        "key: set a . b = '1' ; select 1 from orders for update\n"
        "fingerprint: c1ee78f7eec85e0d\n"
    )


def test_check_takes_a_file_and_a_statement_together(file: Path) -> None:
    result = invoke("check", "-c", file, "--sql", "select 1")
    assert result.exit_code == 0
    assert f"{file}: ok\n" in result.stdout
    assert "only reads" in result.stdout


def test_check_wants_a_file_or_a_statement() -> None:
    result = invoke("check")
    assert result.exit_code == 2
    assert "'--sql'" in result.stderr


@pytest.mark.parametrize("command", ["check", "run"])
def test_every_problem_is_one_line_of_standard_error(file: Path, command: str) -> None:
    file.write_text("listen: {port: no}\n" + SOUND + "wrkers: 2\n")
    result = invoke(command, "-c", file)
    assert result.stdout == ""
    assert (result.exit_code, result.stderr.splitlines()) == (
        2,
        [
            f"{file}:1: listen.port: expected a whole number, got 'no'",
            f"{file}:5: wrkers: unknown key; did you mean 'workers'?",
        ],
    )


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_wrong_rule_for_logins_is_told_with_its_own_file_and_line(
    file: Path, command: str
) -> None:
    rules, maps = file.parent / "hba.conf", file.parent / "ident.conf"
    file.write_text(
        SOUND.replace("{users", "{method: hba, hba_file: hba.conf, ident_file: ident.conf, users")
    )
    rules.write_text(
        "# who may come in\n"
        "local all all peer map=accounts\n"
        "host all +dev all md5\n"
        "include more.conf\n"
        "host all all all ldap ldapbasedn=x ldapbindpasswd=my hunter2\n"
    )
    maps.write_text("accounts /( app\n")
    result = invoke(command, "-c", file)
    assert result.stdout == ""
    assert (result.exit_code, result.stderr.splitlines()) == (
        2,
        [
            f'{rules}:2: (rule): there is no map "accounts"; describe it in the file under '
            "auth.ident_file",
            f'{rules}:3: (rule): there is no group "dev"; describe it under auth.groups',
            f"{rules}:4: (rule): {file.parent}/more.conf cannot be read (No such file or "
            "directory)",
            f"{rules}:5: (rule): behind the method stand options as name=value; one of them has "
            "no =",
            f'{maps}:1: (rule): "(" is not a regular expression as this program understands them',
        ],
    )


def test_a_file_without_rules_is_refused(file: Path) -> None:
    (file.parent / "hba.conf").write_text("# nobody\n")
    file.write_text(SOUND.replace("{users", "{method: hba, hba_file: hba.conf, users"))
    result = invoke("check", "-c", file)
    assert result.exit_code == 2
    assert "hba.conf:1: (rule): there is no rule, so that nobody may come in" in result.stderr


def test_run_without_file_and_url_says_what_to_set() -> None:
    result = invoke("run", DATABASE_URL=None)
    assert result.exit_code == 2
    assert result.stderr.startswith("DATABASE_URL: not set, and no file was given;")


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("check",),
        ("check", "-c"),
        ("run", "--pool-size", "0"),
        ("run", "--pool-size", "many"),
        ("run", "unexpected"),
        ("demo", "--port", "0"),
        ("demo", "--replicas", "-1"),
        ("run", "--listen", "nowhere"),
    ],
)
def test_bad_usage_ends_with_two(arguments: tuple[str, ...]) -> None:
    assert invoke(*arguments, DATABASE_URL="postgres://u:p@h/d").exit_code == 2


def test_version_is_that_of_the_package() -> None:
    assert invoke("--version").stdout == f"pgweir, version {__version__}\n"


def test_schema_is_json() -> None:
    result = invoke("schema")
    assert (result.exit_code, json.loads(result.stdout)["title"]) == (0, "pgweir configuration")


@pytest.mark.parametrize("command", ["run", "check", "demo", "schema"])
def test_every_command_explains_itself(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"Usage: main {command}" in result.stdout


def test_help_loads_neither_models_nor_relay() -> None:
    script = (
        "import sys; from proxy.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'uvloop', 'asyncpg', 'proxy.relay', 'proxy.workers'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_module_is_the_program(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "check", "-c", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=dict(os.environ),
    )
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"{file}: ok")
