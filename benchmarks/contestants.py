"""Starting the proxies, and knowing that they serve."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import Child, Children
from benchmarks.cores import Cores
from benchmarks.failure import BenchmarkError
from benchmarks.peers import (
    HOST,
    Wanted,
    haproxy_cfg,
    pgbouncer_ini,
    pgbouncer_userlist,
    pgweir_yaml,
)
from benchmarks.pgbench import ask_once
from proxy.embedded import is_port_free, unprivileged_account

READY_S = 30.0
_REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Contestant:
    """Somebody who takes turns: a proxy, or `direct`, which has no process.

    ports: where clients connect; of several each gets its share of them.
    """

    name: str
    ports: tuple[int, ...]
    child: Child | None = None

    @property
    def port(self) -> int:
        """The only port, or the primary's."""
        return self.ports[0]

    @property
    def pid(self) -> int | None:
        """The proxy's process id; its children count as well."""
        return self.child.pid if self.child else None

    def last_words(self) -> str:
        """The end of its log, and whether it still runs."""
        if self.child is None:
            return ""
        state = "runs" if self.child.is_running else f"ended ({self.child.process.returncode})"
        return f"{self.name} {state}; the end of its log:\n{self.child.tail()}"


@dataclass(frozen=True)
class Stage:
    """Where proxies run. folder: for their configuration; every account must be able to enter."""

    children: Children
    folder: Path
    cores: Cores


def start_contestant(name: str, wanted: Wanted, stage: Stage) -> Contestant:
    """Start one proxy and wait until a statement has gone through it.

    Raises BenchmarkError, with the end of its log, when that does not happen in `READY_S`.
    """
    child = _STARTERS[name](wanted, stage)
    contestant = Contestant(name, (wanted.port,), child)
    deadline = time.monotonic() + READY_S
    complaint = f"nothing listens on {HOST}:{wanted.port}"
    while time.monotonic() < deadline and child.is_running:
        if not is_port_free(wanted.port):
            answer = ask_once(wanted.port, tls=wanted.certificate is not None)
            if answer is None:
                return contestant
            complaint = answer
        time.sleep(0.05)
    raise BenchmarkError(f"{name} did not start: {complaint}\n{contestant.last_words()}")


def _start_pgweir(wanted: Wanted, stage: Stage, *, splits: bool = False) -> Child:
    file = stage.folder / f"pgweir-{wanted.port}.yaml"
    file.write_text(pgweir_yaml(wanted, splits=splits))
    argv: list[str | Path] = [sys.executable, "-m", "proxy", "run", "-c", file]
    return stage.children.start("pgweir", argv, cores=stage.cores.proxy, cwd=_REPOSITORY)


def _start_splitting(wanted: Wanted, stage: Stage) -> Child:
    return _start_pgweir(wanted, stage, splits=True)


def _start_pgbouncer(wanted: Wanted, stage: Stage) -> Child:
    file, users = stage.folder / f"pgbouncer-{wanted.port}.ini", stage.folder / "userlist.txt"
    file.write_text(pgbouncer_ini(wanted, str(users)))
    users.write_text(pgbouncer_userlist())
    # It refuses to run as root.
    account = unprivileged_account()
    argv = [find_program("pgbouncer"), file]
    return stage.children.start("pgbouncer", argv, cores=stage.cores.proxy, account=account)


def _start_haproxy(wanted: Wanted, stage: Stage) -> Child:
    file = stage.folder / f"haproxy-{wanted.port}.cfg"
    file.write_text(haproxy_cfg(wanted))
    return stage.children.start(
        "haproxy", [find_program("haproxy"), "-db", "-f", file], cores=stage.cores.proxy
    )


_STARTERS: Mapping[str, Callable[[Wanted, Stage], Child]] = {
    "pgweir": _start_pgweir,
    "pgweir-split": _start_splitting,
    "pgbouncer": _start_pgbouncer,
    "haproxy": _start_haproxy,
}


def find_program(program: str) -> Path:
    """Where a daemon is; Debian's /usr/sbin is not on everybody's PATH.

    Raises BenchmarkError that says how to install it.
    """
    for folder in (*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/local/sbin"):
        if folder and os.access(path := Path(folder, program), os.X_OK):
            return path
    raise BenchmarkError(f"{program} is not installed: on Debian, apt-get install {program}")
