"""Alerts and the dashboard: checked by promtool, and asked of a real Prometheus."""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from proxy.embedded.ports import free_port
from proxy.telemetry.metrics import METRICS
from proxy.telemetry.process import ProcessCollector
from tests.fixtures.missing import do_without
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, PostgresCluster

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "pgweir.json"
PATIENCE_S = 60.0


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        do_without(f"needs {name} (Debian's package prometheus)")
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[tuple[str, str]]:
    """Title and query of everything the dashboard shows."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    return [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:pgweir|process)_\w+", expression))


def known_metrics() -> set[str]:
    known = {row.name for row in METRICS}
    known |= {f"{row.name}_bucket" for row in METRICS if row.kind == "histogram"}
    return known | {
        sample.name for metric in ProcessCollector().collect() for sample in metric.samples
    }


def test_promtool_takes_the_rules() -> None:
    subprocess.run([program("promtool"), "check", "rules", ALERTS], check=True)


def test_alerts_fire_when_they_should_and_not_else() -> None:
    tests = Path(__file__).with_name("alerts.test.yml")
    done = subprocess.run(
        [program("promtool"), "test", "rules", tests], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_and_dashboard_ask_only_for_metrics_there_are() -> None:
    asked = [rule["expr"] for rule in rules()] + [query for _, query in panels()]
    assert set().union(*map(metrics_in, asked)) <= known_metrics()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description"}


class Prometheus:
    """A running one, asked over its API."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"{self._base}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def value(self, query: str) -> list[Any]:
        return self.ask("/api/v1/query", query=query)["result"]

    def wait_for(self, query: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if self.value(query):
                    return
            except (urllib.error.URLError, ConnectionError):
                pass  # it is still starting
            assert time.monotonic() < deadline, f"nothing for {query}"
            time.sleep(0.2)


def do_some_work(weir: Pgweir) -> None:
    for database in (DATABASE, "reads"):
        with psycopg.connect(weir.dsn(database=database), autocommit=True) as client:
            client.execute("SELECT pg_advisory_lock(1)")
            with pytest.raises(psycopg.Error):
                client.execute("SELECT 1 / 0")


@pytest.fixture(scope="module")
def prometheus(
    pg_replicated: PostgresCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Prometheus after it has scraped a proxy that did some work."""
    server = program("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    config = configuration(
        *pg_replicated.nodes,
        databases={DATABASE: {"cluster": "main"}, "reads": {"cluster": "main", "dbname": DATABASE}},
        routes=[{"match": {"database": "reads"}, "to": "replica"}],
    )
    with running(config, folder) as weir, psycopg.connect(weir.dsn(), autocommit=True) as stays:
        stays.execute("SELECT 1")
        scraping = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [
                {
                    "job_name": "pgweir",
                    "static_configs": [{"targets": [f"127.0.0.1:{weir.http_port}"]}],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(scraping))
        port = free_port()
        process = subprocess.Popen(
            [
                server,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            asked = Prometheus(port)
            asked.wait_for("pgweir_up == 1")
            # A rate needs two scrapes, and a series that is there at the first.
            do_some_work(weir)
            asked.wait_for('pgweir_errors_total{sqlstate="22012"}')
            do_some_work(weir)
            for counter in ("queries", "errors", "transactions", "pins"):
                asked.wait_for(f"sum(rate(pgweir_{counter}_total[1m])) > 0")
            yield asked
        finally:
            process.terminate()
            process.wait(20)


def test_prometheus_evaluates_every_alert(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        groups = prometheus.ask("/api/v1/rules")["groups"]
        health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
        if "unknown" not in health.values() or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert health == {rule["alert"]: "ok" for rule in rules()}


def test_every_query_of_the_dashboard_has_an_answer(prometheus: Prometheus) -> None:
    def answered(query: str) -> bool:
        plain = query.replace("$__rate_interval", "1m")
        plain = plain.replace("$instance", ".*").replace("$database", ".*")
        return bool(prometheus.value(plain))

    unanswered = [query for _, query in panels() if not answered(query)]
    assert unanswered == []
