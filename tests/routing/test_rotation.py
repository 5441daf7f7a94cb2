"""Which replicas may answer, by their lag."""

from proxy.routing import Rotation, Standing


def standing(
    lag_s: float | None = 0.0, lag_bytes: int | None = 0, *, stale: bool = False
) -> Standing:
    return Standing("r", lag_s, lag_bytes, stale)


def test_a_replica_within_both_limits_may_answer() -> None:
    assert Rotation(1.0, 1000).update([standing(1.0, 1000)]) == {}


def test_a_replica_that_is_too_late_may_not() -> None:
    out = Rotation(1.0, 1000).update([standing(1.1)])
    assert out == {"r": "behind by 1.1 s, max_lag is 1 s"}


def test_a_replica_that_lacks_too_much_may_not() -> None:
    out = Rotation(1.0, 1000).update([standing(0.0, 1001)])
    assert out == {"r": "behind by 1001 bytes, max_lag_bytes is 1000"}


def test_it_comes_back_when_it_is_behind_by_less_than_half() -> None:
    rotation = Rotation(1.0, 1000)
    lags = (1.1, 0.9, 0.51, 0.5, 0.9, 1.0)
    out = ["r" in rotation.update([standing(lag)]) for lag in lags]
    assert out == [True, True, True, False, False, False]


def test_a_stale_replica_may_not_answer_whatever_its_lag_was() -> None:
    assert "r" in Rotation(0.0, 0).update([standing(0.0, 0, stale=True)])


def test_what_is_not_known_is_not_within_a_limit() -> None:
    assert "r" in Rotation(1.0, 0).update([standing(None, 0)])
    assert "r" in Rotation(0.0, 1).update([standing(0.0, None)])


def test_without_limits_any_lag_will_do() -> None:
    assert Rotation(0.0, 0).update([standing(None, None)]) == {}
