"""Users by name, and their verifiers made before the first login."""

import pytest

from proxy.auth import Md5Secret, PlainSecret, Roster, Secret, SecretError, Verifiers


def test_a_known_user_has_its_secret_and_a_stranger_none() -> None:
    roster = Roster.from_texts({"app": "secret"})
    assert (roster.lookup("app"), roster.lookup("ghost")) == (PlainSecret("secret"), None)


def test_a_damaged_secret_is_reported_with_its_user() -> None:
    with pytest.raises(SecretError, match=r'user "app": .*not of the form') as caught:
        Roster.from_texts({"app": "SCRAM-SHA-256$hush"})
    assert "hush" not in f"{caught.value!r}{caught.value.__cause__!r}"


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
def test_a_name_that_no_client_could_send_is_refused(name: str) -> None:
    with pytest.raises(SecretError, match="cannot be a user name"):
        Roster({name: PlainSecret("secret")})


def test_a_roster_does_not_show_its_secrets() -> None:
    assert "hush" not in repr(Roster.from_texts({"app": "hush"}))


def test_verifiers_are_derived_for_plain_passwords_only(verifiers: Verifiers) -> None:
    users: dict[str, Secret] = {
        "a": PlainSecret("1"),
        "b": PlainSecret(""),
        "c": Md5Secret("md5" + "0" * 32),
    }
    assert Roster(users).prepare(verifiers) == 1


def test_a_reload_derives_only_what_changed(verifiers: Verifiers) -> None:
    Roster.from_texts({"a": "1", "b": "2"}).prepare(verifiers)
    assert Roster.from_texts({"a": "1", "b": "changed", "c": "3"}).prepare(verifiers) == 2


def test_nothing_is_derived_where_no_method_needs_it(verifiers: Verifiers) -> None:
    assert Roster.from_texts({"a": "1"}).prepare(verifiers, derive=False) == 0


def test_a_changed_password_has_another_verifier(verifiers: Verifiers) -> None:
    old, _ = verifiers.verifier_for("app", PlainSecret("old"))
    new, _ = verifiers.verifier_for("app", PlainSecret("new"))
    assert old.stored_key != new.stored_key


def test_all_users_of_a_roster_stay_prepared_beyond_the_limit(process_secret: bytes) -> None:
    verifiers = Verifiers(process_secret, limit=2)
    roster = Roster.from_texts({f"u{n}": "secret" for n in range(10)})
    roster.prepare(verifiers)
    assert roster.prepare(verifiers) == 0


def test_verifiers_of_users_outside_a_roster_are_bounded(process_secret: bytes) -> None:
    verifiers = Verifiers(process_secret, limit=2)
    for name in ("a", "b", "c"):
        verifiers.prepare(name, PlainSecret("secret"))
    assert [verifiers.prepare(name, PlainSecret("secret")) for name in ("b", "c", "a")] == [
        False,
        False,
        True,
    ]
