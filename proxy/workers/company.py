"""The other processes, as one of several sees them; alone, there are none."""

import asyncio
import os
import pickle
import socket
import time
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Any

from proxy.client import Beside
from proxy.config import Config, divide, part_of
from proxy.console import Told
from proxy.errors import ClientError
from proxy.failover import Member
from proxy.telemetry import Figures, together
from proxy.workers.observing import Seen, seen_by_all
from proxy.workers.peers import Peers
from proxy.workers.share import CLOSE, Share

# Rows are made for so long at most before the data plane has its turn.
_SLICE_S = 0.002
# So many rows are packed at once.
_ROWS = 250


@dataclass(frozen=True, slots=True)
class Own:
    """What this process tells the others when they ask, and does when they say so.

    figures: a reading of its counters. seen: what it has observed; of the past, what came after a
    moment, or all. table: its rows for a table of the console. standing: what it has been told at
    the console that still holds. cancel: takes a cancel key that another process has been shown.
    obey: does a command of the console. hear: what another says of a cluster whose roles it
    changes; gives the answer. code_changed: takes note that another has seen functions, or what
    stands for them, change in a database of a cluster.
    """

    figures: Callable[[], Figures]
    seen: Callable[[float | None], Seen]
    table: Callable[[str], Iterable[Any]]
    standing: Callable[[], list[tuple[str, str | None]]]
    cancel: Callable[[int, bytes], None]
    obey: Callable[[str, str | None], Awaitable[None]]
    hear: Callable[[str, Mapping[str, Any]], object]
    code_changed: Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A ClientError on its way to who is to be told."""

    sqlstate: str
    message: str
    detail: str | None
    hint: str | None


class Company:
    """What this process has to do with the others. share: its part, None when it is alone."""

    def __init__(self, share: Share | None, own: Own) -> None:
        self._own = own
        self._share = share
        self._peers = None if share is None else Peers(share, self._answer)
        self._figures: Sequence[Figures] = ()
        # By process id: one that takes the place of another has a past of its own.
        self._seen: dict[int, Seen] = {}
        self._forwarding: set[asyncio.Task[Any]] = set()
        self.index, self.count = (0, 1) if share is None else (share.index, share.count)

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
        return Beside(share.index, share.count, share.own_seats, self._forward_cancel)

    @property
    def member(self) -> Member:
        """This process among those that agree on who changes roles."""
        host, share = socket.gethostname(), self._share
        own = f"{host}:{os.getpid()}"
        return (
            Member(own, own)
            if share is None
            else Member(own, f"{host}:{share.supervisor}", share.count)
        )

    async def tell_of(self, cluster: str, told: Mapping[str, Any]) -> Sequence[object]:
        """Tell the others of a cluster. Result: what those say that answer."""
        if self._peers is None:
            return ()
        return await self._peers.ask_all({"ask": "roles", "cluster": cluster, "told": told})

    def tell_code(self, cluster: str, dbname: str) -> None:
        """Tell the others that functions, or what stands for them, have changed in a database."""
        if self._peers is not None:
            self._send(self._peers.ask_all({"ask": "code", "cluster": cluster, "dbname": dbname}))

    def part(self, config: Config) -> Config:
        """What of a configuration this process has."""
        return config if self._share is None else part_of(config, self.index, self.count)

    def room(self, limit: int) -> int:
        """This process's part of a limit on server connections."""
        return limit if self._share is None else divide(limit, self.index, self.count)

    def close_door(self) -> None:
        """Have the one in charge let go of the sockets, too: else clients would wait in vain."""
        if self._share is not None:
            os.kill(self._share.supervisor, CLOSE)

    # --- what is seen --------------------------------------------------------------------------

    async def listen_to_others(self) -> None:
        """Ask the others for their counters."""
        if self._peers is not None:
            self._figures = await self._peers.ask_all({"ask": "figures"})

    async def look_at_others(self) -> None:
        """Ask the others for their counters, and for what they have seen since the last time."""
        if self._peers is None:
            return
        self._figures = await self._peers.ask_all({"ask": "figures"})
        known = self._seen
        answers = await self._ask_seen(min((each.until_s for each in known.values()), default=None))
        if known and not {each.process for each in answers} <= known.keys():
            known, answers = {}, await self._ask_seen(None)
        self._seen = {
            each.process: known[each.process].followed_by(each) if each.process in known else each
            for each in answers
        }

    async def _ask_seen(self, after_s: float | None) -> list[Seen]:
        assert self._peers is not None  # noqa: S101 -- who is alone has nobody to ask
        return await self._peers.ask_all({"ask": "seen", "after_s": after_s})

    def together(self, own: Figures) -> Figures:
        """A reading of our own with those of the others, as they were last asked for."""
        return together([own, *self._figures])

    def seen_by_all(self) -> Seen:
        """What we have observed with what the others have, as they were last asked for."""
        return seen_by_all(self._own.seen(None), list(self._seen.values()))

    async def read(self, table: str) -> Told:
        """Ask all others for a table of the console."""
        if self._peers is None:
            return Told()
        answers = await self._peers.ask_all({"ask": "table", "table": table})
        return Told([_unpacked(each) for each in answers], self._peers.count - len(answers))

    # --- what is done --------------------------------------------------------------------------

    async def obey(self, command: str, argument: str | None) -> None:
        """Have the others do a command of the console, and wait until they have."""
        if self._peers is not None:
            await self._peers.ask_all(_order(command, argument), is_patient=True)

    async def standing(self) -> list[tuple[str, str | None]]:
        """What the others have been told at the console that still holds: as commands."""
        if self._peers is None:
            return []
        answers: list[list[tuple[str, str | None]]] = await self._peers.ask_all({"ask": "standing"})
        return max(answers, key=len, default=[])

    async def obey_at(self, index: int, command: str, argument: str | None) -> None:
        """Have one of them do a command. Raises ClientError, as it would there."""
        if self._peers is None:
            return
        refusal = await self._peers.ask(index, _order(command, argument), is_patient=True)
        if isinstance(refusal, _Refusal):
            raise ClientError(
                refusal.sqlstate, refusal.message, detail=refusal.detail, hint=refusal.hint
            )

    def _forward_cancel(self, owner: int, pid: int, secret: bytes) -> None:
        assert self._peers is not None  # noqa: S101 -- alone, every key is ours
        question = {"ask": "cancel", "pid": pid, "secret": secret.hex()}
        self._send(self._peers.ask(owner, question))

    def _send(self, question: Coroutine[Any, Any, object]) -> None:
        """Ask without waiting for the answer."""
        task = asyncio.get_running_loop().create_task(question)
        self._forwarding.add(task)
        task.add_done_callback(self._forwarding.discard)

    async def _answer(self, question: Mapping[str, Any]) -> object:
        answer: object = True
        match question["ask"]:
            case "figures":
                answer = self._own.figures()
            case "seen":
                answer = self._own.seen(question["after_s"])
            case "table":
                answer = await _packed(self._own.table(question["table"]))
            case "standing":
                answer = self._own.standing()
            case "cancel":
                self._own.cancel(int(question["pid"]), bytes.fromhex(question["secret"]))
            case "roles":
                answer = self._own.hear(question["cluster"], question["told"])
            case "code":
                self._own.code_changed(question["cluster"], question["dbname"])
            case "obey":
                answer = await self._obey(question["command"], question["argument"])
            case unknown:
                raise ValueError(f"nobody knows what {unknown!r} means")
        return answer

    async def _obey(self, command: str, argument: str | None) -> object:
        try:
            await self._own.obey(command, argument)
        except ClientError as refused:
            # Said by the process that was asked, where it is to be said.
            return _Refusal(refused.sqlstate, refused.message, refused.detail, refused.hint)
        return True


def _order(command: str, argument: str | None) -> dict[str, Any]:
    return {"ask": "obey", "command": command, "argument": argument}


async def _packed(rows: Iterable[Any]) -> list[bytes]:
    """Rows for another process; they are made in slices, so that clients do not wait for it."""
    packed: list[bytes] = []
    batch: list[Any] = []
    until_s = time.monotonic() + _SLICE_S
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS:
            packed.append(pickle.dumps(batch))
            batch = []
        if time.monotonic() >= until_s:
            await asyncio.sleep(0)
            until_s = time.monotonic() + _SLICE_S
    return [*packed, pickle.dumps(batch)]


def _unpacked(packed: Iterable[bytes]) -> Iterator[Any]:
    for batch in packed:
        # From a process of our own.
        yield from pickle.loads(batch)  # noqa: S301
