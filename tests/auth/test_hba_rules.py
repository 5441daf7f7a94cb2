"""HBA rules: which lines are rules, and which rule holds for whom."""

import ipaddress
from pathlib import Path

import pytest

from proxy.auth.hba import Facts, Rule, Rules, read_rules, refusal
from proxy.auth.hba_text import read_lines
from proxy.auth.names import Groups
from proxy.auth.places import Address, Interface
from tests.auth.test_hba_text import ROOT, Shelf

GROUPS = Groups({"dev": ["ann", "+ops"], "ops": ["olga", "+dev"], "sales": ["sue"]})
OWN: tuple[Interface, ...] = (
    ipaddress.ip_interface("127.0.0.1/8"),
    ipaddress.ip_interface("10.1.2.3/24"),
    ipaddress.ip_interface("fd00::2/64"),
)


UNIX = "unix"


def read(text: str) -> tuple[list[Rule], list[str]]:
    lines, faults = read_lines(ROOT / "hba", Shelf({"hba": text}))
    rules, wrong = read_rules(lines, GROUPS)
    return rules, [f"{fault.number}: {fault.text}" for fault in [*faults, *wrong]]


def facts(
    database: str = "shop",
    user: str = "ann",
    peer: str = "10.0.0.7",
    tls: bool = False,
    replicates: bool = False,
) -> Facts:
    address: Address | None = None if peer == UNIX else ipaddress.ip_address(peer)
    return Facts(database, user, replicates, address, tls)


def holds(line: str, of: Facts) -> bool:
    rules, faults = read(line)
    assert faults == []
    return Rules(rules, GROUPS).pick(of, lambda: OWN) is not None


@pytest.mark.parametrize(
    ("kind", "peer", "tls", "expected"),
    [
        ("local", UNIX, False, True),
        ("local", "10.0.0.7", False, False),
        ("host", UNIX, False, False),
        ("host", "10.0.0.7", False, True),
        ("host", "10.0.0.7", True, True),
        ("host", "::1", True, True),
        ("hostssl", "10.0.0.7", False, False),
        ("hostssl", "10.0.0.7", True, True),
        ("hostssl", UNIX, False, False),
        ("hostnossl", "10.0.0.7", False, True),
        ("hostnossl", "10.0.0.7", True, False),
        ("hostnossl", UNIX, False, False),
        ("hostgssenc", "10.0.0.7", False, False),
        ("hostgssenc", "10.0.0.7", True, False),
        ("hostnogssenc", "10.0.0.7", False, True),
        ("hostnogssenc", "10.0.0.7", True, True),
    ],
)
def test_a_type_holds_for_its_way_in(kind: str, peer: str, tls: bool, expected: bool) -> None:
    line = f"{kind} all all trust" if kind == "local" else f"{kind} all all all trust"
    assert holds(line, facts(peer=peer, tls=tls)) is expected


@pytest.mark.parametrize(
    ("database", "of", "expected"),
    [
        ("all", facts(), True),
        ("shop", facts(), True),
        ("shop", facts("Shop"), False),
        ("other,shop", facts(), True),
        ("other", facts(), False),
        ('"all"', facts(), False),
        ('"all"', facts("all"), True),
        ("sameuser", facts("ann", "ann"), True),
        ("sameuser", facts("ann", "bob"), False),
        ('"sameuser"', facts("ann", "ann"), False),
        ("samerole", facts("dev", "ann"), True),
        ("samegroup", facts("dev", "olga"), True),
        ("samerole", facts("dev", "sue"), False),
        ("samerole", facts("ann", "ann"), True),
        ("samerole", facts("nothing", "ann"), False),
        ("replication", facts(), False),
        ("replication", facts("replication"), False),
        ('"replication"', facts("replication"), True),
        ("replication", facts(replicates=True), True),
        ("all", facts(replicates=True), False),
        ("shop", facts(replicates=True), False),
        ("/^sh", facts(), True),
        ("/op$", facts(), True),
        ("/^op", facts(), False),
        ('"/^(shop|a,b)$"', facts("a,b"), True),
        ("/^all$", facts(), False),
        ("+dev", facts("+dev"), True),
    ],
)
def test_a_list_of_databases_has_what_it_says(database: str, of: Facts, expected: bool) -> None:
    assert holds(f"host {database} all all trust", of) is expected


@pytest.mark.parametrize(
    ("user", "name", "expected"),
    [
        ("all", "ann", True),
        ("ann", "ann", True),
        ("ann", "Ann", False),
        ("bob,ann", "ann", True),
        ("bob", "ann", False),
        ('"all"', "ann", False),
        ('"all"', "all", True),
        ("+dev", "ann", True),
        ("+dev", "olga", True),
        ("+ops", "ann", True),
        ("+dev", "sue", False),
        ("+dev", "dev", True),
        ('"+dev"', "ann", False),
        ('"+dev"', "+dev", True),
        ("/^a.n$", "ann", True),
        ("/^a.n$", "a\nn", True),
        ("/^ann$", "ann\n", False),
        ("/n", "ann", True),
        ("/^b", "ann", False),
        ("/.*", "\udcff\udcfe", True),
        ("sameuser", "ann", False),
        ("replication", "ann", False),
    ],
)
def test_a_list_of_users_has_whom_it_says(user: str, name: str, expected: bool) -> None:
    assert holds(f"host all {user} all trust", facts(user=name)) is expected


@pytest.mark.parametrize(
    ("address", "peer", "expected"),
    [
        ("all", "192.0.2.1", True),
        ("0.0.0.0/0", "192.0.2.1", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("::/0", "2001:db8::1", True),
        ("::/0", "192.0.2.1", False),
        ("192.0.2.1/32", "192.0.2.1", True),
        ("192.0.2.1/32", "192.0.2.2", False),
        ("192.0.2.1/24", "192.0.2.200", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.1 255.255.255.0", "192.0.2.9", True),
        ("192.0.2.1 255.0.255.0", "192.7.2.9", True),
        ("192.0.2.1 255.0.255.0", "192.7.3.9", False),
        ("2001:db8:: ffff:ffff::", "2001:db8:1::", True),
        ("2001:db8::/64", "2001:db8::7", True),
        ("2001:db8::/64", "2001:db8:0:1::7", False),
        ("samehost", "10.1.2.3", True),
        ("samehost", "127.0.0.1", True),
        ("samehost", "10.1.2.4", False),
        ("samenet", "10.1.2.4", True),
        ("samenet", "127.9.9.9", True),
        ("samenet", "10.1.3.4", False),
        ("samenet", "fd00::99", True),
        ("samenet", "fd01::99", False),
    ],
)
def test_an_address_is_where_it_says(address: str, peer: str, expected: bool) -> None:
    assert holds(f"host all all {address} trust", facts(peer=peer)) is expected


def test_the_machines_addresses_are_not_asked_for_without_need() -> None:
    rules, _ = read("host all all 10.0.0.0/8 trust")

    def own() -> tuple[Interface, ...]:
        raise AssertionError

    assert Rules(rules, GROUPS).pick(facts(), own) is rules[0]


def test_the_first_match_wins() -> None:
    rules, _ = read(
        "local all all peer\n"
        "host all bob all reject\n"
        "host shop ann 10.0.0.0/8 md5\n"
        "host all all all scram-sha-256\n"
    )
    every = Rules(rules, GROUPS)
    found = [
        every.pick(of, lambda: OWN)
        for of in (facts(), facts(user="bob"), facts("other"), facts(peer=UNIX))
    ]
    assert [None if rule is None else rule.method for rule in found] == [
        "md5",
        "reject",
        "scram-sha-256",
        "peer",
    ]


def test_a_pattern_that_would_backtrack_for_ever_does_not() -> None:
    name = "a" * 5000 + "!"
    assert not holds("host all /^(a+)+$ all trust", facts(user=name))


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", UNIX])
@pytest.mark.parametrize("tls", [False, True])
def test_one_method_for_everybody_is_a_rule_that_always_holds(peer: str, tls: bool) -> None:
    rules = Rules.always("md5")
    for replicates in (False, True):
        rule = rules.pick(facts(peer=peer, tls=tls, replicates=replicates), tuple)
        assert rule is not None and rule.method == "md5"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "hosts all all all trust",
            '"hosts" is no type; it is one of local, host, hostssl, hostnossl, hostgssenc, '
            "hostnogssenc",
        ),
        ("host,local all all trust", "the type is one word, not a list"),
        ("host", "the line ends where the database should stand"),
        ("host all", "the line ends where the user should stand"),
        ("host all all", "the line ends where the address should stand"),
        ("local all all", "the line ends where the method should stand"),
        ("host all all all", "the line ends where the method should stand"),
        (
            "host all all 1.2.3.4",
            "the line ends where the mask, or bits behind the address should stand",
        ),
        ("host all all 1.2.3.4/32", "the line ends where the method should stand"),
        ("host all all 1.2.3.4/33 trust", '"1.2.3.4/33" is no network; behind the slash stands a'),
        ("host all all 1.2.3.4/ trust", '"1.2.3.4/" is no network; behind the slash stands a'),
        ("host all all 1.2.3.4/-1 trust", '"1.2.3.4/-1" is no network; behind the slash stands a'),
        ("host all all ::1/129 trust", '"::1/129" is no network; behind the slash stands a'),
        ("host all all 1.2.3.4 trust", '"trust" is no mask for the address before it; write'),
        ("host all all ::1 255.0.0.0 trust", "the mask 255.0.0.0 does not go with the address ::1"),
        ("host all all db.example.com trust", '"db.example.com" is no IP address; names of hosts'),
        ("host all all .example.com trust", '".example.com" is no IP address; names of hosts'),
        ("host all all 10.1 255.0.0.0 trust", '"10.1" is no IP address; names of hosts'),
        ("host all all fe80::1%eth0/64 trust", '"fe80::1%eth0" is no IP address; names of hosts'),
        ("host all all 1.2.3.4/8,1.2.3.5/8 trust", "the address is one word, not a list"),
        (
            "host all +nobody all trust",
            'there is no group "nobody"; describe it under auth.groups (known are dev, ops, sales)',
        ),
        ("host all /( all trust", '"(" is not a regular expression as this program understands'),
        (r"host all /(a)\1 all trust", r'"(a)\1" is not a regular expression as this program'),
        ("host all all all trusty", '"trusty" is no method; it is one of trust, reject, password,'),
        ("host all all all gss", "gss is not available: GSSAPI is not spoken here"),
        ("host all all all ident", "ident is not available: ident believes what the client's"),
        ("host all all all peer", "peer is for local connections alone: it asks the kernel"),
        ("local all all cert", "cert is for hostssl or host: without TLS there is no certificate"),
        ("hostnossl all all all cert", "cert is for hostssl or host: without TLS there is no"),
        ("host all a , b , c 10.0.0.0 md5", '"md5" is no mask for the address before it; write'),
        ("host all all all trust,md5", "the method is one word, not a list"),
        ("host all all all md5 secret", "behind the method stand options as name=value; one of"),
        ("host all all all md5 colour=red", '"colour" is no option'),
        ("host all all all md5 map=m", "map goes with peer, cert, oauth alone"),
        ("host all all all md5 ldapserver=x", "ldapserver goes with ldap alone"),
        ("host all all all md5 clientcert=verify-ca", "clientcert goes with hostssl alone"),
        ("hostssl all all all md5 clientcert=1", "clientcert is verify-ca or verify-full"),
        ("hostssl all all all cert clientname=UID", "clientname is CN or DN"),
        ("hostssl all all all cert clientcert=verify-ca", "cert is always clientcert=verify-full"),
        ("host all all all ldap ldapserver=x", "ldap needs ldapbasedn, ldapprefix, ldapsuffix or"),
        (
            "host all all all ldap ldapprefix=x ldapbasedn=y",
            "ldapprefix and ldapsuffix make a name to log in with; they do not go with a search",
        ),
        (
            "host all all all ldap ldapbasedn=y ldapsearchattribute=a ldapsearchfilter=b",
            "ldapsearchattribute and ldapsearchfilter are two ways to search; keep one",
        ),
    ],
)
def test_a_line_that_cannot_be_a_rule_is_refused(line: str, said: str) -> None:
    rules, faults = read(f"# first\n{line}\n")
    assert rules == []
    [fault] = faults
    assert fault.startswith(f"2: {said}")


def test_options_are_kept_and_not_shown() -> None:
    rules, faults = read(
        'host all all all ldap ldapserver=h ldapbasedn="dc=x y" ldapbindpasswd=hush,ldaptls=1'
    )
    assert faults == []
    assert dict(rules[0].options) == {
        "ldapserver": "h",
        "ldapbasedn": "dc=x y",
        "ldapbindpasswd": "hush",
        "ldaptls": "1",
    }
    assert "hush" not in repr(rules[0])


def test_a_fault_does_not_tell_a_secret() -> None:
    _, faults = read("host all all all ldap ldapbasedn=x ldapbindpasswd=hush hush2\n")
    assert "hush" not in faults[0]


@pytest.mark.parametrize(
    ("line", "databases", "users"),
    [
        ("host one , two ann all md5", "one two", "ann"),
        ("host one ann , bob\t,carl 10.0.0.0/8 md5", "one", "ann bob carl"),
        (
            "host one,two , three ann ,bob, carl 10.0.0.0 255.0.0.0 md5",
            "one two three",
            "ann bob carl",
        ),
        ("local one ann , bob md5", "one", "ann bob"),
        # As PostgreSQL reads it, because so it is a rule.
        ("local one , two md5", "one", "two"),
        ("host one , two all md5", "one", "two"),
    ],
)
def test_a_list_may_have_blanks_before_its_commas_as_in_pgbouncer(
    line: str, databases: str, users: str
) -> None:
    [rule], faults = read(line)
    assert faults == []
    assert [entry.text for entry in rule.databases.entries] == databases.split()
    assert [entry.text for entry in rule.users.entries] == users.split()
    assert rule.method == "md5"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("host all all all cert", "verify-full"),
        ("hostssl all all all cert", "verify-full"),
        ("hostssl all all all cert clientcert=verify-full", "verify-full"),
        ("hostssl all all all md5 clientcert=verify-full", "verify-full"),
        ("hostssl all all all md5 clientcert=verify-ca", "verify-ca"),
        ("hostssl all all all md5", None),
    ],
)
def test_what_is_asked_of_a_certificate(line: str, expected: str | None) -> None:
    rules, _ = read(line)
    assert rules[0].certificate == expected


@pytest.mark.parametrize(
    ("rejected", "of", "said"),
    [
        (
            False,
            facts(),
            'no pg_hba.conf entry for host "10.0.0.7", user "ann", database "shop", no encryption',
        ),
        (
            False,
            facts(peer=UNIX),
            'no pg_hba.conf entry for host "[local]", user "ann", database "shop", no encryption',
        ),
        (
            False,
            facts(peer="::1", tls=True, replicates=True),
            'no pg_hba.conf entry for replication connection from host "::1", user "ann", '
            "SSL encryption",
        ),
        (
            True,
            facts(tls=True),
            'pg_hba.conf rejects connection for host "10.0.0.7", user "ann", database "shop", '
            "SSL encryption",
        ),
        (
            True,
            facts(replicates=True),
            'pg_hba.conf rejects replication connection for host "10.0.0.7", user "ann", '
            "no encryption",
        ),
    ],
)
def test_a_refusal_has_postgresqls_words(rejected: bool, of: Facts, said: str) -> None:
    rules, _ = read("host all all all reject")
    error = refusal(rules[0] if rejected else None, of)
    assert (error.sqlstate, error.message) == ("28000", said)


def test_a_rule_says_where_it_stands() -> None:
    rules, _ = read("\n\nlocal all all trust")
    assert rules[0].origin == f"{Path('/conf/hba')}:3"
