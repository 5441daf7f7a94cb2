"""Whatever a peer sends, the room answers, refuses or names the fault; nothing else escapes it."""

import base64
import contextlib
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.auth import (
    METHODS,
    BearerExchange,
    ClearPasswordExchange,
    DelegatedExchange,
    DerivedKeys,
    PlainSecret,
    Roster,
    ServerLogin,
    Signpost,
    Verifiers,
    begin,
)
from proxy.auth.hba import Facts, Rules, read_rules
from proxy.auth.hba_text import read_lines
from proxy.auth.ident import read_maps
from proxy.auth.names import Groups
from proxy.auth.places import Address
from proxy.errors import ClientError, PeerError

PEERS_FAULT = (PeerError, ClientError)
PASSWORD = "correct horse"

VERIFIERS = Verifiers(b"a secret of the process, 32 byte")
ROSTER = Roster.from_texts({"app": PASSWORD, "hashed": "md5" + "0" * 32})
ROSTER.prepare(VERIFIERS)


def zeros(count: int) -> bytes:
    return bytes(count)


# Pieces of real messages, so that the fuzz gets behind the first check.
FRAGMENTS = st.sampled_from(
    [
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-256-PLUS\0",
        b"\0",
        b"\0\0",
        b"\0\0\0\x20",
        b"\xff\xff\xff\xff",
        b"n,,",
        b"y,,",
        b"p=tls-server-end-point,,",
        b"n=",
        b"n=*,",
        b"r=",
        b"r=" + b"A" * 24,
        b"r=" + b"A" * 48,
        b",",
        b"s=QUJDREVGR0hJSktM",
        b",s=QUJD,",
        b"i=1",
        b"i=4096",
        b"c=biws,",
        b"p=" + base64.b64encode(bytes(32)),
        b"v=" + base64.b64encode(bytes(32)),
        b"e=other-error",
        b"m=x,",
        PASSWORD.encode(),
        b"md5" + b"0" * 32,
    ]
)
BODIES = st.binary(max_size=80) | st.lists(FRAGMENTS | st.binary(max_size=4), max_size=10).map(
    b"".join
)
CODES = st.integers(0, 13).map(lambda code: code.to_bytes(4))


@settings(max_examples=600, deadline=None)
@given(
    method=st.sampled_from(METHODS),
    user=st.sampled_from(["app", "hashed", "ghost"]),
    bodies=st.lists(BODIES, min_size=1, max_size=4),
)
def test_no_client_makes_an_exchange_fail_otherwise(
    method: str, user: str, bodies: list[bytes]
) -> None:
    exchange = begin(method, user, ROSTER.lookup(user), verifiers=VERIFIERS, random_bytes=zeros)
    with contextlib.suppress(*PEERS_FAULT):
        exchange.start()
        for body in bodies:
            reply = exchange.receive(body)
            assert reply.done == exchange.done


@settings(max_examples=600, deadline=None)
@given(bodies=st.lists(BODIES, min_size=1, max_size=4))
def test_no_stranger_gets_in_by_any_bytes(bodies: list[bytes]) -> None:
    exchange = begin("scram-sha-256", "ghost", None, verifiers=VERIFIERS, random_bytes=zeros)
    with contextlib.suppress(*PEERS_FAULT):
        for body in bodies:
            exchange.receive(body)
    assert not exchange.done


@settings(max_examples=600, deadline=None)
@given(
    asked=st.lists(st.tuples(CODES, BODIES).map(b"".join) | BODIES, min_size=1, max_size=4),
    begins_scram=st.booleans(),
)
def test_no_server_makes_a_login_fail_otherwise(asked: list[bytes], begins_scram: bool) -> None:
    login = ServerLogin(
        "app",
        PlainSecret(PASSWORD),
        derived=DerivedKeys(),
        random_bytes=zeros,
        allow_cleartext=True,
    )
    with contextlib.suppress(*PEERS_FAULT):
        if begins_scram:
            login.receive(b"\0\0\0\x0aSCRAM-SHA-256\0\0")
        for body in asked:
            login.receive(body)
    # It never knew the password, so once SCRAM began it cannot have come to an end.
    assert not (begins_scram and login.done)


WORDS = st.sampled_from(
    [
        *("local", "host", "hostssl", "all", "sameuser", "+dev", "/^a", "/(", "@list", "include"),
        *("10.0.0.0/8", "::/0", "10.0.0.0", "255.0.0.0", "samenet", "9" * 5000, "1.2.3.4/", "\0"),
        *("trust", "md5", "peer", "cert", "map=x", "clientcert=verify-ca", "ldapbasedn=", "=", "/"),
        *(" ", "\t", "\n", "\\\n", ",", '"', "#", "\ufeff", "\udcff", "\\1", "/(.)", "/[[a]"),
    ]
)


class Shelf:
    """Files that all hold the same."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read(self, path: Path) -> str:
        assert "\0" not in str(path)
        if path.name == "hba":
            return self._text
        raise FileNotFoundError(2, "No such file or directory")

    def list_conf(self, folder: Path) -> list[Path]:
        return [folder / "hba.conf"]


@given(st.lists(WORDS | st.just(" ") | st.text(max_size=4), max_size=30).map("".join))
def test_any_text_is_rules_and_maps_or_faults_that_name_their_line(text: str) -> None:
    lines, unreadable = read_lines(Path("/hba"), Shelf(text))
    groups = Groups({"dev": ["ann"]})
    rules, wrong_rules = read_rules(lines, groups)
    mapped, wrong_maps = read_maps(lines, groups)
    assert len(rules) + len(wrong_rules) == len(lines) == len(mapped) + len(wrong_maps)
    last = text.count("\n") + 1
    assert all(1 <= each.number <= last for each in [*unreadable, *wrong_rules, *wrong_maps])
    Rules(rules, groups).pick(Facts("\udcff", "ann", False, None, False), tuple)


@given(
    st.text(
        st.characters(exclude_categories=["Cs"])
        | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
        max_size=30,
    ),
    st.ip_addresses() | st.none(),
    st.booleans(),
)
def test_whatever_a_client_is_named_a_rule_for_everybody_rejects_it(
    name: str, peer: Address | None, replicates: bool
) -> None:
    text = "local all,replication /.* reject\nhost all,replication /.* all reject"
    lines, _ = read_lines(Path("/hba"), Shelf(text))
    rules, _ = read_rules(lines, Groups())
    assert Rules(rules, Groups()).pick(Facts(name, name, replicates, peer, False), tuple)


TOKEN_FRAGMENTS = st.sampled_from(
    [b"OAUTHBEARER\0", b"\xff\xff\xff\xff", b"\0\0\0\x10", b"n,,", b"y,,", b"\x01", b"\x01\x01",
     b"auth=", b"auth=Bearer ", b"Bearer abc.def", b"host=h", b"=", b"\0", b"a=u,"]
)  # fmt: skip


@given(
    st.sampled_from(["LDAP", "OAuth"]),
    st.lists(
        st.one_of(st.binary(max_size=40), st.lists(TOKEN_FRAGMENTS, max_size=6).map(b"".join)),
        max_size=4,
    ),
)
def test_a_delegated_login_is_asked_about_or_refused_and_never_done_by_itself(
    what: str, bodies: list[bytes]
) -> None:
    exchange: DelegatedExchange = (
        ClearPasswordExchange(what, "ann")
        if what == "LDAP"
        else BearerExchange("ann", Signpost("https://i", "s"))
    )
    exchange.start()
    with contextlib.suppress(*PEERS_FAULT):
        for body in bodies:
            reply = exchange.receive(body)
            assert not reply.done
            if exchange.question is not None:
                assert not exchange.settle("no").done
    assert not exchange.done and exchange.proof is None
