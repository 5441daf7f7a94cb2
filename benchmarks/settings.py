"""What settings of one's own cost: groups of clients that differ, beside as many without any.

    python -m benchmarks.settings [--groups 4] [--seconds 5] [--rounds 3]

64 clients share 20 server connections of one PostgreSQL through one pgweir; in turns without
settings, and in groups whose `statement_timeout`, `work_mem` and `app.tenant` are their own. What
counts is the ratio of the two turns of a round, which come one after the other.
"""

import argparse
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.cases import POOL_SIZE, POSTGRES, PgbenchLoad
from benchmarks.children import Children, run
from benchmarks.contestants import Stage, start_contestant
from benchmarks.cores import Cores
from benchmarks.failure import BenchmarkError
from benchmarks.peers import Wanted
from benchmarks.pgbench import command, environment, parse_report
from benchmarks.server import running_server
from proxy.embedded import free_port

CLIENTS = 64


def options_of(group: int) -> str:
    """Write three settings that no other group has."""
    return (
        f"-c statement_timeout={60 + group}s -c work_mem={4096 + 64 * group} -c app.tenant=t{group}"
    )


def turn(port: int, groups: int, seconds: int, *, own: bool) -> float:
    """Let all groups ask at once. Result: transactions per second, together."""

    def ask(group: int) -> float:
        load = PgbenchLoad(CLIENTS // groups, script="select.sql")
        done = run(
            command(load, port, seconds=seconds),
            timeout_s=seconds + 60,
            environment=environment(tls=False) | {"PGOPTIONS": options_of(group) if own else ""},
        )
        if done.returncode != 0:
            raise BenchmarkError(done.stderr.strip()[-400:])
        return parse_report(done.stdout).tps

    with ThreadPoolExecutor(groups) as pool:
        return sum(pool.map(ask, range(groups)))


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    ratios = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Children(Path(folder)) as children,
        running_server(POSTGRES, children, Cores()) as server,
    ):
        wanted = Wanted(
            port=free_port(),
            server_port=server.port,
            auth="trust",
            max_clients=600,
            pool_size=POOL_SIZE,
            monitor_user=server.monitor.name,
            monitor_password=server.monitor.password,
        )
        weir = start_contestant("pgweir", wanted, Stage(children, Path(folder), Cores()))
        for own in (False, True):
            turn(weir.port, asked.groups, 2, own=own)
        for number in range(asked.rounds):
            # Who is first has no advantage over the rounds.
            tps = {}
            for own in (False, True) if number % 2 == 0 else (True, False):
                tps[own] = turn(weir.port, asked.groups, asked.seconds, own=own)
            ratios.append(tps[True] / tps[False])
            print(
                f"{asked.groups} groups: {tps[False]:,.0f} transactions/s without settings,"
                f" {tps[True]:,.0f} with three of their own: {ratios[-1]:.2f}",
                flush=True,
            )
    print(f"median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
