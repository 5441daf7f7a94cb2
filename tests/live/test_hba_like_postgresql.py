"""Real PostgreSQL reads the same rules and maps, and must find the same in them."""

import ipaddress
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy.auth.admission import Disk
from proxy.auth.hba import Rule, read_rules
from proxy.auth.hba_text import Fault, Line, read_lines
from proxy.auth.ident import Mapped, read_maps
from proxy.auth.names import Entry, Groups, Kind
from proxy.auth.places import Where
from tests.fixtures.postgres import Postgres
from tests.live.side_by_side import in_place

GROUPS = Groups({"dev": [], "a b": []})

# What both read, or both refuse.
EVERY_RELEASE = r"""
# a comment

local all all trust
local	all	all	trust
  local   all   all   trust   # behind it
local "all" "all" "trust"
local all, sameuser samerole md5
local all all all trust
local a,b,"c d" x,"y""z",+dev scram-sha-256
local a , b trust
local all "+dev",+"a b" reject
"local" all all md5
local all all \
  password
loc\
al all all md5
local all all peer map=x
local all all ident map=y
local all all peer map="x y"
local all all peer map=
local all all peer MAP=x
local all all peer map
local all all md5 map=x
local all all
local all
local
local,host all all trust
local all all trust,md5
local all all TRUST
LOCAL all all trust
local samegroup,replication all trust
local all all "md5
host all all all trust
host all all all trust,
host all all samehost reject
host all all samenet reject
host all all 10.0.0.0/8 md5
host all all 10.1.2.3/8 md5
host all all 10.1.2.3/32 md5
host all all 0.0.0.0/0 md5
host all all 10.1.2.3/33 md5
host all all 10.1.2.3/x md5
host all all 10.1.2.3/ md5
host all all 10.1.2.3 255.255.0.0 md5
host all all 10.1.2.3 255.0.255.0 md5
host all all 10.1.2.3 ffff:: md5
host all all 10.1.2.3 /8 md5
host all all 10.1.2.3 md5
host all all 10.1.2.3
host all all 10.1.2.3/8
host all all ::1/128 md5
host all all fd00::/8 md5
host all all fd00::1 ffff:: md5
host all all ::1/129 md5
host all all 10.0.0.0/8,11.0.0.0/8 md5
host all all 256.0.0.0/8 md5
host all all 10.0.0.0/8 peer
host all all 10.0.0.0/8 nonsense
host all all 10.0.0.0/8 md5 colour=red
host all all 10.0.0.0/8 md5 clientcert=verify-ca
host all all 10.0.0.0/8 md5 ldapserver=x
hostnossl all all 10.0.0.0/8 password
hostnogssenc all all 10.0.0.0/8 password
nonsense
local all @users,last trust
local @users all trust
local all @more/again trust
local all @missing trust
local all "@users" trust
local all @ trust
"""
SINCE_16 = r"""
local /^db[0-9]+$ /^(a|b)$ trust
local "/^a, b{1,2}$" all,/x trust
local /( all trust
local all /[ trust
include other.conf
include_if_exists missing.conf
include missing.conf
include_dir folder
include_dir nowhere
include "other.conf"
"""
WITH_TLS = r"""
hostssl all all all cert
hostssl all all all cert map=x
hostssl all all all cert clientcert=verify-full
hostssl all all all cert clientcert=verify-ca
hostssl all all all cert clientname=DN map=m
hostssl all all all md5 clientcert=verify-ca
hostssl all all all md5 clientcert=verify-full
hostssl all all all md5 clientcert=1
hostssl all all all md5 clientcert=no-verify
hostssl all all all md5 clientname=XX
hostssl all all all md5 map=x
local all all md5 clientcert=verify-ca
host all all all ldap ldapserver=s ldapprefix="cn=" ldapsuffix=", dc=x"
host all all all ldap ldapserver=s ldapbasedn=b ldaptls=1 ldapport=99
host all all all ldap ldapserver=s ldapbasedn=b ldapscheme=ldaps ldapsearchfilter=(uid=$username)
host all all all ldap ldapserver=s ldapbasedn=b ldapbinddn=c ldapbindpasswd=p,ldapsearchattribute=u
host all all all ldap ldapserver=s
host all all all ldap ldapserver=s ldapprefix=x ldapbasedn=y
host all all all ldap ldapserver=s ldapbasedn=b ldapsearchattribute=u ldapsearchfilter=f
host all all all pam
host all all all pam pamservice=p pam_use_hostname=1
host all all all pam ldapserver=s
"""
MAPS = r"""
# maps
m ann bob
m "Ann Other" bob
m /^(.*)@x$ \1
m ann,bob carl
m ann
m
m ann bob more
"m" ann "all"
m @users x
"""
MAPS_SINCE_16 = r"""
m /^(.*)@x$ "\1"
m ann /^b
m /( x
m ann /[
m ann +dev
include maps.conf
include missing.conf
"""
BESIDE = {
    "users": 'one two,three\n# none\n"fo ur"\n',
    "more/again": "five @../users\n",
    "other.conf": "local other all trust\nlocal broken\n",
    "folder/b.conf": "local b all trust\n",
    "folder/a.conf": "local a all trust\ninclude ../other.conf\n",
    "folder/.c.conf": "local hidden all trust\n",
    "folder/d.txt": "local text all trust\n",
    "maps.conf": "other x y\n",
}


@contextmanager
def laid_out(node: Postgres, setting: str, text: str) -> Iterator[Path]:
    """Put a text in the place of one of the server's own files, and others beside it."""
    with in_place(node, setting, moved(text)) as path:
        made = [path.parent / "rules" / name for name in BESIDE]
        for beside, said in zip(made, BESIDE.values(), strict=True):
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(said)
        try:
            yield path
        finally:
            for beside in made:
                beside.unlink()
            for folder in ("rules/folder", "rules/more", "rules"):
                (path.parent / folder).rmdir()


def moved(text: str) -> str:
    """The text, with what is beside it in a folder of its own."""
    for word in ("@users", "@more", "@missing"):
        text = text.replace(word, word.replace("@", "@rules/"))
    for word in ("include ", "include_if_exists ", "include_dir "):
        text = text.replace(f"\n{word}", f"\n{word}rules/")
    return text.replace('rules/"other.conf"', '"rules/other.conf"')


Found = dict[tuple[str, int], Any]


def ours(
    path: Path, read: Callable[[list[Line], Groups], tuple[list[Any], list[Fault]]]
) -> tuple[list[Any], set[tuple[str, int]]]:
    lines, faults = read_lines(path, Disk())
    found, wrong = read(lines, GROUPS)
    return found, {(str(each.file.resolve()), each.number) for each in [*faults, *wrong]}


def shown(entry: Entry) -> str:
    """As the view shows an element of a list."""
    match entry.kind:
        case Kind.NAME:
            return entry.text
        case Kind.MEMBER:
            return f"+{entry.text}"
        case Kind.PATTERN:
            return f"/{entry.text}"
        case Kind.SAME_USER:
            return "sameuser"
        case Kind.SAME_ROLE:
            return "samerole"
        case _:
            return entry.kind.name.lower()


def as_shown(rule: Rule) -> tuple[Any, ...]:
    address = mask = None
    if rule.place is not None:
        address = {
            Where.ALL: "all",
            Where.SAME_HOST: "samehost",
            Where.SAME_NET: "samenet",
        }.get(rule.place.where) or str(rule.place.address)
        mask = None if rule.place.mask is None else str(rule.place.mask)
    return (
        rule.type,
        [shown(entry) for entry in rule.databases.entries],
        [shown(entry) for entry in rule.users.entries],
        address,
        mask,
        rule.method,
    )


def options_of(rule: Rule) -> set[str]:
    unseen = ("clientname", "pam_use_hostname")  # the view does not show them
    options = {name: value for name, value in rule.options.items() if name not in unseen}
    if rule.certificate is not None:
        options["clientcert"] = rule.certificate
    if "ldaptls" in options:
        options["ldaptls"] = "true"
    return {f"{name}={value}" for name, value in options.items()}


def compare_rules(node: Postgres, text: str) -> None:
    with laid_out(node, "hba_file", text) as path:
        files = "file_name" if node.major >= 16 else f"'{path}' AS file_name"
        rows = node.fetch(
            f"SELECT {files}, line_number, type, database, user_name, address, netmask, "
            "auth_method, options, error FROM pg_hba_file_rules"
        )
        rules, faults = ours(path, read_rules)
    # Some refused lines have no error in the view, but nothing else either.
    wrong = [row for row in rows if row[9] is not None or row[2] is None]
    refused = {(str(Path(row[0]).resolve()), row[1]) for row in wrong}
    assert faults == refused
    sound = [row for row in rows if row not in wrong]
    assert [as_shown(rule) for rule in rules] == [
        (row[2], names(row[3]), row[4], row[5], row[6], row[7]) for row in sound
    ]
    unasked = {"ldapscope=2"}  # the view says so of every rule for LDAP
    assert [options_of(rule) for rule in rules] == [set(row[8] or ()) - unasked for row in sound]
    assert len(rules) > 4 and len(refused) > 4


def names(databases: list[str]) -> list[str]:
    return ["samerole" if name == "samegroup" else name for name in databases]


def test_rules_are_read_as_postgresql_18_reads_them(pg18: Postgres) -> None:
    compare_rules(pg18, EVERY_RELEASE + SINCE_16)


def test_rules_about_tls_and_directories_are_read_as_postgresql_reads_them(
    pg_tls: Postgres,
) -> None:
    compare_rules(pg_tls, EVERY_RELEASE + WITH_TLS)


def test_maps_are_read_as_postgresql_18_reads_them(pg18: Postgres) -> None:
    with laid_out(pg18, "ident_file", MAPS + MAPS_SINCE_16) as path:
        rows = pg18.fetch(
            "SELECT file_name, line_number, map_name, sys_name, pg_username, error "
            "FROM pg_ident_file_mappings"
        )
        mapped, faults = ours(path, read_maps)
    assert faults == {(str(Path(row[0]).resolve()), row[1]) for row in rows if row[5] is not None}
    assert [as_mapped(line) for line in mapped] == [row[2:5] for row in rows if row[5] is None]


def as_mapped(line: Mapped) -> tuple[str, str, str]:
    outside = line.outside if isinstance(line.outside, str) else f"/{line.outside.text}"
    return line.map, outside, shown(line.inside)


def test_addresses_in_odd_spellings_mean_the_same_to_postgresql(pg18: Postgres) -> None:
    spellings = ["::ffff:10.0.0.0/104", "FD00:0:0::/16", "2001:DB8::0.0.0.1/128"]
    text = "".join(f"host all all {each} md5\n" for each in spellings)
    with laid_out(pg18, "hba_file", text) as path:
        rows = pg18.fetch("SELECT address FROM pg_hba_file_rules")
        rules, _ = ours(path, read_rules)
    assert [rule.place.address for rule in rules] == [
        ipaddress.ip_address(address) for (address,) in rows
    ]
