"""The lease among processes of one machine: several of them may serve as one proxy.

Who has bound a name has it (`names`). What its holder has to say it says to each of the others, who
remember it.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.failover.keeping import KeptGrant, LeaseLost, boot_clock
from proxy.failover.lease import Answer, CoordinatorUnavailable, Grant, Member, Notice, Record
from proxy.failover.messages import read_answer, read_notice, write_answer, write_notice
from proxy.failover.names import BoundName, NameRow

Json = dict[str, Any]
Tell = Callable[[Json], Awaitable[Sequence[object]]]
"""Asks all other processes. Result: what those say that answer (`SiblingsLease.hear`)."""


async def nobody(_question: Json) -> Sequence[object]:
    """Asks the others, where there are none."""
    return ()


class SiblingsLease:
    """The lease of one cluster, known by its nodes. nodes: host and port of each.

    ttl_s: how long a holder that is stopped keeps the others from it; the same for all of them,
    whatever configuration each has read.
    """

    is_shared = True

    def __init__(
        self,
        nodes: Sequence[tuple[str, int]],
        member: Member,
        tell: Tell = nobody,
        *,
        ttl_s: float = 5.0,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        words = "\n".join(f"{host}:{port}" for host, port in sorted(nodes))
        digest = hashlib.sha256(words.encode()).hexdigest()[:32]
        self.member = member
        self.tell = tell
        self.ttl_s = ttl_s
        self.clock = clock
        self._names = NameRow(f"\0pgweir/{os.getuid()}/{digest}", ttl_s, clock)
        # What a holder has said, and since when it had the lease; and what this process answered.
        self._told = _Told()
        self._answered: Answer | None = None
        self._news = asyncio.Event()

    async def take(self, node: str) -> Grant | None:
        """Take it, unless another process has it. Raises CoordinatorUnavailable."""
        asked_at = self.clock()
        with _told_as_unavailable():
            bound = self._names.bind()
        if bound is None:
            return None
        before = self._told.node
        seat = _Seat(self, bound, asked_at)
        grant = KeptGrant(
            seat,
            before or node,
            is_inherited=before is not None,
            clock=self.clock,
            asked_at=asked_at,
            ttl_s=self.ttl_s,
        )
        try:
            await grant.aim_at(grant.node)
        except BaseException:
            grant.drop()
            raise
        return grant

    def holders(self) -> list[int]:
        """Process ids of who has it: one, or none. Raises CoordinatorUnavailable."""
        with _told_as_unavailable():
            return self._names.holders()

    async def read(self) -> Record:
        """What stands there. Raises CoordinatorUnavailable."""
        is_held = bool(self.holders())
        return Record(is_held, self._told.node, self._told.notice if is_held else None)

    async def answer(self, answer: Answer) -> None:
        """Say so when the holder asks."""
        self._answered = answer

    def hear(self, told: Mapping[str, Any]) -> object:
        """What another process says, as `tell` has brought it. Result: what it is answered."""
        if told["what"] == "answer?":
            return None if self._answered is None else write_answer(self._answered)
        self.remember(_Told(told["since"], told["node"], read_notice(told["notice"])))
        self._news.set()
        return True

    def remember(self, told: "_Told") -> None:
        """What a holder says now. Of one that was stopped, what it said may arrive late."""
        if told.since >= self._told.since:
            self._told = told

    async def until_told(self, limit_s: float) -> None:
        """Wait until a holder says something, and for at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._news.wait()
        self._news.clear()

    async def close(self) -> None:
        """Ask nobody any more."""
        self._names.close()


@dataclass(frozen=True, slots=True)
class _Told:
    """What a holder has said. since: when it took the lease, on the clock that all share."""

    since: float = 0.0
    node: str | None = None
    notice: Notice | None = None


class _Seat:
    """The lease while it is ours. since: when it was taken."""

    def __init__(self, lease: SiblingsLease, bound: BoundName, since: float) -> None:
        self._lease = lease
        self._bound = bound
        self._since = since
        self._until = since + lease.ttl_s
        self._node: str | None = None

    async def extend(self) -> float:
        """Show the others that we are at work."""
        looked_at = self._look_whether_it_is_ours()
        self._bound.answer()
        self._until = looked_at + self._lease.ttl_s
        return self._lease.ttl_s

    async def write(self, node: str) -> None:
        """Tell the others which node is being promoted."""
        await self._say(node, None)

    async def announce(self, notice: Notice) -> None:
        """Tell the others what is about to be done."""
        await self._say(self._node, notice)

    async def read_answers(self) -> Sequence[Answer]:
        """What the others say."""
        told = await self._lease.tell({"what": "answer?"})
        answers = (read_answer(each) for each in told if isinstance(each, str))
        return [each for each in answers if each is not None]

    async def leave(self, node: str | None, _rest_s: float) -> None:
        """Give it back. The others look again before they promote: there is nothing to wait for."""
        await self._say(node, None)

    async def _say(self, node: str | None, notice: Notice | None) -> None:
        """Have all processes remember it, this one too."""
        self._look_whether_it_is_ours()
        self._node = node
        self._lease.remember(_Told(self._since, node, notice))
        text = None if notice is None else write_notice(notice)
        record = {"what": "record", "since": self._since, "node": node, "notice": text}
        await self._lease.tell(record)

    def _look_whether_it_is_ours(self) -> float:
        """When that was seen. Raises LeaseLost."""
        now = self._lease.clock()
        if now >= self._until:
            raise LeaseLost
        return now

    async def close(self) -> None:
        """Let somebody else have it."""
        self._bound.close()


@contextlib.contextmanager
def _told_as_unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as failed:
        raise CoordinatorUnavailable(f"no name to agree on: {failed.strerror}") from None
