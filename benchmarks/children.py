"""Processes we start: each with its own log, and none of them outliving us."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.failure import BenchmarkError
from proxy.embedded import Account

STOP_S = 5.0
_TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Child:
    """A running process. log: where its output goes, standard error included."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def tail(self) -> str:
        """The last lines it wrote."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"  | {line}" for line in lines[-_TAIL_LINES:]) or "  | (no output)"


class Children:
    """All processes of a run; leaving the context ends those that are left, by their ids.

    folder: where logs are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Child] = []
        self._started = 0

    def __enter__(self) -> "Children":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop(*self._running)

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        cores: frozenset[int] | None = None,
        account: Account | None = None,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start a program that runs until it is stopped.

        account: whom it runs as, None for ourselves. Raises BenchmarkError when it is not there.
        """
        self._started += 1
        log = self._folder / f"{self._started:03d}-{name}.log"
        with log.open("wb") as output:
            process = _spawn(
                argv,
                cores,
                account,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
            )
        child = Child(name, process, log)
        self._running.append(child)
        return child

    def stop(self, *children: Child) -> None:
        """Ask them to end (SIGTERM; their clients are gone, so they do at once), then insist."""
        for child in children:
            if child.is_running:
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for child in children:
            try:
                child.process.wait(max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self._running = [child for child in self._running if child not in children]


def converse(argv: Sequence[str | Path], cores: frozenset[int] | None) -> "subprocess.Popen[bytes]":
    """Start a program that is told what to do by lines; the caller closes and waits for it."""
    return _spawn(argv, cores, None, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def run(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    cores: frozenset[int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end and keep what it said; TimeoutExpired, and killed, if it hangs."""
    process = _spawn(
        argv,
        cores,
        None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    try:
        said, complained = process.communicate(timeout=timeout_s)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, said, complained)


def _spawn(
    argv: Sequence[str | Path],
    cores: frozenset[int] | None,
    account: Account | None,
    **options: Any,
) -> "subprocess.Popen[Any]":
    if account is not None:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    try:
        return subprocess.Popen(
            [str(word) for word in argv],
            # A session of its own: a Ctrl-C at the terminal is ours to pass on.
            start_new_session=True,
            preexec_fn=_before_exec(cores),  # noqa: PLW1509 -- we have no other threads
            **options,
        )
    except OSError as error:
        raise BenchmarkError(f"cannot start {argv[0]}: {error.strerror}") from None


def _before_exec(cores: frozenset[int] | None) -> Callable[[], None]:
    def prepare() -> None:
        # Should we be killed outright, nobody else would stop it.
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if cores is not None:
            os.sched_setaffinity(0, cores)

    return prepare
