"""Settings travel from one server connection to the next by SQL: nothing is lost or run."""

import contextlib
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.session import Settings, SettingsBook
from proxy.session.settings import switch, switch_values
from tests.fixtures.postgres import APP, Postgres


def test_equal_settings_are_one_object() -> None:
    book = SettingsBook()
    assert book.of({"a": "1", "b": "2"}) is book.of({"b": "2", "a": "1"})
    assert book.of({"a": "1"}) is not book.of({"a": "2"})


def test_nothing_is_said_between_equal_settings() -> None:
    assert switch(Settings({"a": "1"}), Settings({"a": "1"})) == ""


def test_only_what_differs_is_set_and_what_is_not_wanted_is_reset() -> None:
    have, want = Settings({"a": "1", "b": "2", "c": "3"}), Settings({"a": "1", "b": "9"})
    assert switch(have, want) == 'RESET "c"; SET "b" TO E\'9\''


def test_the_same_is_said_by_values_where_those_will_do() -> None:
    have = Settings({"app.a": "1", "work_mem": "2MB", "TimeZone": "UTC"})
    want = Settings({"app.b": "3", "work_mem": "4MB", "TimeZone": "UTC"})
    assert switch_values(have, want) == (("app.a", None), ("app.b", "3"), ("work_mem", "4MB"))


@pytest.mark.parametrize(
    "want",
    [
        # Reported with the ReadyForQuery of whoever comes next.
        Settings({"TimeZone": "GMT"}),
        Settings({"default_transaction_read_only": "on"}),
        Settings({}, frozenset({"timezone"})),
        # Of the transaction in which they would be set.
        Settings({"default_transaction_deferrable": "on"}),
        # Undone and done again around all others.
        Settings({"role": "reader", "work_mem": "4MB"}),
        Settings({f"app.n{number}": "1" for number in range(17)}),
    ],
)
def test_values_will_not_do_for_all(want: Settings) -> None:
    assert switch_values(Settings({}), want) == ()
    assert switch(Settings({}), want) != "" or want.explicit


def test_what_a_session_cannot_change_is_not_kept() -> None:
    book = SettingsBook()
    settings = book.of_reported({"server_version": "18", "is_superuser": "on", "TimeZone": "UTC"})
    assert dict(settings) == {"TimeZone": "UTC"}
    assert book.reported(settings, "server_version", "19") is settings
    assert dict(book.reported(settings, "TimeZone", "GMT")) == {"TimeZone": "GMT"}


@pytest.fixture(scope="module")
def session(pg18: Postgres) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with contextlib.closing(psycopg.connect(pg18.dsn(APP), autocommit=True)) as connection:
        yield connection


# What PostgreSQL takes as a value: text without NUL that UTF-8 can carry.
values = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)


@pytest.mark.parametrize("conforming", ["on", "off"])
def test_any_value_arrives_as_it_was(
    session: psycopg.Connection[tuple[object, ...]], conforming: str
) -> None:
    session.execute(f"SET standard_conforming_strings = {conforming}")
    session.execute("SET escape_string_warning = off")

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(values)
    @example("'; DROP TABLE users; --")
    @example("\\'; DROP TABLE users; --")
    @example("\\")
    @example("E'\\'")
    def check(value: str) -> None:
        session.execute(switch(Settings({}), Settings({"my.own": value})).encode())
        assert session.execute("SELECT current_setting('my.own')").fetchone() == (value,)

    check()
    session.execute("SET standard_conforming_strings = on")


@pytest.mark.parametrize(
    "path", ["public", '"$user", public', '"a b", "c""d", public', "pg_catalog", '""', "'x'"]
)
def test_a_search_path_arrives_as_a_list(
    session: psycopg.Connection[tuple[object, ...]], path: str
) -> None:
    session.execute(switch(Settings({}), Settings({"search_path": path})).encode())
    assert session.execute("SELECT current_setting('search_path')").fetchone() == (path,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DateStyle", "SQL, DMY"),
        ("TimeZone", "<+03>-03"),
        ("IntervalStyle", "iso_8601"),
        ("client_encoding", "UTF8"),
        ("application_name", 'it\'s \\ "mine"'),
    ],
)
def test_a_reported_value_can_be_set_again(
    session: psycopg.Connection[tuple[object, ...]], name: str, value: str
) -> None:
    session.execute(switch(Settings({}), Settings({name: value})).encode())
    assert session.execute(f"SELECT current_setting('{name}')").fetchone() == (value,)
