"""Passwords are prepared as PostgreSQL prepares them; its own client library is the oracle."""

import psycopg.pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.auth import ScramVerifier, parse_secret
from proxy.auth.keys import derive_keys
from proxy.auth.saslprep import prepare_password

# Never connected: making a verifier needs the object only.
LIBPQ = psycopg.pq.PGconn.connect(b"host=/nonexistent")

ODD_CHARACTERS = st.sampled_from(
    "\u00a0\u00ad\u0340\u200b\u200f\u2028\u3000\u05d0\u0627\ufb1d½Å\ufeff"
)


def libpq_agrees(password: str) -> bool:
    raw = password.encode("utf-8", "surrogateescape")
    made = parse_secret(LIBPQ.encrypt_password(raw, b"app", b"scram-sha-256").decode())
    assert isinstance(made, ScramVerifier)
    return derive_keys(password, made.salt, made.iterations).verifier(made.salt, 4096) == made


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_password_gives_the_keys_that_libpq_derives(password: str) -> None:
    assert libpq_agrees(password)


@settings(max_examples=150, deadline=None)
@given(st.text(ODD_CHARACTERS | st.sampled_from("a1é"), min_size=1, max_size=6))
def test_characters_with_rules_of_their_own_give_the_keys_that_libpq_derives(password: str) -> None:
    assert libpq_agrees(password)


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("pencil", b"pencil"),
        ("tab\tand bell\a", b"tab\tand bell\a"),
        ("I\u00adX", b"IX"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("a\u00a0b", b"a b"),
        ("a\u200bb", b"a b"),
        ("é\a", "é\a".encode()),
        ("\u00ad", "\u00ad".encode()),
        ("\u0627\u0031", "\u0627\u0031".encode()),
        ("\u0340", "\u0340".encode()),
        ("\u0221\u00aa", "\u0221\u00aa".encode()),
        ("latin-1 \udce9\u00aa", b"latin-1 \xe9\xc2\xaa"),
    ],
)
def test_a_password_is_prepared_or_used_as_it_is(password: str, prepared: bytes) -> None:
    assert prepare_password(password) == prepared


@pytest.mark.parametrize("password", ["\u0340", "latin-1 \udce9", "\u0627\u0031", "a\u200bb"])
def test_libpq_agrees_where_postgresql_departs_from_the_rfc(password: str) -> None:
    assert libpq_agrees(password)
