"""Who of the other proxies and processes has not answered yet."""

import pytest

from proxy.failover.lease import Answer, Member, Notice
from proxy.failover.messages import read_answer, read_notice, write_answer, write_notice
from proxy.failover.others import who_is_missing

ONE, TWO, THREE = Member("a1", "a", 2), Member("a2", "a", 2), Member("b1", "b", 2)


def answers(*members: Member) -> list[Answer]:
    return [Answer("7", member) for member in members]


@pytest.mark.parametrize(
    ("heard", "own", "proxies", "missing"),
    [
        ((), Member("x", "x"), 1, None),
        ((), Member("x", "x"), 3, "2 other proxies"),
        ((Member("y", "y"),), Member("x", "x"), 2, None),
        ((Member("y", "y"), Member("z", "z")), Member("x", "x"), 2, None),
        ((), ONE, 1, "1 process"),
        ((TWO,), ONE, 1, None),
        ((), ONE, 2, "1 other proxy and 1 process"),
        ((TWO, THREE), ONE, 2, "1 process"),
        ((TWO, THREE, Member("b2", "b", 2)), ONE, 2, None),
        ((TWO, TWO), ONE, 2, "1 other proxy"),
    ],
)
def test_each_declared_proxy_is_waited_for_with_all_its_processes(
    heard: tuple[Member, ...], own: Member, proxies: int, missing: str | None
) -> None:
    assert who_is_missing(answers(*heard), own, proxies) == missing


def test_what_is_written_is_read_again_and_nothing_else() -> None:
    notice = Notice("7", "db1", "db2", is_holding=True)
    assert read_notice(write_notice(notice)) == notice
    answer = Answer("7", THREE, is_holding=True)
    assert read_answer(write_answer(answer)) == answer
    for text in (None, "", "null", "[]", "{}", "1", '{"number": 1}', "{"):
        assert read_notice(text) is None
        assert read_answer(text or "") is None
