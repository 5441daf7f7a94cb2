"""What the console sees of the process, handed to it once by `workers`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from proxy.client import Startup
from proxy.cluster import ClusterView
from proxy.config import Config
from proxy.console.others import Alone, Others
from proxy.pool import Reservoir
from proxy.relay import Client, Link, Relay
from proxy.telemetry import Event, QueryRecord

CONSOLE = "pgbouncer"
"""The console's database in what SHOW shows; `pgweir` is another name for it."""


@dataclass(slots=True, eq=False)
class Visitor:
    """Somebody at the console. queries: statements so far. request_s: when the last one came."""

    link: Client
    startup: Startup
    is_admin: bool
    queries: int = 0
    request_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pin:
    """One client that keeps its server connection: a row of SHOW PINS.

    since_s: on the monotonic clock. statement: the beginning of the one that caused it.
    """

    database: str
    user: str
    addr: str
    node: str
    reason: str
    since_s: float
    statement: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What the console sees. config and views are asked anew each time.

    strangers: how many are logging in. pins: the oldest first. events: the newest first. queries:
    those that take most of the time first. others: the processes beside this one. clock: the
    relay's monotonic seconds.
    """

    relay: Relay
    reservoir: Reservoir
    config: Callable[[], Config]
    views: Callable[[], Sequence[ClusterView]]
    strangers: Callable[[], int]
    pins: Callable[[], Sequence[Pin]]
    events: Callable[[], Sequence[Event]]
    queries: Callable[[], Sequence[QueryRecord]]
    others: Others = field(default_factory=Alone)
    visitors: list[Visitor] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

    def at(self, moment_s: float) -> str:
        """A moment of the monotonic clock as PgBouncer writes it, such as
        `2026-11-27 22:21:48 UTC`."""
        return written_at(self.wall() - (self.clock() - moment_s))

    def number_of(self, link: Link) -> int:
        """The number of a connection, that no other has in any process."""
        return link.number * self.others.count + self.others.index


def written_at(at_s: float) -> str:
    """A time, seconds since the Unix epoch, as PgBouncer writes it."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def split_us(seconds: float) -> tuple[int, int]:
    """Whole seconds, and the microseconds beside them."""
    return divmod(round(max(0.0, seconds) * 1_000_000), 1_000_000)
