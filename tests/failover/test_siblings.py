"""Processes of one machine agree on who promotes; a dead or stopped one keeps nobody from it."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxy.failover import Member, SiblingsLease
from proxy.failover.keeping import boot_clock
from proxy.failover.lease import Answer, CoordinatorUnavailable, Grant, Notice, Record

ONE = Member("one", "one")
NODES = [("10.9.9.1", 5432), ("10.9.9.2", 5432)]


async def test_one_process_has_it_and_gives_it_back() -> None:
    one, other = SiblingsLease(NODES, ONE), SiblingsLease(list(reversed(NODES)), ONE)
    grant = await one.take("db2")
    assert grant is not None
    assert grant.is_valid
    assert await other.take("db2") is None
    await grant.finish(10.0)
    assert not grant.is_valid
    later = await other.take("db3")
    assert later is not None
    assert later.node == "db3"
    await later.abandon(began=True)
    await close(one, other)


async def close(*leases: SiblingsLease) -> None:
    for each in leases:
        await each.close()


async def test_another_cluster_has_a_lease_of_its_own() -> None:
    one = await SiblingsLease(NODES, ONE).take("db2")
    other = await SiblingsLease(NODES[:1], ONE).take("db2")
    assert one is not None
    assert other is not None
    await one.abandon(began=False)
    await other.abandon(began=False)


HOLDING = f"""
import asyncio, sys
from proxy.failover import Member, SiblingsLease

async def hold():
    lease = SiblingsLease({NODES!r}, Member("held", "one"), ttl_s=float(sys.argv[1]))
    grant = await lease.take("db2")
    print(grant is not None, flush=True)
    while True:
        await asyncio.to_thread(sys.stdin.readline)
        print(grant.is_valid, flush=True)

asyncio.run(hold())
"""


@contextlib.contextmanager
def a_holder(ttl_s: float) -> Iterator[tuple[subprocess.Popen[str], Callable[[], bool]]]:
    """A process that has the lease, and what it says when it is asked whether it still has."""
    command = [sys.executable, "-c", HOLDING, str(ttl_s)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]

        def is_valid() -> bool:
            process.stdin.write("\n")
            process.stdin.flush()
            return bool(process.stdout.readline() == "True\n")

        try:
            assert process.stdout.readline() == "True\n"
            yield process, is_valid
        finally:
            process.kill()


async def taken_in_time(lease: SiblingsLease, node: str) -> Grant:
    async with asyncio.timeout(20):
        while True:
            if (grant := await lease.take(node)) is not None:
                return grant
            await asyncio.sleep(0.02)


async def test_a_process_that_dies_has_it_no_more() -> None:
    lease = SiblingsLease(NODES, ONE)
    with a_holder(5.0) as (process, _):
        assert lease.holders() == [process.pid]
        assert await lease.take("db3") is None
        process.kill()
        process.wait()
        grant = await lease.take("db3")
    assert grant is not None
    await grant.abandon(began=False)
    await close(lease)


async def test_a_process_that_is_stopped_loses_it_and_knows_when_it_wakes_up() -> None:
    lease = SiblingsLease(NODES, ONE, ttl_s=1.0)
    with a_holder(1.0) as (process, is_valid):
        process.send_signal(signal.SIGSTOP)
        # It may be about to answer.
        assert await lease.take("db3") is None
        grant = await taken_in_time(lease, "db3")
        assert grant.is_valid
        process.send_signal(signal.SIGCONT)
        assert not is_valid()
        # It has the name still, and does not come between.
        assert grant.is_valid
        third = SiblingsLease(NODES, ONE)
        assert await third.take("db2") is None
        await grant.finish(0.0)
    await close(lease, third)


async def test_a_process_that_is_at_work_keeps_it_for_as_long_as_it_likes() -> None:
    lease = SiblingsLease(NODES, ONE, ttl_s=1.0)
    with a_holder(1.0) as (_, is_valid):
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            assert await lease.take("db3") is None
            await asyncio.sleep(0.02)
        assert is_valid()
    await close(lease)


async def test_what_a_holder_that_was_stopped_says_late_is_not_heard() -> None:
    now = [100.0]
    stopped, other = two(lambda: now[0])
    late = await stopped.take("db2")
    assert late is not None
    now[0] += 10.0
    await other.read()
    now[0] += 10.0
    heir = await other.take("db3")
    assert heir is not None
    assert (heir.node, heir.is_inherited) == ("db2", True)
    await heir.aim_at("db3")
    other.hear({"what": "record", "since": 100.0, "node": None, "notice": None})
    assert (await other.read()).node == "db3"
    with pytest.raises(CoordinatorUnavailable, match="lost"):
        await late.aim_at("db2")
    await late.abandon(began=True)
    assert (await other.read()).node == "db3"
    await heir.abandon(began=False)
    await close(stopped, other)


def two(clock: Callable[[], float] = boot_clock) -> tuple[SiblingsLease, SiblingsLease]:
    """Leases of two processes that tell each other."""
    leases: list[SiblingsLease] = []

    def make(own: int) -> SiblingsLease:
        async def tell(told: dict[str, Any]) -> list[object]:
            return [leases[1 - own].hear(told)]

        return SiblingsLease(NODES, Member(f"w{own}", "weir", 2), tell, clock=clock)

    leases += [make(0), make(1)]
    return leases[0], leases[1]


async def test_a_notice_stands_while_the_lease_is_held_and_others_answer_it() -> None:
    holder, other = two()
    assert await other.read() == Record()
    grant = await holder.take("db2")
    assert grant is not None
    notice = Notice("7", "db1", "db2")
    await grant.announce(notice)
    assert await other.read() == Record(is_held=True, node="db2", notice=notice)
    answer = Answer("7", other.member, is_holding=True)
    await other.answer(answer)
    assert await grant.read_answers() == [answer]
    await grant.finish(10.0)
    assert await other.read() == Record()
    await close(holder, other)


async def test_who_takes_over_goes_on_with_the_same_node() -> None:
    holder, other = two()
    grant = await holder.take("db2")
    assert grant is not None
    await grant.announce(Notice("7", "db1", "db2"))
    grant.drop()
    heir = await taken_in_time(other, "db3")
    assert (heir.node, heir.is_inherited) == ("db2", True)
    await heir.abandon(began=True)
    assert await holder.read() == Record(node="db2")
    await close(holder, other)


async def test_who_is_told_something_need_not_wait_to_look() -> None:
    holder, other = two()
    waiting = asyncio.create_task(other.until_told(60.0))
    grant = await holder.take("db2")
    assert grant is not None
    await asyncio.wait_for(waiting, 5)
    await grant.abandon(began=False)
