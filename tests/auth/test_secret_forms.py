"""A secret's text says what form it has, and no secret is ever shown."""

import pytest

from proxy.auth import Md5Secret, PlainSecret, ScramKeys, ScramVerifier, SecretError, parse_secret

STORED = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
SERVER = "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
SALT = "W22ZaJ0SNY7soEsUEjb6gQ=="
VERIFIER = f"SCRAM-SHA-256$4096:{SALT}${STORED}:{SERVER}"


def test_an_md5_hash_is_told_by_its_32_lower_case_digits() -> None:
    text = "md5" + "0123456789abcdef" * 2
    assert parse_secret(text) == Md5Secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "secret",
        "",
        "md5",
        "md5" + "0" * 31,
        "md5" + "0" * 33,
        "md5" + "A" * 32,
        "md5" + "g" * 32,
        "md5" + "0" * 32 + "\n",
        "scram-sha-256$4096:x",
        "pässwörd",
        "bytes that are not UTF-8: \udcff",
    ],
)
def test_what_is_no_hash_and_no_verifier_is_a_password(text: str) -> None:
    assert parse_secret(text) == PlainSecret(text)


def test_a_verifier_is_read_into_its_parts() -> None:
    secret = parse_secret(VERIFIER)
    assert isinstance(secret, ScramVerifier)
    assert (
        secret.iterations,
        len(secret.salt),
        len(secret.stored_key),
        len(secret.server_key),
    ) == (
        4096,
        16,
        32,
        32,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SCRAM-SHA-256$", "not of the form"),
        (VERIFIER.replace("4096", "0"), "not of the form"),
        (VERIFIER.replace("4096", "-1"), "not of the form"),
        (VERIFIER.replace("4096", "1000001"), "1000001 iterations"),
        (VERIFIER.replace("4096", "99999999999"), "not of the form"),
        (VERIFIER.replace(SALT, ""), "not of the form"),
        (VERIFIER.replace(SALT, "===="), "salt"),
        (VERIFIER.replace(SALT, "A" * 1372), "salt"),
        (VERIFIER.replace(STORED, STORED[:-4]), "StoredKey"),
        (VERIFIER.replace(STORED, STORED.rstrip("=")), "StoredKey"),
        (VERIFIER.replace(SERVER, SERVER[4:]), "ServerKey"),
        (VERIFIER + "\n", "not of the form"),
        ("a\0b", "NUL"),
        ("a\ud800b", "surrogate"),
    ],
)
def test_a_damaged_secret_is_refused_with_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(SecretError, match=said):
        parse_secret(text)


def test_two_spellings_of_the_same_bytes_are_one_password() -> None:
    assert parse_secret("\udcc3\udca9") == parse_secret("é")


@pytest.mark.parametrize(
    "secret",
    [
        PlainSecret("hush-hush"),
        Md5Secret("hush-hush"),
        ScramVerifier(4096, b"hush-hush", b"hush-hush", b"hush-hush"),
        ScramKeys(b"hush-hush", b"hush-hush"),
    ],
)
def test_no_secret_shows_in_a_repr(secret: object) -> None:
    assert "hush" not in repr(secret) + str(secret) + f"{[secret]}"


def test_no_secret_shows_in_the_error_or_what_is_chained_to_it() -> None:
    with pytest.raises(SecretError) as caught:
        parse_secret("hush-hush\ud800")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "hush" not in str(caught.value)
