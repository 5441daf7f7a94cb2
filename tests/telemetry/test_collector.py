"""From figures to what Prometheus reads: names, labels, values, and names meant to do harm."""

from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from proxy.errors import ProxyBug
from proxy.telemetry import (
    BUCKET_BOUNDS_S,
    Durations,
    Figures,
    FiguresCollector,
    Histogram,
    NodeFigures,
    PoolFigures,
    build_registry,
)
from proxy.telemetry.collector import MAX_LABEL_CHARS

# Name, kind and labels as the contract has them, for what exists by now.
CONTRACT = [
    ("pgweir_up", "gauge", set()),
    ("pgweir_client_connections", "gauge", {"database", "user", "state"}),
    ("pgweir_server_connections", "gauge", {"cluster", "node", "database", "user", "state"}),
    ("pgweir_pool_wait_seconds", "histogram", set()),
    ("pgweir_queries_total", "counter", {"database", "node", "role"}),
    ("pgweir_query_duration_seconds", "histogram", {"database", "role"}),
    ("pgweir_transactions_total", "counter", {"database"}),
    ("pgweir_bytes_total", "counter", {"direction"}),
    ("pgweir_errors_total", "counter", {"database", "sqlstate"}),
    ("pgweir_node_up", "gauge", {"cluster", "node"}),
    ("pgweir_routed_total", "counter", {"database", "target", "reason"}),
    ("pgweir_node_role", "gauge", {"cluster", "node", "role"}),
    ("pgweir_replication_lag_seconds", "gauge", {"cluster", "node"}),
    ("pgweir_replication_lag_bytes", "gauge", {"cluster", "node"}),
]

HOSTILE = [
    'quo"te',
    "new\nline",
    "carriage\rreturn",
    "back\\slash",
    'brace"} 1\npgweir_up 0\nx{y="',
    "line\u2028separator",
    "nul\0",
    "ünï",
    "",
]


def durations(*seconds: float) -> Histogram:
    counted = Durations()
    for duration_s in seconds:
        counted.add(duration_s)
    return counted.read()


def a_busy_proxy() -> Figures:
    return Figures(
        version="1.2.3",
        client_connections={("app", "alice", "active"): 3, ("app", "alice", "waiting"): 1},
        client_limit=100,
        server_connections={("main", "db1", "app", "alice", "idle"): 2},
        pools={("main", "db1", "app", "alice"): PoolFigures(size=20, oldest_wait_s=0.5)},
        pool_wait=durations(0.0002, 0.02, 30.0),
        queries={("app", "db1", "primary"): 41, ("app", "db2", "replica"): 7},
        query_duration={("app", "primary"): durations(0.001, 0.001, 0.004)},
        routed={("app", "replica", "read"): 7},
        transactions={"app": 40},
        bytes_received=1000,
        bytes_sent=2000,
        errors={("app", "42P01"): 2},
        nodes=(
            NodeFigures("main", "db1", up=True, role="primary"),
            NodeFigures("main", "db2", up=True, role="replica", lag_s=0.25, lag_bytes=4096),
            NodeFigures("main", "db3", up=False),
        ),
        refusals={"too_many_clients": 5, "some_new_reason": 1},
        protocol_errors={"client": 1},
        cancel_requests={"sent": 4},
        server_connects={("main", "db1", "ok"): 9},
        prepared_statements={"forged": 12},
        pins={"temporary object": 2},
        pinned_clients={"shop": 1},
        replans=1,
        loop_lag=durations(0.0),
    )


def registry_of(figures: Figures) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(FiguresCollector(lambda: figures))
    return registry


def families_of(figures: Figures) -> dict[str, Metric]:
    text = generate_latest(registry_of(figures)).decode()
    return {family.name: family for family in parse_text(text)}


def value_of(figures: Figures, name: str, **labels: str) -> float | None:
    return registry_of(figures).get_sample_value(name, labels)


@pytest.mark.parametrize(("name", "kind", "labels"), CONTRACT, ids=[row[0] for row in CONTRACT])
def test_the_contract_s_metric_is_there_with_its_labels(
    name: str, kind: str, labels: set[str]
) -> None:
    family = families_of(a_busy_proxy())[name.removesuffix("_total")]
    seen = {frozenset(sample.labels) - {"le"} for sample in family.samples}
    assert (family.type, seen) == (kind, {frozenset(labels)})


def test_every_name_begins_with_our_prefix() -> None:
    assert all(name.startswith("pgweir_") for name in families_of(a_busy_proxy()))


@pytest.mark.parametrize(
    ("sample", "labels", "value"),
    [
        ("pgweir_up", {}, 1),
        ("pgweir_build_info", {"version": "1.2.3"}, 1),
        (
            "pgweir_client_connections",
            {"database": "app", "user": "alice", "state": "waiting"},
            1,
        ),
        ("pgweir_client_connections_limit", {}, 100),
        (
            "pgweir_pool_size_limit",
            {"cluster": "main", "node": "db1", "database": "app", "user": "alice"},
            20,
        ),
        (
            "pgweir_pool_oldest_wait_seconds",
            {"cluster": "main", "node": "db1", "database": "app", "user": "alice"},
            0.5,
        ),
        ("pgweir_queries_total", {"database": "app", "node": "db2", "role": "replica"}, 7),
        ("pgweir_bytes_total", {"direction": "received"}, 1000),
        ("pgweir_bytes_total", {"direction": "sent"}, 2000),
        ("pgweir_errors_total", {"database": "app", "sqlstate": "42P01"}, 2),
        ("pgweir_node_role", {"cluster": "main", "node": "db1", "role": "primary"}, 1),
        ("pgweir_node_role", {"cluster": "main", "node": "db1", "role": "replica"}, 0),
        ("pgweir_node_role", {"cluster": "main", "node": "db3", "role": "primary"}, 0),
        ("pgweir_node_up", {"cluster": "main", "node": "db3"}, 0),
        ("pgweir_replication_lag_bytes", {"cluster": "main", "node": "db2"}, 4096),
        ("pgweir_replication_lag_seconds", {"cluster": "main", "node": "db1"}, None),
        ("pgweir_refusals_total", {"reason": "too_many_clients"}, 5),
        ("pgweir_refusals_total", {"reason": "some_new_reason"}, 1),
        ("pgweir_refusals_total", {"reason": "login_failed"}, 0),
        ("pgweir_protocol_errors_total", {"peer": "server"}, 0),
        ("pgweir_prepared_statements_total", {"event": "forged"}, 12),
        ("pgweir_pins_total", {"reason": "temporary object"}, 2),
        ("pgweir_pinned_clients", {"database": "shop"}, 1),
        ("pgweir_replans_total", {}, 1),
        ("pgweir_pool_wait_seconds_bucket", {"le": "0.0001"}, 0),
        ("pgweir_pool_wait_seconds_bucket", {"le": "0.00025"}, 1),
        ("pgweir_pool_wait_seconds_bucket", {"le": "10.0"}, 2),
        ("pgweir_pool_wait_seconds_bucket", {"le": "+Inf"}, 3),
        ("pgweir_pool_wait_seconds_count", {}, 3),
        ("pgweir_pool_wait_seconds_sum", {}, 30.0202),
    ],
)
def test_the_figure_is_shown(sample: str, labels: dict[str, str], value: float | None) -> None:
    assert value_of(a_busy_proxy(), sample, **labels) == value


def test_an_idle_proxy_can_be_scraped() -> None:
    assert families_of(Figures(version="0"))["pgweir_up"].samples[0].value == 1


def test_buckets_reach_from_a_tenth_of_a_millisecond_to_ten_seconds() -> None:
    assert (BUCKET_BOUNDS_S[0], BUCKET_BOUNDS_S[-1]) == (0.0001, 10.0)


def test_openmetrics_is_accepted_by_its_own_parser() -> None:
    text = generate_openmetrics(build_registry(a_busy_proxy)).decode()  # type: ignore[no-untyped-call]
    families = parse_openmetrics(text)  # type: ignore[no-untyped-call]
    names = {family.name for family in families}
    assert {"pgweir_bytes", "pgweir_pool_wait_seconds", "process_cpu_seconds"} <= names


def test_the_process_is_shown_under_the_usual_names() -> None:
    names = {family.name for family in build_registry(a_busy_proxy).collect()}
    assert names >= {
        "process_cpu_seconds",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    }


def test_a_registry_refuses_our_names_a_second_time() -> None:
    registry = build_registry(a_busy_proxy)
    with pytest.raises(ValueError, match="pgweir_up"):
        registry.register(FiguresCollector(a_busy_proxy))


def test_a_scrape_reads_the_counters_once() -> None:
    readings = 0

    def read() -> Figures:
        nonlocal readings
        readings += 1
        return a_busy_proxy()

    generate_latest(build_registry(read))
    assert readings == 1


@pytest.mark.parametrize("parse", [parse_text, parse_openmetrics])
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_comes_back_as_it_was(name: str, parse: object) -> None:
    generate = generate_latest if parse is parse_text else generate_openmetrics
    figures = Figures(version="0", transactions={name: 7})
    text = generate(registry_of(figures)).decode()
    families: Iterable[Metric] = parse(text)  # type: ignore[operator]
    (family,) = [found for found in families if found.name == "pgweir_transactions"]
    assert [(s.labels["database"], s.value) for s in family.samples] == [(name, 7)]


def test_bytes_that_are_not_utf8_do_not_break_the_scrape() -> None:
    name = b"db\xff".decode("utf-8", "surrogateescape")
    figures = Figures(version="0", transactions={name: 7})
    assert b'pgweir_transactions_total{database="db\\\\udcff"} 7.0' in generate_latest(
        registry_of(figures)
    )


def test_a_long_name_is_cut() -> None:
    figures = Figures(version="0", transactions={"x" * 10_000: 7})
    (sample,) = families_of(figures)["pgweir_transactions"].samples
    assert len(sample.labels["database"]) == MAX_LABEL_CHARS


def test_names_that_look_the_same_once_shown_are_one_series() -> None:
    surrogate, spelled = "\udcff", "\\udcff"
    figures = Figures(version="0", transactions={surrogate: 7, spelled: 5})
    (sample,) = families_of(figures)["pgweir_transactions"].samples
    assert sample.value == 12


def test_histograms_of_names_that_look_the_same_are_added() -> None:
    figures = Figures(
        version="0",
        query_duration={
            ("\udcff", "primary"): durations(0.001),
            ("\\udcff", "primary"): durations(3.0),
        },
    )
    count = value_of(
        figures, "pgweir_query_duration_seconds_count", database="\\udcff", role="primary"
    )
    assert count == 2


def test_a_histogram_with_a_count_too_few_is_our_bug() -> None:
    with pytest.raises(ProxyBug, match="one count more"):
        Histogram((0.1, 1.0), (1, 2), 0.5)


def test_a_number_where_a_histogram_belongs_is_our_bug() -> None:
    collector: Collector = FiguresCollector(
        lambda: Figures(version="0", query_duration={("app", "primary"): 1})  # type: ignore[dict-item]
    )
    with pytest.raises(ProxyBug, match="needs a histogram"):
        list(collector.collect())
