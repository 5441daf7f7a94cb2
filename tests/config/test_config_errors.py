"""What is said about a file that is wrong: the whole line, every line, and nothing more."""

from collections.abc import Callable

import pytest

from proxy.config import Config

DURATION = "expected a duration such as 250ms, 5s, 10m, 1h or a number of seconds"
SIZE = "expected a size such as 64KiB, 10MiB, 1GiB or a number of bytes"

# A line that is put behind the three lines of a sound file -> what is said, without the place.
ONE_LINE = [
    ("listen: {prot: 1}", "listen.prot: unknown key; did you mean 'port'?"),
    (
        "wibble: 1",
        "wibble: unknown key; known are " + ", ".join(Config.model_fields),
    ),
    (
        "wibble:",
        "wibble: unknown key; known are " + ", ".join(Config.model_fields),
    ),
    (
        "http: {auth: {user: ops}}",
        "http.auth.user: a user without a password; write one under password or password_file",
    ),
    (
        "http: {auth: {password: x}}",
        "http.auth.password: a password without a user; write one under user",
    ),
    ("http: {auth: {}}", "http.auth: lets nobody in; write user and password, or token"),
    ("listen: {port: 65536}", "listen.port: expected 65535 or less, got '65536'"),
    ("listen: {port: -1}", "listen.port: expected 0 or more, got '-1'"),
    ("listen: {port: five}", "listen.port: expected a whole number, got 'five'"),
    ("listen: {port: 1.5}", "listen.port: expected a whole number, got '1.5'"),
    ("listen: {port: [1]}", "listen.port: expected a whole number"),
    ("listen: 127.0.0.1:6432", "listen: expected a mapping of keys"),
    (
        'listen: {host: "127.0.0.1:6432"}',
        "listen.host: a port does not belong here; write it under port",
    ),
    *(
        (
            f"listen: {{host: {host}}}",
            "listen.host: neither a name nor a whole address; write one such as 127.0.0.1",
        )
        for host in ("5", "127.1", '"127.0.0.1, 5"', "10.0.0.256", "10.0.0.")
    ),
    ("listen: {max_client_conn: 0}", "listen.max_client_conn: expected 1 or more, got '0'"),
    (
        "listen: {tls: {mode: requir}}",
        "listen.tls.mode: expected one of disable, allow, prefer, require, verify-ca, "
        "verify-full, got 'requir'",
    ),
    (
        "listen: {tls: {min_version: TLSv1.1}}",
        "listen.tls.min_version: expected one of TLSv1.2, TLSv1.3, got 'TLSv1.1'",
    ),
    (
        "listen: {tls: {ciphers: STRONG}}",
        "listen.tls.ciphers: no cipher of this list is known; write one as OpenSSL takes it, such "
        "as HIGH:!aNULL, which says nothing about TLS 1.3",
    ),
    (
        "listen: {tls: {mode: require}}",
        "listen.tls.mode: require needs a certificate; name its files under cert and key",
    ),
    (
        "listen: {tls: {mode: verify-full}}",
        "listen.tls.mode: verify-full needs a certificate; name its files under cert and key",
    ),
    (
        "log: {level: verbose}",
        "log.level: expected one of debug, info, warning, error, got 'verbose'",
    ),
    ("workers: -1", "workers: expected 0 or more, got '-1'"),
    ("limits: {query_timeout: 5 minutes}", f"limits.query_timeout: {DURATION}, got '5 minutes'"),
    ("limits: {query_timeout: -1}", f"limits.query_timeout: {DURATION}, got '-1'"),
    ("limits: {query_timeout: [1]}", f"limits.query_timeout: {DURATION}"),
    ("limits: {max_statement_bytes: 1MB}", f"limits.max_statement_bytes: {SIZE}, got '1MB'"),
    (
        "limits: {pool_size: 9999999999}",
        "limits.pool_size: expected 2147483647 or less, got '9999999999'",
    ),
    (
        "limits: {query_timeout: 40000d}",
        "limits.query_timeout: expected 3153600000 or less, got '40000d'",
    ),
    ("limits: {pool_size: 0}", "limits.pool_size: expected 1 or more, got '0'"),
    (
        "limits: {pool_mode: transactional}",
        "limits.pool_mode: expected one of session, transaction, statement, got 'transactional'",
    ),
    (
        "limits: {pool_size: 5, min_pool_size: 6}",
        "limits.min_pool_size: 6 is more than pool_size, 5; make it smaller",
    ),
    ("routes: {match: {user: a}}", "routes: expected a list, such as [one, two]"),
    (
        "routes: [{match: {user: a}, to: primary, reject: true}]",
        "routes[0]: both sends and rejects; keep to or reject",
    ),
    (
        "routes: [{match: {address: here}, to: primary}]",
        "routes[0].match.address: neither an address nor a network; write one such as "
        "10.0.0.0/8, or unix",
    ),
    (
        "routes: [{match: {user: a}}]",
        "routes[0]: does nothing; write to: primary, replica or a role, or reject: true",
    ),
    (
        "routes: [{match: {}, to: replica}]",
        "routes[0].match: matches nothing; give it a database, a user or both",
    ),
    (
        'routes: [{match: {query: "("}, to: replica}]',
        "routes[0].match.query: not a regular expression (missing ), unterminated subpattern at "
        "position 0); write one that Python's re accepts",
    ),
    (
        "routes: [{match: {query: '(?P<{x}>a)'}, to: replica}]",
        "routes[0].match.query: not a regular expression (bad character in group name '{x}' at "
        "position 4); write one that Python's re accepts",
    ),
    (
        "routes: [{match: {user: a}, to: replcia}]",
        "routes[0].to: no node has the role 'replcia'; did you mean 'replica'?",
    ),
    (
        "routes: [{match: {user: a}, to: reporting}]",
        "routes[0].to: no node has the role 'reporting'; known are primary, replica",
    ),
    (
        "log: {level: ${LEVEL}}",
        "log.level: the environment variable LEVEL is not set; set it, or write ${LEVEL:-default}",
    ),
    (
        "log: {level: '${LEVEL'}",
        "log.level: write ${NAME} or ${NAME:-default}, or $$ for a dollar sign",
    ),
    ("limits: {}\nlimits: {}", "limits: already given on line 4; keep one"),
    (
        "log: !!python/name:os.system {}",
        "log: a YAML tag; put quotes around a value that begins with !",
    ),
    ("log: &log {level: *log}", "log.level: an alias to what it is a part of; write the value out"),
    ("log: {<<: info}", "log: << takes a mapping, such as <<: *name"),
    ("log: {[a]: b}", "log: a key must be a single word"),
]


@pytest.mark.parametrize(("line", "said"), ONE_LINE, ids=[line for line, _ in ONE_LINE])
def test_mistake_is_told_with_its_place(
    line: str, said: str, sound: str, wrong: Callable[..., list[str]]
) -> None:
    number = 4 + line.count("\n")
    assert wrong(sound + line + "\n") == [f"f.yaml:{number}: {said}"]


# Whole files: what cannot stand behind a sound file.
AUTH = "clusters: {main: {nodes: [{host: h}]}}\ndatabases: {d: {cluster: main}}\n"
WHOLE = {
    "nothing": (
        "",
        [
            "f.yaml:1: clusters: required, but absent; write clusters: {main: {nodes: [{host: "
            "10.0.0.10}]}}",
            'f.yaml:1: databases: required, but absent; write databases: {"*": {cluster: NAME}} '
            "for any name",
        ],
    ),
    "a list": ("- a\n", ["f.yaml:1: (all): expected a mapping of keys"]),
    "a cluster nobody defined": (
        "clusters:\n  main: {nodes: [{host: h}]}\ndatabases:\n  d:\n    cluster: mian\n",
        ["f.yaml:5: databases.d.cluster: there is no cluster 'mian'; did you mean 'main'?"],
    ),
    "no nodes": (
        "clusters:\n  main:\n    nodes: []\ndatabases: {d: {cluster: main}}\n",
        ["f.yaml:3: clusters.main.nodes: no nodes; list one at least: - {host: 10.0.0.10}"],
    ),
    "a cluster without anything": (
        "clusters:\n  main:\ndatabases: {d: {cluster: main}}\n",
        ["f.yaml:2: clusters.main.nodes: no nodes; list one at least: - {host: 10.0.0.10}"],
    ),
    "a name twice": (
        "clusters:\n  main:\n    nodes:\n      - {name: a, host: h}\n      - host: i\n"
        "        name: a\ndatabases: {d: {cluster: main}}\n",
        [
            "f.yaml:6: clusters.main.nodes[1].name: a second node named 'a'; each needs a name "
            "of its own"
        ],
    ),
    "an address twice": (
        "clusters:\n  main:\n    nodes:\n      - {host: h}\n      - {host: h, port: 5432}\n"
        "databases: {d: {cluster: main}}\n",
        [
            "f.yaml:5: clusters.main.nodes[1].name: a second node named 'h:5432'; each needs a "
            "name of its own"
        ],
    ),
    "a declared primary": (
        "clusters: {main: {nodes: [{host: h, roles: [primary]}]}}\n"
        "databases: {d: {cluster: main}}\n",
        [
            "f.yaml:1: clusters.main.nodes[0].roles[0]: which node is primary is discovered, "
            "never declared; use another word"
        ],
    ),
    "a URL for a host": (
        'clusters: {main: {nodes: [{host: "postgres://u:hunter2@h"}]}}\n'
        "databases: {d: {cluster: main}}\n",
        [
            "f.yaml:1: clusters.main.nodes[0].host: not a host; write a name or an address, or a "
            "folder that starts with / for a Unix socket"
        ],
    ),
    "a node's port": (
        "clusters: {main: {nodes: [{host: h, port: 0}]}}\ndatabases: {d: {cluster: main}}\n",
        ["f.yaml:1: clusters.main.nodes[0].port: expected 1 or more, got '0'"],
    ),
    "a probe without end": (
        "clusters: {main: {nodes: [{host: h}], monitor: {timeout: 0}}}\n"
        "databases: {d: {cluster: main}}\n",
        ["f.yaml:1: clusters.main.monitor.timeout: expected more than 0, got '0'"],
    ),
    "promotion": (
        "clusters:\n  main:\n    nodes: [{host: h}]\n    failover:\n      mode: promote\n"
        "      proxies: 2\ndatabases: {d: {cluster: main}}\n",
        [
            "f.yaml:5: clusters.main.failover.mode: 2 proxies would each promote on their own; "
            "say under coordinator where they agree, or write follow in all but one of them and "
            "proxies: 1 in that one"
        ],
    ),
    "two that promote": (
        "clusters:\n  main:\n    nodes: [{host: h}]\n    failover:\n      mode: promote\n"
        "      patroni: {urls: [http://h:8008]}\ndatabases: {d: {cluster: main}}\n",
        [
            "f.yaml:5: clusters.main.failover.mode: promote, although Patroni promotes here; "
            "write follow"
        ],
    ),
    "two places to agree in": (
        "clusters:\n  main:\n    nodes: [{host: h}]\n    failover:\n      mode: promote\n"
        "      proxies: 2\n      coordinator:\n        etcd: {endpoints: [http://e:2379]}\n"
        "        kubernetes: {}\ndatabases: {d: {cluster: main}}\n",
        [
            "f.yaml:7: clusters.main.failover.coordinator: proxies agree in one place only: etcd "
            "or kubernetes"
        ],
    ),
    "a database without a cluster": (
        "clusters: {main: {nodes: [{host: h}]}}\ndatabases:\n  d:\n",
        ["f.yaml:3: databases.d.cluster: required, but absent"],
    ),
    "the console's name": (
        "clusters: {main: {nodes: [{host: h}]}}\ndatabases:\n  pgbouncer: {cluster: main}\n",
        ["f.yaml:3: databases.pgbouncer: this name is the admin console's; choose another"],
    ),
    "a key no database has": (
        "clusters: {main: {nodes: [{host: h}]}}\ndatabases:\n  d: {cluster: main, hots: h}\n",
        [
            "f.yaml:3: databases.d.hots: unknown key; known are cluster, dbname, "
            "read_write_split, read_transactions, share_unnamed, server_settings, connect_query, "
            "server and the keys of limits"
        ],
    ),
    "a limit misspelt in a database": (
        "clusters: {main: {nodes: [{host: h}]}}\ndatabases:\n  d: {cluster: main, poolsize: 1}\n",
        ["f.yaml:3: databases.d.poolsize: unknown key; did you mean 'pool_size'?"],
    ),
    "an admin who is no user": (
        AUTH + "auth:\n  users: {ops: {password: x}}\n  admins: [opps]\n",
        ["f.yaml:5: auth.admins[0]: there is no user 'opps'; did you mean 'ops'?"],
    ),
    "an admin and no users": (
        AUTH + "auth:\n  stats:\n    - grafana\n",
        ["f.yaml:5: auth.stats[0]: there is no user 'grafana'; add it under auth.users"],
    ),
    "certificates for login": (
        AUTH + "auth:\n  method: cert\n",
        [
            "f.yaml:4: auth.method: cert needs TLS and authorities; write listen.tls with mode: "
            "require and ca"
        ],
    ),
    "rules without their file": (
        AUTH + "auth:\n  method: hba\n",
        ["f.yaml:4: auth.method: hba needs rules; name their file under hba_file"],
    ),
    "rules that nobody reads": (
        AUTH + "auth:\n  hba_file: /dev/null\n",
        [
            "f.yaml:4: auth.hba_file: nobody reads it with method scram-sha-256; write hba",
        ],
    ),
    "a map that nobody asks for": (
        AUTH + "auth:\n  map: m\n",
        [
            "f.yaml:4: auth.map: nobody asks for it with method scram-sha-256; write method: cert",
        ],
    ),
    "a group of a group that is not there": (
        AUTH + "auth:\n  groups:\n    dev: [ann, +opps]\n    ops: [olga]\n",
        ["f.yaml:5: auth.groups.dev[1]: there is no group 'opps'; did you mean 'ops'?"],
    ),
    "a query that nobody asks": (
        AUTH + "auth:\n  query: SELECT 1\n",
        [
            "f.yaml:4: auth.query: nobody to ask it as in cluster main; write query_user, or a "
            "server.user"
        ],
    ),
    "a damaged verifier": (
        AUTH + "auth:\n  users:\n    app:\n      password: SCRAM-SHA-256$4096:c2FsdA==$hunter2\n",
        [
            "f.yaml:6: auth.users.app.password: a damaged SCRAM verifier; write "
            "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey as pg_authid has it"
        ],
    ),
    "a password that is a list": (
        AUTH + "auth:\n  users:\n    app:\n      password: [hunter2]\n",
        ["f.yaml:6: auth.users.app.password: expected text"],
    ),
    "two words for one list": (
        AUTH + "auth: {users: {ops: {}}, admins: ops}\n",
        ["f.yaml:3: auth.admins: expected a list, such as [one, two]"],
    ),
    "an open bracket": (
        "clusters: [\n",
        [
            "f.yaml:2: (yaml): expected the node content, but found '<stream end>'; close what "
            "was opened, and indent what belongs together alike"
        ],
    ),
    "a tab": (
        "clusters:\n\tmain: 1\n",
        [
            "f.yaml:2: (yaml): found character '\\t' that cannot start any token; indent with "
            "spaces, not with tabs"
        ],
    ),
    "a colon too many": (
        "log: {level: info}\nlisten: host: h\n",
        [
            "f.yaml:2: (yaml): mapping values are not allowed here; indent it anew, or put "
            "quotes around a value with a colon"
        ],
    ),
    "a password that looks like an alias": (
        "auth:\n  users: {app: {password: *hunter2}}\n",
        [
            "f.yaml:2: (yaml): found undefined alias '…'; put quotes around a value that begins "
            "with *"
        ],
    ),
    "a control character": ("log: {}\n\x00", ["f.yaml:2: (yaml): a control character; remove it"]),
    "two documents": (
        "log: {}\n---\nlog: {}\n",
        [
            "f.yaml:2: (yaml): but found another document; remove the line ---",
        ],
    ),
}


@pytest.mark.parametrize(("text", "said"), WHOLE.values(), ids=WHOLE.keys())
def test_file_that_is_wrong_is_told_line_by_line(
    text: str, said: list[str], wrong: Callable[..., list[str]]
) -> None:
    assert wrong(text) == said


def test_all_mistakes_are_told_at_once_and_none_hides_another(
    wrong: Callable[..., list[str]],
) -> None:
    text = """\
listen: {port: 99999}
workers: many
auth:
  admins: [ops]
  users:
    app: {pool_size: ${SIZE}}
clusters:
  main:
    nodes:
      - {name: a, host: h1, weight: heavy}
      - {name: a, host: h2}
  lost: {nodes: []}
databases:
  one: {cluster: mian}
  two: {cluster: main, dbnam: x}
limits: {server_lifetime: soon}
"""
    assert [line.split(" ", 2)[:2] for line in wrong(text)] == [
        ["f.yaml:1:", "listen.port:"],
        ["f.yaml:2:", "workers:"],
        ["f.yaml:4:", "auth.admins[0]:"],
        ["f.yaml:6:", "auth.users.app.pool_size:"],
        ["f.yaml:10:", "clusters.main.nodes[0].weight:"],
        ["f.yaml:11:", "clusters.main.nodes[1].name:"],
        ["f.yaml:12:", "clusters.lost.nodes:"],
        ["f.yaml:14:", "databases.one.cluster:"],
        ["f.yaml:15:", "databases.two.dbnam:"],
        ["f.yaml:16:", "limits.server_lifetime:"],
    ]


def test_what_follows_from_a_mistake_is_not_told_as_another(
    wrong: Callable[..., list[str]],
) -> None:
    text = "clusters: {main: {nodes: [{port: 1}]}}\ndatabases: {d: {cluster: main}}\n"
    assert wrong(text) == ["f.yaml:1: clusters.main.nodes[0].host: required, but absent"]


def test_aliases_that_multiply_are_stopped(wrong: Callable[..., list[str]]) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 12):
        items = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{items}]")
    (said,) = wrong("\n".join(lines))
    assert said.endswith("(yaml): aliases multiply without end")


def test_nesting_without_end_is_stopped(wrong: Callable[..., list[str]]) -> None:
    assert wrong("a: " + "[" * 5000) == [
        "f.yaml:1: (yaml): nested too deeply; no configuration needs that"
    ]
