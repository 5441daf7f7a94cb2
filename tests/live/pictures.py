"""Take the pictures of the status page that docs/status-page.md and README show.

    make pictures

A primary and two replicas under a steady load, some of it read at replicas; the primary is killed,
and half a minute later, when its place has long been taken and a client is pinned, the page is
looked at: light, dark, and on a phone.
"""

import contextlib
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from tests.fixtures.browser import PROGRAMS, Browser, opened
from tests.fixtures.postgres import APP, DATABASE, Background, Postgres
from tests.live.arena import Arena, an_arena, promoting

DOCS = Path(__file__).parents[2] / "docs"
QUALITY = 72
BEFORE_S, AFTER_S = 45.0, 30.0
PATIENCE_S = 30.0
CLIENTS = 6

TABLES = f"""
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer int NOT NULL REFERENCES customers,
    total numeric(10, 2) NOT NULL,
    placed timestamptz NOT NULL DEFAULT now()
);
INSERT INTO customers SELECT number, 'customer ' || number FROM generate_series(1, 1000) AS number;
INSERT INTO orders (customer, total) SELECT 1 + number % 1000, number % 500
FROM generate_series(1, 20000) AS number;
CREATE INDEX ON orders (customer);
ANALYZE customers, orders;
GRANT SELECT, INSERT, UPDATE ON customers, orders TO {APP.name};
"""
# How often of a hundred times, and what.
STATEMENTS = [
    (45, "SELECT name FROM customers WHERE id = {customer}"),
    (
        30,
        "SELECT id, total FROM orders WHERE customer = {customer} ORDER BY id DESC LIMIT 10",
    ),
    (15, "INSERT INTO orders (customer, total) VALUES ({customer}, {total})"),
    (6, "UPDATE customers SET name = 'customer ' || id WHERE id = {customer}"),
    (4, "SELECT customer, sum(total) FROM orders GROUP BY customer ORDER BY 2 DESC LIMIT 5"),
]


class Load:
    """Clients that work, and come again when something has happened to them."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=[n]) for n in range(CLIENTS)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        chance = random.Random(number)
        texts = [text for _, text in STATEMENTS]
        weights = [weight for weight, _ in STATEMENTS]
        while not self._is_over.is_set():
            with (
                contextlib.suppress(psycopg.Error),
                psycopg.connect(self._dsn, autocommit=True, application_name="shop") as client,
            ):
                while not self._is_over.wait(chance.expovariate(30.0)):
                    (text,) = chance.choices(texts, weights)
                    customer, total = chance.randint(1, 1000), chance.randint(1, 500)
                    client.execute(text.format(customer=customer, total=total).encode())


@contextlib.contextmanager
def site(background: Background, folder: Path) -> Iterator[tuple[Arena, Postgres]]:
    """The arena under load. Result: also who is primary."""
    settings = promoting()
    settings["databases"] = {
        DATABASE: {"cluster": "main", "pool_size": 8, "read_write_split": True}
    }
    settings["routes"] = []
    with an_arena(background, folder, "", settings) as arena:
        arena.until_settled()
        primary = arena.primary
        primary.execute(TABLES)
        arena.cluster.until_caught_up()
        with Load(arena.weir.dsn()):
            yield arena, primary


def look(browser: Browser, url: str, name: str, *, width: int, height: int, scheme: str) -> None:
    """Take one picture."""
    browser.look_as(width, height, scheme)
    browser.open(url)
    until_s = time.monotonic() + PATIENCE_S
    while "live" not in browser.text("#live"):
        if time.monotonic() > until_s:
            sys.exit("the page did not come to life")
        time.sleep(0.1)
    # What is drawn with the first events has its place now.
    time.sleep(2.0)
    (DOCS / name).write_bytes(browser.picture(quality=QUALITY))


def main() -> None:
    if PROGRAMS is None:
        sys.exit("needs chromium and chromium-driver")
    background = Background()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            opened(PROGRAMS, Path(folder)) as browser,
            site(background, Path(folder)) as (arena, primary),
        ):
            time.sleep(BEFORE_S)
            primary.kill()
            time.sleep(AFTER_S)
            with psycopg.connect(arena.weir.dsn(), autocommit=True) as pinned:
                pinned.execute("CREATE TEMP TABLE basket (item int)")
                url = f"http://127.0.0.1:{arena.weir.http_port}/"
                look(browser, url, "status-light.jpg", width=1200, height=900, scheme="light")
                look(browser, url, "status-dark.jpg", width=1200, height=900, scheme="dark")
                look(browser, url, "status-phone.jpg", width=390, height=844, scheme="light")
    finally:
        background.close()


if __name__ == "__main__":
    main()
