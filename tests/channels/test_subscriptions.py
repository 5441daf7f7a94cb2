"""Who hears what, when: calls in, names of those who are told out."""

from proxy.channels.subscriptions import Notification, Subscriptions


def note(payload: str = "x", channel: str = "a", pid: int = 1) -> Notification:
    return Notification(pid, channel, payload)


def test_only_who_listens_to_the_channel_is_told() -> None:
    told: Subscriptions[str] = Subscriptions()
    told.settle("one", frozenset("ab"))
    told.settle("two", frozenset("b"))
    assert told.heard(note(channel="a")) == ["one"]
    assert told.heard(note(channel="b")) == ["one", "two"]
    assert told.heard(note(channel="c")) == []
    assert told.wanted == {"a", "b"}


def test_what_comes_while_the_commit_is_looked_into_is_kept() -> None:
    told: Subscriptions[str] = Subscriptions()
    told.expect("one", frozenset("a"))
    assert told.wanted == {"a"}
    assert told.heard(note("too early")) == []
    told.commits("one")
    assert told.heard(note("kept")) == []
    assert told.settle("one", frozenset("a")) == [note("kept")]
    told.commits("one")
    assert told.heard(note("unlistened")) == []
    assert told.settle("one", frozenset()) == []
    assert told.wanted == frozenset()


def test_what_is_asked_for_since_is_still_expected() -> None:
    told: Subscriptions[str] = Subscriptions()
    told.expect("one", frozenset("a"))
    told.commits("one")
    told.expect("one", frozenset("b"))
    told.settle("one", frozenset("a"), still=frozenset("b"))
    assert told.wanted == {"a", "b"}
    told.settle("one", frozenset("ab"))
    assert told.heard(note(channel="b")) == ["one"]


def test_a_listen_that_failed_is_given_up() -> None:
    told: Subscriptions[str] = Subscriptions()
    told.expect("one", frozenset("a"))
    assert told.expecting() == ["one"]
    told.give_up("one")
    assert told.wanted == frozenset()


def test_what_a_client_notifies_itself_comes_once() -> None:
    told: Subscriptions[str] = Subscriptions()
    told.settle("one", frozenset("a"))
    told.settle("two", frozenset("a"))
    for _ in range(3):
        told.passes_own("one", note(pid=7))
        assert told.heard(note(pid=7)) == ["two"]
    assert told.heard(note(pid=7)) == ["one", "two"]


def test_after_a_gap_no_echo_is_waited_for() -> None:
    told: Subscriptions[str] = Subscriptions()
    told.settle("one", frozenset("a"))
    told.passes_own("one", note())
    told.missed()
    assert told.heard(note()) == ["one"]
    told.forget("one")
    assert told.heard(note()) == []
    told.passes_own("one", note())
