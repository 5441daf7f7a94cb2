"""Limits on server connections that several pools share: of a database, a user, a node.

Every connection of a pool takes a seat under each limit that holds for the pool, from the moment it
is dialled until it is gone. Who finds no seat is hungry. What each pool is entitled to says
`shares`; a hungry pool below its share gets the next free seat, and those above theirs give some
up: idle connections at once, the longest unused first, busy ones as they become free. Called by
`growth`, and by nobody else.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from proxy.pool.shares import Claim, fair_shares
from proxy.relay import Pool, Server

Key = tuple[str, ...]
"""What a limit is about: ("database", name), ("user", name) or ("node", cluster, name)."""

_NEVER_S = float("-inf")
# A connection used so lately is needed, whether or not it is idle at this moment: or else two
# pools of short transactions would close each other's connections all the time.
_RECENT_S = 1.0
# With fewer connections than pools each keeps its own for so long at least, if it uses it all the
# time: opening another costs PostgreSQL more than most transactions do.
_TURN_S = 0.2
# Thousands of pools at one limit take milliseconds to judge: that is done for a tenth of the
# time at most.
_REST = 9.0
# How long a limit that was met unawares holds before more is tried again.
_MET_S = 10.0


@dataclass(slots=True, eq=False)
class _Party:
    """One pool: the seats it has, and whether it wants more."""

    pool: Pool
    limits: Mapping[Key, int]
    held: int = 0
    given_s: float = _NEVER_S
    is_lasting: bool = False

    def claim(self, more: int, now_s: float) -> Claim:
        """more: connections it wants beside those it has."""
        pool = self.pool
        busy = len(pool.servers) - len(pool.idle) + pool.connecting
        recent = sum(now_s - each.idle_since_s < _RECENT_S for each in pool.idle)
        wanted = 0 if pool.retired else busy + recent + more
        is_fresh = busy > 0 and now_s - self.given_s < _TURN_S
        return Claim(pool.size, wanted, self.held, self.given_s, is_fresh)


@dataclass(slots=True)
class _Cap:
    """One limit, and who has seats under it or wants one.

    declared: as we know it, 0 for none. met: as it has shown itself lately, 0 when it has not.
    """

    declared: int = 0
    taken: int = 0
    parties: dict[Pool, _Party] = field(default_factory=dict)
    met: int = 0
    met_until_s: float = 0.0

    @property
    def limit(self) -> int:
        """What holds now, 0 for none."""
        return min(self.declared or self.met, self.met or self.declared)

    @property
    def room(self) -> int:
        return self.limit - self.taken if self.limit else 1 << 31


_Shares = Mapping[Key, Mapping[_Party, int]]


class Caps:
    """All limits of one process.

    limits_of: the limits that hold for a pool, by what they are about; 0 is none.
    wants: how many connections a pool could use beside those it has and those being opened.
    grant: called to let a pool open one connection; `release` it when that is gone, or never came.
    on_full: called with a pool that becomes hungry, the limit it has met, and its value.
    """

    def __init__(
        self,
        *,
        limits_of: Callable[[Pool], Mapping[Key, int]],
        wants: Callable[[Pool], int],
        grant: Callable[[Pool], None],
        on_full: Callable[[Pool, Key, int], None],
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._limits_of = limits_of
        self._wants = wants
        self._grant = grant
        self._on_full = on_full
        self._clock = clock
        self._call_later = call_later
        self._parties: dict[Pool, _Party] = {}
        self._caps: dict[Key, _Cap] = {}
        self._hungry: dict[_Party, None] = {}
        self._vacant: set[_Party] = set()
        self._yielding: set[Pool] = set()
        self._met: set[Key] = set()
        self._is_due = False
        self._rests_until_s = _NEVER_S

    # --- asking and giving back ------------------------------------------------------------------

    def ask(self, pool: Pool, *, lasting: bool = False) -> None:
        """The pool wants one more connection: it is granted now, or as soon as it can be.

        lasting: its connections are not to be shared, however long they are idle.
        """
        party = self._party(pool)
        party.is_lasting = lasting
        full = self._full_key(party)
        if full is None and not self._is_contended(party):
            self._give(party)
            return
        if party not in self._hungry:
            self._hungry[party] = None
            pool.capped = True
            if full is not None:
                self._on_full(pool, full, self._caps[full].limit)
        self._later()

    def release(self, pool: Pool) -> None:
        """One connection that was granted is gone."""
        party = self._parties[pool]
        party.held -= 1
        for key in party.limits:
            self._caps[key].taken -= 1
        if not party.held:
            self._vacant.add(party)
        self._later()

    def meet(self, key: Key) -> bool:
        """A limit lies lower than we knew: whoever else draws on it has taken all that we have not.

        For a while our pools share what they have. False when they have nothing to share.
        """
        cap = self._caps[key]
        held = sum(len(pool.servers) for pool in cap.parties)
        if held:
            cap.met, cap.met_until_s = held, self._clock() + _MET_S
            self._met.add(key)
        return held > 0

    def has_room(self, pool: Pool) -> bool:
        """Whether a connection could be granted at once."""
        return all(
            key not in self._caps or self._caps[key].room > 0 for key in self._limits_of(pool)
        )

    def refresh(self) -> None:
        """Limits may have changed."""
        for party in self._parties.values():
            party.limits = self._limits_of(party.pool)
            for key, limit in party.limits.items():
                self._caps[key].declared = limit
        self._later()

    def tick(self) -> None:
        """Now and then: who waits at a limit may have left, or be entitled to more by now."""
        now_s = self._clock()
        for key in list(self._met):
            if key not in self._caps:
                self._met.discard(key)
            elif self._caps[key].met_until_s <= now_s:
                self._caps[key].met = 0
                self._met.discard(key)
        if self._yielding or self._hungry:
            self._later()

    # --- deciding --------------------------------------------------------------------------------

    def settle(self) -> None:
        """Give what is free to who is entitled to it, and take back what others have too much."""
        began_s = self._clock()
        self._is_due = False
        for pool in self._yielding:
            pool.yields = 0
        self._yielding.clear()
        hungry = self._still_hungry()
        keys = {key for party in hungry for key in party.limits if self._caps[key].limit}
        keys |= {key for key, cap in self._caps.items() if cap.room < 0}
        shares = {key: self._shares(self._caps[key], hungry) for key in keys}
        self._give_room(hungry, shares)
        for key in keys:
            self._take_back(key, hungry, shares)
        self._give_room(hungry, shares)
        self._forget()
        ended_s = self._clock()
        self._rests_until_s = ended_s + _REST * (ended_s - began_s)

    def _still_hungry(self) -> dict[_Party, int]:
        """Who wants more, and how many more."""
        found: dict[_Party, int] = {}
        for party in list(self._hungry):
            more = self._wants(party.pool)
            if more > 0:
                found[party] = more
            else:
                self._sate(party)
        return found

    def _shares(self, cap: _Cap, hungry: Mapping[_Party, int]) -> dict[_Party, int]:
        now_s = self._clock()
        kept = {
            party: party.held for party in cap.parties.values() if party.is_lasting and party.held
        }
        parties = [party for party in cap.parties.values() if party not in kept]
        claims = [party.claim(hungry.get(party, 0), now_s) for party in parties]
        shares = fair_shares(cap.limit - sum(kept.values()), claims)
        return kept | dict(zip(parties, shares, strict=True))

    def _give_room(self, hungry: dict[_Party, int], shares: _Shares) -> None:
        """One by one, to who has least for his weight, those below their share before the rest."""
        queue = [_rank(party, shares) for party in hungry]
        heapq.heapify(queue)
        while queue:
            rank = heapq.heappop(queue)
            party = rank[-1]
            if self._full_key(party) is not None:
                # And remains so: here connections are only given.
                continue
            # Another pool of the same line may have been given what its clients need.
            if self._wants(party.pool) > 0:
                self._give(party)
                hungry[party] -= 1
            else:
                hungry[party] = 0
            if hungry[party]:
                heapq.heappush(queue, _rank(party, shares))
            else:
                del hungry[party]
                self._sate(party)

    def _take_back(self, key: Key, hungry: Mapping[_Party, int], shares: _Shares) -> None:
        """Let those above their share make room for those below theirs."""
        share_of = shares[key]
        short = sum(
            max(0, min(more, _gain(party, shares)))
            for party, more in hungry.items()
            if party in share_of
        )
        needed = short - self._caps[key].room
        surplus = {
            party: party.held - share for party, share in share_of.items() if party.held > share
        }
        for party, server in _idle_of(surplus):
            if needed <= 0:
                return
            surplus[party] -= 1
            needed -= 1
            server.retire()
        for party, count in sorted(surplus.items(), key=lambda each: -each[1]):
            if needed <= 0:
                return
            party.pool.yields = max(party.pool.yields, min(count, needed))
            needed -= count
            self._yielding.add(party.pool)

    # --- seats -----------------------------------------------------------------------------------

    def _party(self, pool: Pool) -> _Party:
        party = self._parties.get(pool)
        if party is None:
            party = self._parties[pool] = _Party(pool, self._limits_of(pool))
            for key, limit in party.limits.items():
                cap = self._caps.setdefault(key, _Cap())
                cap.declared = limit
                cap.parties[pool] = party
        return party

    def _full_key(self, party: _Party) -> Key | None:
        return next((key for key in party.limits if self._caps[key].room <= 0), None)

    def _is_contended(self, party: _Party) -> bool:
        """Whether somebody else waits under one of its limits, and goes first perhaps."""
        return any(
            limit and key in other.limits
            for other in self._hungry
            if other is not party
            for key, limit in party.limits.items()
        )

    def _give(self, party: _Party) -> None:
        if not party.held:
            party.given_s = self._clock()
        party.held += 1
        for key in party.limits:
            self._caps[key].taken += 1
        self._grant(party.pool)

    def _forget(self) -> None:
        """Drop those who have nothing and want nothing."""
        for party in self._vacant:
            if party.held or party in self._hungry:
                continue
            del self._parties[party.pool]
            for key in party.limits:
                del self._caps[key].parties[party.pool]
                if not self._caps[key].parties:
                    del self._caps[key]
        self._vacant.clear()

    def _sate(self, party: _Party) -> None:
        del self._hungry[party]
        party.pool.capped = False
        if not party.held:
            self._vacant.add(party)

    def _later(self) -> None:
        # Not at once: the relay is in the middle of something when it asks.
        if not self._is_due:
            self._is_due = True
            self._call_later(max(0.0, self._rests_until_s - self._clock()), self.settle)


def _rank(party: _Party, shares: _Shares) -> tuple[bool, float, float, int, _Party]:
    """Who comes before whom when there is a connection to give; the least first."""
    weighed = party.held / party.pool.size
    return _gain(party, shares) <= 0, weighed, party.given_s, id(party), party


def _gain(party: _Party, shares: _Shares) -> int:
    """How many more it is entitled to, by all limits that somebody waits at."""
    return min(
        (shares[key][party] - party.held for key in party.limits if key in shares), default=1
    )


def _idle_of(surplus: Mapping[_Party, int]) -> Iterable[tuple[_Party, Server]]:
    """Idle connections these could do without, the longest unused first."""
    found = [
        (server.idle_since_s, number, party, server)
        for number, (party, count) in enumerate(surplus.items())
        # The list has those longest unused in front.
        for server in party.pool.idle[:count]
    ]
    found.sort(key=lambda each: each[:2])
    return [(party, server) for _, _, party, server in found]
