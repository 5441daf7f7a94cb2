"""Commands of the operator's that are run when roles have changed.

They learn the facts from their environment, have a limited time, and decide nothing: a hook that
fails is reported and what was done stays done.
"""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence

_MOST_OUTPUT_BYTES = 400


async def run_hook(command: Sequence[str], facts: Mapping[str, str], limit_s: float) -> str | None:
    """Run a command without a shell. Result: None when it succeeded, else what went wrong.

    facts: added to our own environment. limit_s: then it is killed with all that it started.
    """
    # A file, as a daemon that the command starts would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **facts},
                start_new_session=True,
            )
        except OSError as error:
            return f"could not be started: {error.strerror or error}"
        try:
            async with asyncio.timeout(limit_s):
                code = await process.wait()
        except TimeoutError:
            return f"was ended, as it took longer than hook_timeout ({limit_s:g} s)"
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if code == 0:
            return None
        output.seek(0)
        said = " ".join(output.read(_MOST_OUTPUT_BYTES).decode("utf-8", "replace").split())
    return f"ended with {code}: {said}" if said else f"ended with {code}"
