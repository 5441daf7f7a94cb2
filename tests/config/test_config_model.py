"""Defaults, warnings, secrets, and the pages written from the models."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.config import Config, Limits, Secret, json_schema, load, parse
from proxy.config.reference import write_reference

ROOT = Path(__file__).parents[2]
HIDDEN = "hunter2"


def test_limits_have_the_defaults_of_the_contract() -> None:
    assert Limits().model_dump() == {
        "pool_mode": "transaction",
        "pool_size": 20,
        "min_pool_size": 0,
        "reserve_pool_size": 0,
        "reserve_pool_timeout": 5.0,
        "max_db_connections": 0,
        "max_user_connections": 0,
        "max_db_client_connections": 0,
        "max_user_client_connections": 0,
        "query_wait_timeout": 120.0,
        "query_wait_notify": 5.0,
        "query_timeout": 0.0,
        "log_min_duration": 0.0,
        "transaction_timeout": 0.0,
        "idle_transaction_timeout": 0.0,
        "client_idle_timeout": 0.0,
        "client_login_timeout": 60.0,
        "server_connect_timeout": 15.0,
        "server_login_retry": 1.0,
        "server_check_delay": 30.0,
        "server_check_query": ";",
        "server_idle_timeout": 600.0,
        "server_lifetime": 3600.0,
        "cancel_wait_timeout": 10.0,
        "shutdown_timeout": 60.0,
        "max_prepared_statements": 200,
        "max_client_statements": 10_000,
        "max_statement_bytes": 1 << 20,
        "pins": "allow",
        "max_pinned": 0,
        "pin_timeout": 0.0,
        "pin_notice": False,
        "session_functions": (),
        "server_reset": "smart",
    }


def test_example_of_the_contract_is_understood(read: Callable[..., Config], tmp_path: Path) -> None:
    for name in ("server.crt", "server.key", "ca.crt"):
        (tmp_path / name).touch()
    config = read(
        """\
listen:
  host: 127.0.0.1
  port: 6432
  unix_socket_dir: /tmp
  max_client_conn: 10000
  tls: {mode: allow, cert: server.crt, key: server.key, ca: ca.crt}
http: {host: 127.0.0.1, port: 9127}
workers: 1
log: {level: info, format: text}
auth:
  method: scram-sha-256
  users:
    app: {password: secret}
    ops: {password: secret}
    grafana: {password: secret}
  admins: [ops]
  stats: [grafana]
clusters:
  main:
    nodes:
      - {name: db1, host: 10.0.0.10, port: 5432}
      - {name: db2, host: 10.0.0.11, port: 5432, weight: 2, zone: us-east-1a, roles: [read, \
analytics]}
    server: {user: app, password: secret, tls: {mode: prefer, ca: ca.crt}}
    monitor: {user: monitor, password: secret, interval: 1s, timeout: 1s}
    replicas: {max_lag: 1s, max_lag_bytes: 16MiB, balance: least_conn}
    consistency: session
    failover: {mode: off, after: 1s}
databases:
  circle: {cluster: main, dbname: circle, pool_mode: transaction, pool_size: 20, \
min_pool_size: 0, reserve_pool_size: 0, read_write_split: true}
  "*": {cluster: main}
limits:
  query_wait_timeout: 120s
  server_idle_timeout: 10m
routes:
  - {match: {query: "^select .* from price_history"}, to: analytics}
  - {match: {user: reporting}, to: replica}
"""
    )
    node = config.clusters["main"].nodes[1]
    assert (node.weight, node.zone, node.roles) == (2, "us-east-1a", ("read", "analytics"))
    assert config.clusters["main"].replicas.max_lag_bytes == 16 << 20
    # The files are there, but empty; that is warned of, too.
    warnings = tuple(each for each in config.warnings if ".tls." not in each)
    assert warnings == ()


def test_sound_file_gives_no_warning(read: Callable[..., Config], sound: str) -> None:
    assert read(sound).warnings == ()


def test_a_split_of_sessions_is_warned_of(read: Callable[..., Config]) -> None:
    config = read(
        "auth: {users: {a: {password: p}}}\n"
        "clusters: {m: {nodes: [{host: h}], monitor: {user: u}}}\n"
        "databases: {d: {cluster: m, pool_mode: session, read_write_split: true}}\n"
    )
    assert config.warnings == (
        "f.yaml:3: databases.d.read_write_split: without effect with pool_mode: session, where a "
        "client keeps one server connection.",
    )


def test_users_and_probes_that_cannot_log_in_are_warned_of(read: Callable[..., Config]) -> None:
    text = "clusters: {m: {nodes: [{host: h}]}}\ndatabases: {d: {cluster: m}}\n"
    assert read(text).warnings == (
        "f.yaml:1: auth.users: nobody can log in, because no user is listed.",
        "f.yaml:1: clusters.m.monitor.user: no user to probe the nodes as is given here or under "
        "server, so they are probed as postgres.",
    )


def test_warnings_are_no_key_of_the_file(wrong: Callable[..., list[str]], sound: str) -> None:
    assert "unknown key" in wrong(sound + "warnings: [a]\n")[0]


def test_configuration_cannot_be_changed(read: Callable[..., Config], sound: str) -> None:
    with pytest.raises(ValidationError):
        read(sound).limits.pool_size = 3


def test_secret_is_text_that_hides_in_a_repr() -> None:
    secret = Secret(HIDDEN)
    assert (secret == HIDDEN, secret.encode(), repr(secret)) == (
        True,
        HIDDEN.encode(),
        "Secret(********)",
    )


def test_secret_stays_one_when_pickled() -> None:
    assert repr(pickle.loads(pickle.dumps(Secret(HIDDEN)))) == "Secret(********)"


def test_no_secret_shows_in_a_repr_or_a_dump(read: Callable[..., Config]) -> None:
    login = f"{{user: u, password: {HIDDEN}}}"
    config = read(
        f"auth: {{users: {{app: {{password: {HIDDEN}}}}}}}\n"
        f"clusters: {{m: {{nodes: [{{host: h}}], server: {login}, monitor: {login}}}}}\n"
        f"databases: {{d: {{cluster: m, server: {login}}}}}\n"
    )
    shown = f"{config!r} {config} {config.model_dump()} {config.model_dump_json()}"
    assert shown.count("********") >= 4
    assert HIDDEN not in shown


# Every place where a password can be written wrongly.
SPILLS = [
    "auth: {users: {app: hunter2}}",
    "auth: {users: {app: {password: [hunter2]}}}",
    "auth: {users: {app: {password: {hunter2: 1}}}}",
    "auth: {users: {app: {password: !hunter2}}}",
    "auth: {users: {app: {password: *hunter2}}}",
    "auth: {users: {app: {password: &hunter2}}}",
    "auth: {users: {app: {password: @hunter2}}}",
    "auth: {users: {app: {password: %hunter2}}}",
    "auth: {users: {app: {password: 'hunter2}}}",
    'auth: {users: {app: {password: "hunter2}}}',
    'auth: {users: {app: {password: "\\qhunter2"}}}',
    "auth: {users: {app: {password: hunter2: x}}}",
    "auth: {users: {app: {password: SCRAM-SHA-256$hunter2}}}",
    "auth: {users: {app: {passwrd: hunter2}}}",
    "auth: {users: [hunter2]}",
    "auth: {users: {app: {password: hunter2, password: hunter2}}}",
    "auth: {users: {app: {password: hunter2, password_file: /dev/null}}}",
    "clusters: {m: {server: hunter2}}",
    "clusters: {m: {server: {password: ${NONE:-hunter2}, tls: hunter2}}}",
    "listen: {port: ${SECRET}}",
    "limits: {query_timeout: ${SECRET}, pool_mode: ${SECRET}, max_statement_bytes: ${SECRET}}",
]


@pytest.mark.parametrize("line", SPILLS)
def test_no_secret_is_part_of_an_error(line: str, wrong: Callable[..., list[str]]) -> None:
    said = "\n".join(wrong(f"log: {{level: none}}\n{line}\n", {"SECRET": HIDDEN}))
    assert HIDDEN not in said


def test_reference_page_is_up_to_date() -> None:
    page = ROOT / "docs" / "configuration.md"
    assert page.read_text() == write_reference(), (
        "run: python -m proxy.config.reference > docs/configuration.md"
    )


WITH_DEFAULTS = {
    "audit": "audit: {file: audit.jsonl, rules: DEFAULT}",
    "auth.oauth": (
        "auth: {method: oauth, oauth: {issuer: 'https://i', audience: a, algorithms: DEFAULT}}"
    ),
    "listen.tls": "listen: {tls: {min_version: DEFAULT}}",
    "limits": "limits: {query_wait_timeout: DEFAULT}",
    "redis": "redis: {url: 'redis://h', ttl: DEFAULT}",
}


@pytest.mark.parametrize("section", WITH_DEFAULTS)
def test_a_default_on_the_reference_page_is_what_a_file_would_say(
    section: str, sound: str, read: Callable[..., Config]
) -> None:
    line = WITH_DEFAULTS[section]
    (key,) = re.findall(r"(\w+): DEFAULT", line)
    page = write_reference().split(f"\n## `{section}`\n")[1].split("\n## ")[0]
    (row,) = (each for each in page.splitlines() if each.startswith(f"| `{key}` |"))
    default = row.split(" | ")[2].strip("`")
    rest = sound.split("\n", 1)[1] if line.startswith("auth") else sound
    assert default
    assert read(line.replace("DEFAULT", default) + "\n" + rest) == read(
        line.replace("DEFAULT", "") + "\n" + rest
    )


def test_schema_names_every_key_and_refuses_others() -> None:
    schema = json_schema()
    assert list(schema["properties"]) == list(Config.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["clusters", "databases"]


def test_schema_allows_references_where_numbers_stand() -> None:
    port = json_schema()["$defs"]["Listen"]["properties"]["port"]
    assert [each["type"] for each in port["anyOf"]] == ["integer", "string"]


EXAMPLES = {
    "smallest.yaml": {},
    "sidecar.yaml": {"PGHOST": "db", "APP_PASSWORD_FILE": "app", "MONITOR_PASSWORD": "m"},
    "three-nodes.yaml": {
        "SHOP_PASSWORD": "s",
        "REPORTING_PASSWORD": "r",
        "OPS_PASSWORD": "o",
        "GRAFANA_PASSWORD": "g",
        "MONITOR_PASSWORD": "m",
    },
}


def test_every_example_is_tried() -> None:
    assert {file.name for file in (ROOT / "config").glob("*.yaml")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_sound_and_gives_no_warning(name: str, tmp_path: Path) -> None:
    environ = dict(EXAMPLES[name])
    if "APP_PASSWORD_FILE" in environ:
        secret = tmp_path / "app"
        secret.write_text("secret\n")
        environ["APP_PASSWORD_FILE"] = str(secret)
    config = load(ROOT / "config" / name, environ)
    assert config.warnings == ()
    assert all(user.password for user in config.auth.users.values())


@pytest.mark.parametrize(
    "host", ["db.1", "10.0.0.7", "::1", "fe80::1%eth0.1", "*", "", "a, ::, 10.0.0.7"]
)
def test_what_a_host_may_look_like(host: str) -> None:
    text = f"listen: {{host: '{host}'}}\nclusters: {{main: {{nodes: [{{host: h}}]}}}}\n"
    config = parse(text + "databases: {d: {cluster: main}}\n", {}, file="f.yaml")
    assert config.listen.host == host
