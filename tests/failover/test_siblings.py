"""Processes of one machine agree on who promotes, and a dead one keeps nobody from it."""

import asyncio
import subprocess
import sys
from typing import Any

from proxy.failover import Member, SiblingsLease
from proxy.failover.lease import Answer, Notice, Record

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


async def test_another_cluster_has_a_lease_of_its_own() -> None:
    one = await SiblingsLease(NODES, ONE).take("db2")
    other = await SiblingsLease(NODES[:1], ONE).take("db2")
    assert one is not None
    assert other is not None
    one.drop()
    other.drop()


async def test_a_process_that_dies_has_it_no_more() -> None:
    held = (
        "import asyncio, sys; from proxy.failover import Member, SiblingsLease;"
        f"grant = asyncio.run(SiblingsLease({NODES!r}, {ONE!r}).take('db2'));"
        "print(grant is not None, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert await SiblingsLease(NODES, ONE).take("db3") is None
        process.kill()
    grant = await SiblingsLease(NODES, ONE).take("db3")
    assert grant is not None
    grant.drop()


def two() -> tuple[SiblingsLease, SiblingsLease]:
    """Leases of two processes that tell each other."""
    leases: list[SiblingsLease] = []

    def make(own: int) -> SiblingsLease:
        async def tell(told: dict[str, Any]) -> list[object]:
            return [leases[1 - own].hear(told)]

        return SiblingsLease(NODES, Member(f"w{own}", "weir", 2), tell)

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


async def test_who_takes_over_goes_on_with_the_same_node() -> None:
    holder, other = two()
    grant = await holder.take("db2")
    assert grant is not None
    await grant.announce(Notice("7", "db1", "db2"))
    grant.drop()
    assert await other.read() == Record(node="db2")
    heir = await other.take("db3")
    assert heir is not None
    assert (heir.node, heir.is_inherited) == ("db2", True)
    await heir.abandon(began=False)
    assert await holder.read() == Record()


async def test_who_is_told_something_need_not_wait_to_look() -> None:
    holder, other = two()
    waiting = asyncio.create_task(other.until_told(60.0))
    grant = await holder.take("db2")
    assert grant is not None
    await asyncio.wait_for(waiting, 5)
    grant.drop()
