"""Nothing that the program writes, in logs, pages, errors or tracebacks, has a secret in it.

Each secret here is a text that stands nowhere else, so finding it is a leak.
"""

import base64
import hashlib
import hmac
import signal
import socket
from collections.abc import Set
from pathlib import Path
from traceback import format_exception
from typing import Any

import psycopg
import pytest
import yaml
from click.testing import CliRunner

from proxy.cli import main
from proxy.config import ConfigError, parse
from tests.faults.raw_client import RawClient, message, prove, send_cancel, startup
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, MD5_USER, MONITOR, PLAIN_USER, Postgres

ROOT = Path(__file__).parents[2]

WRONG = "a-guess-that-is-wrong"
AT_SERVER = "what-the-server-does-not-know"
FROM_FILE = "what-stood-in-a-file"
FROM_ENVIRONMENT = "what-the-environment-held"
OLD = "what-was-valid-before"
ON_A_BAD_LINE = "what-stood-on-a-bad-line"
FROM_COMMAND = "what-a-command-printed"
OF_QUERY = "what-the-query-logs-in-with"
AS_SETTING = "a-password-as-a-setting"
IN_STATEMENT = "what-a-statement-says"
AS_PARAMETER = "what-a-parameter-holds"


def keys_of(password: str) -> tuple[str, set[str]]:
    """A verifier as in pg_authid, and all that is secret about it, in every spelling of a log."""
    salt = b"0123456789abcdef"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    text = base64.b64encode
    verifier = (
        f"SCRAM-SHA-256$4096:{text(salt).decode()}"
        f"${text(stored_key).decode()}:{text(server_key).decode()}"
    )
    kept = (salted, client_key, stored_key, server_key)
    return verifier, {spelled for raw in kept for spelled in spellings(raw)}


def spellings(raw: bytes) -> set[str]:
    """How bytes could show: hexadecimal, base64, and what `repr` makes of them."""
    return {raw.hex(), base64.b64encode(raw).decode(), repr(raw)[2:-1]}


VERIFIER, KEYS = keys_of("what-a-verifier-is-made-of")
MD5_HASH = "md5" + hashlib.md5(b"unknownapp", usedforsecurity=False).hexdigest()
SECRETS = {
    *(APP.password, MONITOR.password, PLAIN_USER.password, MD5_USER.password),
    *(
        WRONG,
        AT_SERVER,
        FROM_COMMAND,
        OF_QUERY,
        FROM_FILE,
        FROM_ENVIRONMENT,
        OLD,
        ON_A_BAD_LINE,
        AS_SETTING,
    ),
    *(IN_STATEMENT, AS_PARAMETER, "what-a-verifier-is-made-of"),
    *(MD5_HASH, MD5_HASH[3:], VERIFIER, *KEYS),
}


def found_in(text: str, more: Set[str] = frozenset()) -> list[str]:
    return [secret for secret in SECRETS | more if secret in text]


def whole_configuration(pg18: Postgres, folder: Path, log_format: str) -> dict[str, Any]:
    (folder / "password").write_text(FROM_FILE + "\n")
    (folder / "users.txt").write_text(f'"listed" "{VERIFIER}"\n"hashed" "{MD5_HASH}"\n')
    wrong = {"user": APP.name, "password": AT_SERVER}
    printed = {"user": APP.name, "password_command": ["echo", "-n", FROM_COMMAND]}
    # Prints it, says it, and fails.
    said = ["sh", "-c", f"echo {FROM_COMMAND}; echo {FROM_COMMAND} >&2; exit 3"]
    return configuration(
        pg18,
        log={"level": "debug", "format": log_format},
        auth={
            "failure_delay": 0,
            "query_user": "asking",
            "query_password": OF_QUERY,
            "userlist_file": str(folder / "users.txt"),
            "users": {
                PLAIN_USER.name: {"password": PLAIN_USER.password, "old_password": OLD},
                MD5_USER.name: {"password": MD5_USER.password},
                "filed": {"password_file": str(folder / "password")},
                "set": {"password": "${PGWEIR_TEST_SECRET}"},
            },
        },
        databases={
            DATABASE: {"cluster": "main", "pool_size": 2},
            "wrong": {"cluster": "main", "server": wrong},
            "printed": {"cluster": "main", "server": printed},
            "said": {"cluster": "main", "server": {"user": APP.name, "password_command": said}},
        },
    )


LOGINS = [
    (APP.name, APP.password, DATABASE),
    (PLAIN_USER.name, PLAIN_USER.password, DATABASE),
    (PLAIN_USER.name, OLD, DATABASE),
    (MD5_USER.name, MD5_USER.password, DATABASE),
    ("filed", FROM_FILE, DATABASE),
    ("set", FROM_ENVIRONMENT, DATABASE),
    ("listed", "what-a-verifier-is-made-of", DATABASE),
    ("hashed", "unknown", DATABASE),
    (APP.name, WRONG, DATABASE),
    ("nobody", WRONG, DATABASE),
    (APP.name, APP.password, "wrong"),
    (APP.name, APP.password, "printed"),
    (APP.name, APP.password, "said"),
    (APP.name, APP.password, "unknown"),
]


def use(weir: Pgweir) -> tuple[str, set[str]]:
    """Log in rightly and wrongly, ask, cancel, be refused. What was heard, and cancel keys."""
    heard: list[str] = []
    for user, password, database in LOGINS:
        try:
            with psycopg.connect(weir.dsn(user, password, database)) as connection:
                connection.execute("SELECT %s || %s::text", (IN_STATEMENT, AS_PARAMETER))
                connection.execute(f"SELECT no_such_column -- {IN_STATEMENT}")
        except psycopg.Error as refused:
            heard.append(str(refused).replace(IN_STATEMENT, ""))
    with socket.create_connection((weir.host, weir.port)) as sock:
        sock.sendall(startup(user=APP.name, database=DATABASE, password=AS_SETTING))
        sock.recv(100)
        sock.sendall(message(b"p", WRONG.encode() + b"\0"))
        heard.append(sock.recv(4096).decode("utf-8", "replace"))
    with RawClient(weir.port) as client:
        prove(client, startup(user=APP.name, database=DATABASE), APP.password)
        send_cancel(weir.port, client.pid, client.secret)
        send_cancel(weir.port, client.pid, b"4711")
        keys = spellings(client.secret) | {str(int.from_bytes(client.secret))}
        client.send(message(b"?", WRONG.encode()))
        heard += [str(each.fields) for each in client.read_to_end()]
    heard += [
        weir.http(path)[1] for path in ("/metrics", "/", "/api/status", "/healthz", "/readyz")
    ]
    return "\n".join(heard), keys


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_the_program_writes_has_a_secret_in_it(
    pg18: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_format: str
) -> None:
    monkeypatch.setenv("PGWEIR_TEST_SECRET", FROM_ENVIRONMENT)
    config = whole_configuration(pg18, tmp_path, log_format)
    config["limits"] = {"query_wait_timeout": "500ms"}
    with running(config, tmp_path) as weir:
        heard, keys = use(weir)
        (path,) = tmp_path.glob("*.yaml")
        good = path.read_text()
        config["auth"]["users"]["filed"] = {"password": [ON_A_BAD_LINE]}
        path.write_text(yaml.safe_dump(config))
        weir.send(signal.SIGHUP)
        weir.wait_for_log("not reloaded")
        path.write_text(good)
        weir.send(signal.SIGHUP)
        weir.wait_for_log("reloaded", since=len(weir.log))
    written = "\n".join(weir.log)
    assert len(weir.log) > 20
    assert "wrong password" in written
    assert found_in(written + heard, keys) == []


# The program with two of its functions broken: what they were called with is in the error's text.
BROKEN = """
import sys
from proxy.cli import main
from proxy.client import proving
from proxy.pool import dialling

def broken(*arguments, **named):
    credentials = (arguments, named)
    raise RuntimeError(f"provoked {credentials!r}")

if sys.argv.pop(1) == "login":
    proving.begin = broken
else:
    dialling.dial = broken
main()
"""


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("what", ["login", "dial"])
def test_the_traceback_of_an_internal_error_has_no_secret_in_it(
    pg18: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, log_format: str
) -> None:
    monkeypatch.setenv("PGWEIR_TEST_SECRET", FROM_ENVIRONMENT)
    config = whole_configuration(pg18, tmp_path, log_format)
    config["limits"] = {"query_wait_timeout": "200ms"}
    program = ["-c", BROKEN, what]
    with running(config, tmp_path, program=program, bugs_expected=True) as weir:
        for user, password, database in LOGINS[:5]:
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(weir.dsn(user, password, database))
        weir.wait_for_log("provoked")
    written = "\n".join(weir.log)
    assert "Traceback" in written
    assert found_in(written) == []


# What may go wrong on a line that has a secret.
BAD_LINES = {
    "list": "[SECRET]",
    "mapping": "{x: SECRET}",
    "mapping_of_mapping": "{x: {SECRET: 1}}",
    "open_quote": "'SECRET",
    "open_double_quote": '"SECRET',
    "quote_inside": "'a'SECRET",
    "open_brace": "{SECRET",
    "open_bracket": "[SECRET",
    "alias": "*SECRET",
    "anchor": "&SECRET",
    "tag": "!SECRET x",
    "directive": "%SECRET",
    "at": "@SECRET",
    "backquote": "`SECRET",
    "colon": "a: SECRET: b",
    "comma": "SECRET, }, {",
    "tab": "\tSECRET",
    "control": "SECRET\x01",
    "verifier": "SCRAM-SHA-256$SECRET",
    "reference": "${NOT SECRET}",
    "default": "${NONE:-SECRET",
    "missing": "SECRET${NO_SUCH_VARIABLE}",
    "twice": "x, password: SECRET",
    "another_key": "x, pasword: SECRET",
    "escape": '"\\SECRET"',
    "block": "|SECRET",
}
PLACES = {
    "user": "auth: {users: {app: {password: WORDS}}}\n",
    "old": "auth: {users: {app: {password: x, old_password: WORDS}}}\n",
    "query": "auth: {query_user: q, query_password: WORDS}\n",
    "server": "clusters: {main: {nodes: [{host: h}], server: {user: u, password: WORDS}}}\n",
    "monitor": "clusters: {main: {nodes: [{host: h}], monitor: {user: u, password: WORDS}}}\n",
}


@pytest.mark.parametrize("line", BAD_LINES)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_said_of_a_bad_line_does_not_repeat_it(place: str, line: str) -> None:
    text = PLACES[place].replace("WORDS", BAD_LINES[line].replace("SECRET", ON_A_BAD_LINE))
    try:
        said = repr(parse(text, {}, file="f.yaml"))
    except ConfigError as refused:
        said = "".join(format_exception(refused)) + repr(refused) + str(refused.problems)
    assert found_in(said) == []


def test_what_is_said_of_a_bad_userlist_does_not_repeat_it(tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text(
        f'"app" "{ON_A_BAD_LINE}\napp {ON_A_BAD_LINE}\n"" "{ON_A_BAD_LINE}"\n'
        f'"v" "SCRAM-SHA-256$4096:{ON_A_BAD_LINE}"\n'
    )
    config = tmp_path / "pgweir.yaml"
    config.write_text(
        "auth: {userlist_file: users.txt}\nclusters: {main: {nodes: [{host: h}]}}\n"
        "databases: {d: {cluster: main}}\n"
    )
    result = CliRunner().invoke(main, ["check", "-c", str(config)])
    assert result.exit_code == 2
    assert found_in(result.output) == []


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:SECRET@h:port/d",
        "postgres://u:SECRET@[::1/d",
        "mysql://u:SECRET@h/d",
        "postgres://u:SECRET@h:99999/d",
        "postgres://u:SECRET@h/d?sslmode=maybe",
        "postgres://u:SECRET@h1,h2/d?password=SECRET",
        "SECRET",
        "host=h password=SECRET",
    ],
)
def test_what_is_said_of_a_bad_url_does_not_repeat_its_password(url: str) -> None:
    environ = {"DATABASE_URL": url.replace("SECRET", ON_A_BAD_LINE)}
    result = CliRunner().invoke(main, ["run"], env=environ)
    assert result.exit_code == 2
    assert found_in(result.output) == []
