"""What is made of the rows of a catalogue, and what a real one answers."""

from collections.abc import Iterator

import pytest

from proxy.sql import (
    FUNCTIONS_QUESTION,
    RELATIONS_QUESTION,
    Catalogue,
    Classifier,
    FunctionRow,
    Name,
    RelationRow,
    read_catalogue,
)
from tests.fixtures.postgres import Postgres

FUNCTIONS = [
    FunctionRow("a", "f", 0, 0, "v"),
    FunctionRow("a", "f", 1, 2, "s"),
    FunctionRow("b", "f", 2, 2, "v"),
    FunctionRow("b", "g", 1, -1, "i"),
    FunctionRow("b", "lower", 1, 1, "v"),
]


@pytest.mark.parametrize(
    ("function", "arguments", "volatile"),
    [
        (Name("a", "f"), 0, "v"),
        (Name("a", "f"), 1, "s"),
        (Name("a", "f"), 2, "s"),
        (Name("a", "f"), 3, None),
        (Name("", "f"), 1, "s"),
        (Name("", "f"), 2, "v"),
        (Name("", "g"), 0, None),
        (Name("", "g"), 9, "i"),
        (Name("", "lower"), 1, "v"),
        (Name("pg_catalog", "lower"), 1, "i"),
        (Name("c", "lower"), 1, None),
        (Name("", "now"), 0, "s"),
    ],
)
def test_the_most_volatile_that_a_call_may_mean_counts(
    function: Name, arguments: int, volatile: str | None
) -> None:
    assert read_catalogue(FUNCTIONS, []).volatility(function, arguments) == volatile


def test_views_are_for_the_primary_when_what_they_read_is() -> None:
    relations = [
        RelationRow("a", "s", None),
        RelationRow("a", "over_all", "SELECT 1 FROM a.over_volatile"),
        RelationRow("a", "over_volatile", "SELECT b.lower('x')"),
        RelationRow("a", "over_sequence", "SELECT last_value FROM s"),
        RelationRow("a", "plain", "SELECT lower FROM b.t WHERE x = '\\'"),
        RelationRow("a", "unreadable", "SELECT FROM WHERE"),
        RelationRow("a", "listed", "SELECT b.h()"),
    ]
    found = read_catalogue(FUNCTIONS, relations, read_only_functions={"b.h"})
    assert found.primary_relations == {
        "a.s",
        "a.over_all",
        "a.over_volatile",
        "a.over_sequence",
        "a.unreadable",
    }


SCHEMA = """
    CREATE SCHEMA shop;
    SET search_path = shop;
    CREATE TABLE stock (id serial PRIMARY KEY, n int);
    CREATE UNLOGGED TABLE scratch (n int);
    CREATE FUNCTION tax(n int, rate int DEFAULT 19) RETURNS int IMMUTABLE RETURN n * rate;
    CREATE FUNCTION sell(n int) RETURNS int LANGUAGE sql
        AS 'UPDATE shop.stock SET n = 1 RETURNING 1';
    CREATE FUNCTION sum_up(int, int) RETURNS int VOLATILE RETURN $1 + $2;
    CREATE AGGREGATE quiet_sum(int) (SFUNC = int4pl, STYPE = int);
    CREATE AGGREGATE loud_sum(int) (SFUNC = sum_up, STYPE = int);
    CREATE FUNCTION first_of(VARIADIC int[]) RETURNS int STABLE RETURN $1[1];
    CREATE VIEW prices AS SELECT id, tax(n) FROM stock;
    CREATE VIEW tickets AS SELECT nextval('stock_id_seq');
    CREATE VIEW queue AS SELECT * FROM tickets;
"""


@pytest.fixture(scope="module")
def catalogue(pg18: Postgres) -> Iterator[Catalogue]:
    pg18.execute(SCHEMA)
    yield read_catalogue(
        [FunctionRow(*row) for row in pg18.fetch(FUNCTIONS_QUESTION)],
        [RelationRow(*row) for row in pg18.fetch(RELATIONS_QUESTION)],
    )
    pg18.execute("DROP SCHEMA shop CASCADE")


@pytest.mark.parametrize(
    ("text", "reads_only"),
    [
        ("select tax(1), shop.tax(1, 2), first_of(1, 2, 3)", True),
        ("select tax(1, 2, 3)", False),
        ("select sell(1)", False),
        ("select quiet_sum(n) from shop.stock", True),
        ("select loud_sum(n) from shop.stock", False),
        ("select * from prices", True),
        ("select * from tickets", False),
        ("select * from shop.queue", False),
        ("select * from scratch", False),
        ("select last_value from shop.stock_id_seq", False),
        ("select * from public.posts", True),
        ("select * from information_schema.tables", True),
        ("select * from (select _pg_char_max_length(1, 2)) t", True),
    ],
)
def test_a_real_catalogue_tells_reads_from_others(
    catalogue: Catalogue, text: str, reads_only: bool
) -> None:
    assert Classifier(catalogue).classify(text.encode())[1].reads_only is reads_only


def test_an_older_server_can_be_asked_as_well(pg16: Postgres) -> None:
    assert pg16.fetch(FUNCTIONS_QUESTION)
    assert pg16.fetch(RELATIONS_QUESTION)
