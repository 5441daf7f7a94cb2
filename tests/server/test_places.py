"""Where a server is, and what may be sent there."""

import pytest

from proxy.server import Place


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "/run/postgresql"])
def test_this_machine_is_local(host: str) -> None:
    assert Place(host, 5432).is_local


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "128.0.0.1", "localhost.example.org", "127.0.0.1.example.org", "::2", "db"]
)
def test_what_may_be_another_machine_is_not_local(host: str) -> None:
    assert not Place(host, 5432).is_local
