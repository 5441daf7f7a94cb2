"""Each SCRAM message is read strictly, and what is wrong with a bad one is named."""

import base64

import pytest

from proxy.auth.scram_messages import (
    decode_base64,
    read_client_final,
    read_client_first,
    read_server_final,
    read_server_first,
)
from proxy.errors import PeerError

PROOF = base64.b64encode(bytes(32))
SALT = base64.b64encode(b"sixteen bytes!!!")


@pytest.mark.parametrize(
    ("message", "header", "nonce"),
    [
        (b"n,,n=user,r=abc", b"n,,", b"abc"),
        (b"n,,n=,r=abc", b"n,,", b"abc"),
        (b"n,,n=*,r=a=b+/", b"n,,", b"a=b+/"),
        (b"y,,n=u,r=abc", b"y,,", b"abc"),
        (b"p=tls-server-end-point,,n=u,r=abc", b"p=tls-server-end-point,,", b"abc"),
        (b"n,,n=\xff\xfe,r=abc,x=1,Y=2=3", b"n,,", b"abc"),
        (b"n,,n=u,r=" + b"x" * 1024, b"n,,", b"x" * 1024),
    ],
)
def test_a_client_first_message_is_read(message: bytes, header: bytes, nonce: bytes) -> None:
    assert read_client_first(message) == (header, message[len(header) :], nonce)


@pytest.mark.parametrize(
    ("message", "sqlstate", "said"),
    [
        (b"", "08P01", "empty"),
        (b"n,,n=u\0,r=abc", "08P01", "NUL"),
        (b"n", "08P01", "attributes are missing"),
        (b"n,,n=u", "08P01", "attributes are missing"),
        (b"x,,n=u,r=abc", "08P01", "channel-binding flag"),
        (b"N,,n=u,r=abc", "08P01", "channel-binding flag"),
        (b"nn,,n=u,r=abc", "08P01", "channel-binding flag"),
        (b"p,,n=u,r=abc", "08P01", "channel-binding flag"),
        (b"p=,,n=u,r=abc", "08P01", "channel-binding flag"),
        (b"p=tls unique,,n=u,r=abc", "08P01", "channel-binding flag"),
        (b"p=tls-server-end-point ,,n=u,r=abc", "08P01", "channel-binding flag"),
        (b"p=tls-unique,,n=u,r=abc", "0A000", "tls-server-end-point is"),
        (b"n,a=admin,n=u,r=abc", "0A000", "authorization identity"),
        (b"n,admin,n=u,r=abc", "08P01", "second comma"),
        (b"n,,m=ext,n=u,r=abc", "0A000", "mandatory"),
        (b"n,,u=n,r=abc", "08P01", "attribute n"),
        (b"n,,r=abc,n=u", "08P01", "attribute n"),
        (b"n,,n=u,s=abc", "08P01", "attribute r"),
        (b"n,,n=u,r=", "08P01", "nonce is empty or not printable"),
        (b"n,,n=u,r=a b", "08P01", "nonce is empty or not printable"),
        (b"n,,n=u,r=a\x7f", "08P01", "nonce is empty or not printable"),
        (b"n,,n=u,r=a\n", "08P01", "nonce is empty or not printable"),
        (b"n,,n=u,r=\xc3\xa9", "08P01", "nonce is empty or not printable"),
        (b"n,,n=u,r=" + b"x" * 1025, "08P01", "1025 bytes long"),
        (b"n,,n=u,r=abc,", "08P01", "extension"),
        (b"n,,n=u,r=abc,x", "08P01", "extension"),
        (b"n,,n=u,r=abc,1=2", "08P01", "extension"),
        (b"n,,n=u,r=abc,x=", "08P01", "extension"),
    ],
)
def test_a_bad_client_first_message_is_named(message: bytes, sqlstate: str, said: str) -> None:
    with pytest.raises(PeerError, match=said) as caught:
        read_client_first(message)
    assert caught.value.sqlstate == sqlstate


def test_a_client_final_message_is_read() -> None:
    signed = b"c=biws,r=abc,x=1"
    assert read_client_final(signed + b",p=" + PROOF) == (b"biws", b"abc", bytes(32), signed)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"", "empty"),
        (b"c=biws,r=abc,p=" + PROOF + b"\0", "NUL"),
        (b"c=biws,r=abc", "attributes are missing"),
        (b"r=abc,c=biws,p=" + PROOF, "attribute c"),
        (b"c=biws,s=abc,p=" + PROOF, "attribute r"),
        (b"c=biws,r=abc,x=1", "attribute p"),
        (b"c=biws,r=abc,p=" + PROOF + b",x=1", "attribute p"),
        (b"c=biws,r=abc,xx,p=" + PROOF, "extension"),
        (b"c=biws,r=" + b"x" * 1025 + b",p=" + PROOF, "1025 bytes long"),
        (b"c=biws,r=abc,p=", "proof"),
        (b"c=biws,r=abc,p=" + PROOF[:-1], "proof"),
        (b"c=biws,r=abc,p=" + PROOF + b"=", "proof"),
        (b"c=biws,r=abc,p=" + PROOF[:-4], "proof"),
        (b"c=biws,r=abc,p=" + PROOF[:-2] + b"B=", "proof"),
        (b"c=biws,r=abc,p=" + PROOF + b"\n", "proof"),
        (b"c=biws,r=abc,p=" + base64.b64encode(bytes(31)), "proof"),
        (b"c=biws,r=abc,p=" + base64.b64encode(bytes(33)), "proof"),
    ],
)
def test_a_bad_client_final_message_is_named(message: bytes, said: str) -> None:
    with pytest.raises(PeerError, match=said) as caught:
        read_client_final(message)
    assert caught.value.sqlstate == "08P01"


@pytest.mark.parametrize(
    ("message", "iterations"),
    [
        (b"r=oursTHEIRS,s=" + SALT + b",i=1", 1),
        (b"r=oursTHEIRS,s=" + SALT + b",i=4096", 4096),
        (b"r=oursTHEIRS,s=" + SALT + b",i=1000000", 1000000),
        (b"r=oursTHEIRS,s=" + SALT + b",i=4096,x=later", 4096),
    ],
)
def test_a_server_first_message_is_read(message: bytes, iterations: int) -> None:
    assert read_server_first(message, b"ours") == (b"oursTHEIRS", b"sixteen bytes!!!", iterations)


def test_nonce_and_salt_of_a_server_may_be_as_long_as_the_limit() -> None:
    nonce, salt = b"ours" + b"x" * 1020, bytes(range(256)) * 4
    message = b"r=%b,s=%b,i=4096" % (nonce, base64.b64encode(salt))
    assert read_server_first(message, b"ours") == (nonce, salt, 4096)


@pytest.mark.parametrize(
    ("message", "sqlstate", "said"),
    [
        (b"", "08P01", "empty"),
        (b"r=oursX,s=%b,i=1\0" % SALT, "08P01", "NUL"),
        (b"m=x,r=oursX,s=%b,i=1" % SALT, "0A000", "mandatory"),
        (b"r=oursX,s=%b" % SALT, "08P01", "attributes are missing"),
        (b"s=%b,r=oursX,i=1" % SALT, "08P01", "attribute r"),
        (b"e=other-error,r=oursX,i=1", "08P01", "attribute r"),
        (b"r=theirs,s=%b,i=1" % SALT, "08P01", "does not begin with ours"),
        (b"r=our,s=%b,i=1" % SALT, "08P01", "does not begin with ours"),
        (b"r=ours,s=%b,i=1" % SALT, "08P01", "added nothing"),
        (b"r=ours\x80,s=%b,i=1" % SALT, "08P01", "not printable"),
        (b"r=ours%b,s=%b,i=1" % (b"x" * 1021, SALT), "08P01", "1025 bytes long"),
        (b"r=oursX,t=%b,i=1" % SALT, "08P01", "attribute s"),
        (b"r=oursX,s=,i=1", "08P01", "salt is empty or not base64"),
        (b"r=oursX,s=!!!!,i=1", "08P01", "salt is empty or not base64"),
        (b"r=oursX,s=QUJ,i=1", "08P01", "salt is empty or not base64"),
        (b"r=oursX,s=QQ==QQ==,i=1", "08P01", "salt is empty or not base64"),
        (b"r=oursX,s=%b,i=1" % base64.b64encode(bytes(1025)), "08P01", "longer than 1024"),
        (b"r=oursX,s=%b,i=1" % base64.b64encode(bytes(100_000)), "08P01", "longer than 1024"),
        (b"r=oursX,s=%b,j=1" % SALT, "08P01", "attribute i"),
        (b"r=oursX,s=%b,i=" % SALT, "08P01", "iteration count"),
        (b"r=oursX,s=%b,i=0" % SALT, "08P01", "iteration count"),
        (b"r=oursX,s=%b,i=-1" % SALT, "08P01", "iteration count"),
        (b"r=oursX,s=%b,i=+1" % SALT, "08P01", "iteration count"),
        (b"r=oursX,s=%b,i= 1" % SALT, "08P01", "iteration count"),
        (b"r=oursX,s=%b,i=01" % SALT, "08P01", "iteration count"),
        (b"r=oursX,s=%b,i=1_0" % SALT, "08P01", "iteration count"),
        (b"r=oursX,s=%b,i=4096\n" % SALT, "08P01", "iteration count"),
        (b"r=oursX,s=%b,i=1000001" % SALT, "08P01", "iteration count"),
        (b"r=oursX,s=%b,i=%b" % (SALT, b"9" * 5000), "08P01", "iteration count"),
        (b"r=oursX,s=%b,i=1,?" % SALT, "08P01", "extension"),
    ],
)
def test_a_bad_server_first_message_is_named(message: bytes, sqlstate: str, said: str) -> None:
    with pytest.raises(PeerError, match=said) as caught:
        read_server_first(message, b"ours")
    assert caught.value.sqlstate == sqlstate


def test_a_server_final_message_is_read() -> None:
    assert read_server_final(b"v=" + PROOF) == bytes(32)


@pytest.mark.parametrize(
    ("message", "sqlstate", "said"),
    [
        (b"", "08P01", "empty"),
        (b"v=" + PROOF + b"\0", "08P01", "NUL"),
        (b"e=invalid-proof", "28P01", "refused the SCRAM login: invalid-proof$"),
        (b"e=\x1b[2J hush", "28P01", "refused the SCRAM login$"),
        (b"x=" + PROOF, "08P01", "attribute v"),
        (b"v=", "08P01", "signature"),
        (b"v=" + PROOF[:-1], "08P01", "signature"),
        (b"v=" + base64.b64encode(bytes(16)), "08P01", "signature"),
        (b"v=" + PROOF + b",", "08P01", "extension"),
    ],
)
def test_a_bad_server_final_message_is_named(message: bytes, sqlstate: str, said: str) -> None:
    with pytest.raises(PeerError, match=said) as caught:
        read_server_final(message)
    assert caught.value.sqlstate == sqlstate


@pytest.mark.parametrize(
    "text", [b"QUI", b"QUI=\n", b"QUI =", b"=QUI", b"QQ==QQ==", b"QUJ=", b"Q", b"-_==", b"QUI=="]
)
def test_base64_that_no_encoder_writes_is_refused(text: bytes) -> None:
    assert decode_base64(text) is None
