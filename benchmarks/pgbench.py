"""Driving pgbench, and reading what it says.

Source: PostgreSQL documentation, "pgbench": the report at the end, and "Per-Transaction Logging".
"""

import re
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.cases import PgbenchLoad
from benchmarks.children import run
from benchmarks.failure import BenchmarkError
from benchmarks.peers import DATABASE, HOST, PASSWORD, USER
from proxy.embedded import EmbeddedError, bundled

SCRIPTS = Path(__file__).parent / "scripts"
# Connecting 500 clients and waiting for the last transactions takes a moment.
_GRACE_S = 60.0
_ASK_S = 20.0


class PgbenchFailed(Exception):  # noqa: N818 -- a fact about a turn, not the end of the run
    """pgbench ended with an error, or hung; the text is its last words."""


@dataclass(frozen=True)
class Report:
    """The end of pgbench's output.

    connecting_s: until all clients were connected, seconds; pgbench takes it off the time it is
    given. tps: transactions for each second of what is left, or of what came after warming up.
    """

    transactions: int
    failed: int
    connecting_s: float
    tps: float


def parse_report(text: str) -> Report:
    """Read the report; PgbenchFailed when it is not one."""
    processed = re.search(r"number of transactions actually processed: (\d+)", text)
    failed = re.search(r"number of failed transactions: (\d+)", text)
    tps = re.search(r"^tps = ([0-9.]+)", text, re.MULTILINE)
    connecting = re.search(r"initial connection time = ([0-9.]+) ms", text)
    if processed is None or tps is None:
        last = text.strip().rpartition("\n")[2]
        raise PgbenchFailed(f"pgbench got nothing done and ended with {last!r}")
    return Report(
        transactions=int(processed[1]),
        failed=int(failed[1]) if failed else 0,
        connecting_s=float(connecting[1]) / 1000 if connecting else 0.0,
        tps=float(tps[1]),
    )


def parse_progress(text: str, warm_up_s: int) -> float:
    """Read from the lines of `-P 1` how many transactions a second brought after warming up.

    Raises PgbenchFailed when no second was left.
    """
    lines = re.findall(r"^progress: ([0-9.]+) s, ([0-9.]+) tps", text, re.MULTILINE)
    transactions = before_s = counted_s = 0.0
    for ended, tps in lines:
        ended_s = float(ended)
        if ended_s > warm_up_s + 0.5:
            transactions += float(tps) * (ended_s - before_s)
            counted_s += ended_s - before_s
        before_s = ended_s
    if not counted_s:
        raise PgbenchFailed(f"pgbench did not get beyond warming up, {warm_up_s} s")
    return transactions / counted_s


def parse_log(lines: Iterable[str], warm_up_s: int = 0) -> list[float]:
    """Read latencies, milliseconds, from lines of a per-transaction log, but for its beginning.

    Shape of a line: client, number, latency in microseconds, script, and the time of its end in two
    numbers; transactions that failed or were skipped have a word in place of the latency.
    """
    latencies: list[tuple[float, float]] = []
    for line in lines:
        fields = line.split()
        if len(fields) >= 6 and fields[2].isdigit():
            latencies.append((int(fields[4]) + int(fields[5]) / 1e6, int(fields[2]) / 1000))
    counts_from_s = min((ended_s for ended_s, _ in latencies), default=0.0) + warm_up_s
    return [latency for ended_s, latency in latencies if ended_s >= counts_from_s]


def command(
    load: PgbenchLoad,
    port: int,
    *,
    seconds: int | None,
    log_prefix: Path | None = None,
    threads: int = 1,
) -> list[str]:
    """Write the command line; one transaction for each client when `seconds` is None."""
    script = load.script
    chosen = ["-b", script[1:]] if script.startswith("@") else ["-f", str(SCRIPTS / script)]
    words = [_pgbench(), "-h", HOST, "-p", str(port), "-U", USER, "-n", *chosen]
    words += ["-M", load.mode, "-c", str(load.clients), "-j", str(min(threads, load.clients))]
    if seconds is None:
        words += ["-t", "1"]
    elif load.warm_up_s:
        # The last second's line may be missing.
        words += ["-T", str(load.warm_up_s + seconds + 1), "-P", "1"]
    else:
        words += ["-T", str(seconds)]
    if load.reconnect:
        words.append("-C")
    if log_prefix is not None:
        words += ["-l", f"--log-prefix={log_prefix}"]
        # A line for each transaction would cost the load a few per cent of its only core.
        if load.clients >= 8 and not load.reconnect and "mb_" not in script:
            words.append("--sampling-rate=0.1")
    return [*words, DATABASE]


def measure(
    load: PgbenchLoad,
    ports: tuple[int, ...],
    *,
    tls: bool,
    seconds: int | None,
    cores: frozenset[int] | None,
    log_prefix: Path | None = None,
) -> Report:
    """Run pgbench to its end, one for each port with its share of the clients, and add up.

    Raises PgbenchFailed.
    """
    share = replace(load, clients=load.clients // len(ports))

    def one(port: int) -> Report:
        prefix = None if log_prefix is None else log_prefix.with_name(f"{log_prefix.name}.{port}")
        return _measure(share, port, tls=tls, seconds=seconds, cores=cores, log_prefix=prefix)

    with ThreadPoolExecutor(len(ports)) as pool:
        reports = list(pool.map(one, ports))
    return Report(
        transactions=sum(each.transactions for each in reports),
        failed=sum(each.failed for each in reports),
        connecting_s=max(each.connecting_s for each in reports),
        tps=sum(each.tps for each in reports),
    )


def _measure(
    load: PgbenchLoad,
    port: int,
    *,
    tls: bool,
    seconds: int | None,
    cores: frozenset[int] | None,
    log_prefix: Path | None = None,
) -> Report:
    threads = len(cores) if cores else 1
    argv = command(load, port, seconds=seconds, log_prefix=log_prefix, threads=threads)
    try:
        done = run(
            argv,
            timeout_s=(seconds or 0) + load.warm_up_s + _GRACE_S,
            cores=cores,
            environment=environment(tls=tls),
        )
    except subprocess.TimeoutExpired:
        raise PgbenchFailed("pgbench did not end in time") from None
    if done.returncode != 0:
        raise PgbenchFailed(done.stderr.strip()[-400:] or f"exit status {done.returncode}")
    report = parse_report(done.stdout)
    if seconds is None or not load.warm_up_s:
        return report
    return replace(report, tps=parse_progress(done.stderr, load.warm_up_s))


def take_latencies(log_prefix: Path, warm_up_s: int = 0) -> list[float]:
    """Read the logs that a run wrote, milliseconds, and remove them."""
    latencies: list[float] = []
    for file in log_prefix.parent.glob(f"{log_prefix.name}.*"):
        with file.open() as lines:
            latencies += parse_log(lines, warm_up_s)
        file.unlink()
    return latencies


def ask_once(port: int, *, tls: bool) -> str | None:
    """Send one statement; None when it was answered, otherwise why not."""
    argv = [_pgbench(), "-h", HOST, "-p", str(port), "-U", USER, "-n", "-t", "1"]
    argv += ["-f", str(SCRIPTS / "one.sql"), DATABASE]
    try:
        done = run(argv, timeout_s=_ASK_S, environment=environment(tls=tls))
    except subprocess.TimeoutExpired:
        return f"no answer to a statement in {_ASK_S:g} s"
    return None if done.returncode == 0 else done.stderr.strip()[-300:]


def fill_tables(port: int, scale: int) -> None:
    """Make pgbench's tables, `scale` times 100,000 accounts. Raises BenchmarkError."""
    argv = [_pgbench(), "-h", HOST, "-p", str(port), "-U", USER, "-i", "-q", "-s", str(scale)]
    done = run([*argv, DATABASE], timeout_s=300, environment=environment(tls=False))
    if done.returncode != 0:
        raise BenchmarkError(f"pgbench -i failed: {done.stderr.strip()[-300:]}")


def environment(*, tls: bool) -> dict[str, str]:
    """What libpq is to know besides the command line; nothing is left to its guesses."""
    return {
        "PGPASSWORD": PASSWORD,
        "PGSSLMODE": "require" if tls else "disable",
        "PGGSSENCMODE": "disable",
        "PGOPTIONS": "",
        "PGCONNECT_TIMEOUT": "30",
    }


def _pgbench() -> str:
    """The distribution's pgbench, which has TLS; else the one beside the embedded PostgreSQL."""
    found = shutil.which("pgbench")
    if found is not None:
        return found
    try:
        return str(bundled().path("pgbench"))
    except EmbeddedError:
        raise BenchmarkError(
            "pgbench is not installed: on Debian, apt-get install postgresql-client postgresql"
        ) from None
