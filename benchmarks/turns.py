"""One turn: a load through one contestant, with the kernel's accounts read before and after."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import pgbench
from benchmarks.cases import FillLoad, IdleLoad, PgbenchLoad
from benchmarks.contestants import Contestant
from benchmarks.cores import Cores
from benchmarks.files import raise_file_limit
from benchmarks.loader import Loader, LoaderFailed
from benchmarks.processes import cpu_ns, look, others_share, resident_kib
from benchmarks.samples import Sample, percentile
from benchmarks.server import Server

# Fewer than this many clients say little about the memory of one.
_FEWEST_IDLE = 1000
# Files of a proxy or a loader besides its clients.
_OTHER_FILES = 300


@dataclass(frozen=True)
class Spent:
    """What logging in costs: CPU time, nanoseconds; transactions done on the way; seconds."""

    proxy_ns: int = 0
    server_ns: int = 0
    transactions: int = 0
    connecting_s: float = 0.0


class Turns:
    """Takes the turns of one case. folder: for pgbench's logs. seconds: the length of a turn."""

    def __init__(
        self, server: Server, cores: Cores, folder: Path, seconds: int, *, tls: bool
    ) -> None:
        self._server = server
        self._cores = cores
        self._folder = folder
        self._seconds = seconds
        self._tls = tls
        self._logins: dict[str, Spent] = {}

    def take(self, load: PgbenchLoad | FillLoad | IdleLoad, contestant: Contestant) -> Sample:
        """Measure once. Raises PgbenchFailed or LoaderFailed when the load did not get through."""
        before = look()
        if isinstance(load, PgbenchLoad):
            sample = self._pgbench(load, contestant)
        elif isinstance(load, FillLoad):
            sample = self._fill(load, contestant)
        else:
            sample = self._idle(load, contestant)
        return replace(sample, others=others_share(before, look()))

    def _pgbench(self, load: PgbenchLoad, contestant: Contestant) -> Sample:
        """pgbench logs all its clients in first; what that costs is measured once and taken off."""
        logins = self._login_cost(load, contestant)
        before = self._read(contestant)
        prefix = self._folder / f"latency-{contestant.name}"
        report = pgbench.measure(
            load,
            contestant.ports,
            tls=self._tls,
            # What connecting took comes on top when it matters: 500 backends are born in seconds.
            seconds=self._seconds + math.ceil(logins.connecting_s - 0.25),
            cores=self._cores.load,
            log_prefix=prefix,
        )
        after = self._read(contestant)
        latencies = pgbench.take_latencies(prefix, load.warm_up_s)
        counted = max(1, report.transactions - logins.transactions)
        proxy_ns = max(0, after[0] - before[0] - logins.proxy_ns)
        server_ns = max(0, after[1] - before[1] - logins.server_ns)
        seconds = report.transactions / report.tps if report.tps else float(self._seconds)
        return Sample(
            transactions=report.transactions,
            seconds=seconds,
            errors=report.failed,
            cpu_us=proxy_ns / counted / 1000,
            server_cpu_us=server_ns / counted / 1000,
            busy=proxy_ns / 1e9 / seconds,
            p50_ms=percentile(latencies, 0.50),
            p95_ms=percentile(latencies, 0.95),
            p99_ms=percentile(latencies, 0.99),
        )

    def _login_cost(self, load: PgbenchLoad, contestant: Contestant) -> Spent:
        """CPU time of one transaction by each client, from connecting to leaving.

        Nothing when every transaction connects anyway: there it is what is measured.
        """
        if contestant.name in self._logins:
            return self._logins[contestant.name]
        spent = Spent()
        # The first time the proxy opens its server connections; the second time is the cost.
        for _ in range(2):
            before = self._read(contestant)
            report = pgbench.measure(
                load, contestant.ports, tls=self._tls, seconds=None, cores=self._cores.load
            )
            after = self._read(contestant)
            if not load.reconnect:
                spent = Spent(
                    after[0] - before[0],
                    after[1] - before[1],
                    report.transactions,
                    report.connecting_s,
                )
        self._logins[contestant.name] = spent
        return spent

    def _fill(self, load: FillLoad, contestant: Contestant) -> Sample:
        with Loader(contestant.port, load.mode, self._cores.load) as loader:
            opened = loader.open(load.clients)
            if opened["errors"]:
                raise LoaderFailed(f"{opened['errors']} clients could not log in")
            loader.run(load.clients, 0.1)
            before = self._read(contestant)
            facts = loader.run(load.clients, self._seconds)
            after = self._read(contestant)
        if not facts["transactions"]:
            raise LoaderFailed("not one statement was answered")
        return _sample(facts, after[0] - before[0], after[1] - before[1])

    def _idle(self, load: IdleLoad, contestant: Contestant) -> Sample:
        """Memory when all have logged in and the active ones have worked; then each asks once."""
        if contestant.pid is None:
            raise LoaderFailed("there is no proxy to measure")
        empty_kib = resident_kib(contestant.pid)
        with Loader(contestant.port, "simple", self._cores.load) as loader:
            loader.open(load.clients)
            before = self._read(contestant)
            facts = loader.run(load.active, self._seconds)
            after = self._read(contestant)
            full_kib = resident_kib(contestant.pid)
            swept = loader.sweep()
        # Who was refused, lost or not answered at any time is missing in the sweep.
        lost = load.clients - swept["transactions"]
        return _sample(
            facts | {"errors": lost},
            after[0] - before[0],
            after[1] - before[1],
            (full_kib - empty_kib) / load.clients,
        )

    def _read(self, contestant: Contestant) -> tuple[int, int]:
        """CPU time of proxy and server so far, nanoseconds."""
        proxy = cpu_ns(contestant.pid) if contestant.pid is not None else 0
        return proxy, sum(cpu_ns(pid) for pid in self._server.pids)


def affordable(load: IdleLoad) -> IdleLoad | None:
    """The load with as many clients as the limit on open files allows; None if that is too few.

    The share of active ones stays.
    """
    clients = min(load.clients, raise_file_limit(load.clients + _OTHER_FILES) - _OTHER_FILES)
    if clients < _FEWEST_IDLE:
        return None
    return IdleLoad(clients, max(1, load.active * clients // load.clients))


def _sample(
    facts: dict[str, float], proxy_ns: int, server_ns: int, kib_per_client: float | None = None
) -> Sample:
    """From what the loader says."""
    transactions = int(facts["transactions"])
    return Sample(
        transactions=transactions,
        seconds=facts["seconds"],
        errors=int(facts["errors"]),
        cpu_us=proxy_ns / max(1, transactions) / 1000,
        server_cpu_us=server_ns / max(1, transactions) / 1000,
        busy=proxy_ns / 1e9 / max(facts["seconds"], 1e-9),
        p50_ms=facts["p50_us"] / 1000,
        p95_ms=facts["p95_us"] / 1000,
        p99_ms=facts["p99_us"] / 1000,
        kib_per_client=kib_per_client,
    )
