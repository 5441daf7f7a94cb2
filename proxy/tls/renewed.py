"""What is made from files, made anew when they change.

Looked after by the worker's tick. What has been made stays valid for those who hold it: a context
that is replaced lives on in its open connections.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from proxy.telemetry import report
from proxy.watch import Watch

T = TypeVar("T")

_log = logging.getLogger("pgweir.tls")


class Renewed(Generic[T]):
    """A value made from files. value: as of the newest files that were any use."""

    def __init__(self, files: Iterable[Path | None], make: Callable[[], T]) -> None:
        """Make it for the first time; raises what `make` raises."""
        self._watch = Watch(file for file in files if file is not None)
        self._make = make
        self.value = make()

    def look(self) -> None:
        """Look whether the files have changed, and use them once they have come to rest.

        A certificate and its key are seldom written at the same moment. Until they fit, what was
        there before stays.
        """
        if not self._watch.has_changed():
            return
        self._watch.settle()
        facts: dict[str, object] = {"files": ", ".join(map(str, self._watch.files))}
        try:
            self.value = self._make()
        except (OSError, ValueError) as useless:  # ssl.SSLError is an OSError
            facts["reason"] = str(useless)
            said = "TLS files cannot be used, so the old ones stay"
            report(_log, "files", said, facts, logging.ERROR)
        else:
            report(_log, "files", "TLS files read again", facts)
