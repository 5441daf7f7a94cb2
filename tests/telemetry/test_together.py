"""Readings of several processes make one."""

from dataclasses import fields, replace

from proxy.telemetry import BUCKET_BOUNDS_S, Figures, Histogram, PoolFigures, together

POOL = ("main", "db1", "shop", "app")
ONE = Histogram(BUCKET_BOUNDS_S, (1,) * (len(BUCKET_BOUNDS_S) + 1), 2.0)


def test_counters_are_added_and_a_zero_stays_a_reading() -> None:
    first = Figures(version="1", queries={("shop", "db1", "primary"): 3}, pins={"temp": 0})
    second = Figures(version="1", queries={("shop", "db1", "primary"): 4}, pins={"temp": 0})
    both = together([first, second])
    assert both.queries == {("shop", "db1", "primary"): 7}
    assert both.pins == {"temp": 0}


def test_pools_have_room_together_and_the_longest_wait_of_all() -> None:
    first = Figures(version="1", pools={POOL: PoolFigures(3, 0.5)})
    second = Figures(version="1", pools={POOL: PoolFigures(2, 1.5)})
    assert together([first, second]).pools == {POOL: PoolFigures(5, 1.5)}


def test_histograms_are_added() -> None:
    first = Figures(version="1", pool_wait=ONE, query_duration={("shop", "primary"): ONE})
    both = together([first, first])
    assert both.pool_wait.sum_s == both.query_duration["shop", "primary"].sum_s == 4.0


def test_limit_on_clients_is_one_for_all() -> None:
    first = Figures(version="1", client_limit=100)
    assert together([first, first]).client_limit == 100


def test_one_reading_is_itself() -> None:
    alone = Figures(version="1")
    assert together([alone]) is alone


def test_every_field_is_put_together() -> None:
    figures = Figures(version="1")
    for field in fields(Figures):
        # What is neither said how nor can be added would raise here.
        assert getattr(together([figures, replace(figures)]), field.name) is not None
