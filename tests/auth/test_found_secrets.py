"""What is kept of the answers of a query for secrets."""

import pytest

from proxy.auth import FoundSecrets, Md5Secret, PlainSecret, SecretError, read_found
from proxy.auth.found import DOUBT_AFTER_S

SECRET = PlainSecret("s")


def test_an_answer_is_fresh_for_as_long_as_was_asked() -> None:
    found = FoundSecrets(30.0)
    found.keep("ann", SECRET, 100.0)
    answer = found.find("ann")
    assert answer is not None and answer.secret == SECRET
    assert found.is_fresh(answer, 129.9)
    assert not found.is_fresh(answer, 130.0)


def test_with_no_time_to_live_every_login_asks() -> None:
    found = FoundSecrets(0.0)
    found.keep("ann", SECRET, 100.0)
    answer = found.find("ann")
    assert answer is not None
    assert not found.is_fresh(answer, 100.0)


def test_a_name_that_is_not_known_is_remembered_as_such() -> None:
    found = FoundSecrets(30.0)
    found.keep("eve", None, 100.0)
    answer = found.find("eve")
    assert answer is not None and answer.secret is None
    assert found.is_fresh(answer, 101.0)


def test_a_refused_login_makes_the_answer_stale_but_only_so_often() -> None:
    found = FoundSecrets(30.0)
    found.keep("ann", SECRET, 100.0)
    found.doubt("ann")
    answer = found.find("ann")
    assert answer is not None
    assert found.is_fresh(answer, 100.0 + DOUBT_AFTER_S / 2)
    assert not found.is_fresh(answer, 100.0 + DOUBT_AFTER_S)


def test_a_new_answer_takes_the_place_of_the_doubted_one() -> None:
    found = FoundSecrets(30.0)
    found.keep("ann", SECRET, 100.0)
    found.doubt("ann")
    found.keep("ann", None, 102.0)
    answer = found.find("ann")
    assert answer is not None and answer.secret is None
    assert found.is_fresh(answer, 110.0)


def test_strangers_push_out_strangers_only() -> None:
    found = FoundSecrets(30.0, limit=2)
    found.keep("ann", SECRET, 100.0)
    for number in range(10):
        found.keep(f"guess {number}", None, 100.0)
    assert found.find("ann") is not None
    assert found.find("guess 7") is None
    assert found.find("guess 9") is not None


def test_the_one_longest_unused_leaves() -> None:
    found = FoundSecrets(30.0, limit=2)
    for name in ("ann", "bob"):
        found.keep(name, SECRET, 100.0)
    found.find("ann")
    found.keep("cid", SECRET, 100.0)
    assert found.find("bob") is None
    assert found.find("ann") is not None


@pytest.mark.parametrize("rows", [[], [("ann", None)], [("ann", "")]])
def test_an_answer_without_a_secret_is_nobody(rows: list[tuple[object, ...]]) -> None:
    assert read_found("ann", rows) is None


def test_an_answer_has_any_form_of_secret() -> None:
    assert read_found("ann", [("ann", "plain")]) == PlainSecret("plain")
    assert isinstance(read_found("ann", [("ann", "md5" + "0" * 32)]), Md5Secret)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("ann", "hidden"), ("ann", "hidden")], "2 rows"),
        ([("ann",)], "1 columns"),
        ([("ann", "hidden", 1)], "3 columns"),
        ([("root", "hidden")], "not the name"),
        ([("ann", 1)], "no text"),
        ([("ann", "SCRAM-SHA-256$hidden")], "SCRAM verifier"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused_without_being_quoted(
    rows: list[tuple[object, ...]], reason: str
) -> None:
    with pytest.raises(SecretError, match=reason) as refused:
        read_found("ann", rows)
    assert "hidden" not in str(refused.value)
