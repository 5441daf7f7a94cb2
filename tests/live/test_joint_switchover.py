"""A switchover holds the clients of all proxies, and of all processes of one.

Proxies are processes of their own; etcd is a real one.
"""

import asyncio
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.agreement import Agreement
from tests.fixtures.console import ADMIN
from tests.fixtures.postgres import Postgres, PostgresCluster
from tests.live.appending import check
from tests.live.pair import (
    AFTER,
    BEFORE,
    give_command,
    rebuild_behind,
    timeline_of,
    two_processes,
    two_proxies,
    until_settled,
)


async def test_a_switchover_costs_no_error_to_the_clients_of_any_proxy(
    synchronous: PostgresCluster, agreement: Agreement, tmp_path: Path
) -> None:
    with two_proxies(synchronous, tmp_path, agreement) as proxies:
        for weir in proxies.both:
            old, target = proxies.primary, proxies.replicas()[0]
            said: list[str] = []
            command = f"FAILOVER main TO {target.name}"
            notes = await proxies.through(
                lambda: said.append(give_command(weir, command))  # noqa: B023 -- used at once
            )
            assert said[0].startswith(f"{target.name} is the primary of cluster main on timeline")
            assert (dict(notes.errors), notes.disconnected) == ({}, 0)
            history = check(notes, target)
            assert history.is_clean, history
            rebuild_behind(synchronous, old, proxies.both)
        assert proxies.count("switched_over") == 2
        assert proxies.count("failed") == 0


async def test_without_an_answer_of_the_other_proxy_nothing_is_changed(
    synchronous: PostgresCluster, in_etcd: Agreement, tmp_path: Path
) -> None:
    with two_proxies(synchronous, tmp_path, in_etcd) as proxies:
        old = proxies.primary
        proxies.first.send(signal.SIGSTOP)
        with pytest.raises(psycopg.Error, match="1 other proxy did not answer") as refused:
            await asyncio.to_thread(give_command, proxies.second, "FAILOVER main")
        assert refused.value.sqlstate == "55006"
        proxies.first.send(signal.SIGCONT)
        assert proxies.primary == old
        until_settled(synchronous, *proxies.both)


async def test_a_long_transaction_at_the_other_proxy_calls_a_switchover_off(
    synchronous: PostgresCluster, in_etcd: Agreement, tmp_path: Path
) -> None:
    with two_proxies(synchronous, tmp_path, in_etcd, drain_timeout="1s") as proxies:
        old = proxies.primary
        with psycopg.connect(proxies.second.dsn()) as busy:
            busy.execute("SELECT txid_current()")
            with pytest.raises(psycopg.Error, match="clients of 1 other proxy still use"):
                await asyncio.to_thread(give_command, proxies.first, "FAILOVER main")
            busy.execute("SELECT 1")
            busy.commit()
        assert proxies.primary == old


# What the first has sent when it is stopped, to whom, and what comes of it: the old primary goes
# on, or the other proxy finishes.
FORBIDS = b"ALTER SYSTEM SET default_transaction_read_only = on"
MOMENTS = {
    "forbidding": (FORBIDS, "old", "was not told"),
    "drained": (AFTER, "old", "takes writes on timeline"),
    "ready": (BEFORE, "target", "takes writes on timeline"),
    "promoted": (AFTER, "target", "takes writes on timeline"),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
async def test_a_switchover_whose_proxy_is_stopped_in_the_middle_is_seen_to_by_the_other(
    synchronous: PostgresCluster,
    agreement: Agreement,
    tmp_path: Path,
    moment: tuple[bytes, str, str],
) -> None:
    text, whose, done = moment
    with two_proxies(synchronous, tmp_path, agreement) as proxies:
        old, target = proxies.primary, proxies.replicas()[0]
        timeline = timeline_of(old)
        stopped = proxies.stop_first_when_it_sends(text, old if whose == "old" else target)
        refusals: list[str] = []

        def hand_over() -> None:
            with ThreadPoolExecutor(1) as pool:
                command = f"FAILOVER main TO {target.name}"
                asked = pool.submit(give_command, proxies.first, command)
                try:
                    assert stopped.wait(30.0)
                    proxies.second.wait_for_log(done, 40.0)
                finally:
                    proxies.first.send(signal.SIGCONT)
                refusals.append(str(asked.exception(30.0)))

        notes = await proxies.through(hand_over)
        is_finished = done.startswith("takes writes")
        new = target if is_finished else old
        assert "could not hand over" in refusals[0]
        assert proxies.primary == new
        assert timeline_of(new) == timeline + is_finished
        finished = proxies.second.metric("pgweir_failovers_total", result="switched_over")
        assert finished == is_finished
        assert proxies.first.metric("pgweir_failovers_total", result="switched_over") == 0
        assert (dict(notes.errors), notes.disconnected) == ({}, 0)
        history = check(notes, new)
        assert history.is_clean, history
        if is_finished:
            rebuild_behind(synchronous, old, proxies.both)
        until_settled(synchronous, *proxies.both)


async def test_a_switchover_costs_no_error_in_any_process_whichever_is_told(
    synchronous: PostgresCluster, tmp_path: Path
) -> None:
    with two_processes(synchronous, tmp_path) as proxies:
        weir = proxies.first
        told_in: list[int] = []

        def tell(target: Postgres) -> None:
            wanted = len(told_in) % 2
            while True:
                dsn = weir.dsn(ADMIN.name, ADMIN.password, "pgweir")
                with psycopg.connect(dsn, autocommit=True) as console:
                    if console.info.backend_pid % 2 == wanted:
                        console.execute(f"FAILOVER main TO {target.name}".encode())
                        told_in.append(wanted)
                        return

        def tell_by_program(target: Postgres) -> None:
            command = [sys.executable, "-m", "proxy", "ctl", "failover", "main", "to", target.name]
            url = weir.dsn(ADMIN.name, ADMIN.password, "pgweir")
            done = subprocess.run(
                command, env={**os.environ, "PGWEIR_URL": url}, capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr

        for order in (tell, tell, tell_by_program):
            old, target = proxies.primary, proxies.replicas()[0]
            notes = await proxies.through(lambda: order(target))  # noqa: B023 -- used at once
            assert (dict(notes.errors), notes.disconnected) == ({}, 0)
            history = check(notes, target)
            assert history.is_clean, history
            rebuild_behind(synchronous, old, [weir])
        assert told_in == [0, 1]
        assert weir.metric("pgweir_failovers_total", result="switched_over") == 3


async def test_a_switchover_whose_process_is_stopped_in_the_middle_is_finished_by_its_sibling(
    synchronous: PostgresCluster, tmp_path: Path
) -> None:
    with two_processes(synchronous, tmp_path, is_wired=True) as proxies:
        weir, old, target = proxies.first, proxies.primary, proxies.replicas()[0]
        timeline = timeline_of(old)
        stopped = proxies.stop_holder_when_it_sends(AFTER, old)
        refusals: list[str] = []

        def hand_over() -> None:
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(give_command, weir, f"FAILOVER main TO {target.name}")
                try:
                    assert stopped.wait(30.0)
                    weir.wait_for_log("takes writes on timeline", 40.0)
                finally:
                    proxies.wake_up()
                refusals.append(str(asked.exception(30.0)))

        notes = await proxies.through(hand_over)
        assert "could not hand over" in refusals[0]
        assert (proxies.primary, timeline_of(target)) == (target, timeline + 1)
        assert weir.metric("pgweir_failovers_total", result="switched_over") == 1
        assert (dict(notes.errors), notes.disconnected) == ({}, 0)
        history = check(notes, target)
        assert history.is_clean, history
        rebuild_behind(synchronous, old, [weir])
