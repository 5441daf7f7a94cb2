"""The file that says which process serves, and that it is the only one."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


def running_pid(file: Path) -> int | None:
    """The process that a file names, None when there is no file or no such process any more."""
    try:
        pid = int(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    if pid <= 0 or pid == os.getpid():
        return None
    return pid if _is_running(pid) else None


def _is_running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, and there
    return True


@contextlib.contextmanager
def claimed(file: Path | None, *, replaces: int | None = None) -> Iterator[None]:
    """Have the file name this process, and remove it at the end if it still does.

    replaces: the process that may stand in it, because this one takes its place.
    Raises OSError when another process has it, or it cannot be written.
    """
    if file is None:
        yield
        return
    known = running_pid(file)
    if known is not None and known != replaces:
        raise OSError(
            errno.EEXIST,
            f"process {known} is running already; stop it, or start with -R",
            str(file),
        )
    _write(file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if file.read_text() == _own():
                file.unlink()


def stays_claimed(file: Path | None, replaced: int) -> bool:
    """Write the file again if it is gone: PgBouncer, when it ends, removes it whosever it is.

    To be called once in a while, as long as the result says so: until the process has ended whose
    place this one has taken.
    """
    may_remove = _is_running(replaced)
    if file is not None and not file.exists():
        with contextlib.suppress(OSError):
            _write(file)
    return may_remove


def _write(file: Path) -> None:
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.write_text(_own())
    fresh.replace(file)


def _own() -> str:
    return f"{os.getpid()}\n"
