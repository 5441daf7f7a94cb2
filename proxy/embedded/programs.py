"""Starting PostgreSQL's programs, as somebody else if need be.

`subprocess.Popen` and a short poll, not asyncio's own subprocesses: the demo runs on uvloop, whose
subprocesses can neither change their user nor be started while another loop starts one.
"""

import asyncio
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from proxy.embedded.account import Account, credentials
from proxy.embedded.failure import EmbeddedError

POLL_S = 0.01
# In a line of output these name the cause; a bad setting is only logged before the FATAL line.
_WRONG = ("FATAL:", "PANIC:", "error:", "invalid value", "unrecognized configuration")


def spawn(
    argv: Sequence[str | Path],
    *,
    account: Account | None,
    cwd: Path,
    output: IO[bytes],
    env: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a program as `account`, in a session of its own, with an environment of its own.

    Of its own: a Ctrl-C at the terminal must reach us first, and PG* variables of the caller must
    not reach PostgreSQL. Raises EmbeddedError when the program cannot be started.
    """
    options: dict[str, Any] = dict(credentials(account))
    try:
        return subprocess.Popen(  # noqa: S603 -- programs of the chosen PostgreSQL only
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", **(env or {})},
            start_new_session=True,
            umask=0o077,
            **options,
        )
    except (OSError, subprocess.SubprocessError) as error:
        who = f" as {account.name}" if account else ""
        raise EmbeddedError(f"cannot start {argv[0]}{who}: {error}") from None


async def run(
    argv: Sequence[str | Path],
    *,
    account: Account | None,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120.0,
) -> None:
    """Run a program to its end; EmbeddedError with its last words when it fails or hangs.

    A cancelled caller takes the program with it.
    """
    with tempfile.TemporaryFile() as output:
        process = spawn(argv, account=account, cwd=cwd, env=env, output=output)
        try:
            ended = await wait(process, timeout_s)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if ended == 0:
            return
        output.seek(0)
        why = "took too long" if ended is None else f"failed ({ended})"
        raise EmbeddedError(f"{Path(argv[0]).name} {why}: {last_words(output.read())}")


async def wait(process: "subprocess.Popen[bytes]", timeout_s: float) -> int | None:
    """Wait for the end of a process: its exit status, or None when it still runs."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while (status := process.poll()) is None:
        if asyncio.get_running_loop().time() >= deadline:
            return None
        await asyncio.sleep(POLL_S)
    return status


def last_words(output: bytes) -> str:
    """Pick what matters from a program's output for one line: its errors, else its last line."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    wrong = [line for line in lines if any(mark in line for mark in _WRONG)]
    return "; ".join((wrong or lines or ["it said nothing"])[-2:])
