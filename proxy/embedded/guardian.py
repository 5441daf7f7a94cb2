"""The process that outlives us, so that a crash leaves nothing behind.

It runs sweep.py in a session of its own and holds one end of a pipe; when we die, by whatever
signal, the pipe closes, and it stops the postmasters and removes the folder. The orderly way out is
the same: we close the pipe and wait for it.
"""

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from proxy.embedded import sweep
from proxy.embedded.account import Account, can_read
from proxy.embedded.failure import EmbeddedError
from proxy.embedded.programs import wait

# Longer than the 30 s that sweep.py gives a clean shutdown.
FAREWELL_S = 45.0


class Guardian:
    """Owner of the cluster's temporary folder, which exists exactly as long as it does."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path, kept: Path | None) -> None:
        self._process = process
        self._kept = kept
        self.folder = folder

    @classmethod
    async def post(
        cls, account: Account | None, *, kept: Path | None = None, lock_fd: int | None = None
    ) -> "Guardian":
        """Start a guardian with a new folder that belongs to `account`.

        kept: a folder whose postmasters are stopped cleanly and which stays. lock_fd: a descriptor
        held open until the end, so that its lock outlives us as well.
        """
        folder = _temporary_place(account) / f"pgweir-{secrets.token_hex(6)}"
        process = _start(account, folder, kept, lock_fd)
        guardian = cls(process, folder, kept)
        assert process.stdout is not None  # noqa: S101 -- asked for just above
        try:
            said = await asyncio.to_thread(process.stdout.readline)
        except asyncio.CancelledError:
            await guardian.dismiss()
            raise
        if said != b"ready\n":
            await guardian.dismiss()
            raise EmbeddedError(f"cannot make {folder}: {said.decode().strip() or 'no guardian'}")
        return guardian

    async def dismiss(self) -> None:
        """Let it stop what still runs, remove the folder and end; do so ourselves if it is dead."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if await wait(self._process, FAREWELL_S) != 0:
            await asyncio.to_thread(sweep.clean, self.folder, self._kept)


def _start(
    account: Account | None, folder: Path, kept: Path | None, lock_fd: int | None
) -> "subprocess.Popen[bytes]":
    owner = (account.uid, account.gid) if account else (os.getuid(), os.getgid())
    argv = [sys.executable, "-I", "-S", sweep.__file__, folder, *owner, os.getpid()]
    if kept is not None:
        argv.append(kept)
    try:
        return subprocess.Popen(  # noqa: S603 -- our own file, our own interpreter
            [str(argument) for argument in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            pass_fds=() if lock_fd is None else (lock_fd,),
        )
    except OSError as error:
        raise EmbeddedError(f"cannot start {sys.executable}: {error}") from None


def _temporary_place(account: Account | None) -> Path:
    """Pick where the folder goes: the usual place, unless `account` cannot get there."""
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    for place in places:
        if can_read(account, place):
            return place
    raise EmbeddedError(f"{account.name if account else 'you'} can use none of {places}")
