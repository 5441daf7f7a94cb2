"""Passwords held against a real directory."""

import socket
from typing import Any

import pytest

from proxy.client.aside import Aside
from proxy.config import Ldap
from tests.fixtures.slapd import BASE, SEARCHER, SEARCHER_PASSWORD, Slapd


def ask(options: Ldap, user: str, password: str) -> str | None:
    from proxy.client.directory_bind import ask_directory

    return ask_directory(options, user, password)


def simple(slapd: Slapd, **changes: Any) -> Ldap:
    """The name is built."""
    return Ldap.model_validate(
        {
            "ldapserver": "127.0.0.1",
            "ldapport": slapd.port,
            "ldapprefix": "uid=",
            "ldapsuffix": f",ou=people,{BASE}",
            **changes,
        }
    )


def search(slapd: Slapd, **changes: Any) -> Ldap:
    """The name is searched for."""
    return Ldap.model_validate(
        {
            "ldapserver": "127.0.0.1",
            "ldapport": slapd.port,
            "ldapbasedn": BASE,
            "ldapbinddn": SEARCHER,
            "ldapbindpasswd": SEARCHER_PASSWORD,
            **changes,
        }
    )


@pytest.mark.parametrize("way", [simple, search])
def test_the_right_password_and_no_other_is_accepted(slapd: Slapd, way: Any) -> None:
    assert ask(way(slapd), "ann", "ann-password") is None
    assert ask(way(slapd), "ann", "app-password") is not None
    assert ask(way(slapd), "nobody", "ann-password") is not None


@pytest.mark.parametrize("way", [simple, search])
def test_an_empty_password_is_not_taken_for_an_anonymous_bind(slapd: Slapd, way: Any) -> None:
    assert ask(way(slapd), "ann", "") == "the password sent is empty"


@pytest.mark.parametrize("way", [simple, search])
@pytest.mark.parametrize(
    "name",
    ["*", "an*", "ann)(uid=*", "ann)(|(uid=ann", "ann\\", "\\61nn", "(ann", "ann,ou=people",
     "ann+cn=ann", "ann\0", " ann", "ann ", "an\u00adn", "ａnn", "#ann", 'ann"', "ann;", "<ann>",
     "\udcff", "é" * 500],
)  # fmt: skip
def test_a_name_is_a_name_and_not_a_piece_of_ldap(slapd: Slapd, way: Any, name: str) -> None:
    assert ask(way(slapd), name, "ann-password") is not None


def test_a_password_that_is_not_utf_8_is_refused(slapd: Slapd) -> None:
    assert ask(simple(slapd), "ann", "\udcff") is not None


@pytest.mark.parametrize(
    "how",
    [
        {"ldapsearchattribute": "mail", "user": "ann@example.org"},
        {"ldapsearchfilter": "(&(objectClass=inetOrgPerson)(|(uid=$username)(mail=$username)))"},
        {"ldapbasedn": f"ou=people,{BASE}", "ldapscope": "one"},
        {"ldapbasedn": f"uid=ann,ou=people,{BASE}", "ldapscope": "base"},
    ],
)
def test_how_to_search_is_up_to_the_operator(slapd: Slapd, how: dict[str, str]) -> None:
    user = how.get("user", "ann")
    options = search(slapd, **{key: each for key, each in how.items() if key != "user"})
    assert ask(options, user, "ann-password") is None
    assert ask(options, user, "wrong") is not None


def test_a_url_says_it_all(slapd: Slapd) -> None:
    options = Ldap.model_validate(
        {
            "ldapurl": f"ldap://127.0.0.1:{slapd.port}/{BASE}?uid?sub",
            "ldapbinddn": SEARCHER,
            "ldapbindpasswd": SEARCHER_PASSWORD,
        }
    )
    assert ask(options, "ann", "ann-password") is None


def test_a_name_in_another_case_is_another_name_where_it_is_searched_for(slapd: Slapd) -> None:
    assert ask(search(slapd), "ANN", "ann-password") is not None


def test_two_of_a_name_are_nobody(slapd: Slapd) -> None:
    reason = ask(search(slapd), "twin", "twin-password")
    assert reason == "the directory has several such users"


@pytest.mark.parametrize("way", [simple, search])
@pytest.mark.parametrize("tls", ["starttls", "ldaps"])
def test_tls_is_verified(slapd: Slapd, way: Any, tls: str, tmp_path: Any) -> None:
    from proxy.client.directory_bind import DirectoryError
    from tests.fixtures.postgres import make_certificates

    changes: dict[str, Any] = (
        {"ldaptls": True}
        if tls == "starttls"
        else {"ldapscheme": "ldaps", "ldapport": slapd.tls_port}
    )
    trusted = way(slapd, ldapca=slapd.certificates.ca, **changes)
    assert ask(trusted, "ann", "ann-password") is None
    assert ask(trusted, "ann", "wrong") is not None
    for ca in (None, make_certificates(tmp_path).ca):
        with pytest.raises(DirectoryError):
            ask(way(slapd, ldapca=ca, **changes), "ann", "ann-password")


def test_the_next_server_is_asked_when_one_is_gone(slapd: Slapd) -> None:
    options = simple(slapd, ldapserver="127.0.0.2 127.0.0.1")
    assert ask(options, "ann", "ann-password") is None


async def test_the_next_server_is_asked_in_time_when_one_is_silent(slapd: Slapd) -> None:
    with socket.create_server(("127.0.0.3", slapd.port)):
        options = simple(slapd, ldapserver="127.0.0.3 127.0.0.1", timeout="3s")
        judged = Aside().run(lambda: ask(options, "ann", "ann-password"), options.timeout)
        assert await judged is None


@pytest.mark.parametrize(
    "changes",
    [
        {"ldapserver": "127.0.0.2"},
        {"ldapbindpasswd": "wrong"},
        {"ldapbasedn": "dc=nowhere"},
        {"ldapsearchfilter": "(((uid=$username"},
    ],
)
def test_a_directory_that_cannot_be_asked_is_no_verdict(
    slapd: Slapd, changes: dict[str, str]
) -> None:
    from proxy.client.directory_bind import DirectoryError

    with pytest.raises(DirectoryError) as failed:
        ask(search(slapd, **changes), "ann", "ann-password")
    assert "searching" not in str(failed.value)
    assert "ann-password" not in str(failed.value)


def test_a_server_that_never_answers_is_given_up(slapd: Slapd) -> None:
    from proxy.client.directory_bind import DirectoryError

    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = simple(slapd, ldapport=silent.getsockname()[1], timeout="300ms")
        with pytest.raises(DirectoryError):
            ask(options, "ann", "ann-password")
