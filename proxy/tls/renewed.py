"""What is made from files, made anew when they change.

Looked after by the worker's tick. What has been made stays valid for those who hold it: a context
that is replaced lives on in its open connections.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_log = logging.getLogger("pgweir.tls")

Stamp = tuple[int, int, int, int] | None


class Renewed(Generic[T]):
    """A value made from files. value: as of the newest files that were any use."""

    def __init__(self, files: Iterable[Path | None], make: Callable[[], T]) -> None:
        """Make it for the first time; raises what `make` raises."""
        self._files = tuple(file for file in files if file is not None)
        self._make = make
        self._stamps = self._seen = self._read_stamps()
        self.value = make()

    def look(self) -> None:
        """Look whether the files have changed, and use them once they have come to rest.

        A certificate and its key are seldom written at the same moment: a change counts when two
        looks in a row have seen the same.
        """
        before, self._seen = self._seen, self._read_stamps()
        if self._seen == self._stamps or self._seen != before:
            return
        self._stamps = self._seen
        facts: dict[str, object] = {"files": ", ".join(map(str, self._files))}
        try:
            self.value = self._make()
        except (OSError, ValueError) as useless:  # ssl.SSLError is an OSError
            facts["reason"] = str(useless)
            _log.error("TLS files cannot be used, so the old ones stay", extra={"facts": facts})
        else:
            _log.info("TLS files read again", extra={"facts": facts})

    def _read_stamps(self) -> tuple[Stamp, ...]:
        return tuple(map(_read_stamp, self._files))


def _read_stamp(file: Path) -> Stamp:
    """What changes when a file is written or replaced; None when there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
