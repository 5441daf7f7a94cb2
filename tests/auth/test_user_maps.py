"""User maps: who, known by another name, may be which user."""

import pytest

from proxy.auth.hba_text import read_lines
from proxy.auth.ident import UserMaps, read_maps
from proxy.auth.names import Groups
from tests.auth.test_hba_text import ROOT, Shelf

GROUPS = Groups({"dev": ["ann"]})


def read(text: str) -> tuple[UserMaps, list[str]]:
    lines, faults = read_lines(ROOT / "ident", Shelf({"ident": text}))
    mapped, wrong = read_maps(lines, GROUPS)
    return UserMaps(mapped, GROUPS), [f"{each.number}: {each.text}" for each in [*faults, *wrong]]


@pytest.mark.parametrize(
    ("line", "known_as", "user", "expected"),
    [
        ("m ann ann", "ann", "ann", True),
        ("m ann ann", "ann", "bob", False),
        ("m ann bob", "ann", "bob", True),
        ("m ann bob", "Ann", "bob", False),
        ("other ann bob", "ann", "bob", False),
        ("m ann bob\nm ann carl", "ann", "carl", True),
        ("m ann all", "ann", "anybody", True),
        ('m ann "all"', "ann", "anybody", False),
        ('m ann "all"', "ann", "all", True),
        ("m boss +dev", "boss", "ann", True),
        ("m boss +dev", "boss", "sue", False),
        ('m "Ann Other" bob', "Ann Other", "bob", True),
        ("m /^(.*)@x$ \\1", "ann@x", "ann", True),
        ("m /^(.*)@x$ \\1", "ann@y", "ann", False),
        ("m /^(.*)@x$ \\1", "ann@x", "bob", False),
        ("m /^(.*)@x$ u_\\1_r", "ann@x", "u_ann_r", True),
        ("m /^(.*)@x$ \\1", "all@x", "ann", False),
        ("m /^(.*)@x$ \\1", "+dev@x", "ann", False),
        ("m /^(.*)@x$ guest", "ann@x", "guest", True),
        ("m /^(a)?nn$ x\\1", "nn", "x", False),
        ("m /^([a-z]*)$ \\1", "ann\n", "ann", False),
        ("m /^.*$ /^a", "x", "ann", True),
        ("m /^.*$ /^a", "x", "bob", False),
        ("m ann /^a", "ann", "abc", True),
        ("m ann \\1", "ann", "\\1", True),
        ("m ann \\1", "ann", "ann", False),
        ("m ann bob anything behind", "ann", "bob", True),
    ],
)
def test_a_map_lets_be_whom_it_says(line: str, known_as: str, user: str, expected: bool) -> None:
    maps, faults = read(line)
    assert faults == []
    assert maps.allows("m", known_as, user) is expected


def test_without_a_map_both_names_must_be_the_same() -> None:
    maps, _ = read("m ann bob")
    assert maps.allows(None, "ann", "ann")
    assert not maps.allows(None, "ann", "bob")


def test_a_name_that_is_empty_is_nobodys() -> None:
    maps, _ = read('m /.* all\nm "" all')
    assert not maps.allows("m", "", "ann")
    assert not maps.allows(None, "", "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("m ann", "1: not an entry; write MAP OUTSIDE-NAME DATABASE-USER"),
        ("m ann,bob x", "1: not an entry; write MAP OUTSIDE-NAME DATABASE-USER"),
        ("m /( x", '1: "(" is not a regular expression as this program understands them'),
        ("m /^ann$ \\1", '1: "^ann$" captures nothing that \\1 could stand for'),
        (
            "m ann +nobody",
            '1: there is no group "nobody"; describe it under auth.groups (known are dev)',
        ),
    ],
)
def test_a_line_that_maps_nothing_is_refused(line: str, said: str) -> None:
    assert read(line)[1] == [said]
