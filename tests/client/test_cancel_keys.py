"""Keys that clients cancel by."""

from types import SimpleNamespace
from typing import Any

import pytest

from proxy.client import Keys


@pytest.mark.parametrize(("minor", "length"), [(0, 4), (2, 32)])
def test_a_secret_has_the_length_its_protocol_allows(minor: int, length: int) -> None:
    pid, secret = Keys({}).new(minor)
    assert 0 < pid < 2**31
    assert len(secret) == length


def test_a_key_finds_its_client_only_with_the_whole_secret() -> None:
    client: Any = SimpleNamespace(secret=b"abcd")
    keys = Keys({7: client})
    assert keys.find(7, b"abcd") is client
    assert [keys.find(7, wrong) for wrong in (b"abcx", b"abc", b"abcde", b"")] == [None] * 4
    assert keys.find(8, b"abcd") is None
