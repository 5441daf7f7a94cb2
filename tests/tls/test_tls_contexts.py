"""What may be negotiated with clients and with servers."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import NameOID

from proxy.config import ClientTls, ServerTls
from proxy.tls import context_for_servers, offer_to_clients
from tests.tls.handshakes import join, make_self_signed, trusting

V2, V3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CIPHER = "ECDHE-ECDSA-AES256-GCM-SHA384"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return make_self_signed(tmp_path / "own", [[(NameOID.COMMON_NAME, "localhost")]])


def peer(*, server: Path | None, newest: ssl.TLSVersion) -> ssl.SSLContext:
    """The other side's context."""
    context = trusting()
    if server is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server)
    context.maximum_version = newest
    return context


# Our keys, the newest version of the other side, the version spoken or None.
VERSIONS: list[tuple[dict[str, Any], ssl.TLSVersion, str | None]] = [
    ({}, V3, "TLSv1.3"),
    ({}, V2, "TLSv1.2"),
    ({"min_version": "TLSv1.2"}, V2, "TLSv1.2"),
    ({"min_version": "TLSv1.3"}, V3, "TLSv1.3"),
    ({"min_version": "TLSv1.3"}, V2, None),
]


@pytest.mark.parametrize(("ours", "newest", "spoken"), VERSIONS)
@pytest.mark.parametrize("side", ["clients", "servers"])
def test_no_version_below_the_least_is_spoken(
    own: Path, side: str, ours: dict[str, Any], newest: ssl.TLSVersion, spoken: str | None
) -> None:
    assert version_spoken(own, side, ours, newest) == spoken


def version_spoken(
    own: Path, side: str, ours: dict[str, Any], newest: ssl.TLSVersion
) -> str | None:
    try:
        client, _ = joined(own, side, ours, newest)
    except ssl.SSLError:
        return None
    return client.version()


def joined(
    own: Path, side: str, ours: dict[str, Any], newest: ssl.TLSVersion
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    if side == "servers":
        context = context_for_servers(ServerTls(mode="require", **ours))
        return join(context, peer(server=own, newest=newest))
    tls = ClientTls(mode="allow", cert=own, key=own, **ours)
    offer = offer_to_clients(tls, ask_for_certificate=False)
    return join(peer(server=None, newest=newest), offer.context)


@pytest.mark.parametrize("side", ["clients", "servers"])
def test_the_cipher_is_one_of_the_list(own: Path, side: str) -> None:
    for end in joined(own, side, {"ciphers": CIPHER}, V2):
        found = end.cipher()
        assert found is not None and found[0] == CIPHER


def test_a_certificate_is_only_asked_for_where_a_rule_may_want_one(own: Path) -> None:
    tls = ClientTls(mode="require", cert=own, key=own, ca=own)
    asked = {wanted: offer_to_clients(tls, ask_for_certificate=wanted) for wanted in (True, False)}
    assert asked[True].context.verify_mode == ssl.CERT_OPTIONAL
    assert asked[False].context.verify_mode == ssl.CERT_NONE
