"""A configuration from `DATABASE_URL`, and what is said when it cannot be one."""

from pathlib import Path

import pytest

from proxy.config import Config, ConfigError, from_environment

URL = "postgresql://app:p%40ss@db.internal:5433/shop"
SECRET = "hunter2"


def refusal(environ: dict[str, str], listen: str | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        from_environment(environ, listen=listen)
    return str(caught.value).splitlines()


def nodes_of(config: Config) -> list[tuple[str, int]]:
    return [(node.host, node.port) for node in config.clusters["main"].nodes]


def test_user_and_password_are_the_clients_and_the_servers() -> None:
    config = from_environment({"DATABASE_URL": URL})
    found = config.policy("anything", "app")
    assert found is not None
    assert (config.auth.method, config.auth.users["app"].password) == ("scram-sha-256", "p@ss")
    assert (found.server_user, found.server_password) == ("app", "p@ss")


def test_any_database_is_passed_through() -> None:
    found = from_environment({"DATABASE_URL": URL}).policy("anything", "app")
    assert found is not None
    assert (found.dbname, found.cluster, found.target) == ("anything", "main", "primary")


def test_replicas_are_nodes_of_the_same_cluster() -> None:
    environ = {
        "DATABASE_URL": URL,
        "DATABASE_REPLICA_URLS": "postgres://r1, postgresql://app:p%40ss@r2:5434/shop,",
    }
    nodes = [("db.internal", 5433), ("r1", 5432), ("r2", 5434)]
    assert nodes_of(from_environment(environ)) == nodes


@pytest.mark.parametrize(("replicas", "splits"), [("", False), ("postgres://r1", True)])
def test_reads_go_to_replicas_where_some_are_named(replicas: str, splits: bool) -> None:
    config = from_environment({"DATABASE_URL": URL, "DATABASE_REPLICA_URLS": replicas})
    found = config.policy("anything", "app")
    assert found is not None
    assert found.read_write_split is splits


@pytest.mark.parametrize(
    ("url", "node"),
    [
        ("postgres://a:b@h", ("h", 5432)),
        ("postgres://a:b@[::1]:7/d", ("::1", 7)),
        ("postgres://a:b@/d?host=/var/run/PG&port=7", ("/var/run/PG", 7)),
        ("postgres://a:b@%2Fvar%2Frun%2FPG/d", ("/var/run/PG", 5432)),
        ("postgres://a:b@/d", ("localhost", 5432)),
    ],
)
def test_host_may_be_written_in_every_way_of_libpq(url: str, node: tuple[str, int]) -> None:
    assert nodes_of(from_environment({"DATABASE_URL": url})) == [node]


def test_sslmode_holds_between_proxy_and_node() -> None:
    url = f"{URL}?sslmode=require&application_name=x&sslrootcert=system"
    tls = from_environment({"DATABASE_URL": url}).clusters["main"].server.tls
    assert (tls.mode, tls.ca) == ("require", None)


def test_certificates_of_the_url_hold_between_proxy_and_node(tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.touch()
    url = f"{URL}?sslmode=verify-full&sslrootcert={ca}"
    tls = from_environment({"DATABASE_URL": url}).clusters["main"].server.tls
    assert (tls.mode, tls.ca) == ("verify-full", ca)


def test_other_words_of_libpq_about_tls_are_understood() -> None:
    """Such as those in the URLs that clouds hand out."""
    words = (
        "sslmode=require&channel_binding=require&sslnegotiation=direct"
        "&ssl_min_protocol_version=TLSv1.3"
    )
    tls = from_environment({"DATABASE_URL": f"{URL}?{words}"}).clusters["main"].server.tls
    found = (tls.mode, tls.channel_binding, tls.negotiation, tls.min_version)
    assert found == ("require", "require", "direct", "TLSv1.3")


def test_direct_tls_needs_an_sslmode_that_insists() -> None:
    assert refusal({"DATABASE_URL": f"{URL}?sslnegotiation=direct"}) == [
        "DATABASE_URL: sslnegotiation=direct has no way back; write sslmode=require or more with it"
    ]


def test_probes_go_to_the_database_of_the_url() -> None:
    assert from_environment({"DATABASE_URL": URL}).clusters["main"].monitor.dbname == "shop"


def test_there_is_no_http_endpoint_unless_asked_for() -> None:
    assert from_environment({"DATABASE_URL": URL}).http is None


def test_flags_are_obeyed() -> None:
    config = from_environment(
        {"DATABASE_URL": URL}, listen="0.0.0.0:6000", http="127.0.0.1:0", pool_size=9
    )
    assert config.http is not None
    found = (config.listen.host, config.listen.port, config.http.port, config.limits.pool_size)
    assert found == ("0.0.0.0", 6000, 0, 9)


def test_environment_gives_no_warning() -> None:
    environ = {"DATABASE_URL": URL, "DATABASE_REPLICA_URLS": "postgres://r1"}
    assert from_environment(environ).warnings == ()


def test_url_without_a_password_serves_this_machine_with_a_warning() -> None:
    config = from_environment({"DATABASE_URL": "postgres://app@h/d"})
    assert config.auth.method == "trust"
    assert config.warnings == (
        "DATABASE_URL: no password, so clients of this machine are let in without one.",
    )


def test_url_without_a_password_serves_nobody_else() -> None:
    assert refusal({"DATABASE_URL": "postgres://app@h/d"}, listen="0.0.0.0:6432") == [
        "DATABASE_URL: no password, and clients come from elsewhere; write "
        "postgresql://user:password@host:5432/database"
    ]


EXAMPLE = "postgresql://user:password@host:5432/database"
WRONG = {
    "nothing": (
        {},
        [
            f"DATABASE_URL: not set, and no file was given; set it to {EXAMPLE} or name a "
            "file with -c"
        ],
    ),
    "another scheme": (
        {"DATABASE_URL": f"mysql://u:{SECRET}@h/d"},
        [f"DATABASE_URL: not a PostgreSQL URL; write {EXAMPLE}"],
    ),
    "keywords": (
        {"DATABASE_URL": f"host=h password={SECRET}"},
        [f"DATABASE_URL: not a PostgreSQL URL; write {EXAMPLE}"],
    ),
    "no user": (
        {"DATABASE_URL": "postgres://h/d"},
        [f"DATABASE_URL: names no user; write {EXAMPLE}"],
    ),
    "a port that is none": (
        {"DATABASE_URL": f"postgres://u:{SECRET}@h:x/d"},
        [
            f"DATABASE_URL: not a URL with one host; write {EXAMPLE}, replicas in "
            "DATABASE_REPLICA_URLS"
        ],
    ),
    "two hosts": (
        {"DATABASE_URL": f"postgres://u:{SECRET}@h1,h2/d"},
        [f"DATABASE_URL: more than one host; write {EXAMPLE}, replicas in DATABASE_REPLICA_URLS"],
    ),
    "an sslmode that is none": (
        {"DATABASE_URL": f"postgres://u:{SECRET}@h/d?sslmode={SECRET}"},
        [
            "DATABASE_URL: mode: expected one of disable, allow, prefer, require, verify-ca, "
            "verify-full"
        ],
    ),
    "a file that is not there": (
        {"DATABASE_URL": f"postgres://u:{SECRET}@h/d?sslrootcert=/gone"},
        ["DATABASE_URL: there is no file /gone; name one that exists"],
    ),
    "a replica with another login": (
        {
            "DATABASE_URL": f"postgres://u:{SECRET}@h/d",
            "DATABASE_REPLICA_URLS": f"postgres://r,postgres://v:{SECRET}!@s",
        },
        [
            f"DATABASE_REPLICA_URLS[2]: another {what} than in DATABASE_URL; leave it out, or "
            "write a file in which each cluster has its own"
            for what in ("user", "password")
        ],
    ),
    "a node twice": (
        {"DATABASE_URL": "postgres://u:p@h/d", "DATABASE_REPLICA_URLS": "postgres://h:5432"},
        ["DATABASE_REPLICA_URLS[1]: h:5432 is already named; name each node once"],
    ),
}


@pytest.mark.parametrize(("environ", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_with_the_environment_is_told(
    environ: dict[str, str], said: list[str]
) -> None:
    assert refusal(environ) == said


@pytest.mark.parametrize("address", ["6432", ":6432", "h:", "h:x", "h:65536", "h:-1", "h:٣"])
def test_address_that_is_none_is_told(address: str) -> None:
    assert refusal({"DATABASE_URL": URL}, listen=address) == [
        f"--listen: expected HOST:PORT such as 127.0.0.1:6432, got {address!r}"
    ]


@pytest.mark.parametrize("environ", [environ for environ, _ in WRONG.values()], ids=WRONG.keys())
def test_no_url_is_part_of_what_is_said(environ: dict[str, str]) -> None:
    assert SECRET not in "".join(refusal(environ))
