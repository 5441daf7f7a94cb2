"""What each pool is entitled to under a limit that they share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pool.shares import Claim, fair_shares


def claim(
    weight: int, wanted: int, held: int = 0, given_s: float = 0.0, *, is_fresh: bool = False
) -> Claim:
    return Claim(weight, wanted, held, given_s, is_fresh)


SHARES = {
    "nobody": (5, [], []),
    "all that is wanted": (10, [claim(1, 3), claim(1, 4)], [3, 4]),
    "halves": (10, [claim(20, 50), claim(20, 50)], [5, 5]),
    "by weight": (12, [claim(20, 50), claim(10, 50)], [8, 4]),
    "one at least": (10, [claim(1000, 50), claim(1, 50)], [9, 1]),
    "what one leaves is the others'": (10, [claim(1, 2), claim(1, 50), claim(1, 50)], [2, 4, 4]),
    "who wants nothing gets nothing": (10, [claim(1, 0, 7), claim(1, 50)], [0, 10]),
    "the odd one stays where it is": (3, [claim(1, 5, 1), claim(1, 5, 2)], [1, 2]),
    "no room at all": (0, [claim(1, 5)], [0]),
    # Fewer connections than pools: in turns.
    "the hungry before who has had one": (1, [claim(1, 5, 1, 3.0), claim(1, 5)], [0, 1]),
    "not before who has just been given one": (
        1,
        [claim(1, 5, 1, 3.0, is_fresh=True), claim(1, 5)],
        [1, 0],
    ),
    "the hungriest first": (1, [claim(1, 5, 0, 3.0), claim(1, 5, 0, 2.0)], [0, 1]),
    "who has had his for longest gives it up": (
        2,
        [claim(1, 5, 1, 3.0), claim(1, 5, 1, 4.0), claim(1, 5)],
        [0, 1, 1],
    ),
}


@pytest.mark.parametrize(("limit", "claims", "shares"), SHARES.values(), ids=SHARES.keys())
def test_shares(limit: int, claims: list[Claim], shares: list[int]) -> None:
    assert fair_shares(limit, claims) == shares


CLAIMS = st.lists(
    st.builds(
        Claim,
        weight=st.integers(1, 50),
        wanted=st.integers(0, 60),
        held=st.integers(0, 60),
        given_s=st.floats(0, 10),
        is_fresh=st.booleans(),
    ),
    max_size=12,
)


@given(st.integers(0, 100), CLAIMS)
def test_nothing_is_left_over_while_anybody_wants_it(limit: int, claims: list[Claim]) -> None:
    assert sum(fair_shares(limit, claims)) == min(limit, sum(each.wanted for each in claims))


@given(st.integers(0, 100), CLAIMS)
def test_nobody_gets_more_than_he_wants(limit: int, claims: list[Claim]) -> None:
    shares = fair_shares(limit, claims)
    assert all(share <= each.wanted for share, each in zip(shares, claims, strict=True))


@given(st.integers(0, 100), CLAIMS)
def test_nobody_starves_where_there_is_one_for_each(limit: int, claims: list[Claim]) -> None:
    shares = fair_shares(limit, claims)
    if limit >= sum(each.wanted > 0 for each in claims):
        assert all(share or not each.wanted for share, each in zip(shares, claims, strict=True))


@given(st.integers(0, 100), CLAIMS)
def test_who_does_not_get_all_has_his_part_by_weight(limit: int, claims: list[Claim]) -> None:
    """No other has, by weight, more than one connection above him."""
    shares = fair_shares(limit, claims)
    for mine, me in zip(shares, claims, strict=True):
        if not 0 < mine < me.wanted:
            continue
        for others, other in zip(shares, claims, strict=True):
            assert others <= 1 or others / other.weight <= (mine + 1) / me.weight


@given(st.integers(1, 5), st.integers(2, 12))
def test_in_turns_each_has_its_own(limit: int, count: int) -> None:
    """After as many rounds as there are pools, each has had a connection."""
    given_s = [float("-inf")] * count
    held = [0] * count
    for round_s in range(count):
        claims = [claim(1, 9, held[i], given_s[i]) for i in range(count)]
        shares = [min(share, 1) for share in fair_shares(min(limit, count), claims)]
        for i, share in enumerate(shares):
            if share and not held[i]:
                given_s[i] = float(round_s)
        held = shares
    assert min(given_s) >= 0
