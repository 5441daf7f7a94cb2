"""Driving load.c, line by line."""

import json
import selectors
from types import TracebackType
from typing import Any

from benchmarks.children import converse
from benchmarks.compiled import compiled

# load.c itself gives up after 30 s without a byte.
_ANSWER_S = 90.0


class LoaderFailed(Exception):  # noqa: N818 -- a fact about a turn, not the end of the run
    """The loader ended, hung, or could not open a client."""


class Loader:
    """Clients that one cheap process holds open; a context manager, at whose end they leave.

    mode: simple, extended or prepared.
    """

    def __init__(self, port: int, mode: str, cores: frozenset[int] | None) -> None:
        self._process = converse([compiled("load"), str(port), mode], cores)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._process.kill()
        self._process.communicate()

    def open(self, clients: int) -> dict[str, Any]:
        """Log clients in; `opened` and `errors`."""
        return self._ask(f"open {clients}")

    def run(self, active: int, seconds: float) -> dict[str, Any]:
        """Let the first `active` clients ask, one statement after the other.

        The facts are transactions, errors, seconds, p50_us, p95_us and p99_us.
        """
        return self._ask(f"run {active} {int(seconds * 1000)}")

    def sweep(self) -> dict[str, Any]:
        """Let every client ask once; the same facts."""
        return self._ask("sweep")

    def _ask(self, line: str) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(line.encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise LoaderFailed(f"the loader ended before `{line}`") from None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(_ANSWER_S):
                raise LoaderFailed(f"the loader did not answer `{line}` in {_ANSWER_S:g} s")
        answer = stdout.readline()
        if not answer:
            raise LoaderFailed(f"the loader ended at `{line}`")
        facts: dict[str, Any] = json.loads(answer)
        return facts
