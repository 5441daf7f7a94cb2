"""The readers of strangers' bytes, each with its invariant in one sentence.

A target takes bytes; it returns when the invariant held and raises when it did not.
"""

import contextlib
import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from proxy.auth import (
    METHODS,
    BearerExchange,
    ClearPasswordExchange,
    DelegatedExchange,
    DerivedKeys,
    Roster,
    ScramKeys,
    SecretError,
    ServerLogin,
    Signpost,
    Verifiers,
    begin,
    parse_secret,
)
from proxy.auth.hba import Facts, Rules, read_rules
from proxy.auth.hba_text import Fault, Line, read_lines
from proxy.auth.ident import read_maps
from proxy.auth.names import Groups
from proxy.auth.scram_messages import (
    MAX_ITERATIONS,
    MAX_NONCE_BYTES,
    MAX_SALT_BYTES,
    read_client_final,
    read_client_first,
    read_server_final,
    read_server_first,
)
from proxy.auth.tokens import KeySet, TokenError, TokenRules, check_token
from proxy.client import read_startup
from proxy.client.address import ip_of
from proxy.client.proxy_header import HeaderReader
from proxy.config import ConfigError, parse
from proxy.config.userlist import read_userlist
from proxy.errors import ClientError, PeerError
from proxy.session import read_startup_settings
from proxy.session.settings import quote_name, quote_text
from proxy.sql import Catalogue, Classifier, builtin_volatility, lex
from proxy.wire import messages
from tests.fuzz.both_ends import BothEnds, whole_messages
from tests.fuzz.wire_end import read_all

Target = Callable[[bytes], None]

# Ed25519, of RFC 8037, appendix A.2.
_KEYS = KeySet(
    {
        "keys": [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "kid": "1",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            }
        ]
    }
)
_TOKEN_RULES = TokenRules(
    "https://i", "pgweir", frozenset(), frozenset({"EdDSA", "RS256"}), "sub", 0.0
)


def startup_parameters(octets: bytes) -> None:
    """A startup packet is read, or refused as the peer's fault; what is read can be written."""
    try:
        read = messages.read_startup_parameters(octets)
    except PeerError:
        return
    written = messages.startup_message(messages.PROTOCOL_3_0, read)
    assert messages.read_startup_parameters(written[4:]) == read


def startup(octets: bytes) -> None:
    """A startup packet ends in a Startup, a refusal to the peer, or an answer with a SQLSTATE."""
    try:
        found = read_startup(messages.read_request_code(octets), octets)
        read_startup_settings(found.parameters)
    except PeerError:
        pass
    except ClientError as refused:
        assert len(refused.sqlstate) == 5


def startup_options(octets: bytes) -> None:
    """Any `options` are read or refused with 42601, and no setting has an empty name."""
    text = octets.decode("utf-8", "surrogateescape")
    try:
        found = read_startup_settings({"user": "u", "options": text})
    except ClientError as refused:
        assert refused.sqlstate == "42601"
        return
    assert all(found.others)


def cancel_request(octets: bytes) -> None:
    """A cancel request has a key of 4 to 256 bytes, or is the peer's fault."""
    try:
        _, secret = messages.read_cancel_request(octets)
    except PeerError:
        return
    assert 4 <= len(secret) <= 256


def parameter_status(octets: bytes) -> None:
    """A ParameterStatus is the two texts it is made of, or the peer's fault."""
    try:
        name, value = messages.read_parameter_status(octets)
    except PeerError:
        return
    assert messages.parameter_status(name, value)[5:] == octets


def backend_key_data(octets: bytes) -> None:
    """A key is the bytes it is made of, or the peer's fault."""
    try:
        pid, secret = messages.read_backend_key_data(octets)
    except PeerError:
        return
    assert messages.backend_key_data(pid, secret)[5:] == octets


def fields(octets: bytes) -> None:
    """An ErrorResponse can always be read, whatever it is."""
    found = messages.read_fields(octets)
    assert all(len(code) == 1 for code in found)


def negotiated_version(octets: bytes) -> None:
    """A NegotiateProtocolVersion is read, or is the peer's fault."""
    with contextlib.suppress(PeerError):
        messages.read_negotiated_version(octets)


def error_response(octets: bytes) -> None:
    """A text of ours, whatever is in it, stays one field of its message."""
    text = octets.decode("utf-8", "surrogateescape")
    written = messages.error_response("XX000", text, detail=text, hint=text)
    read = messages.read_fields(written[5:])
    assert read["C"] == "XX000"
    assert read["M"] == text.replace("\0", " ")
    assert set(read) == set("SVCMDH")


def quoting(octets: bytes) -> None:
    """A quoted text or name ends at its own last quote, whatever is in it."""
    text = octets.decode("utf-8", "surrogateescape")
    body = quote_text(text)[2:-1]
    at = 0
    while at < len(body):
        if body[at] in "\\'":
            # Only in pairs: a backslash and itself, a quote and itself.
            assert body[at : at + 2] in ("\\\\", "''")
            at += 1
        at += 1
    for part in quote_name(text).split("."):
        assert part[0] == part[-1] == '"'
        assert '"' not in part[1:-1].replace('""', "")


def packets(octets: bytes) -> None:
    """Packets come out the same whole as byte by byte."""
    take = lambda link: link.take_packet(10_000)  # noqa: E731
    assert read_all([octets], take) == read_all(
        [octets[i : i + 1] for i in range(len(octets))], take
    )


def typed_messages(octets: bytes) -> None:
    """Messages come out the same whole as byte by byte."""
    take = lambda link: link.take_message(65_535)  # noqa: E731
    assert read_all([octets], take) == read_all(
        [octets[i : i + 1] for i in range(len(octets))], take
    )


def client_bytes(octets: bytes) -> None:
    """Whatever a client says, its server gets whole messages of a client and it gets whole ones."""
    ends = BothEnds()
    try:
        # In two pieces, and the second in small ones.
        half = len(octets) // 2
        for piece in (octets[:half], *(octets[at : at + 7] for at in range(half, len(octets), 7))):
            ends.client_says(piece)
        for kind, _ in whole_messages(ends.said_to_server):
            assert kind in b"QPBDECFHSdcfX", kind
        for kind, _ in whole_messages(ends.said_to_client):
            assert kind in b"123CEZtnVG", kind
    finally:
        ends.close()


def server_bytes(octets: bytes) -> None:
    """Whatever a server says, its client gets whole messages of a server and an end to its wait."""
    ends = BothEnds()
    try:
        ends.client_says(b"")
        for asked in (messages.query("SELECT 1"), _EXTENDED):
            ends.client.sendall(asked)
            ends.turn()
            ends.server_says(octets)
        for kind, _ in whole_messages(ends.said_to_client):
            assert kind in b"123ACDEGHINSTVWZcdnst", kind
    finally:
        ends.close()


# Parse, Bind, Describe, Execute, Sync.
_EXTENDED = (
    b"P\0\0\0\x10\0SELECT 1\0\0\0"
    b"B\0\0\0\x0c\0\0\0\0\0\0\0\0"
    b"D\0\0\0\6P\0"
    b"E\0\0\0\x09\0\0\0\0\0"
    b"S\0\0\0\4"
)


def client_login(octets: bytes) -> None:
    """A client is let in by a right answer alone, and nobody who does not exist ever is.

    The first byte chooses the method and the user, each line behind it is a message of the client.
    """
    choice, *bodies = octets[:1], *octets[1:].split(b"\n")
    number = choice[0] if choice else 0
    method, user = METHODS[number % len(METHODS)], _USERS[number // 8 % len(_USERS)]
    exchange = begin(method, user, _ROSTER.lookup(user), verifiers=_VERIFIERS, random_bytes=bytes)
    try:
        exchange.start()
        for body in bodies:
            reply = exchange.receive(body)
            assert reply.done == exchange.done
    except (PeerError, ClientError):
        pass
    # Only these let anybody in without knowing a secret, or with the one that stands here.
    if exchange.done and method not in ("any", "trust"):
        assert user != "ghost"
        assert _PASSWORD.encode() in octets or b"md5" in octets or b"p=" in octets


_PASSWORD = "correct horse"
_USERS = ("app", "hashed", "ghost")
_ROSTER = Roster.from_texts({"app": _PASSWORD, "hashed": "md5" + "0" * 32})
_VERIFIERS = Verifiers(b"a secret of the process, 32 byte")
_ROSTER.prepare(_VERIFIERS)


def server_login(octets: bytes) -> None:
    """A server that began SCRAM and does not know the password is never taken for logged in to.

    Each line is an Authentication message of the server.
    """
    # Keys and no password: a stranger's number of iterations must not cost the fuzz its time.
    login = ServerLogin(
        "app", ScramKeys(b"c" * 32, b"s" * 32), derived=DerivedKeys(), random_bytes=bytes
    )
    began = False
    try:
        for body in octets.split(b"\n"):
            answer = login.receive(body)
            began |= answer is not None
    except (PeerError, ClientError):
        pass
    assert not (began and login.done)


def scram_messages(octets: bytes) -> None:
    """Each of SCRAM's messages is read within its bounds, or is the peer's fault."""
    with contextlib.suppress(PeerError):
        first = read_client_first(octets)
        assert first.gs2_header + first.bare == octets
    with contextlib.suppress(PeerError):
        assert len(read_client_final(octets).proof) == 32
    with contextlib.suppress(PeerError):
        challenge = read_server_first(octets, b"r")
        assert 1 <= challenge.iterations <= MAX_ITERATIONS
        assert len(challenge.nonce) <= MAX_NONCE_BYTES
        assert 1 <= len(challenge.salt) <= MAX_SALT_BYTES
    with contextlib.suppress(PeerError):
        assert len(read_server_final(octets)) == 32


def secret(octets: bytes) -> None:
    """A text is a password, a hash or a verifier, or is refused without being repeated."""
    text = octets.decode("utf-8", "surrogateescape")
    try:
        said = repr(parse_secret(text))
    except SecretError as refused:
        said = str(refused)
    # A short text is part of many, and the refusal tells how a verifier is written.
    if len(text) >= 8 and text not in "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>":
        assert text not in said


def userlist(octets: bytes) -> None:
    """Every line of a userlist is a user, nothing, or a complaint that names it."""
    text = octets.decode("utf-8", "surrogateescape")
    users, wrong = read_userlist(text)
    lines = text.count("\n") + 1
    assert len(users) <= lines
    assert all(1 <= number <= lines for number, _ in wrong)


def configuration(octets: bytes) -> None:
    """A configuration is read, or every complaint names its file and a line of it."""
    text = octets.decode("utf-8", "surrogateescape")
    try:
        parse(text, {"PW": "hunter2"}, file="f.yaml")
    except ConfigError as refused:
        assert refused.problems
        for problem in refused.problems:
            assert problem.file == "f.yaml"
            assert 1 <= problem.line <= len(_LINE_END.split(text)) + 1


# As YAML counts them.
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


class _OneFile:
    """The only file there is, for readers of files that may include others."""

    def __init__(self, octets: bytes) -> None:
        self.text = octets.decode("utf-8", "surrogateescape")

    def read(self, path: Path) -> str:
        if path.name != "file":
            raise FileNotFoundError
        return self.text

    def list_conf(self, folder: Path) -> list[Path]:
        raise NotADirectoryError

    def lines(self) -> tuple[list[Line], list[Fault]]:
        return read_lines(Path("/file"), self)


def hba_rules(octets: bytes) -> None:
    """Each line of an HBA file is a rule or is found fault with; a stranger can be judged."""
    file = _OneFile(octets)
    lines, broken = file.lines()
    rules, faults = read_rules(lines, _NOBODY)
    assert len(rules) + len(faults) == len(lines)
    assert all(1 <= fault.number <= file.text.count("\n") + 1 for fault in broken + faults)
    facts = Facts("circle", "app", replicates=False, peer=ip_address("10.0.0.1"), is_encrypted=True)
    picked = Rules(rules, _NOBODY).pick(facts, list)
    assert picked is None or picked in rules


def user_maps(octets: bytes) -> None:
    """Each line of a user map is a line of a map or is found fault with."""
    lines, _ = _OneFile(octets).lines()
    mapped, faults = read_maps(lines, _NOBODY)
    assert len(mapped) + len(faults) == len(lines)


_NOBODY = Groups()


def statement(octets: bytes) -> None:
    """Any text gets a verdict; its key is bounded by it, and is a text with the same key."""
    lexed, verdict = _CLASSIFIER.classify(octets)
    assert verdict.reads_only == (not verdict.reasons)
    assert len(lexed.key) <= 2 * len(octets)
    ends = [0, *(place for span in lexed.spans for place in span), len(octets)]
    assert ends == sorted(ends)
    if lexed.trouble is None:
        assert lex(lexed.key).key == lexed.key


_CLASSIFIER = Classifier(Catalogue(builtin_volatility), max_entries=100)


def proxy_header(octets: bytes) -> None:
    """A PROXY header is read by as many bytes as it has, or is the peer's fault."""
    reader = HeaderReader()
    at = 0
    try:
        while at < len(octets):
            wants = reader.wants
            assert wants > 0
            header = reader.feed(octets[at : at + wants])
            at += wants
            if header is not None:
                assert header.address is None or ip_of(header.address) is not None
                return
    except PeerError:
        pass


def delegated_login(octets: bytes) -> None:
    """Whatever a client says to a login that others judge, without their word it is not in."""
    judged: list[DelegatedExchange] = [
        ClearPasswordExchange("LDAP", "ann"),
        BearerExchange("ann", Signpost("https://i", "s")),
    ]
    for exchange in judged:
        exchange.start()
        with contextlib.suppress(PeerError, ClientError):
            for body in octets.split(b"\xfe", 4):
                assert not exchange.receive(body).done
                if exchange.question is not None:
                    assert not exchange.settle("no").done
        assert not exchange.done
        assert exchange.proof is None


def tokens(octets: bytes) -> None:
    """A token is refused in one way, whatever it is."""
    try:
        check_token(octets.decode("ascii", "replace"), _KEYS, _TOKEN_RULES)
    except TokenError:
        return
    raise AssertionError("let in")


TARGETS: dict[str, Target] = {
    each.__name__: each
    for each in (
        startup_parameters,
        startup,
        startup_options,
        cancel_request,
        parameter_status,
        backend_key_data,
        fields,
        negotiated_version,
        error_response,
        quoting,
        packets,
        typed_messages,
        client_bytes,
        server_bytes,
        client_login,
        server_login,
        scram_messages,
        secret,
        userlist,
        configuration,
        proxy_header,
        hba_rules,
        user_maps,
        statement,
        delegated_login,
        tokens,
    )
}
