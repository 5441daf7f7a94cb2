"""The same facts, written as each proxy reads them."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.certificate import Certificate, make_certificate
from benchmarks.peers import Wanted, haproxy_cfg, pgbouncer_ini, pgbouncer_userlist, pgweir_yaml
from proxy.config import Config, parse

WANTED = Wanted(
    port=6543,
    server_port=5544,
    auth="trust",
    max_clients=600,
    pool_size=20,
    monitor_user="monitor",
    monitor_password="watching",
)


def pgweir(wanted: Wanted) -> Config:
    return parse(pgweir_yaml(wanted), {}, file="bench.yaml", folder=Path("/"))


def settings(ini: str) -> dict[str, str]:
    lines = [line.partition(" = ") for line in ini.splitlines() if " = " in line]
    return {name: value for name, _, value in lines}


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


@pytest.mark.parametrize("auth", ["trust", "scram-sha-256"])
def test_pgweir_accepts_its_configuration_without_a_warning(auth):
    assert pgweir(replace(WANTED, auth=auth)).warnings == ()


def test_pgweir_accepts_its_configuration_with_tls(certificate):
    assert pgweir(replace(WANTED, certificate=certificate)).listen.tls.mode == "require"


def test_pgweir_shares_unnamed_statements_only_when_asked():
    shared = [
        pgweir(replace(WANTED, share_unnamed=wish)).databases["bench"].share_unnamed
        for wish in (False, True)
    ]
    assert shared == [False, True]


def test_with_replicas_pgweir_splits_and_reads_from_all_nodes():
    split = pgweir(replace(WANTED, replica_ports=(5545, 5546)))
    [route] = split.routes
    nodes = split.clusters["main"].nodes
    assert split.warnings == ()
    assert split.databases["bench"].read_write_split
    assert [node.port for node in nodes if route.to in node.roles] == [5544, 5545, 5546]


def test_poolers_get_the_same_pool():
    ours = pgweir(WANTED).databases["bench"]
    theirs = settings(pgbouncer_ini(WANTED, "users"))
    assert (ours.pool_size, ours.pool_mode) == (
        int(theirs["default_pool_size"]),
        theirs["pool_mode"],
    )


def test_poolers_allow_the_same_number_of_clients():
    theirs = settings(pgbouncer_ini(WANTED, "users"))
    assert pgweir(WANTED).listen.max_client_conn == int(theirs["max_client_conn"]) > 600


def test_pgbouncer_logs_no_connections():
    theirs = settings(pgbouncer_ini(WANTED, "users"))
    assert (theirs["log_connections"], theirs["log_disconnections"]) == ("0", "0")


def test_pgbouncer_has_no_unix_socket():
    assert "unix_socket_dir = \n" in pgbouncer_ini(WANTED, "users")


def test_pgbouncer_asks_for_tls_when_there_is_a_certificate(certificate):
    theirs = settings(pgbouncer_ini(replace(WANTED, certificate=certificate), "users"))
    assert theirs["client_tls_sslmode"] == "require"


def test_pgbouncer_has_the_password_in_clear_as_pgweir_has():
    assert pgbouncer_userlist() == '"app" "secret"\n'


def test_haproxy_has_one_thread():
    assert "nbthread 1\n" in haproxy_cfg(WANTED)


def test_haproxy_forwards_to_the_server():
    assert "server db1 127.0.0.1:5544\n" in haproxy_cfg(WANTED)
