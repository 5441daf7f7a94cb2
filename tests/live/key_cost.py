"""Measure what a read under a consistency key costs where proxies share a Redis.

    python -m tests.live.key_cost

pgbench -S through a proxy that splits, before a primary with two replicas: sessions without a key
and sessions with one take turns, in the same run. The figures are of one machine that runs
everything. Each is the median of the turns.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.processes import cpu_ns
from proxy.embedded import free_port
from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import (
    APP,
    DATABASE,
    Background,
    PostgresCluster,
    start_replicated,
)
from tests.fixtures.redis import RedisServer
from tests.live.freshness import splitting
from tests.live.test_keys_across_proxies import until_keys_are_shared

ROUNDS = 6
SECONDS = 1
CLIENTS = (1, 16)
SESSIONS = {"without a key": "", "with a key": "-c pgweir.consistency_key=user:42"}
HEAD = (
    "| clients, sessions | CPU µs/tx: proxy | Redis | latency, ms | tx/s | from replicas |\n"
    "|---|--:|--:|--:|--:|--:|\n"
)


def take_turn(
    cluster: PostgresCluster, weir: Pgweir, redis: RedisServer, clients: int, options: str
) -> list[float]:
    """CPU of proxy and Redis, µs/tx; latency, ms; transactions a second; the part of replicas."""
    assert redis.process is not None
    programs = (weir.process.pid, redis.process.pid)
    before = [cpu_ns(pid) for pid in programs]
    read = [weir.metric("pgweir_queries_total", role=role) for role in ("replica", "primary")]
    argv = [cluster.primary.pgbench, "-h", weir.host, "-p", weir.port, "-U", APP.name, "-n", "-S"]
    argv += ["-M", "prepared", "-c", clients, "-T", SECONDS, DATABASE]
    done = subprocess.run(
        [str(word) for word in argv],
        env={**os.environ, "PGPASSWORD": APP.password, "PGOPTIONS": options},
        capture_output=True,
        text=True,
        check=True,
    )
    spent = [cpu_ns(pid) - ns for pid, ns in zip(programs, before, strict=True)]
    now = [weir.metric("pgweir_queries_total", role=role) for role in ("replica", "primary")]
    replica, primary = (after - first for after, first in zip(now, read, strict=True))

    def told(pattern: str) -> float:
        found = re.search(pattern, done.stdout)
        assert found is not None, done.stdout
        return float(found[1])

    count = told(r"actually processed: (\d+)")
    return [
        *(ns / count / 1000 for ns in spent),
        told(r"latency average = ([\d.]+)"),
        told(r"tps = ([\d.]+)"),
        replica / (replica + primary),
    ]


def main() -> None:
    """Print the table of docs/routing.md."""
    turns: dict[tuple[int, str], list[list[float]]] = defaultdict(list)
    background = Background()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis = RedisServer("redis-server", folder, free_port())
        cluster = start_replicated(background, replicas=2)
        try:
            redis.start()
            changes = {"redis": {"url": redis.url}, "log": {"level": "info"}}
            with splitting(cluster, folder, "key", changes) as weir:
                until_keys_are_shared(weir)
                for number in range(ROUNDS):
                    for clients in CLIENTS:
                        for who in sorted(SESSIONS, reverse=bool(number % 2)):
                            turn = take_turn(cluster, weir, redis, clients, SESSIONS[who])
                            turns[clients, who].append(turn)
        finally:
            redis.stop()
            cluster.close()
            background.close()
    sys.stdout.write(HEAD)
    for (clients, who), taken in sorted(turns.items(), reverse=True):
        proxy, in_redis, latency, tps, replicas = map(statistics.median, zip(*taken, strict=True))
        sys.stdout.write(
            f"| {clients}, {who} | {proxy:.1f} | {in_redis:.1f} | {latency:.2f} | {tps:,.0f} "
            f"| {replicas:.0%} |\n"
        )


if __name__ == "__main__":
    main()
