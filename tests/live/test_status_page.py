"""The status page in a real browser, before a real cluster."""

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.fixtures.browser import Browser
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, PostgresCluster

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def weir(
    pg_replicated: PostgresCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pgweir]:
    config = configuration(
        *pg_replicated.nodes,
        http={"auth": {"user": "ops", "password": "s3cret-of-ops"}},
        databases={
            DATABASE: {"cluster": "main", "pool_size": 4},
            "reads": {"cluster": "main", "dbname": DATABASE},
        },
        routes=[{"match": {"database": "reads"}, "to": "replica"}],
    )
    with running(config, tmp_path_factory.mktemp("status")) as weir:
        yield weir


@pytest.fixture(scope="module")
def traffic(weir: Pgweir) -> Iterator[psycopg.Connection]:
    """A client that is pinned, after some statements of others."""
    for database in (DATABASE, "reads"):
        with psycopg.connect(weir.dsn(database=database), autocommit=True) as connection:
            for number in range(20):
                connection.execute(f"SELECT {number} AS seen, 'constant-{number}'")
    with psycopg.connect(weir.dsn(), autocommit=True) as pinned:
        pinned.execute('SELECT 1 AS "<img src=x onerror=alert(1)>"')
        pinned.execute("CREATE TEMP TABLE mine (a int)")
        yield pinned


@pytest.fixture(scope="module")
def page(browser: Browser, weir: Pgweir, traffic: psycopg.Connection) -> Browser:
    """The page, open and live."""
    browser.look_as(1200, 1700)
    browser.open(f"http://ops:s3cret-of-ops@127.0.0.1:{weir.http_port}/")
    until(lambda: "live" in browser.text("#live"))
    return browser


def until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline, "the page did not show it in time"
        time.sleep(0.1)


def test_the_nodes_are_there_with_role_and_lag(page: Browser) -> None:
    until(lambda: "db1 primary up" in page.text("#topology"))
    until(lambda: "db2 replica up" in page.text("#topology"))
    until(lambda: "lag" in page.text("#topology .replica"))


def test_the_lag_of_replicas_is_a_line(page: Browser) -> None:
    count = "return document.querySelectorAll('#curve-lag path').length"
    until(lambda: page.run(count) >= 1)


def test_the_pools_are_there(page: Browser) -> None:
    until(lambda: "reads" in page.text("#pools tbody"))
    assert "/ 4" in page.text("#pools tbody")


def test_top_statements_have_no_constants(page: Browser) -> None:
    until(lambda: "as seen" in page.text("#queries tbody"))
    assert "constant-" not in page.text("body")


def test_a_pinned_client_is_there_with_the_reason(page: Browser) -> None:
    until(lambda: "temporary object" in page.text("#pins tbody"))


def test_events_are_there(page: Browser) -> None:
    until(lambda: "is the primary of cluster main" in page.text("#events"))


def test_it_follows_what_happens_without_being_loaded_again(page: Browser, weir: Pgweir) -> None:
    page.run("window.same = true")
    before = int(page.text("#now-clients").split()[0])
    with psycopg.connect(weir.dsn(), autocommit=True) as connection:
        connection.execute("SELECT 1")
        until(lambda: int(page.text("#now-clients").split()[0]) == before + 1)
    until(lambda: int(page.text("#now-clients").split()[0]) == before)
    assert page.run("return window.same") is True


def test_text_of_clients_is_shown_as_text(page: Browser) -> None:
    until(lambda: "onerror" in page.text("#queries tbody"))
    assert page.run("return document.querySelectorAll('main img').length") == 0


def test_the_browser_has_nothing_to_complain_of(page: Browser) -> None:
    assert page.complaints() == []


def test_no_secret_is_on_it(page: Browser) -> None:
    source = page.run("return document.documentElement.outerHTML")
    assert "s3cret-of-ops" not in source


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_or_dark_as_the_reader_likes(page: Browser, scheme: str) -> None:
    page.look_as(1200, 1700, scheme)
    colour = page.run("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in colour.strip("rgb()").split(","))
    assert (brightness > 384) is (scheme == "light")


def test_it_is_as_wide_as_a_phone(page: Browser) -> None:
    page.look_as(390, 1500, "dark")
    until(lambda: page.run("return innerWidth") == 390)
    assert page.run("return document.documentElement.scrollWidth") == 390
    page.look_as(1200, 1700)
