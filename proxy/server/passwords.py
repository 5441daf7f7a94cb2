"""Passwords for the nodes that come from elsewhere: a file, or a command that prints one.

Clouds give out passwords that live for minutes. What a command printed is kept for a while, and
asked for anew when a node refuses it; a file is read at each login.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.config import PasswordSource

# A token of Azure's has about 2 kB, one of AWS's 1 kB.
_MOST_BYTES = 16_384
# Nodes that refuse everything, and commands that fail, are no reason to run one without pause.
_PAUSE_S = 1.0


class PasswordUnavailable(Exception):  # noqa: N818 -- a fact about the source, not an error of ours
    """There is no password to be had. Says why, and nothing of what was printed."""


@dataclass(slots=True)
class _Printed:
    """What a command prints: it may still be running. since_s: when it was started."""

    task: asyncio.Task[str]
    since_s: float

    def is_useful(self, now_s: float, ttl_s: float) -> bool:
        if not self.task.done():
            return True
        failed = self.task.cancelled() or self.task.exception() is not None
        return now_s - self.since_s < (_PAUSE_S if failed else max(ttl_s, _PAUSE_S))


class Passwords:
    """Asks sources for passwords, a command once for everybody who waits.

    clock: monotonic seconds. limit_s: how long a command may run.
    """

    def __init__(self, clock: Callable[[], float], limit_s: float = 15.0) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._printed: dict[tuple[str, ...], _Printed] = {}
        # When a doubt last had a command run again.
        self._doubted_s: dict[tuple[str, ...], float] = {}

    async def current(self, source: PasswordSource) -> str:
        """Give the password as of now. Raises PasswordUnavailable."""
        if source.file is not None:
            return await asyncio.to_thread(_read, source.file)
        now_s = self._clock()
        printed = self._printed.get(source.command)
        if printed is None or not printed.is_useful(now_s, source.ttl_s):
            task = asyncio.create_task(_run(source.command, self._limit_s))
            # Who asked may have left: then nobody looks at how it failed, and that is no fault.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            printed = self._printed[source.command] = _Printed(task, now_s)
        # A probe that is over in a second does not end a command that takes three.
        return await asyncio.shield(printed.task)

    def doubt(self, source: PasswordSource, password: str) -> None:
        """A node has refused this password: ask for another next time."""
        printed = self._printed.get(source.command)
        if printed is None or not printed.task.done() or printed.task.cancelled():
            return
        if printed.task.exception() is not None or printed.task.result() != password:
            return
        now_s = self._clock()
        if now_s - self._doubted_s.get(source.command, -_PAUSE_S) >= _PAUSE_S:
            self._doubted_s[source.command] = now_s
            del self._printed[source.command]

    def close(self) -> None:
        """End the commands that run."""
        for printed in self._printed.values():
            printed.task.cancel()


@dataclass(frozen=True, slots=True)
class AskedPassword:
    """The password of one source, for who logs in by himself. Call it to have it."""

    passwords: Passwords
    source: PasswordSource

    async def __call__(self) -> str:
        """Give the password as of now. Raises PasswordUnavailable."""
        return await self.passwords.current(self.source)

    async def doubt(self) -> None:
        """The node has refused it."""
        with contextlib.suppress(PasswordUnavailable):
            self.passwords.doubt(self.source, await self())


def _read(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise PasswordUnavailable(f"{file} cannot be read: {error.strerror}") from None
    return _password_in(content, str(file))


async def _run(command: Sequence[str], limit_s: float) -> str:
    """Run a command and take what it prints."""
    name = command[0]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            # Nobody knows what it says there: it does not belong into our log.
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise PasswordUnavailable(f"{name} cannot be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(limit_s):
            output = await _take_output(process, name)
            status = await process.wait()
    except TimeoutError:
        raise PasswordUnavailable(f"{name} did not end within {limit_s:g} s") from None
    finally:
        await _end(process)
    if status:
        raise PasswordUnavailable(f"{name} ended with status {status}")
    return _password_in(output, name)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End what still runs of it, with all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PAUSE_S):
            # Its pipe is closed once it is read to the end.
            while process.stdout is not None and await process.stdout.read(_MOST_BYTES):
                pass
            await process.wait()


async def _take_output(process: asyncio.subprocess.Process, name: str) -> bytes:
    output = b""
    while process.stdout is not None and (more := await process.stdout.read(_MOST_BYTES)):
        output += more
        if len(output) > _MOST_BYTES:
            raise PasswordUnavailable(f"{name} printed more than {_MOST_BYTES} bytes")
    return output


def _password_in(content: bytes, origin: str) -> str:
    """The text without the line's end, as for `password_file`."""
    password = content.rstrip(b"\r\n")
    if not password or b"\0" in password or len(password) > _MOST_BYTES:
        raise PasswordUnavailable(f"{origin} has no usable password")
    return password.decode("utf-8", "surrogateescape")
