"""One (database, user): its lines, its pools, and where their connections come from."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.config import Policy
from proxy.errors import ClientError
from proxy.pool.nodes import NodePlace
from proxy.pool.welcome import Welcome
from proxy.relay import Line, Pool


@dataclass(slots=True)
class Spring:
    """Where a pool's connections come from; the pool's `owner`.

    startup: parameters they are dialled with. waits_until_s: when the next may be tried, after
    failures in a row.
    """

    policy: Policy
    node: NodePlace
    startup: Mapping[str, str]
    waits_until_s: float = 0.0
    failures: int = 0


@dataclass(slots=True)
class Basin:
    """One (database, user): its lines, and what its clients are told at login.

    line: of the primary, or of where the policy sends everything. reads: of what else statements
    are routed to, by target. shunned: nodes that did not let it in, until when. pools: those it is
    served by, by node. welcomed: who waits for the first welcome. is_gone: no such database is
    configured any more.
    """

    policy: Policy
    line: Line
    reads: dict[str, Line] = field(default_factory=dict)
    shunned: dict[str, float] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    welcome: Welcome | None = None
    welcomed: list[asyncio.Future[Welcome]] = field(default_factory=list)
    is_gone: bool = False

    @property
    def lines(self) -> list[Line]:
        """The line of the primary, and those of other targets."""
        return [self.line, *self.reads.values()]

    @property
    def serving(self) -> list[Pool]:
        """Its pools that serve some line now."""
        return list(dict.fromkeys(pool for line in self.lines for pool in line.pools))

    def greet(self, welcome: Welcome) -> None:
        """A server has been reached: this is what clients are told from now on."""
        self.welcome = welcome
        for waiter in self.welcomed:
            if not waiter.done():
                waiter.set_result(welcome)

    def turn_away(self, answer: ClientError) -> None:
        """Tell who waits for the first welcome that there will be none."""
        for waiter in self.welcomed:
            if not waiter.done():
                waiter.set_exception(answer)
                # Its client may have left: then nobody asks for it, and that is no fault.
                waiter.exception()


Basins = dict[tuple[str, str], Basin]
"""All of them, by database and user."""
