"""How the connections under one limit are shared by the pools that want some. Pure.

Called by `caps` whenever somebody waits at a limit. A pool's weight is its `pool_size`. It is the
method of D'Hondt, behind one connection for everybody: so nobody starves, nobody holds what he
does not want, and nothing is left over while anybody wants it.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """What one pool has and wants.

    wanted: connections it could use now, those it has included. held: those it has.
    given_s: when it was given its first of those it has; of a pool that has none, when it last was.
    is_fresh: it was given that so lately, and uses it, that it is too early to take it back.
    """

    weight: int
    wanted: int
    held: int
    given_s: float
    is_fresh: bool = False


def fair_shares(limit: int, claims: Sequence[Claim]) -> list[int]:
    """How many connections each claim is entitled to, in their order.

    The sum is `limit`, or all that is wanted where that is less.
    """
    shares = [0] * len(claims)
    wanting = [index for index, claim in enumerate(claims) if claim.wanted > 0]
    if limit < len(wanting):
        wanting.sort(key=lambda index: _turn(claims[index]))
    for index in wanting[: max(limit, 0)]:
        shares[index] = 1
    left = limit - sum(shares)
    queue = [_place(index, 1, claims[index]) for index in wanting if claims[index].wanted > 1]
    heapq.heapify(queue)
    while left > 0 and queue:
        index = queue[0][-1]
        shares[index] += 1
        left -= 1
        if shares[index] < claims[index].wanted:
            heapq.heapreplace(queue, _place(index, shares[index], claims[index]))
        else:
            heapq.heappop(queue)
    return shares


def _turn(claim: Claim) -> tuple[int, float]:
    """With fewer connections than pools they take turns: who has had his for longest is last."""
    if claim.held:
        return (0 if claim.is_fresh else 2), -claim.given_s
    return 1, claim.given_s


def _place(index: int, share: int, claim: Claim) -> tuple[float, bool, int]:
    """Whose turn it is: the least share by weight; of equals, who has the connection already."""
    return (share + 1) / claim.weight, claim.held <= share, index
