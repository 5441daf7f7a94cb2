"""What a transaction left of a client's settings: texts and rows in, settings out."""

import struct

import pytest

from proxy.errors import PeerError
from proxy.session import SettingsBook
from proxy.session.following import (
    Question,
    Touched,
    merge,
    read_answer,
    read_custom_names,
    read_rows,
    read_touched,
    write_question,
    write_reports,
)
from proxy.session.settings import switch

REPORTED = frozenset({"timezone", "application_name"})


def row(*columns: str | None) -> bytes:
    body = struct.pack("!h", len(columns))
    for each in columns:
        value = None if each is None else each.encode()
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return body


@pytest.mark.parametrize(
    ("text", "names", "anything"),
    [
        ("SET work_mem = '1MB'", {"work_mem"}, False),
        ("SET App.Tenant = 'x'", {"app.tenant"}, False),
        ("SET LOCAL work_mem = '1MB'", set(), False),
        ("SET work_mem TO DEFAULT", {"work_mem"}, True),
        ("RESET work_mem", {"work_mem"}, True),
        ("RESET ALL", set(), True),
        ("DISCARD ALL", set(), True),
        ("SET TIME ZONE 'UTC'", {"timezone"}, False),
        ("SET NAMES 'UTF8'", {"client_encoding"}, False),
        ("SET ROLE a", {"role", "session_authorization"}, False),
        ("SET SESSION AUTHORIZATION a", {"role", "session_authorization"}, False),
        ("SET transaction_read_only = on", set(), False),
        ("SELECT set_config('a.b', 'c', false), set_config('d', 'e', false)", {"a.b", "d"}, False),
        ("SELECT set_config('a.b', 'c', true)", set(), False),
        ("SELECT set_config($1, 'c', false)", set(), True),
        ("SELECT 1; SET work_mem = '1MB'", {"work_mem"}, False),
        ("DO 'begin end'", set(), True),
        ("DO 'begin set a.b = 1; perform f(C.d) end'", {"a.b", "c.d"}, True),
        ("SELECT set_config('a.b'::text, 'c', false)", {"a.b"}, True),
        ("not SQL at all", set(), True),
        ("SET work_mem = '1MB'\0\0\0", {"work_mem"}, False),
    ],
)
def test_what_a_text_may_touch(text: str, names: set[str], anything: bool) -> None:
    touched = read_touched(text.encode(), None)
    assert (touched.names, touched.anything) == (frozenset(names), anything)


@pytest.mark.parametrize(
    ("text", "hides"),
    [
        ("SELECT set_config('a.b', 'c', false)", False),
        ("SELECT set_config('a.' || 'b', 'c', false)", True),
        ("SELECT set_config(a, 'c', false) FROM t", True),
        ("SELECT set_config('a.b', 'c', false), SET_CONFIG (a, 'c', false) FROM t", True),
        ("SELECT set_config(a, 'c', true) FROM t", False),
        ("SELECT set_config(e'a.b'::pg_catalog.text, 'c', false)", False),
        ("PREPARE p AS SELECT set_config($1, 'c', false)", False),
    ],
)
def test_a_name_that_is_computed_is_known_to_nobody(text: str, hides: bool) -> None:
    assert read_touched(text.encode(), None).hides is hides


def test_the_characteristics_of_a_session_are_three_settings() -> None:
    touched = read_touched(b"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", None)
    assert touched.names == {
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_transaction_deferrable",
    }


def test_a_text_that_is_not_all_here_may_touch_anything() -> None:
    assert read_touched(None, None).anything


def bound(*values: bytes | None) -> bytes:
    body = b"portal\0name\0" + struct.pack("!hh", 1, 0) + struct.pack("!h", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return body + struct.pack("!h", 0)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ((b"app.tenant", b"42"), {"app.tenant"}),
        ((b"App.Tenant", None), {"app.tenant"}),
        ((b"work_mem", b"1.5"), set()),
        ((b"a.b" * 100,), set()),
        ((b"\xff.\xff", b"..", b"a."), set()),
        ((), set()),
    ],
)
def test_names_among_the_values_of_a_bind(
    values: tuple[bytes | None, ...], names: set[str]
) -> None:
    touched = read_touched(b"SELECT set_config($1, $2, false)", bound(*values))
    assert touched == Touched(frozenset(names), True)
    # Without them, as they were too long, none is known.
    assert read_touched(b"SELECT set_config($1, $2, false)", None).hides


@pytest.mark.parametrize("cut", range(40))
def test_a_bind_cut_anywhere_is_read_without_an_error(cut: int) -> None:
    whole = bound(b"app.tenant", b"42")
    read_touched(b"SELECT set_config($1, $2, false)", whole[:cut])


def question(
    book: SettingsBook, believed: dict[str, str], startup: dict[str, str], *touched: Touched
) -> Question:
    return Question(
        book.of(believed), book.of(startup), merge(touched), login="app", reported=REPORTED
    )


def test_names_that_are_reported_need_no_question() -> None:
    asked = question(SettingsBook(), {}, {}, Touched(frozenset({"timezone"}), False))
    assert write_question(asked) == ""


def test_a_name_is_quoted() -> None:
    asked = question(SettingsBook(), {}, {}, Touched(frozenset({"a.'b\\"}), False))
    assert "E'a.''b\\\\'" in write_question(asked)


def test_without_a_hint_everything_is_asked_for() -> None:
    asked = question(SettingsBook(), {"app.tenant": "1"}, {})
    text = write_question(asked)
    assert "pg_settings" in text
    assert "E'app.tenant'" in text
    assert "E'role'" in text


def test_named_settings_are_added_changed_and_dropped() -> None:
    book = SettingsBook()
    believed = {"TimeZone": "UTC", "work_mem": "1MB", "app.a": "1", "app.b": "2", "role": "x"}
    names = frozenset({"work_mem", "app.a", "role", "lock_timeout"})
    asked = question(book, believed, {}, Touched(names, False))
    rows = [
        row("work_mem", "2MB"),
        row("app.a", ""),
        row("role", "none"),
        row("lock_timeout", "3s"),
    ]
    of_server, of_client = read_answer(asked, read_rows(rows), book)
    assert of_server is of_client
    assert dict(of_client) == {
        "TimeZone": "UTC",
        "work_mem": "2MB",
        "app.b": "2",
        "lock_timeout": "3s",
    }


def test_what_is_no_longer_set_goes_back_to_what_the_client_came_with() -> None:
    book = SettingsBook()
    startup = {"TimeZone": "Asia/Tokyo", "application_name": "it", "work_mem": "5MB", "app.a": "1"}
    asked = question(book, {"TimeZone": "UTC", "application_name": "it"}, startup)
    of_server, of_client = read_answer(asked, read_rows([row("application_name", "it")]), book)
    assert dict(of_server) == {"TimeZone": "UTC", "application_name": "it"}
    assert dict(of_client) == startup
    assert write_reports(asked, of_client) == b"S\0\0\0\x18TimeZone\0Asia/Tokyo\0"


@pytest.mark.parametrize(
    "rows",
    [[b""], [b"\0\1"], [row("a")], [row(None, "a")], [row("a", "b", "c")], [row("a", "b")[:-1]]],
)
def test_a_malformed_answer_is_refused(rows: list[bytes]) -> None:
    with pytest.raises(PeerError):
        read_answer(question(SettingsBook(), {}, {}), read_rows(rows), SettingsBook())


def test_too_many_settings_are_refused() -> None:
    rows = [row(f"a.b{n}", "x") for n in range(1001)]
    with pytest.raises(PeerError):
        read_answer(question(SettingsBook(), {}, {}), read_rows(rows), SettingsBook())


def test_a_set_value_that_is_the_default_is_set_on_the_next_server_too() -> None:
    """Else RESET would not show there."""
    book = SettingsBook()
    asked = question(book, {"TimeZone": "UTC"}, {}, Touched(frozenset({"timezone"}), False))
    _, mine = read_answer(asked, [], book)
    untouched = book.of({"TimeZone": "UTC"})
    assert mine is not untouched
    assert switch(untouched, mine) == """SET "TimeZone" TO E'UTC'"""
    assert switch(mine, untouched) == ""


def test_roles_are_left_first_and_taken_last() -> None:
    book = SettingsBook()
    have = book.of({"role": "a", "work_mem": "1MB"})
    want = book.of({"role": "b", "session_authorization": "c", "work_mem": "2MB"})
    assert switch(have, want) == (
        """RESET "role"; SET "work_mem" TO E'2MB'; """
        """SET "session_authorization" TO E'c'; SET "role" TO E'b'"""
    )


def test_names_in_a_long_text_are_found_at_all() -> None:
    """What has no dot is looked at once: once for each of its letters would take an hour."""
    words = b"x" * 2_000_000 + b" " + b"a." * 200_000 + b" app.tenant"
    assert "app.tenant" in read_custom_names(words)
    assert read_touched(b"SET app.other = 'a'; SELECT '" + words + b"'", None).anything
