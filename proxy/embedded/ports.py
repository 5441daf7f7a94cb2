"""Loopback ports that nobody uses."""

import random
import socket
from pathlib import Path

from proxy.embedded.failure import EmbeddedError

LOOPBACK = "127.0.0.1"
LOWEST = 10240  # below are the ports people know by heart
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def is_port_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether somebody could listen on `port` right now, old connections notwithstanding."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
        return True


def free_port(preferred: int | None = None) -> int:
    """Pick a port that is free now, `preferred` if it is; whoever binds it may still lose a race.

    Ports are taken below the kernel's ephemeral range. From inside it, an outgoing connection could
    take the number while its node is down, and a restart on the same port would fail.
    """
    if preferred is not None and is_port_free(preferred):
        return preferred
    below = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32768
    highest = below - 1 if below > LOWEST + 1000 else 65535
    for _ in range(200):
        port = random.randint(LOWEST, highest)  # noqa: S311 -- spreads, does not protect
        if is_port_free(port):
            return port
    raise EmbeddedError(f"no free port found on {LOOPBACK} from {LOWEST} to {highest}")
