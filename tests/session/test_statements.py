"""Statements of PREPARE: rows in, statements out, and the SQL that makes them elsewhere."""

import pytest

from proxy.session import SettingsBook
from proxy.session.statements import cut_prepare, take_statements, write_switch


@pytest.mark.parametrize(
    ("text", "name", "single"),
    [
        ("PREPARE a AS SELECT 1", "a", "PREPARE a AS SELECT 1"),
        ("PREPARE a AS SELECT 1;", "a", "PREPARE a AS SELECT 1;"),
        ("SELECT 1; prepare A as select 'x;y'; SELECT 2", "a", "prepare A as select 'x;y'"),
        ("PREPARE a AS SELECT 1; PREPARE b AS SELECT 2", "a", "PREPARE a AS SELECT 1"),
        ('PREPARE "A b" (int) AS SELECT $1', "A b", 'PREPARE "A b" (int) AS SELECT $1'),
        ("PREPARE a AS SELECT 1; DEALLOCATE a; PREPARE a AS SELECT 2", "a",
         "PREPARE a AS SELECT 2"),
        ("PREPARE a AS SELECT 1", "b", None),
        ("PREPARE a AS SELECT 'open", "a", None),
    ],
)  # fmt: skip
def test_a_prepare_is_cut_out_of_its_text(text: str, name: str, single: str | None) -> None:
    found = cut_prepare(text, name)
    assert (found and found.strip()) == single


def test_rows_tell_what_was_made_and_what_is_of_the_protocol() -> None:
    told: list[tuple[str, str | None]] = [
        ("=b", "PREPARE b AS SELECT 2"),
        ("=a", "PREPARE a AS SELECT 1"),
        ("-_pgweir_1", None),
        ("work_mem", "4MB"),
    ]
    prepared = take_statements(told)
    assert prepared.made == (("a", "PREPARE a AS SELECT 1"), ("b", "PREPARE b AS SELECT 2"))
    assert prepared.others == {"_pgweir_1"}
    assert prepared.is_portable


@pytest.mark.parametrize(
    "told",
    [
        [("=a", "DO something else")],
        [("=a", None)],
        [(f"=s{n}", f"PREPARE s{n} AS SELECT 1") for n in range(300)],
        [("=a", f"PREPARE a AS SELECT '{'x' * (1 << 20)}'")],
    ],
)
def test_what_cannot_be_made_again_is_said_to_be_so(told: list[tuple[str, str | None]]) -> None:
    prepared = take_statements(told)
    assert not prepared.is_portable
    assert prepared.made == ()


def test_a_session_gives_up_what_is_not_wanted_and_gets_what_is() -> None:
    book = SettingsBook()
    have = book.of({"TimeZone": "UTC"}, statements=(("a", "PREPARE a AS SELECT 1"), ("b", "B")))
    want = book.of({"TimeZone": "UTC"}, statements=(('a"', "PREPARE x"), ("b", "B")))
    assert write_switch(have, want) == (b"", (b'DEALLOCATE "a"', b"PREPARE x"))
    assert write_switch(want, have) == (b"", (b'DEALLOCATE "a"""', b"PREPARE a AS SELECT 1"))
    assert write_switch(have, have) == (b"", ())
    changed = book.of({"TimeZone": "UTC"}, statements=(("b", "C"),))
    assert write_switch(have, changed)[1] == (b'DEALLOCATE "a"', b'DEALLOCATE "b"', b"C")


def test_the_same_settings_with_other_statements_are_others() -> None:
    book = SettingsBook()
    plain = book.of({"TimeZone": "UTC"})
    assert book.with_statements(plain, ()) is plain
    assert book.with_statements(plain, (("a", "A"),)) is not plain
    assert book.reported(book.with_statements(plain, (("a", "A"),)), "TimeZone", "CET").statements
