"""The log of decisions: complete up to its bound, oldest first."""

from proxy.failover import EventLog


def test_the_newest_thousand_are_kept_in_order() -> None:
    log = EventLog(lambda: 7.0)
    for number in range(1100):
        log.add("main", "decision", "db1", str(number))
    kept = log.read()
    assert (len(kept), kept[0].reason, kept[-1].reason) == (1000, "100", "1099")
    assert kept[0].at == 7.0
