"""Who is granted a connection, and who gives one up, under limits that pools share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from proxy.pool.caps import Caps, Key
from proxy.relay import Pool


@dataclass(eq=False)
class Held:
    """A server connection."""

    pool: "Fake"
    idle_since_s: float = 0.0

    def retire(self) -> None:
        self.pool.lose(self)


@dataclass(eq=False)
class Fake:
    """As much of a pool as limits look at; it opens what it is granted at once."""

    town: "Town"
    name: str
    size: int
    keys: tuple[Key, ...]
    clients: int = 0
    connecting: int = 0
    yields: int = 0
    capped: bool = False
    retired: bool = False
    servers: set[Held] = field(default_factory=set)
    idle: list[Held] = field(default_factory=list)

    @property
    def busy(self) -> int:
        return len(self.servers) - len(self.idle)

    def want(self, clients: int) -> None:
        """So many clients of it have work from now on."""
        self.clients = clients
        while self.busy > clients:
            self.free()
        while self.busy < clients and self.idle:
            self.idle.pop()
        for _ in range(self.town.wants(cast("Pool", self))):
            self.town.caps.ask(cast("Pool", self))

    def free(self) -> None:
        """A busy connection becomes free: somebody who waits gets it, unless it is to be closed."""
        server = next(each for each in self.servers if each not in self.idle)
        if self.yields > 0:
            self.yields -= 1
            self.lose(server)
        elif self.busy > self.clients:
            server.idle_since_s = self.town.now_s
            self.idle.append(server)

    def lose(self, server: Held) -> None:
        self.servers.discard(server)
        if server in self.idle:
            self.idle.remove(server)
        self.town.caps.release(cast("Pool", self))
        if not self.capped:
            for _ in range(self.town.wants(cast("Pool", self))):
                self.town.caps.ask(cast("Pool", self))


class Town:
    """Some pools and their limits, on a clock of their own."""

    def __init__(self, **limits: int) -> None:
        self.limits: dict[Key, int] = {("node", name): limit for name, limit in limits.items()}
        self.now_s = 100.0
        self.full: list[tuple[str, Key, int]] = []
        self._soon: list[Callable[[], None]] = []
        self.caps = Caps(
            limits_of=self._limits_of,
            wants=self.wants,
            grant=self._grant,
            on_full=lambda pool, key, limit: self.full.append((_fake(pool).name, key, limit)),
            clock=lambda: self.now_s,
            call_later=lambda _, call: self._soon.append(call),
        )

    def pool(self, name: str, *nodes: str, size: int = 20) -> Fake:
        return Fake(self, name, size, tuple(("node", node) for node in nodes))

    def _limits_of(self, pool: Pool) -> Mapping[Key, int]:
        return {key: self.limits.get(key, 0) for key in _fake(pool).keys}

    def wants(self, pool: Pool) -> int:
        fake = _fake(pool)
        return min(fake.clients - fake.busy, fake.size - len(fake.servers))

    def _grant(self, pool: Pool) -> None:
        _fake(pool).servers.add(Held(_fake(pool)))

    def pass_time(self, seconds: float, *working: Fake) -> None:
        """The pools finish their transactions again and again meanwhile."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += 0.05
            for each in working:
                for _ in range(each.busy):
                    each.free()
            self.settle()
            self.caps.tick()
            self.settle()

    def settle(self) -> None:
        while self._soon:
            due, self._soon[:] = list(self._soon), []
            for each in due:
                each()


def _fake(pool: Pool) -> Fake:
    return cast("Fake", pool)


def test_what_no_limit_forbids_is_granted_at_once() -> None:
    town = Town(db=0)
    one = town.pool("one", "db", size=9)
    one.want(5)
    assert one.busy == 5


def test_a_limit_is_never_exceeded_and_is_used_in_full() -> None:
    town = Town(db=7)
    one, two = town.pool("one", "db"), town.pool("two", "db")
    one.want(20)
    two.want(20)
    town.pass_time(1, one, two)
    assert len(one.servers) + len(two.servers) == 7


def test_who_meets_a_limit_is_told_which_once() -> None:
    town = Town(db=1)
    one, two = town.pool("one", "db"), town.pool("two", "db")
    one.want(1)
    two.want(3)
    town.pass_time(1)
    assert town.full == [("two", ("node", "db"), 1)]


def test_idle_connections_make_room_at_once() -> None:
    town = Town(db=2)
    one, two = town.pool("one", "db"), town.pool("two", "db")
    one.want(2)
    one.want(0)
    two.want(1)
    town.settle()
    assert (len(one.servers), two.busy) == (1, 1)


def test_the_connection_unused_for_longest_makes_room() -> None:
    town = Town(db=2)
    one, two, three = (town.pool(name, "db") for name in ("one", "two", "three"))
    for each in (one, two):
        each.want(1)
        each.want(0)
        town.now_s += 5
    three.want(1)
    town.settle()
    assert (len(one.servers), len(two.servers), three.busy) == (0, 1, 1)


def test_busy_connections_are_handed_over_as_they_become_free() -> None:
    town = Town(db=10)
    greedy, modest = town.pool("greedy", "db"), town.pool("modest", "db")
    greedy.want(50)
    modest.want(50)
    town.pass_time(1)
    assert modest.busy == 0
    town.pass_time(1, greedy)
    assert (greedy.busy, modest.busy) == (5, 5)
    town.pass_time(5, greedy, modest)
    assert (greedy.busy, modest.busy) == (5, 5)


def test_a_larger_pool_has_the_larger_share() -> None:
    town = Town(db=12)
    large, small = town.pool("large", "db", size=20), town.pool("small", "db", size=10)
    small.want(50)
    large.want(50)
    town.pass_time(2, large, small)
    assert (large.busy, small.busy) == (8, 4)


def test_what_one_does_not_need_the_other_has() -> None:
    town = Town(db=10)
    greedy, modest = town.pool("greedy", "db"), town.pool("modest", "db")
    greedy.want(50)
    modest.want(2)
    town.pass_time(1, greedy)
    assert (greedy.busy, modest.busy) == (8, 2)
    modest.want(0)
    town.pass_time(2, greedy)
    assert (greedy.busy, len(modest.servers)) == (10, 0)


def test_a_moments_idleness_costs_a_pool_nothing_of_its_share() -> None:
    town = Town(db=2)
    greedy, modest = town.pool("greedy", "db"), town.pool("modest", "db")
    modest.want(1)
    greedy.want(50)
    kept = set(modest.servers)
    for _ in range(20):
        modest.want(0)
        town.pass_time(0.2, greedy)
        modest.want(1)
        town.pass_time(0.2, greedy)
    assert modest.servers == kept


def test_more_pools_than_connections_take_turns() -> None:
    town = Town(db=2)
    pools = [town.pool(str(number), "db") for number in range(5)]
    for each in pools:
        each.want(9)
    served: set[str] = set()
    for _ in range(100):
        town.pass_time(0.05, *pools)
        served |= {each.name for each in pools if each.busy}
        assert sum(len(each.servers) for each in pools) <= 2
    assert len(served) == 5


def test_a_turn_lasts_for_more_than_one_transaction() -> None:
    town = Town(db=1)
    one, two = town.pool("one", "db"), town.pool("two", "db")
    one.want(9)
    two.want(9)
    town.pass_time(0.1, one, two)
    assert one.busy == 1
    town.pass_time(0.3, one, two)
    assert two.busy == 1


def test_several_limits_hold_together() -> None:
    town = Town(db=3, user=4)
    one, two = town.pool("one", "db", "user"), town.pool("two", "user")
    one.want(9)
    two.want(9)
    town.pass_time(2, one, two)
    assert (one.busy, two.busy) == (2, 2)
    two.want(0)
    town.pass_time(3, one)
    assert (one.busy, len(two.servers)) == (3, 1)


def test_nothing_is_taken_for_one_whom_another_limit_keeps_out() -> None:
    town = Town(db=1, user=4)
    one, stuck = town.pool("one", "user"), town.pool("stuck", "user", "db")
    holder = town.pool("holder", "db")
    holder.want(1)
    town.now_s += 0.01
    one.want(4)
    stuck.want(1)
    town.pass_time(0.1, one)
    assert one.busy == 4


def test_a_lowered_limit_is_reached_as_connections_become_free() -> None:
    town = Town(db=8)
    one = town.pool("one", "db")
    one.want(8)
    town.limits["node", "db"] = 3
    town.caps.refresh()
    town.pass_time(0.2)
    assert one.busy == 8
    town.pass_time(1, one)
    assert one.busy == 3


def test_a_raised_limit_is_used_at_once() -> None:
    town = Town(db=1)
    one = town.pool("one", "db")
    one.want(4)
    assert one.busy == 1
    town.limits["node", "db"] = 3
    town.caps.refresh()
    town.settle()
    assert one.busy == 3


def test_who_no_longer_waits_takes_nothing_from_anybody() -> None:
    town = Town(db=2)
    one, two = town.pool("one", "db"), town.pool("two", "db")
    one.want(2)
    two.want(1)
    town.settle()
    two.want(0)
    town.pass_time(1, one)
    assert (one.busy, two.busy, two.capped, one.yields) == (2, 0, False, 0)


def test_pools_that_are_over_leave_nothing_behind() -> None:
    town = Town(db=2)
    one, two = town.pool("one", "db"), town.pool("two", "db")
    one.want(2)
    two.want(1)
    for each in (two, one):
        each.want(0)
    for server in list(one.servers):
        one.lose(server)
    town.pass_time(1)
    assert not town.caps._parties
    assert not town.caps._caps


def test_a_limit_met_unawares_is_shared_and_tried_again_later() -> None:
    """Somebody else has connections to the node: fewer are left than it should have."""
    town = Town(db=10)
    one, two = town.pool("one", "db"), town.pool("two", "db")
    one.want(4)
    assert town.caps.meet(("node", "db"))
    two.want(4)
    town.pass_time(1, one, two)
    assert (one.busy, two.busy) == (2, 2)
    town.pass_time(10, one, two)
    assert (one.busy, two.busy) == (4, 4)


def test_a_limit_met_by_one_who_is_alone_is_for_others_to_lift() -> None:
    town = Town(db=10)
    one = town.pool("one", "db")
    one.want(1)
    one.lose(next(iter(one.servers)))
    one.servers.clear()
    assert not town.caps.meet(("node", "db"))


def test_a_connection_that_is_its_clients_own_is_not_shared() -> None:
    town = Town(db=1)
    own, other = town.pool("own", "db"), town.pool("other", "db")
    town.caps.ask(cast("Pool", own), lasting=True)
    own.idle.extend(own.servers)
    town.now_s += 60
    other.want(1)
    town.pass_time(5)
    assert (len(own.servers), other.busy) == (1, 0)
