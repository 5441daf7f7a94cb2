"""Metrics of pgbouncer_exporter: dashboards made for it find all that they ask for."""

from collections.abc import Iterator

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres

# As pgbouncer_exporter 0.11 has them.
NAMES = (
    "pgbouncer_up",
    "pgbouncer_version_info",
    "pgbouncer_databases",
    "pgbouncer_users",
    "pgbouncer_pools",
    "pgbouncer_free_clients",
    "pgbouncer_used_clients",
    "pgbouncer_login_clients",
    "pgbouncer_free_servers",
    "pgbouncer_used_servers",
    "pgbouncer_cached_dns_names",
    "pgbouncer_cached_dns_zones",
    "pgbouncer_in_flight_dns_queries",
    "pgbouncer_config_max_client_connections",
    "pgbouncer_config_max_user_connections",
    "pgbouncer_databases_pool_size",
    "pgbouncer_databases_reserve_pool",
    "pgbouncer_databases_max_connections",
    "pgbouncer_databases_current_connections",
    "pgbouncer_databases_paused",
    "pgbouncer_databases_disabled",
    "pgbouncer_stats_totals_queries_pooled_total",
    "pgbouncer_stats_totals_queries_duration_seconds_total",
    "pgbouncer_stats_totals_received_bytes_total",
    "pgbouncer_stats_totals_sent_bytes_total",
    "pgbouncer_stats_totals_client_wait_seconds_total",
    "pgbouncer_stats_totals_sql_transactions_pooled_total",
    "pgbouncer_stats_totals_server_in_transaction_seconds_total",
    "pgbouncer_stats_totals_client_parses_total",
    "pgbouncer_stats_totals_server_parses_total",
    "pgbouncer_stats_totals_binds_total",
    "pgbouncer_pools_client_active_connections",
    "pgbouncer_pools_client_active_cancel_connections",
    "pgbouncer_pools_client_waiting_connections",
    "pgbouncer_pools_client_waiting_cancel_connections",
    "pgbouncer_pools_server_active_connections",
    "pgbouncer_pools_server_active_cancel_connections",
    "pgbouncer_pools_server_being_canceled_connections",
    "pgbouncer_pools_server_idle_connections",
    "pgbouncer_pools_server_used_connections",
    "pgbouncer_pools_server_testing_connections",
    "pgbouncer_pools_server_login_connections",
    "pgbouncer_pools_client_maxwait_seconds",
)


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    config = configuration(pg18, compat={"pgbouncer_metrics": True})
    with running(config, tmp_path_factory.mktemp("exporter")) as weir:
        yield weir


def test_every_metric_of_the_exporter_is_there(weir: Pgweir) -> None:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:
        client.execute("SELECT 1")
        families = list(text_string_to_metric_families(weir.http("/metrics")[1]))
    said = {sample.name for family in families for sample in family.samples}
    assert [name for name in NAMES if name not in said] == []


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
