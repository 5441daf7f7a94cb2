"""OAUTHBEARER: logins by a token."""

import json
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faults.raw_client import Message, RawClient, message, startup
from tests.fixtures.issuer import Issuer
from tests.fixtures.pgweir import Pgweir, configuration, merged
from tests.fixtures.postgres import APP, DATABASE, Certificates, Postgres

StartPgweir = Callable[..., Pgweir]


def tokens_of(issuer: Issuer, node: Postgres, **oauth: Any) -> dict[str, Any]:
    """A configuration that lets in who has a token; at the server all are `app`."""
    config = configuration(node)
    asked = {"issuer": issuer.url, "audience": "pgweir", "scope": "db", **oauth}
    config["auth"] = {"method": "oauth", "oauth": asked}
    login = {"server": {"user": APP.name, "password": APP.password}}
    return merged(config, {"clusters": {"main": login}})


def initial(data: bytes | None) -> bytes:
    length = struct.pack("!i", -1 if data is None else len(data))
    return message(b"p", b"OAUTHBEARER\0" + length + (data or b""))


def show(weir: Pgweir, token: str, user: str = "ann") -> list[Message]:
    """All the proxy says to who shows this token."""
    with RawClient(weir.port) as client:
        client.send(startup(user=user, database=DATABASE))
        said = [client.read()]
        credentials = f"Bearer {token}".encode() if token else b""
        client.send(initial(b"n,,\x01auth=" + credentials + b"\x01\x01"))
        said.append(client.read())
        if said[-1] is not None and said[-1].body[:4] == struct.pack("!i", 11):
            client.send(message(b"p", b"\x01"))
            said.append(client.read())
        return [each for each in said if each is not None]


def gets_in(weir: Pgweir, token: str, user: str = "ann") -> bool:
    return show(weir, token, user)[-1] == Message(b"R", bytes(4))


@pytest.fixture
def weir(start_pgweir: StartPgweir, pg18: Postgres, issuer: Issuer) -> Pgweir:
    return start_pgweir(tokens_of(issuer, pg18))


def test_a_token_is_what_it_takes(weir: Pgweir, issuer: Issuer) -> None:
    with RawClient(weir.port) as client:
        client.send(startup(user="ann", database=DATABASE))
        offer = client.read()
        assert offer == Message(b"R", struct.pack("!i", 10) + b"OAUTHBEARER\0\0")
        client.send(initial(None))
        assert client.read() == Message(b"R", struct.pack("!i", 11))
        client.send(message(b"p", f"n,,\x01auth=Bearer {issuer.token('ann')}\x01\x01".encode()))
        client.read_welcome()
        assert client.value("SELECT current_user") == APP.name


def test_what_is_wrong_with_a_token_is_for_the_log_alone(weir: Pgweir, issuer: Issuer) -> None:
    heard = set()
    for token, reason in (
        (issuer.token("ann", exp=1), "expired"),
        (issuer.token("ann", aud="other"), "audience"),
        (issuer.token("ann", scope="openid"), "grant db"),
        (issuer.token("bob"), "token is of .*bob"),
        (issuer.token("ann")[:-4] + "AAAA", "signature"),
        ("junk", "no JSON Web Token"),
        ("", "no token"),
    ):
        seen = len(weir.log)
        _, signpost, last = show(weir, token)
        assert json.loads(signpost.body[4:]) == {
            "status": "invalid_token",
            "openid-configuration": f"{issuer.url}/.well-known/openid-configuration",
            "scope": "db",
        }
        assert last.fields["C"] == "28000"
        heard.add(last.fields["M"])
        weir.wait_for_log(f"login refused.*{reason}", since=seen)
        assert token == "" or token == "junk" or token not in "\n".join(weir.log)
    assert heard == {'OAuth bearer authentication failed for user "ann"'}


def test_keys_are_fetched_once_and_again_for_one_that_is_new(weir: Pgweir, issuer: Issuer) -> None:
    assert all(gets_in(weir, issuer.token("ann")) for _ in range(3))
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    issuer.rotate("second")
    # A token may name any key: the issuer is not asked for each of them.
    stranger = Issuer()
    stranger.rotate("nobody's")
    for _ in range(5):
        assert not gets_in(weir, stranger.token("ann", "nobody's", iss=issuer.url))
    stranger.close()
    assert issuer.asked.count("/keys") <= 2


def test_keys_from_a_file_need_nobody_to_fetch_from(
    start_pgweir: StartPgweir, pg18: Postgres, issuer: Issuer, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(issuer.pages["/keys"]))
    weir = start_pgweir(tokens_of(issuer, pg18, jwks_file=str(file), claim="preferred_username"))
    assert gets_in(weir, issuer.token("4711", preferred_username="ann"))
    assert not gets_in(weir, issuer.token("ann"))
    assert issuer.asked == []


@pytest.mark.parametrize(
    ("page", "answer", "reason"),
    [
        ("/keys", None, "status 404"),
        ("/keys", b"x" * (2 << 20), "more than"),
        ("/keys", b"{", "Expecting"),
        ("/keys", {"keys": []}, "no key"),
        ("/.well-known/openid-configuration", {"issuer": "https://evil"}, "another issuer"),
        ("/.well-known/openid-configuration", [], "no JSON object"),
    ],
)
async def test_without_keys_nobody_can_be_judged_and_the_log_says_why(
    issuer: Issuer, caplog: pytest.LogCaptureFixture, page: str, answer: Any, reason: str
) -> None:
    from proxy.client.issuer import IssuerKeys

    issuer.pages[page] = answer
    keys = IssuerKeys(issuer.url, url=None, file=None, ca=None, timeout_s=5.0, clock=lambda: 0.0)
    assert await keys.use(lambda _keys: "let in") is None
    assert reason in str([getattr(each, "facts", None) for each in caplog.records])


async def test_a_new_key_is_fetched_when_a_token_names_it_and_only_so_often(
    issuer: Issuer,
) -> None:
    from proxy.auth.tokens import TokenRules, UnknownKeyError, check_token
    from proxy.client.issuer import IssuerKeys

    now_s = 1000.0
    keys = IssuerKeys(
        issuer.url, url=f"{issuer.url}/keys", file=None, ca=None, timeout_s=5.0, clock=lambda: now_s
    )
    rules = TokenRules(issuer.url, "pgweir", frozenset(), frozenset({"RS256"}), "sub", 0.0)

    async def user_of(token: str) -> str | None:
        return await keys.use(lambda known: check_token(token, known, rules))

    assert await user_of(issuer.token("ann")) == "ann"
    issuer.rotate("second")
    token = issuer.token("ann", "second")
    now_s += 5.0
    with pytest.raises(UnknownKeyError):
        await user_of(token)
    now_s += 5.0
    assert await user_of(token) == "ann"
    assert issuer.asked == ["/keys", "/keys"]


async def test_an_issuer_that_is_gone_leaves_its_keys_in_force(issuer: Issuer) -> None:
    from proxy.client.issuer import IssuerKeys

    now_s = 0.0
    keys = IssuerKeys(issuer.url, url=None, file=None, ca=None, timeout_s=5.0, clock=lambda: now_s)
    assert await keys.use(lambda _keys: "let in") == "let in"
    issuer.pages.clear()
    now_s = 100_000.0
    assert await keys.use(lambda _keys: "let in") == "let in"


def test_an_issuer_that_cannot_be_asked_is_told_as_such(
    start_pgweir: StartPgweir, pg18: Postgres, issuer: Issuer
) -> None:
    weir = start_pgweir(tokens_of(issuer, pg18))
    issuer.pages.clear()
    *_, last = show(weir, issuer.token("ann"))
    assert last.fields["C"] == "08001"
    assert "cannot be judged" in last.fields["M"]


def test_libpq_hears_where_to_get_a_token(weir: Pgweir, issuer: Issuer) -> None:
    if psycopg.pq.version() < 180000:
        pytest.skip("libpq 18 was the first to know OAUTHBEARER")
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(
            weir.dsn("ann", "x"), oauth_issuer="https://other.example", oauth_client_id="c"
        )
    # Its own check of what we said; flows need a browser.
    assert issuer.url in str(caught.value)


def test_a_rule_may_say_who_a_token_stands_for(
    start_pgweir: StartPgweir, pg18: Postgres, issuer: Issuer, tmp_path: Path
) -> None:
    """Another scope than the section's, and a map from addresses to users."""
    (tmp_path / "hba.conf").write_text("host all all all oauth scope=admin map=mail claim=email\n")
    (tmp_path / "ident.conf").write_text("mail /^(.*)@example\\.org$ \\1\n")
    config = tokens_of(issuer, pg18)
    config["auth"] |= {
        "method": "hba",
        "hba_file": str(tmp_path / "hba.conf"),
        "ident_file": str(tmp_path / "ident.conf"),
    }
    weir = start_pgweir(config)
    assert gets_in(weir, issuer.token("1", scope="admin", email="ann@example.org"))
    assert not gets_in(weir, issuer.token("1", scope="db", email="ann@example.org"))
    assert not gets_in(weir, issuer.token("1", scope="admin", email="ann@example.com"))
    assert not gets_in(weir, issuer.token("1", scope="admin", email="bob@example.org"))


@pytest.mark.parametrize("allowed", [False, True])
def test_a_token_is_not_asked_for_where_others_may_listen(
    start_pgweir: StartPgweir, pg18: Postgres, issuer: Issuer, allowed: bool
) -> None:
    config = tokens_of(issuer, pg18)
    config["auth"]["allow_cleartext"] = allowed
    weir = start_pgweir(merged(config, {"listen": {"proxy_protocol_from": ["127.0.0.1/32"]}}))
    with RawClient(weir.port) as client:
        client.send(b"PROXY TCP4 203.0.113.9 127.0.0.1 5555 6432\r\n")
        client.send(startup(user="ann", database=DATABASE))
        answer = client.read()
        assert answer is not None
        assert answer.kind == (b"R" if allowed else b"E")
        assert allowed or "not encrypted" in answer.fields["M"]


async def test_an_issuer_must_show_the_certificate_of_an_authority_that_is_trusted(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    from proxy.client.issuer import IssuerKeys

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server_cert, certificates.server_key)
    issuer = Issuer(context)

    def keys(ca: Path | None) -> IssuerKeys:
        return IssuerKeys(issuer.url, url=None, file=None, ca=ca, timeout_s=5.0, clock=lambda: 0.0)

    try:
        assert await keys(certificates.ca).use(lambda _keys: "let in") == "let in"
        assert await keys(None).use(lambda _keys: "let in") is None
        assert "certificate" in str([getattr(each, "facts", None) for each in caplog.records])
    finally:
        issuer.close()


def test_asking_where_to_get_a_token_is_no_guess(
    start_pgweir: StartPgweir, pg18: Postgres, issuer: Issuer
) -> None:
    """An address whose guesses failed is answered late; libpq asks the way at each connection."""
    weir = start_pgweir(merged(tokens_of(issuer, pg18), {"auth": {"failure_delay": "60s"}}))
    for _ in range(20):
        *_, last = show(weir, "")
        assert last.fields["C"] == "28000"
