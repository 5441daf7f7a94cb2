"""Measure what clients see of each fault, many times, and write the table of docs/failover.md.

    make failover-table                 a quarter of an hour
    make failover-table RUNS=2          a first impression
    make failover-table FAULTS='kill disk'    these rows only; see ROWS

Each run: 32 clients append numbered rows through the proxy; something happens to the primary; when
all clients can append again, the table is held against what they were told. The proxy has default
settings but for `min_interval`, since runs follow each other. The figures are of one machine that
runs everything: three PostgreSQL, the proxy, the clients.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from proxy.config import parse
from proxy.workers.worker import Worker
from tests.fixtures.disks import Disk
from tests.fixtures.pgweir import configuration, running
from tests.fixtures.postgres import (
    APP,
    DATABASE,
    SYNCHRONOUS,
    Background,
    Postgres,
    start_replicated,
)
from tests.live.appending import TABLE, Notes, appending, check
from tests.live.arena import (
    CLIENTS,
    FAULTS,
    Arena,
    Setting,
    an_arena,
    an_arena_with_a_disk,
    promoting,
    run_out_of_wal,
    wired,
)

PAGE = Path(__file__).parents[2] / "docs" / "failover.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


@dataclass
class Row:
    """What the runs of one fault came to."""

    fault: str
    first_s: list[float] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)
    errors: int = 0
    unknown: int = 0
    disconnected: int = 0
    acknowledged: int = 0
    lost: int = 0
    wrong: int = 0

    def take(self, notes: Notes, at: float, new: Postgres) -> None:
        """Count one run. at: when the fault happened. new: the primary afterwards."""
        history = check(notes, new)
        self.first_s.append(notes.first_after(at))
        self.pauses_s += notes.longest_pauses()
        self.errors += sum(notes.errors.values())
        self.unknown += len(notes.unknown)
        self.disconnected += notes.disconnected
        self.acknowledged += len(notes.acknowledged)
        self.lost += len(history.lost)
        self.wrong += len(history.doubled) + len(history.invented) + len(history.unfailed)
        print(f"{self.fault}: {self.first_s[-1]:.2f} s, {history}", file=sys.stderr, flush=True)

    def render(self) -> str:
        cells = (
            self.fault,
            str(len(self.first_s)),
            f"{statistics.median(self.first_s):.2f}",
            f"{statistics.median(self.pauses_s):.2f}",
            f"{max(self.pauses_s):.2f}",
            f"{self.errors / len(self.first_s):.1f}",
            f"{self.unknown / len(self.first_s):.1f}",
            str(self.disconnected),
            f"{self.lost} of {self.acknowledged}",
            str(self.wrong),
        )
        return f"| {' | '.join(cells)} |"


# In the order of the table.
ROWS = {
    "kill": "`kill -9`, synchronous",
    "async": "`kill -9`, asynchronous",
    "immediate": "immediate shutdown, synchronous",
    "stop": "SIGSTOP, synchronous, `wal_receiver_timeout` 5 s",
    "cut": "network cut, synchronous, `wal_receiver_timeout` 5 s",
    "disk": "disk of the WAL full, synchronous",
    "switch": "switchover, synchronous",
}
HEAD = """\
| fault | runs | writes again after, median s | pause of a client, median s | longest s \
| errors a run | of these outcome unknown | disconnected | acknowledged rows lost \
| doubled, invented |
|---|---|---|---|---|---|---|---|---|---|
"""


def defaults() -> Setting:
    """As little as a configuration can say."""
    return {
        **promoting(),
        "clusters": {
            "main": {
                "monitor": {"interval": "1s"},
                "failover": {"mode": "promote", "min_interval": 0},
            }
        },
    }


def measure(arena: Arena, row: Row, fault: Callable[[Postgres], None], runs: int) -> None:
    """Something happens to the primary, again and again."""
    for _ in range(runs):
        arena.until_settled()
        old = arena.primary
        others = [node for node in arena.cluster.nodes if node is not old]
        moment = [0.0]

        def strike(old: Postgres = old, moment: list[float] = moment) -> None:
            moment[0] = time.monotonic()
            fault(old)

        notes = asyncio.run(arena.load_through(strike))
        row.take(notes, moment[0], arena.primary_among(others))
        if row.fault.startswith("SIGSTOP"):
            old.thaw()
        arena.rebuild(old)


@contextlib.contextmanager
def standing(background: Background, synchronous: str) -> Iterator[Arena]:
    with (
        tempfile.TemporaryDirectory() as folder,
        an_arena(background, Path(folder), synchronous, defaults()) as arena,
    ):
        yield arena


def measure_full_disks(background: Background, row: Row, runs: int) -> None:
    """The disk of the primary's WAL is full; root only."""
    cluster = start_replicated(background, replicas=2, synchronous=SYNCHRONOUS)
    try:
        for _ in range(runs):
            old = Arena.primary_among(list(cluster.nodes))
            moment = [0.0]
            with (
                tempfile.TemporaryDirectory() as folder,
                an_arena_with_a_disk(cluster, Path(folder), defaults()) as (arena, disk),
            ):
                arena.until_settled()

                def strike(
                    old: Postgres = old, disk: Disk = disk, moment: list[float] = moment
                ) -> None:
                    moment[0] = time.monotonic()
                    run_out_of_wal(old, disk)

                notes = asyncio.run(arena.load_through(strike))
                others = [node for node in cluster.nodes if node is not old]
                row.take(notes, moment[0], arena.primary_among(others))
            cluster.rebuild(old)
    finally:
        cluster.close()


def measure_cuts(background: Background, row: Row, runs: int) -> None:
    """The primary is cut from everybody, and alive."""
    cluster = start_replicated(background, replicas=2, synchronous=SYNCHRONOUS)
    try:
        with tempfile.TemporaryDirectory() as folder, wired(cluster) as wires:
            config = configuration(*cluster.nodes, **defaults())
            config["clusters"]["main"]["nodes"] = wires.settings()
            with running(config, Path(folder)) as weir:
                arena = Arena(cluster, weir, Path(folder) / "told")
                for _ in range(runs):
                    arena.until_settled()
                    old = arena.primary
                    others = [node for node in cluster.nodes if node is not old]
                    wires.lead(*others, primary=old)
                    arena.until_settled()
                    moment = [0.0]

                    def strike(old: Postgres = old, moment: list[float] = moment) -> None:
                        moment[0] = time.monotonic()
                        wires.silence(old)

                    notes = asyncio.run(arena.load_through(strike))
                    row.take(notes, moment[0], arena.primary_among(others))
                    old.kill()
                    wires.restore(old)
                    arena.rebuild(old)
    finally:
        cluster.close()


async def switch(arena: Arena, row: Row) -> None:
    """One switchover, by a proxy in this process."""
    old = arena.primary
    await asyncio.to_thread(old.execute, f"DROP TABLE IF EXISTS appended; {TABLE}")
    worker = Worker(parse(yaml.safe_dump(configuration(*arena.cluster.nodes, **defaults())), {}))
    facts = await worker.start()
    url = f"postgres://{APP.name}:{APP.password}@127.0.0.1:{facts['port']}/{DATABASE}"
    try:
        async with appending(url, clients=CLIENTS) as appender:
            await appender.until_acknowledged(3)
            moment = time.monotonic()
            await worker.failover("main")
            await appender.until_acknowledged(3)
    finally:
        await worker.stop(patience_s=0)
    others = [node for node in arena.cluster.nodes if node is not old]
    new = await asyncio.to_thread(arena.primary_among, others)
    await asyncio.to_thread(row.take, appender.notes, moment, new)
    await asyncio.to_thread(arena.rebuild, old)


def replace_rows(table: str, measured: list[str]) -> str:
    """Put rows in the place of those of the same fault; all of them in their order."""

    def fault(line: str) -> str:
        return line.split("|")[1].strip()

    lines = {fault(line): line for line in (*table.splitlines(), *measured)}
    return "".join(f"{lines[each]}\n" for each in ROWS.values() if each in lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=10)
    options.add_argument("--only", nargs="+", choices=ROWS, default=[*ROWS], metavar="FAULT")
    wanted = options.parse_args()
    runs = wanted.runs
    rows = {key: Row(ROWS[key]) for key in ROWS if key in wanted.only}
    background = Background()
    try:
        if rows.keys() - {"async", "cut", "disk"}:
            with standing(background, SYNCHRONOUS) as arena:
                if "kill" in rows:
                    measure(arena, rows["kill"], FAULTS["kill -9"], runs)
                if "immediate" in rows:
                    measure(arena, rows["immediate"], FAULTS["immediate shutdown"], runs)
                if "stop" in rows:
                    measure(arena, rows["stop"], lambda node: node.freeze(), runs)
                for _ in range(runs if "switch" in rows else 0):
                    asyncio.run(switch(arena, rows["switch"]))
        if "async" in rows:
            with standing(background, "") as arena:
                measure(arena, rows["async"], FAULTS["kill -9"], runs)
        if "disk" in rows:
            measure_full_disks(background, rows["disk"], runs)
        if "cut" in rows:
            measure_cuts(background, rows["cut"], runs)
    finally:
        background.close()
    machine = f"{os.cpu_count()} cores, PostgreSQL 18, {CLIENTS} clients\n\n"
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    old, _, after = rest.partition(END)
    known = old.partition(HEAD)[2]
    table = HEAD + replace_rows(known, [row.render() for row in rows.values()])
    PAGE.write_text(f"{before}{BEGIN}{machine}{table}{END}{after}", "utf-8")
    print(machine + table)


if __name__ == "__main__":
    main()
