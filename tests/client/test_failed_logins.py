"""Whose refusals are delayed, and for how long."""

import pytest

from proxy.client.failures import FailedLogins

HERE = "192.0.2.7:5555"
MOST_S = 2.0


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def delays(failures: FailedLogins, count: int, address: str = HERE) -> list[float]:
    return [failures.note(address, MOST_S) for _ in range(count)]


def test_the_first_failures_are_free_and_the_next_wait_longer_and_longer(clock: Clock) -> None:
    assert delays(FailedLogins(clock), 12) == [0.0] * 5 + [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_each_address_waits_for_its_own_failures(clock: Clock) -> None:
    failures = FailedLogins(clock)
    delays(failures, 20)
    assert failures.note("192.0.2.8:5555", MOST_S) == 0.0
    assert failures.note("192.0.2.7:6666", MOST_S) == MOST_S


def test_addresses_of_one_ipv6_network_are_one(clock: Clock) -> None:
    failures = FailedLogins(clock)
    for number in range(10):
        failures.note(f"[2001:db8:0:1::{number:x}]:5555", MOST_S)
    assert len(failures) == 1
    assert failures.note("[2001:db8:0:1:ffff::]:5555", MOST_S) == MOST_S
    assert failures.note("[2001:db8:0:2::1]:5555", MOST_S) == 0.0


def test_failures_are_forgotten_with_time(clock: Clock) -> None:
    failures = FailedLogins(clock)
    delays(failures, 8)
    clock.now_s += 30
    assert delays(failures, 2) == pytest.approx([0.1, 0.2])
    clock.now_s += 1000
    assert delays(failures, 6) == [0.0] * 5 + [0.1]


def test_a_flood_of_failures_is_forgotten_in_minutes(clock: Clock) -> None:
    failures = FailedLogins(clock)
    delays(failures, 100_000)
    clock.now_s += 300
    assert failures.note(HERE, MOST_S) == 0.0


@pytest.mark.parametrize(("address", "most_s"), [("unix:", MOST_S), (HERE, 0.0)])
def test_nobody_waits_over_a_unix_socket_or_when_it_is_off(
    clock: Clock, address: str, most_s: float
) -> None:
    failures = FailedLogins(clock)
    assert [failures.note(address, most_s) for _ in range(20)] == [0.0] * 20
    assert len(failures) == 0


def test_strangers_cannot_make_it_remember_more_than_its_limit(clock: Clock) -> None:
    failures = FailedLogins(clock, limit=10)
    delays(failures, 20)
    for number in range(9):
        failures.note(f"198.51.100.{number}:1", MOST_S)
    assert len(failures) == 10
    assert failures.note(HERE, MOST_S) == MOST_S
    for number in range(10, 20):
        failures.note(f"198.51.100.{number}:1", MOST_S)
    assert len(failures) == 10
    assert failures.note(HERE, MOST_S) == 0.0
