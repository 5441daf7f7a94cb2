"""Several proxies, and several processes of one, serve a cluster whose primary dies.

Proxies are processes of their own; etcd is a real one.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.agreement import Agreement
from tests.fixtures.console import AUTH
from tests.fixtures.pgweir import configuration, running
from tests.fixtures.postgres import Background, PostgresCluster, start_replicated
from tests.live.appending import check
from tests.live.arena import SYNCHRONOUS, Wires, promoting
from tests.live.pair import (
    AFTER,
    BEFORE,
    Proxies,
    children_of,
    timeline_of,
    two_proxies,
    until_settled,
)


@pytest.fixture(scope="module")
def replicated(postgres_background: Background) -> Iterator[PostgresCluster]:
    cluster = start_replicated(postgres_background, replicas=2, synchronous=SYNCHRONOUS)
    yield cluster
    cluster.close()


async def test_exactly_one_promotes_and_the_clients_of_both_go_on(
    replicated: PostgresCluster, agreement: Agreement, tmp_path: Path
) -> None:
    with two_proxies(replicated, tmp_path, agreement, after="500ms") as proxies:
        old = proxies.primary
        notes = await proxies.through(old.kill)
        new = proxies.primary
        assert proxies.count("promoted") == 1
        assert proxies.count("failed") == 0
        assert notes.disconnected == 0
        history = check(notes, new)
        assert history.is_clean, history
        replicated.rebuild(old)
        until_settled(replicated, *proxies.both)


@pytest.mark.parametrize("moment", [BEFORE, AFTER], ids=["before", "after"])
async def test_a_proxy_that_is_stopped_in_the_middle_of_a_promotion_leaves_it_to_the_other(
    replicated: PostgresCluster, agreement: Agreement, tmp_path: Path, moment: bytes
) -> None:
    with two_proxies(replicated, tmp_path, agreement) as proxies:
        old, candidates = proxies.primary, proxies.replicas()
        timeline = timeline_of(old)
        stopped = [proxies.stop_first_when_it_sends(moment, node) for node in candidates]
        since = len(proxies.first.log)

        def fault() -> None:
            old.kill()
            proxies.second.wait_until(lambda: any(each.is_set() for each in stopped), 30.0)
            done = "takes writes on timeline"
            proxies.second.wait_for_log(done, 30.0)
            proxies.first.send(signal.SIGCONT)
            proxies.first.wait_for_log("promoting db. failed: the lease to promote was lost", 30.0)

        notes = await proxies.through(fault)
        new = proxies.primary
        # It was the first that had begun, with that node; it did not act when it woke up.
        (begun,) = [node for node, each in zip(candidates, stopped, strict=True) if each.is_set()]
        assert new == begun
        assert timeline_of(new) == timeline + 1
        assert proxies.second.metric("pgweir_failovers_total", result="promoted") == 1
        assert proxies.first.metric("pgweir_failovers_total", result="promoted") == 0
        assert proxies.first.metric("pgweir_failovers_total", result="failed") == 1
        assert not any("streams from" in line for line in proxies.first.log[since:])
        assert notes.disconnected == 0
        history = check(notes, new)
        assert history.is_clean, history
        # The others are led, and the operator's command is run, once.
        streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        await asyncio.to_thread(proxies.second.wait_until, lambda: new.value(streams) == 1, 30.0)
        once = f"on_promote {new.name} {old.name}"
        await asyncio.to_thread(
            proxies.second.wait_until, lambda: proxies.told.read_text().split("\n") == [once, ""]
        )
        replicated.rebuild(old)
        until_settled(replicated, *proxies.both)


async def test_of_several_processes_one_promotes_also_when_one_of_them_is_stopped(
    replicated: PostgresCluster, tmp_path: Path
) -> None:
    config = configuration(*replicated.nodes, **promoting(), auth=AUTH, workers=2)
    with running(config, tmp_path) as weir:
        until_settled(replicated, weir)
        proxies = Proxies(replicated, weir, weir, Wires(replicated, {}), tmp_path)
        old, timeline = proxies.primary, timeline_of(proxies.primary)
        notes = await proxies.through(old.kill)
        assert timeline_of(proxies.primary) == timeline + 1
        assert weir.metric("pgweir_failovers_total", result="promoted") == 1
        assert notes.disconnected == 0
        history = check(notes, proxies.primary)
        assert history.is_clean, history
        replicated.rebuild(old)
        until_settled(replicated, weir)
        old, first = proxies.primary, children_of(weir)[0]
        os.kill(first, signal.SIGSTOP)
        try:
            old.kill()
            said = f"takes writes on timeline .* s after {old.name} failed"
            await asyncio.to_thread(weir.wait_for_log, said, 40.0)
        finally:
            os.kill(first, signal.SIGCONT)
        assert timeline_of(proxies.primary) == timeline + 2
        replicated.rebuild(old)
        until_settled(replicated, weir)
