"""The metrics of pgbouncer_exporter, for dashboards and alerts that were made for it.

That program asks PgBouncer's console and gives its columns names of its own; this does the same
with our console's rows. Names, labels and factors are those of its version 0.11
(`collector.go`, Apache-2.0), which users rely on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.console.commands import VERSION, Desk
from proxy.console.pools import DATABASE_COLUMNS, POOL_COLUMNS
from proxy.console.statistics import STATS_TOTALS_COLUMNS
from proxy.console.table import Column, Row

_US = 1e-6


@dataclass(frozen=True, slots=True)
class _Table:
    """One SHOW. labels: columns. values: metric by column; factors: for those that need one."""

    name: str
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily]
    columns: tuple[Column, ...]
    labels: tuple[str, ...]
    values: Mapping[str, str]
    factors: Mapping[str, float]


_TABLES = (
    _Table(
        "databases",
        GaugeMetricFamily,
        DATABASE_COLUMNS,
        ("name", "host", "port", "database", "force_user", "pool_mode"),
        {
            "pool_size": "pool_size",
            # Its column has another name since PgBouncer 1.23.
            "reserve_pool_size": "reserve_pool",
            "max_connections": "max_connections",
            "current_connections": "current_connections",
            "paused": "paused",
            "disabled": "disabled",
        },
        {},
    ),
    _Table(
        "stats_totals",
        CounterMetricFamily,
        STATS_TOTALS_COLUMNS,
        ("database",),
        {
            "query_count": "queries_pooled",
            "query_time": "queries_duration_seconds",
            "bytes_received": "received_bytes",
            "bytes_sent": "sent_bytes",
            "wait_time": "client_wait_seconds",
            "xact_count": "sql_transactions_pooled",
            "xact_time": "server_in_transaction_seconds",
            "client_parse_count": "client_parses",
            "server_parse_count": "server_parses",
            "bind_count": "binds",
        },
        {"query_time": _US, "wait_time": _US, "xact_time": _US},
    ),
    _Table(
        "pools",
        GaugeMetricFamily,
        POOL_COLUMNS,
        ("database", "user"),
        {
            "cl_active": "client_active_connections",
            "cl_active_cancel_req": "client_active_cancel_connections",
            "cl_waiting": "client_waiting_connections",
            "cl_waiting_cancel_req": "client_waiting_cancel_connections",
            "sv_active": "server_active_connections",
            "sv_active_cancel": "server_active_cancel_connections",
            "sv_being_canceled": "server_being_canceled_connections",
            "sv_idle": "server_idle_connections",
            "sv_used": "server_used_connections",
            "sv_tested": "server_testing_connections",
            "sv_login": "server_login_connections",
            "maxwait": "client_maxwait_seconds",
        },
        {},
    ),
)

_LISTS = {
    "databases": "databases",
    "users": "users",
    "pools": "pools",
    "free_clients": "free_clients",
    "used_clients": "used_clients",
    "login_clients": "login_clients",
    "free_servers": "free_servers",
    "used_servers": "used_servers",
    "dns_names": "cached_dns_names",
    "dns_zones": "cached_dns_zones",
    "dns_queries": "in_flight_dns_queries",
}


class ExporterMetrics(Collector):
    """Everything pgbouncer_exporter would have said. is_wanted: asked at each scrape.

    `prepare` it before each.
    """

    def __init__(self, desk: Desk, is_wanted: Callable[[], bool]) -> None:
        self._desk = desk
        self._is_wanted = is_wanted
        self._rows: dict[str, list[Row]] = {}

    async def prepare(self) -> None:
        """Ask the console for its tables."""
        self._rows = {}
        if self._is_wanted():
            for name in ("lists", *(table.name for table in _TABLES)):
                rows, _ = await self._desk.gather(f"SHOW {name.upper()}")
                self._rows[name] = list(rows)

    def describe(self) -> list[Metric]:
        """Nothing beforehand: the names are another program's, and nobody else here has them."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric with its samples, or none where they are not wanted."""
        if not self._rows:
            return
        yield _gauge("pgbouncer_up", 1)
        version = GaugeMetricFamily(
            "pgbouncer_version_info", "The version it shows", labels=["version"]
        )
        version.add_metric([VERSION], 1)
        yield version
        for name, items in self._rows["lists"]:
            if (listed := _LISTS.get(str(name))) is not None:
                yield _gauge(f"pgbouncer_{listed}", _number(items))
        config = self._desk.scene.config()
        yield _gauge("pgbouncer_config_max_client_connections", config.listen.max_client_conn)
        yield _gauge("pgbouncer_config_max_user_connections", config.limits.max_user_connections)
        for table in _TABLES:
            yield from _families(table, self._rows[table.name])


def _families(table: _Table, found: Iterable[Row]) -> Iterator[Metric]:
    names = [column.name for column in table.columns]
    rows = _apart(table, [dict(zip(names, row, strict=True)) for row in found])
    for column, metric in table.values.items():
        family = table.kind(
            f"pgbouncer_{table.name}_{metric}", f"{column} of SHOW {table.name.upper()}",
            labels=table.labels,
        )  # fmt: skip
        for labels, row in rows.items():
            family.add_metric(labels, _number(row[column]) * table.factors.get(column, 1))
        yield family


def _apart(
    table: _Table, rows: Iterable[Mapping[str, object]]
) -> dict[tuple[str, ...], Mapping[str, object]]:
    """Rows by their labels: Prometheus refuses a scrape in which a series comes twice.

    A database and user have a row for each target here, which the labels do not tell apart: counts
    are added, and of `maxwait` the longest is taken.
    """
    apart: dict[tuple[str, ...], Mapping[str, object]] = {}
    for row in rows:
        labels = tuple(_text(row[name]) for name in table.labels)
        known = apart.get(labels)
        apart[labels] = row if known is None else _together(table, known, row)
    return apart


def _together(
    table: _Table, one: Mapping[str, object], other: Mapping[str, object]
) -> Mapping[str, object]:
    return {
        column: max(_number(one[column]), _number(other[column]))
        if column == "maxwait"
        else _number(one[column]) + _number(other[column])
        for column in table.values
    }


def _gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, "As pgbouncer_exporter has it", value)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[:128]
