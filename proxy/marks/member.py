"""Who is a member, and is it certain that it has ended?

A process is named by the machine's boot, its namespace of processes, its number there and when it
began: so another one of the same machine can say for certain that it has ended, and nobody has to
wait for what it might still write.

Source: proc(5), "/proc/[pid]/stat", field 22; pid_namespaces(7).
"""

import os
import secrets
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def name_of_this_process() -> str:
    """Nobody else is called so, on this machine or another."""
    pid = os.getpid()
    return f"{_place()}:{pid}:{_began(pid) or secrets.token_hex(8)}"


def has_ended(member: str) -> bool:
    """Whether a member was a process of this machine, and is certainly none any more."""
    place, _, rest = member.rpartition(":")
    place, _, pid = place.rpartition(":")
    if place != _place() or not pid.isdigit():
        return False
    return _began(int(pid)) != rest


def _place() -> str:
    try:
        boot = _BOOT.read_text().strip()
        return f"{boot}:{_NAMESPACE.stat().st_ino}"
    except OSError:
        # Nobody can say anything for us, then.
        return "unknown"


def _began(pid: int) -> str:
    """When a process began; empty when there is none, or none that is alive."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
