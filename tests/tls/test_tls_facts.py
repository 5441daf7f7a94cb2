"""What a handshake says about the peer's certificate."""

from pathlib import Path

import pytest
from cryptography.x509.oid import NameOID

from proxy.config import ClientTls
from proxy.errors import PeerError
from proxy.tls import TlsFacts, offer_to_clients, read_facts
from proxy.tls.facts import write_name
from tests.tls.handshakes import Subject, join, make_self_signed, trusting

# Attributes of getpeercert() -> as `openssl x509 -noout -subject -nameopt RFC2253` writes them.
NAMES = [
    ((), ""),
    (((("commonName", "app"),),), "CN=app"),
    (
        (
            (("countryName", "DE"),),
            (("organizationName", "Weir, Inc."),),
            (("commonName", "app"),),
        ),
        r"CN=app,O=Weir\, Inc.,C=DE",
    ),
    (((("organizationalUnitName", "a"), ("userId", "b")),), "UID=b+OU=a"),
    (((("commonName", ' #a+b"c\\d<e>f;g= '),),), r"CN=\ #a\+b\"c\\d\<e\>f\;g=\ "),
    (((("commonName", "#a"),),), r"CN=\#a"),
    (((("commonName", "é\n"),),), r"CN=\C3\A9\0A"),
    (((("emailAddress", "a@b"),),), "emailAddress=a@b"),
]


@pytest.mark.parametrize(("subject", "written"), NAMES)
def test_a_subject_is_written_as_openssl_writes_it(subject: object, written: str) -> None:
    assert write_name(subject) == written


def test_a_verified_certificate_tells_its_name(tmp_path: Path) -> None:
    names = [
        [(NameOID.ORGANIZATION_NAME, "Weir")],
        [(NameOID.COMMON_NAME, "first")],
        [(NameOID.COMMON_NAME, "second")],
    ]
    facts = facts_about(tmp_path, names)
    assert facts.has_certificate
    assert (facts.version, facts.peer_common_name) == ("TLSv1.3", "first")
    assert facts.peer_distinguished_name == "CN=second,CN=first,O=Weir"


def test_a_certificate_without_a_common_name_has_none(tmp_path: Path) -> None:
    facts = facts_about(tmp_path, [[(NameOID.ORGANIZATION_NAME, "Weir")]])
    assert facts.has_certificate
    assert (facts.peer_common_name, facts.peer_distinguished_name) == (None, "O=Weir")


def test_without_a_certificate_there_is_no_name(tmp_path: Path) -> None:
    facts = facts_about(tmp_path, None)
    assert not facts.has_certificate
    assert (facts.peer_common_name, facts.peer_distinguished_name) == (None, None)


def test_a_nul_in_the_common_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="NUL"):
        facts_about(tmp_path, [[(NameOID.COMMON_NAME, "admin\0.evil")]])


def facts_about(folder: Path, subject: Subject | None) -> TlsFacts:
    """Shake hands as a client that shows a certificate with this subject."""
    ours = make_self_signed(folder / "ours", [[(NameOID.COMMON_NAME, "localhost")]])
    theirs = make_self_signed(folder / "theirs", subject or [])
    offer = offer_to_clients(
        ClientTls(mode="allow", cert=ours, key=ours, ca=theirs), ask_for_certificate=True
    )
    context = trusting()
    if subject is not None:
        context.load_cert_chain(theirs)
    return read_facts(join(context, offer.context)[1], offer.endpoint)
