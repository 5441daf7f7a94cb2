"""Which ways TLS is tried, by mode."""

import ssl
from pathlib import Path

import pytest

from proxy.cluster import ProbeLogin
from proxy.cluster.dialling import tls_ways
from proxy.config import ServerTls, TlsMode


def shape(way: ssl.SSLContext | bool) -> str:
    """A way in a word: plain, or TLS and what it checks."""
    if not isinstance(way, ssl.SSLContext):
        return "plain"
    if way.verify_mode is ssl.CERT_NONE:
        return "tls"
    return "tls, name checked" if way.check_hostname else "tls, certificate checked"


@pytest.mark.parametrize(
    ("mode", "ways"),
    [
        ("disable", ["plain"]),
        ("allow", ["plain", "tls"]),
        ("prefer", ["tls", "plain"]),
        ("require", ["tls"]),
        ("verify-ca", ["tls, certificate checked"]),
        ("verify-full", ["tls, name checked"]),
    ],
)
def test_ways_follow_the_mode(mode: TlsMode, ways: list[str]) -> None:
    assert [shape(way) for way in tls_ways(ServerTls(mode=mode), "db1.example")] == ways


def test_a_unix_socket_never_has_tls() -> None:
    assert tls_ways(ServerTls(mode="verify-full"), "/run/postgresql") == [False]


def test_an_authority_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tls_ways(ServerTls(mode="verify-ca", ca=tmp_path / "none.crt"), "db1.example")


def test_a_login_does_not_show_its_password() -> None:
    assert "hunter2" not in repr(ProbeLogin("monitor", "hunter2"))
