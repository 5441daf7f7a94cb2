"""The other processes, as one of several sees them; alone, there are none."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from proxy.client import Beside
from proxy.config import Config, divide, part_of
from proxy.errors import ClientError
from proxy.telemetry import Figures, together
from proxy.workers.peers import Peers
from proxy.workers.share import CLOSE, Share

_ASK_FIGURES = {"ask": "figures"}


class Company:
    """What this process has to do with the others.

    share: its part, None when it is alone. figures: a reading of its own counters. cancel: takes a
    cancel key that another process has been shown. obey: does a command of the console.
    """

    def __init__(
        self,
        share: Share | None,
        *,
        figures: Callable[[], Figures],
        cancel: Callable[[int, bytes], None],
        obey: Callable[[str, str | None], Awaitable[None]],
    ) -> None:
        self._obey = obey
        self._share = share
        self._figures = figures
        self._cancel = cancel
        self._peers = None if share is None else Peers(share, self._answer)
        self._others: list[Figures] = []
        self._forwarding: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Begin to answer the others. Raises OSError."""
        if self._peers is not None:
            await self._peers.start()

    async def stop(self) -> None:
        """Answer no more."""
        if self._peers is not None:
            await self._peers.stop()

    @property
    def beside(self) -> Beside:
        """The others as the door sees them."""
        share = self._share
        if share is None:
            return Beside()
        return Beside(
            share.index,
            share.count,
            lambda: share.counts.beside(share.index),
            lambda number: share.counts.set(share.index, number),
            self._forward_cancel,
        )

    def part(self, config: Config) -> Config:
        """What of a configuration this process has."""
        return config if self._share is None else part_of(config, *self._place)

    def room(self, limit: int) -> int:
        """This process's part of a limit on server connections."""
        return limit if self._share is None else divide(limit, *self._place)

    async def listen_to_others(self) -> None:
        """Ask the others for their counters."""
        if self._peers is not None:
            self._others = await self._peers.ask_all(_ASK_FIGURES)

    def close_door(self) -> None:
        """Have the one in charge let go of the sockets, too: else clients would wait in vain."""
        if self._share is not None:
            os.kill(self._share.supervisor, CLOSE)

    async def have_others_obey(self, command: str, argument: str | None) -> None:
        """Have the others do a command of the console, and wait until they have."""
        if self._peers is not None:
            question = {"ask": "obey", "command": command, "argument": argument}
            await self._peers.ask_all(question, is_patient=True)

    def together(self, own: Figures) -> Figures:
        """A reading of our own with those of the others, as they were last asked for."""
        return together([own, *self._others])

    @property
    def _place(self) -> tuple[int, int]:
        return (0, 1) if self._share is None else (self._share.index, self._share.count)

    def _forward_cancel(self, owner: int, pid: int, secret: bytes) -> None:
        assert self._peers is not None  # noqa: S101 -- alone, every key is ours
        question = {"ask": "cancel", "pid": pid, "secret": secret.hex()}
        task = asyncio.get_running_loop().create_task(self._peers.ask(owner, question))
        self._forwarding.add(task)
        task.add_done_callback(self._forwarding.discard)

    async def _answer(self, question: Mapping[str, Any]) -> object:
        if question == _ASK_FIGURES:
            return self._figures()
        if question.get("ask") == "cancel":
            self._cancel(int(question["pid"]), bytes.fromhex(question["secret"]))
            return True
        if question.get("ask") == "obey":
            try:
                await self._obey(question["command"], question["argument"])
            except ClientError as refused:
                # Said to who asked by the process that was asked.
                return refused.message
            return True
        raise ValueError(f"nobody knows what {question.get('ask')!r} means")
