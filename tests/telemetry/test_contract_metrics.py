"""The names and labels that dashboards rely on: the contract, beside what the program has."""

import pytest

from proxy.telemetry.metrics import METRICS

CONTRACT = {
    "pgweir_up": (),
    "pgweir_client_connections": ("database", "user", "state"),
    "pgweir_server_connections": ("cluster", "node", "database", "user", "state"),
    "pgweir_pool_wait_seconds": (),
    "pgweir_queries_total": ("database", "node", "role"),
    "pgweir_query_duration_seconds": ("database", "role"),
    "pgweir_transactions_total": ("database",),
    "pgweir_bytes_total": ("direction",),
    "pgweir_errors_total": ("database", "sqlstate"),
    "pgweir_node_up": ("cluster", "node"),
    "pgweir_node_role": ("cluster", "node", "role"),
    "pgweir_replication_lag_seconds": ("cluster", "node"),
    "pgweir_replication_lag_bytes": ("cluster", "node"),
    "pgweir_routed_total": ("database", "target", "reason"),
    "pgweir_pins_total": ("reason",),
    "pgweir_failovers_total": ("cluster", "result"),
    "pgweir_failover_duration_seconds": ("cluster",),
}


@pytest.mark.parametrize(("name", "labels"), CONTRACT.items())
def test_a_metric_of_the_contract_has_its_name_and_labels(
    name: str, labels: tuple[str, ...]
) -> None:
    assert [row.labels for row in METRICS if row.name == name] == [labels]
