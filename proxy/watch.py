"""Files that are looked at now and then, because somebody may replace them."""

import time
from collections.abc import Iterable
from pathlib import Path

Stamp = tuple[int, int, int, int] | None

# What was written just before the first look may have been written after it was read.
_FRESH_S = 5.0


class Watch:
    """Notices that files have changed, once they have come to rest.

    files: those that are absent count as well, and may come.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = tuple(files)
        self._seen = self._read()
        self._settled = tuple(None if _is_fresh(stamp) else stamp for stamp in self._seen)

    def follow(self, files: Iterable[Path]) -> None:
        """Look at these from now on. Of those that were looked at before, what is known stays."""
        settled = dict(zip(self.files, self._settled, strict=True))
        self.files = tuple(files)
        self._seen = self._read()
        self._settled = tuple(
            settled.get(file, None if _is_fresh(stamp) else stamp)
            for file, stamp in zip(self.files, self._seen, strict=True)
        )

    def has_changed(self) -> bool:
        """Whether two looks in a row have seen the same, and something else than was settled."""
        before, self._seen = self._seen, self._read()
        return self._seen == before and self._seen != self._settled

    def settle(self) -> None:
        """What was seen has been read."""
        self._settled = self._seen

    def _read(self) -> tuple[Stamp, ...]:
        return tuple(map(_stamp_of, self.files))


def _stamp_of(file: Path) -> Stamp:
    """What changes when a file is written or replaced; None when there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _is_fresh(stamp: Stamp) -> bool:
    return stamp is not None and time.time() - stamp[2] / 1e9 < _FRESH_S
