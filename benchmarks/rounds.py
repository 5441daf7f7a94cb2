"""Everything in its order: rigs are set up, contestants take turns, rigs are taken down.

Contestants of a case run side by side and take turns within each round, so that whatever else the
machine does hits all of them alike. Cases with the same rig share its processes, except the case
that measures memory: its rig is like no other's.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from benchmarks.cases import POOL_SIZE, Case, IdleLoad, Rig
from benchmarks.certificate import make_certificate
from benchmarks.children import Children
from benchmarks.contestants import Contestant, Stage, start_contestant
from benchmarks.cores import assign
from benchmarks.loader import LoaderFailed
from benchmarks.peers import Wanted
from benchmarks.pgbench import PgbenchFailed
from benchmarks.quotas import find_hierarchy
from benchmarks.samples import Sample
from benchmarks.server import Server, running_server
from benchmarks.targets import Verdict, judge
from benchmarks.turns import Turns, affordable
from proxy.embedded import free_port

Say = Callable[[str], None]

_NO_QUOTAS = "nodes need quotas of CPU, which take root and the kernel's cgroups"


@dataclass(frozen=True)
class Plan:
    """contestants: who may take part. seconds: the length of a turn. rounds: turns of each."""

    contestants: tuple[str, ...]
    seconds: int
    rounds: int


@dataclass(frozen=True)
class Result:
    """What a case gave.

    samples: for each contestant one entry a round, None where its turn failed. failures: what went
    wrong, a line each. notes: what is different from the case as written.
    """

    case: Case
    samples: Mapping[str, Sequence[Sample | None]]
    verdicts: Sequence[Verdict]
    failures: Sequence[str] = ()
    notes: Sequence[str] = ()


def run_cases(
    cases: Sequence[Case], plan: Plan, children: Children, folder: Path, say: Say
) -> list[Result]:
    """Run every case and give the results in the order of the cases.

    folder: for configurations and logs; every account must be able to enter it. Raises
    BenchmarkError when a server or a contestant does not start.
    """
    results = []
    for rig, group in groupby(cases, key=lambda case: case.rig):
        of_rig = [case for case in group if _who(case, plan)]
        names = {name for case in of_rig for name in _who(case, plan)}
        if not of_rig:
            continue
        if rig.node_share is not None and find_hierarchy() is None:
            say(f"{', '.join(case.name for case in of_rig)}: skipped, {_NO_QUOTAS}")
            results += [_skipped(case, _NO_QUOTAS) for case in of_rig]
            continue
        cores = assign(sorted(os.sched_getaffinity(0)), pinned=rig.is_pinned)
        with (
            running_server(rig, children, cores) as server,
            _running(names, rig, server, Stage(children, folder, cores)) as contestants,
        ):
            for case in of_rig:
                turns = Turns(server, cores, folder, plan.seconds, tls=rig.tls)
                taking_part = [contestants[name] for name in _who(case, plan)]
                results.append(_run_case(case, plan, turns, taking_part, say))
    return results


def _skipped(case: Case, why: str) -> Result:
    return Result(case, {}, judge(case.name, case.targets, {}), (), (f"skipped: {why}",))


def _who(case: Case, plan: Plan) -> list[str]:
    """Who takes part; `direct` only beside a proxy."""
    proxies = [name for name in case.contestants if name in plan.contestants]
    return [name for name in case.contestants if name in proxies or (proxies and name == "direct")]


@contextmanager
def _running(
    names: set[str], rig: Rig, server: Server, stage: Stage
) -> Iterator[dict[str, Contestant]]:
    """All contestants of a rig, up and serving."""
    certificate = make_certificate(stage.folder) if rig.tls else None
    with ExitStack() as stack:
        contestants = {}
        for name in sorted(names):
            if name == "direct":
                contestants[name] = Contestant(name, server.ports)
                continue
            wanted = Wanted(
                port=free_port(),
                server_port=server.port,
                auth=rig.auth,
                max_clients=rig.max_clients,
                pool_size=POOL_SIZE,
                monitor_user=server.monitor.name,
                monitor_password=server.monitor.password,
                certificate=certificate,
                share_unnamed=rig.share_unnamed,
                replica_ports=server.ports[1:],
            )
            contestant = start_contestant(name, wanted, stage)
            if contestant.child is not None:
                stack.callback(stage.children.stop, contestant.child)
            # As many processes of pgbench as there are of those who connect to each node.
            contestants[name] = replace(contestant, ports=contestant.ports * len(server.ports))
        yield contestants


def _run_case(
    case: Case, plan: Plan, turns: Turns, contestants: Sequence[Contestant], say: Say
) -> Result:
    load, rounds = case.load, plan.rounds
    notes: list[str] = []
    if isinstance(load, IdleLoad):
        rounds = 1  # memory does not change from round to round
        fewer = affordable(load)
        if fewer is None:
            say(f"{case.name}: skipped, the limit on open files is too low (ulimit -Hn)")
            return _skipped(case, "open files")
        if fewer.clients < load.clients:
            notes.append(f"{fewer.clients} clients, which is what the limit on open files allows")
        load = fewer
    samples: dict[str, list[Sample | None]] = {contestant.name: [] for contestant in contestants}
    failures: list[str] = []
    for number in range(rounds):
        # Who begins changes, so that nobody always follows the same neighbour's rest.
        shift = number % len(contestants)
        for contestant in (*contestants[shift:], *contestants[:shift]):
            sample = None
            try:
                sample = turns.take(load, contestant)
            except (PgbenchFailed, LoaderFailed) as error:
                failures.append(f"{contestant.name}: {error}")
                say(f"{case.name}: {contestant.name} failed: {error}\n{contestant.last_words()}")
            samples[contestant.name].append(sample)
        say(f"{case.name}: round {number + 1} of {rounds}{_glance(samples)}")
    return Result(case, samples, judge(case.name, case.targets, samples), failures, notes)


def _glance(samples: Mapping[str, Sequence[Sample | None]]) -> str:
    """The newest turn of each, for whoever watches."""
    words = []
    for name, turns in samples.items():
        if turns and (last := turns[-1]) is not None:
            words.append(f"  {name} {last.cpu_us:.1f} µs {last.tps:,.0f}/s")
    return "".join(words)
