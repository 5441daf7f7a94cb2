"""The md5 login of PostgreSQL."""

import hashlib

import psycopg.pq
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth import Md5Secret, PlainSecret
from proxy.auth.md5 import answer_salt, hash_password, is_right_answer

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(password=NAMES, user=NAMES)
def test_the_hash_is_the_one_libpq_makes(password: str, user: str) -> None:
    conn = psycopg.pq.PGconn.connect(b"host=/nonexistent")
    made = conn.encrypt_password(password.encode(), user.encode(), b"md5")
    assert hash_password(password, user) == Md5Secret(made.decode())


def test_the_answer_is_the_hash_salted_and_hashed_again() -> None:
    stored = hashlib.md5(b"secretapp").hexdigest()
    salted = hashlib.md5(stored.encode() + b"\1\2\3\4").hexdigest()
    assert answer_salt(PlainSecret("secret"), "app", b"\1\2\3\4") == b"md5" + salted.encode()


def test_the_hash_answers_as_its_password_does() -> None:
    plain, stored = PlainSecret("secret"), hash_password("secret", "app")
    assert answer_salt(plain, "app", b"salt") == answer_salt(stored, "app", b"salt")


def test_a_right_answer_is_right() -> None:
    stored = hash_password("secret", "app")
    assert is_right_answer(stored, "app", b"salt", answer_salt(stored, "app", b"salt"))


def test_an_answer_to_another_salt_is_wrong() -> None:
    secret = PlainSecret("secret")
    assert not is_right_answer(secret, "app", b"salt", answer_salt(secret, "app", b"SALT"))
