"""Stop what is left of a cluster and remove its folder.

This file is also a program of its own (see `main`), started by guardian.py with a bare interpreter
before anything else exists. It therefore imports the standard library only. As a program it makes
the cluster's folder, waits until the process that asked for it is gone or says goodbye, and then
leaves nothing: no process, no folder, no shared memory.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Only these are ever signalled. A shell or an editor that happens to sit in the folder is not ours.
PROGRAMS = frozenset({"postgres", "initdb", "pg_basebackup"})
_PROC = Path("/proc")


def descendants(roots: set[int]) -> set[int]:
    """Give `roots` and every process below them, as of now."""
    parents = dict(_parents())
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def programs_in(folders: list[Path]) -> set[int]:
    """Find PostgreSQL's programs that work in one of `folders`, and their children.

    By working directory where /proc shows it (our own uid, or CAP_SYS_PTRACE, which root in a
    container lacks), else by the folder among the arguments, which everybody may read.
    """
    tops = [os.fsencode(top) for folder in folders for top in {folder, folder.resolve()}]
    return descendants({pid for pid, _ in _parents() if _works_in(_PROC / str(pid), tops)})


def stop(folders: list[Path], first: signal.Signals, patience_s: float) -> None:
    """Stop every program in `folders`: ask with `first`, then, after `patience_s`, kill.

    `first` goes to postmasters only (SIGINT: shut down cleanly, SIGQUIT: at once), which pass it
    on; other programs have nothing to tidy up and are killed. What withstands even that for ten
    seconds is stuck in the kernel or not ours to kill, and is left.
    """
    deadline = time.monotonic() + patience_s
    asked: set[int] = set()
    while (alive := programs_in(folders)) and time.monotonic() < deadline + 10.0:
        parents = dict(_parents())
        roots = {pid for pid in alive if parents.get(pid) not in alive}
        if time.monotonic() >= deadline:
            # Roots first: a postmaster must not start another child meanwhile.
            for pid in (*roots, *alive - roots):
                _send(pid, signal.SIGKILL)
        else:
            for pid in roots - asked:
                _send(pid, first if _name(_PROC / str(pid)) == "postgres" else signal.SIGKILL)
            for pid in alive - asked:
                _send(pid, signal.SIGCONT)  # a frozen one would not hear it
            asked |= alive
        time.sleep(0.02)


def free_shared_memory(folders: list[Path]) -> None:
    """Remove the System V segments of postmasters that could not do it themselves.

    Line 7 of postmaster.pid holds key and id (src/include/utils/pidfile.h). A segment that is still
    attached, or that carries another key by now, is left alone.
    """
    segments = {}
    with contextlib.suppress(OSError):
        for line in (_PROC / "sysvipc" / "shm").read_text().splitlines()[1:]:
            columns = [int(word) for word in line.split()[:7]]
            segments[columns[1]] = (columns[0], columns[6])
    for file in (file for folder in folders for file in folder.glob("*/postmaster.pid")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            key, shmid = (int(word) for word in file.read_text().splitlines()[6].split())
            if segments.get(shmid) == (key, 0):
                ctypes.CDLL(None).shmctl(shmid, 0, None)  # 0 is IPC_RMID


def clean(folder: Path, kept: Path | None) -> None:
    """Stop all that runs in `folder` and `kept`, then remove `folder`.

    Where data is kept its postmasters may take their time for a clean shutdown.
    """
    folders = [folder] if kept is None else [folder, kept]
    stop(folders, signal.SIGQUIT if kept is None else signal.SIGINT, 5.0 if kept is None else 30.0)
    free_shared_memory(folders)
    # A program that was just being started may still write something: once more, then.
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        stop([folder], signal.SIGQUIT, 0.0)
        if not folder.exists():
            return
        time.sleep(0.05)


def recover(kept: Path) -> None:
    """Make kept data startable after a power cut took the guardian as well.

    The caller holds the folder's lock, so whatever still runs in it has lost its owner. The pid
    file goes because in a container numbers repeat: PostgreSQL would take the sibling that has the
    old number today for a postmaster on the same data, and refuse.
    """
    stop([kept], signal.SIGINT, 30.0)
    free_shared_memory([kept])
    for file in kept.glob("*/postmaster.pid"):
        file.unlink()


def main(folder: Path, uid: int, gid: int, parent: int, kept: Path | None) -> None:
    """Make `folder` for `uid`, report it on stdout, guard it until `parent` is gone, clean up.

    stdin is a pipe from the parent: its end says that the parent is gone, or finished. The parent's
    number is watched too, in case a forked child of its holds the other end.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    try:
        folder.mkdir(mode=0o700)
        os.chown(folder, uid, gid)
    except OSError as error:
        os.write(1, f"{error}\n".encode())
        return
    with contextlib.suppress(OSError):
        os.write(1, b"ready\n")
        while os.getppid() == parent:
            if select.select([0], [], [], 0.25)[0] and not os.read(0, 64):
                break
    clean(folder, kept)


def _parents() -> Iterator[tuple[int, int]]:
    """Yield (pid, parent) of every process that is not a zombie."""
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The name, in parentheses, may contain anything; the fields behind it do not.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                yield int(entry.name), int(parent)


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return ""


def _works_in(process: Path, tops: list[bytes]) -> bool:
    if _name(process) not in PROGRAMS:
        return False
    places = []
    with contextlib.suppress(OSError):
        places.append(os.fsencode((process / "cwd").readlink()).removesuffix(b" (deleted)"))
    with contextlib.suppress(OSError):
        places += (process / "cmdline").read_bytes().split(b"\0")
    return any(place == top or place.startswith(top + b"/") for place in places for top in tops)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


if __name__ == "__main__":
    _folder, _uid, _gid, _parent, *_kept = sys.argv[1:]
    main(Path(_folder), int(_uid), int(_gid), int(_parent), Path(_kept[0]) if _kept else None)
