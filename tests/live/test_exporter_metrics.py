"""Metrics of pgbouncer_exporter: dashboards made for it find all that they ask for."""

from collections.abc import Iterator

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.console import AUTH, LOOKER
from tests.fixtures.golang import ExporterQuestions
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres

# As pgbouncer_exporter 0.11 has them (collector.go): kind, labels, names.
FAMILIES: list[tuple[str, str, set[str], list[str]]] = [
    (
        "",
        "gauge",
        set(),
        [
            "up",
            "databases",
            "users",
            "pools",
            "free_clients",
            "used_clients",
            "login_clients",
            "free_servers",
            "used_servers",
            "cached_dns_names",
            "cached_dns_zones",
            "in_flight_dns_queries",
            "config_max_client_connections",
            "config_max_user_connections",
        ],
    ),
    ("version_", "gauge", {"version"}, ["info"]),
    (
        "databases_",
        "gauge",
        {"name", "host", "port", "database", "force_user", "pool_mode"},
        [
            "pool_size",
            "reserve_pool",
            "max_connections",
            "current_connections",
            "paused",
            "disabled",
        ],
    ),
    (
        "stats_totals_",
        "counter",
        {"database"},
        [
            "queries_pooled_total",
            "queries_duration_seconds_total",
            "received_bytes_total",
            "sent_bytes_total",
            "client_wait_seconds_total",
            "sql_transactions_pooled_total",
            "server_in_transaction_seconds_total",
            "client_parses_total",
            "server_parses_total",
            "binds_total",
        ],
    ),
    (
        "pools_",
        "gauge",
        {"database", "user"},
        [
            "client_active_connections",
            "client_active_cancel_connections",
            "client_waiting_connections",
            "client_waiting_cancel_connections",
            "server_active_connections",
            "server_active_cancel_connections",
            "server_being_canceled_connections",
            "server_idle_connections",
            "server_used_connections",
            "server_testing_connections",
            "server_login_connections",
            "client_maxwait_seconds",
        ],
    ),
]


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    config = configuration(pg18, compat={"pgbouncer_metrics": True}, auth=AUTH)
    with running(config, tmp_path_factory.mktemp("exporter")) as weir:
        yield weir


def test_every_metric_of_the_exporter_is_there_as_it_is_there(weir: Pgweir) -> None:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        client.execute("SELECT 1")
        families = list(text_string_to_metric_families(weir.http("/metrics")[1]))
    said = {
        sample.name: (family.type, set(sample.labels))
        for family in families
        for sample in family.samples
        if sample.name.startswith("pgbouncer_")
    }
    assert said == {
        f"pgbouncer_{prefix}{name}": (kind, labels)
        for prefix, kind, labels, names in FAMILIES
        for name in names
    }


def test_console_answers_what_the_exporter_asks(
    weir: Pgweir, exporter_questions: ExporterQuestions
) -> None:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        client.execute("SELECT 1")
        dsn = weir.dsn(LOOKER.name, LOOKER.password, "pgbouncer") + "?sslmode=disable"
        found = exporter_questions.ask(dsn, f"{dsn}&binary_parameters=yes")
    assert len(found) == 2
    for answers in found.values():
        assert answers == dict.fromkeys(
            (
                "SHOW STATS",
                "SHOW VERSION;",
                "SHOW LISTS;",
                "SHOW CONFIG;",
                "SHOW databases;",
                "SHOW stats_totals;",
                "SHOW pools;",
            ),
            "",
        )


def test_figures_are_those_of_the_console(weir: Pgweir) -> None:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        before = weir.metric("pgbouncer_stats_totals_queries_pooled_total", database=DATABASE)
        client.execute("SELECT 1")
        labels = {"database": DATABASE, "user": APP.name}
        assert weir.metric("pgbouncer_pools_client_active_connections", **labels) == 1
        assert weir.metric("pgbouncer_pools_server_idle_connections", **labels) == 1
        after = weir.metric("pgbouncer_stats_totals_queries_pooled_total", database=DATABASE)
    assert after == before + 1


def test_without_the_key_they_are_not_there(pgweir: Pgweir) -> None:
    assert "pgbouncer_" not in pgweir.http("/metrics")[1]
