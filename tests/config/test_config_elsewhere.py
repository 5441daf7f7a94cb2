"""Sections about who judges logins elsewhere, and what rules of an HBA file lay over them."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from proxy.config import Config, Ldap, Oauth, Pam
from tests.config.conftest import SOUND

AUTH = SOUND.partition("\n")[2] + "auth:\n"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ldap://h", {"servers": ("ldap://h:389",), "ldapbasedn": None}),
        ("ldaps://h/dc=x", {"servers": ("ldaps://h:636",), "ldapbasedn": "dc=x"}),
        ("ldap://[::1]:99/dc=x", {"servers": ("ldap://[::1]:99",)}),
        (
            "ldap://h:3890/dc=x,dc=y?cn?one",
            {"ldapbasedn": "dc=x,dc=y", "ldapsearchattribute": "cn", "ldapscope": "one"},
        ),
        ("ldap://h/dc=x", {"ldapscope": "base"}),
        (
            "ldap://h/dc=x??sub?(uid=$username)",
            {"ldapsearchfilter": "(uid=$username)", "ldapscope": "sub"},
        ),
        ("ldap://h/o=a%20b", {"ldapbasedn": "o=a b"}),
    ],
)
def test_an_ldap_url_stands_for_several_keys(url: str, said: dict[str, Any]) -> None:
    ldap = Ldap.model_validate({"ldapurl": url})
    assert {key: getattr(ldap, key) for key in said} == said


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"ldapurl": "http://h"}, "must be ldap"),
        ({"ldapurl": "ldap:///dc=x"}, "must be ldap"),
        ({"ldapurl": "ldap://u:p@h/dc=x"}, "more than"),
        ({"ldapurl": "ldap://h/dc=x?uid?sub?(a=b)?ext"}, "extensions"),
        ({"ldapurl": "ldap://h:x"}, "no URL"),
        ({"ldapurl": "ldap://h", "ldapserver": "h"}, "together with ldapserver"),
        ({"ldapserver": "h", "ldapbinddn": "cn=x"}, "without ldapbasedn"),
        ({"ldapserver": "h", "ldapbasedn": "x", "ldapprefix": "cn="}, "both a search"),
        (
            {"ldapbasedn": "x", "ldapsearchattribute": "a", "ldapsearchfilter": "(a=b)"},
            "keep one",
        ),
        ({"ldapserver": "h", "ldaptls": "1", "ldapscheme": "ldaps"}, "keep one"),
    ],
)
def test_ldap_that_says_two_things_is_refused(given: dict[str, str], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Ldap.model_validate(given)


def test_a_rule_that_speaks_of_ldap_says_all_of_it_but_how_long() -> None:
    section = Ldap.model_validate({"ldapserver": "a", "ldapbasedn": "dc=x", "timeout": "1s"})
    assert section.for_rule({}) == section
    asked = section.for_rule({"ldapserver": "b c", "ldapprefix": "cn=", "ldaptls": "1"})
    assert asked.servers == ("ldap://b:389", "ldap://c:389")
    assert (asked.ldapbasedn, asked.ldaptls, asked.timeout) == (None, True, 1.0)


def test_a_rule_with_another_issuer_does_not_take_over_the_first_ones_keys() -> None:
    section = Oauth.model_validate(
        {"issuer": "https://a", "audience": "x", "jwks_url": "https://a/keys", "claim": "email"}
    )
    same = section.for_rule({"issuer": "https://a", "scope": "db"})
    assert (same.jwks_url, same.scope) == ("https://a/keys", "db")
    other = section.for_rule({"issuer": "https://b"})
    assert (other.jwks_url, other.audience, other.claim) == (None, "x", "email")
    assert section.for_rule({"map": "m"}) == section


def test_a_rule_names_its_pam_service() -> None:
    assert Pam().for_rule({"pamservice": "other"}).pamservice == "other"
    with pytest.raises(ValidationError):
        Pam().for_rule({"pamservice": "../passwd"})


@pytest.mark.parametrize(
    "url", ["http://issuer.example", "ftp://x", "issuer", "https://", "http://["]
)
def test_an_issuer_that_anybody_on_the_way_could_be_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Oauth.model_validate({"issuer": url})


@pytest.mark.parametrize("url", ["https://i", "http://127.0.0.1:8080/x", "http://[::1]"])
def test_an_issuer_by_tls_or_on_this_machine_will_do(url: str) -> None:
    assert Oauth.model_validate({"issuer": url}).issuer == url


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS1"])
def test_signatures_that_prove_nothing_cannot_be_allowed(algorithm: str) -> None:
    with pytest.raises(ValidationError):
        Oauth.model_validate({"algorithms": [algorithm]})


@pytest.mark.parametrize(
    ("auth", "reason"),
    [
        (
            "  method: ldap\n",
            "f.yaml:4: auth.method: ldap needs auth.ldap.ldapserver, or an ldapurl",
        ),
        (
            "  method: ldap\n  ldap: {ldapserver: h, timeout: 1}\n",
            "f.yaml:4: auth.method: ldap needs auth.ldap.ldapbasedn, or ldapprefix and ldapsuffix",
        ),
        ("  method: oauth\n", "f.yaml:4: auth.method: oauth needs auth.oauth.issuer"),
        (
            "  method: oauth\n  oauth: {issuer: https://x}\n",
            "f.yaml:4: auth.method: oauth needs auth.oauth.audience",
        ),
    ],
)
def test_a_method_says_what_it_lacks(
    wrong: Callable[[str], list[str]], auth: str, reason: str
) -> None:
    assert wrong(AUTH + auth) == [reason]


def test_the_password_of_the_search_may_stand_in_a_file(
    read: Callable[[str], Config], tmp_path: Any
) -> None:
    (tmp_path / "search").write_text("hush\n")
    config = read(
        AUTH + "  method: ldap\n  ldap:\n    ldapserver: h\n    ldapbasedn: dc=x\n"
        "    ldapbinddn: cn=s\n    ldapbindpasswd_file: search\n"
    )
    assert str(config.auth.ldap.ldapbindpasswd) == "hush"
    assert "hush" not in repr(config)
