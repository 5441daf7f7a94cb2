"""A database's catalogue is read once for all who ask something of it."""

import asyncio
from collections.abc import Collection
from typing import Any

from proxy.cluster import NodeAddress, ProbeLogin
from proxy.cluster.catalogue import CatalogueRows, Rows, SuspectRows
from proxy.workers.catalogues import Catalogues
from proxy.workers.rereading import EVERY_S

NODE, OTHER_NODE = NodeAddress("n1", "h1"), NodeAddress("n2", "h2")
LOGIN = ProbeLogin("monitor", "", "db")
WRITES = CatalogueRows(frozenset(), frozenset())
LEAVES = SuspectRows(frozenset(), frozenset(), frozenset())


class Node:
    """Counts what it is asked, at a time that is told."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.asked: list[list[str]] = []
        self.catalogues = Catalogues(lambda: self.now_s, self.ask)

    async def ask(
        self, address: NodeAddress, login: ProbeLogin, timeout_s: float, kinds: Collection[Any]
    ) -> list[Rows]:
        self.asked.append([kind.__name__ for kind in kinds])
        await asyncio.sleep(0)
        return [WRITES if kind is CatalogueRows else LEAVES for kind in kinds]

    async def read(self, kind: Any, address: NodeAddress = NODE) -> float:
        rows, again_s = await self.catalogues.read(kind, "main", "db", address, LOGIN)
        assert rows is (WRITES if kind is CatalogueRows else LEAVES)
        return float(again_s)


BOTH = ["SuspectRows", "CatalogueRows"]


def test_two_who_read_every_minute_ask_once() -> None:
    async def scenario() -> None:
        node = Node()
        assert await node.read(SuspectRows) == EVERY_S
        node.now_s += 10
        assert await node.read(CatalogueRows) == EVERY_S
        node.now_s += 50
        # Now the first again, which was read for both ten seconds after it had come.
        assert node.asked == [["SuspectRows"], BOTH]
        assert await node.read(SuspectRows) == EVERY_S - 50
        node.now_s += 10
        for kind in (SuspectRows, CatalogueRows):
            assert await node.read(kind) == EVERY_S
        assert node.asked == [["SuspectRows"], BOTH, BOTH]

    asyncio.run(scenario())


def test_two_who_read_at_the_same_time_ask_once() -> None:
    async def scenario() -> None:
        node = Node()
        for kind in (SuspectRows, CatalogueRows):
            await node.read(kind)
        node.now_s += EVERY_S
        await asyncio.gather(node.read(SuspectRows), node.read(CatalogueRows))
        assert node.asked[2:] == [BOTH]

    asyncio.run(scenario())


def test_who_comes_while_it_is_read_for_another_has_it_read_again() -> None:
    async def scenario() -> None:
        node = Node()
        await asyncio.gather(node.read(SuspectRows), node.read(CatalogueRows))
        assert node.asked == [["SuspectRows"], BOTH]

    asyncio.run(scenario())


def test_what_was_read_before_a_change_is_read_anew() -> None:
    async def scenario() -> None:
        node = Node()
        for kind in (SuspectRows, CatalogueRows):
            await node.read(kind)
        node.catalogues.changed("main", "db")
        await node.read(SuspectRows)
        reading = asyncio.create_task(node.read(SuspectRows))
        await asyncio.sleep(0)
        # It changes once more while that is being read.
        node.catalogues.changed("main", "db")
        await reading
        await node.read(CatalogueRows)
        assert node.asked[2:] == [BOTH, BOTH, BOTH]

    asyncio.run(scenario())


def test_another_primary_is_asked_itself() -> None:
    async def scenario() -> None:
        node = Node()
        for kind in (SuspectRows, CatalogueRows):
            await node.read(kind)
        await node.read(SuspectRows, OTHER_NODE)
        assert node.asked[2:] == [BOTH]

    asyncio.run(scenario())
