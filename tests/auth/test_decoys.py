"""Users who do not exist are asked as if they did."""

from collections import Counter

import pytest

from proxy.auth import Md5Secret, PlainSecret, ScramVerifier, Secret, Verifiers
from proxy.auth.decoys import Decoys
from proxy.errors import ProxyBug

STRONG = ScramVerifier(100_000, bytes(32), bytes(32), bytes(32))
NAMES = [f"user{n}" for n in range(400)]


@pytest.fixture
def decoys(process_secret: bytes) -> Decoys:
    return Decoys(process_secret)


def test_a_name_always_has_the_same_decoy(decoys: Decoys, process_secret: bytes) -> None:
    assert decoys.verifier_for("ghost") == Decoys(process_secret).verifier_for("ghost")


def test_names_have_decoys_of_their_own(decoys: Decoys) -> None:
    assert len({decoys.verifier_for(name).salt for name in NAMES}) == len(NAMES)


def test_another_process_secret_makes_other_decoys(decoys: Decoys) -> None:
    assert decoys.verifier_for("ghost") != Decoys(b"another secret!!").verifier_for("ghost")


def test_with_no_users_a_stranger_is_asked_as_postgresql_asks(decoys: Decoys) -> None:
    decoy = decoys.verifier_for("ghost")
    assert (decoy.iterations, len(decoy.salt)) == (4096, 16)


def test_the_salt_of_a_stranger_is_the_one_it_would_have_with_a_password(
    verifiers: Verifiers,
) -> None:
    ghost, _ = verifiers.verifier_for("app", None)
    known, _ = verifiers.verifier_for("app", PlainSecret("secret"))
    assert (ghost.salt, ghost.iterations) == (known.salt, known.iterations)


def test_strangers_are_challenged_in_the_proportions_of_the_known(decoys: Decoys) -> None:
    decoys.learn([PlainSecret("a"), PlainSecret("b"), STRONG, Md5Secret("md5")])
    drawn = Counter(decoys.verifier_for(name).iterations for name in NAMES)
    assert drawn.keys() == {4096, 100_000}
    assert drawn[4096] > drawn[100_000] > len(NAMES) / 5


def test_a_stranger_has_a_salt_as_long_as_the_known_have(decoys: Decoys) -> None:
    decoys.learn([STRONG])
    assert len(decoys.verifier_for("ghost").salt) == 32


@pytest.mark.parametrize("known", [PlainSecret("a"), Md5Secret("md5" + "0" * 32), STRONG])
def test_where_all_have_one_form_a_stranger_has_it_too(decoys: Decoys, known: Secret) -> None:
    decoys.learn([known])
    assert {type(decoys.secret_for(name)) for name in NAMES} == {type(known)}


def test_the_order_in_which_users_are_listed_changes_no_decoy(decoys: Decoys) -> None:
    known: list[Secret] = [PlainSecret("a"), STRONG, Md5Secret("md5"), PlainSecret("b")]
    decoys.learn(known)
    before = [decoys.secret_for(name) for name in NAMES]
    decoys.learn(reversed(known))
    assert before == [decoys.secret_for(name) for name in NAMES]


def test_a_short_process_secret_is_our_own_bug() -> None:
    with pytest.raises(ProxyBug):
        Decoys(b"short")


def test_a_name_that_no_wire_gives_is_our_own_bug(decoys: Decoys) -> None:
    with pytest.raises(ProxyBug):
        decoys.verifier_for("\ud800")
