"""How processes of one proxy talk to each other: a question, an answer, and the end.

There are few questions, and none of them is asked for a statement.
"""

import asyncio
import json
import logging
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.workers.addresses import is_ours
from proxy.workers.share import Share

_log = logging.getLogger("pgweir")

# A process that is busy for longer is left out.
_ANSWER_S = 2.0
_MOST_BYTES = 64 << 20

Answer = Callable[[dict[str, Any]], Awaitable[object]]
"""Gives the answer to a question."""


class Peers:
    """The other processes.

    answer: what this one says when it is asked.
    """

    def __init__(self, share: Share, answer: Answer) -> None:
        self._share = share
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to answer. Raises OSError."""
        listener = self._share.addresses.listen(self._share.index)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    async def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()

    @property
    def count(self) -> int:
        """How many there are."""
        return self._share.count - 1

    async def ask_all(self, question: dict[str, Any], *, is_patient: bool = False) -> list[Any]:
        """Ask every other process; those that do not answer are left out.

        is_patient: wait for as long as it takes.
        """
        others = [each for each in range(self._share.count) if each != self._share.index]
        answers = await asyncio.gather(
            *(self.ask(each, question, is_patient=is_patient) for each in others)
        )
        return [each for each in answers if each is not None]

    async def ask(self, index: int, question: dict[str, Any], *, is_patient: bool = False) -> Any:
        """Ask one process. Result: its answer, None when there is none."""
        try:
            async with asyncio.timeout(None if is_patient else _ANSWER_S):
                end = self._share.addresses.connect(index)
                reader, writer = await asyncio.open_unix_connection(sock=end, limit=_MOST_BYTES)
                try:
                    writer.write(json.dumps(question).encode() + b"\n")
                    answer = await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None
        # From a process of our own.
        return pickle.loads(answer) if answer else None  # noqa: S301

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not is_ours(writer.get_extra_info("socket").fileno()):
                return
            async with asyncio.timeout(_ANSWER_S):
                question = json.loads(await reader.readline())
            writer.write(pickle.dumps(await self._answer(question)))
            async with asyncio.timeout(_ANSWER_S):
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass  # who asked has gone
        except Exception:  # noqa: BLE001 -- top of a task
            _log.exception("a question of another process was not answered")
        finally:
            writer.close()
