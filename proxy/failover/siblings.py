"""The lease among processes of one machine: several of them may serve as one proxy.

A name in Linux's abstract namespace of Unix sockets is bound by one process at a time, and is free
again when that process is gone, however it ends. No file is left, and nobody has to be asked. What
its holder has to say it says to each of the others, who remember it.

Source: unix(7), "Abstract sockets".
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from proxy.failover.lease import Answer, CoordinatorUnavailable, Grant, Member, Notice, Record
from proxy.failover.messages import read_answer, read_notice, write_answer, write_notice

Json = dict[str, Any]
Tell = Callable[[Json], Awaitable[Sequence[object]]]
"""Asks all other processes. Result: what those say that answer (`SiblingsLease.hear`)."""


async def nobody(_question: Json) -> Sequence[object]:
    """Asks the others, where there are none."""
    return ()


class SiblingsLease:
    """The lease of one cluster, known by its nodes. nodes: host and port of each."""

    is_shared = True

    def __init__(
        self, nodes: Sequence[tuple[str, int]], member: Member, tell: Tell = nobody
    ) -> None:
        words = "\n".join(f"{host}:{port}" for host, port in sorted(nodes))
        digest = hashlib.sha256(words.encode()).hexdigest()[:32]
        self.member = member
        self.tell = tell
        self._name = f"\0pgweir/{os.getuid()}/{digest}"
        # What a holder has said, and what this process answered.
        self._node: str | None = None
        self._notice: Notice | None = None
        self._answered: Answer | None = None
        self._news = asyncio.Event()

    async def take(self, node: str) -> Grant | None:
        """Take it, unless another process has it. Raises CoordinatorUnavailable."""
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            bound.bind(self._name)
            bound.listen(1)
        except OSError as failed:
            bound.close()
            if failed.errno == errno.EADDRINUSE:
                return None
            raise CoordinatorUnavailable(f"no name to agree on: {failed.strerror}") from None
        grant = _Bound(self, bound, self._node or node, is_inherited=self._node is not None)
        try:
            await grant.say(grant.node, None)
        except BaseException:
            grant.drop()
            raise
        return grant

    @property
    def _is_held(self) -> bool:
        """Whether some process has it: then it can be knocked at."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as knocking:
            try:
                knocking.connect(self._name)
            except ConnectionRefusedError:
                return False
            except BlockingIOError:
                pass  # others have knocked before
        return True

    async def read(self) -> Record:
        """What stands there."""
        is_held = self._is_held
        return Record(is_held, self._node, self._notice if is_held else None)

    async def answer(self, answer: Answer) -> None:
        """Say so when the holder asks."""
        self._answered = answer

    def hear(self, told: Mapping[str, Any]) -> object:
        """What another process says, as `tell` has brought it. Result: what it is answered."""
        if told["what"] == "answer?":
            return None if self._answered is None else write_answer(self._answered)
        self.remember(told["node"], read_notice(told["notice"]))
        self._news.set()
        return True

    def remember(self, node: str | None, notice: Notice | None) -> None:
        """What the holder says now."""
        self._node, self._notice = node, notice

    async def until_told(self, limit_s: float) -> None:
        """Wait until a holder says something, and for at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._news.wait()
        self._news.clear()

    async def close(self) -> None:
        """Nothing is open."""


class _Bound:
    """The name, while it is ours."""

    def __init__(
        self, lease: SiblingsLease, bound: socket.socket, node: str, *, is_inherited: bool
    ) -> None:
        self.node = node
        self.is_inherited = is_inherited
        self._lease = lease
        self._socket = bound

    @property
    def is_valid(self) -> bool:
        return self._socket.fileno() >= 0

    async def aim_at(self, node: str) -> None:
        """Promote another node than whoever began."""
        self.node = node
        await self.say(node, None)

    async def say(self, node: str | None, notice: Notice | None) -> None:
        """Have all processes remember it, this one too."""
        self._lease.remember(node, notice)
        text = None if notice is None else write_notice(notice)
        await self._lease.tell({"what": "record", "node": node, "notice": text})

    async def announce(self, notice: Notice) -> None:
        """Tell the others."""
        await self.say(self.node, notice)

    async def read_answers(self) -> Sequence[Answer]:
        """What the others say."""
        told = await self._lease.tell({"what": "answer?"})
        answers = (read_answer(each) for each in told if isinstance(each, str))
        return [each for each in answers if each is not None]

    async def finish(self, rest_s: float) -> None:
        """The others look again before they promote, so that there is nothing to wait for."""
        await self._leave(None)

    async def abandon(self, *, began: bool) -> None:
        """Give it back; the word stays where the node may have been told."""
        await self._leave(self.node if began else None)

    async def _leave(self, node: str | None) -> None:
        try:
            await self.say(node, None)
        finally:
            self._socket.close()

    def drop(self) -> None:
        """Give it back."""
        self._socket.close()
