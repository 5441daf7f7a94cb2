"""Rules: for whom they hold, and what they do with a statement."""

from typing import Any

import pytest

from proxy.config import Route
from proxy.routing import Choice, Session, decide, fingerprint_of, read_rules, rules_for
from proxy.sql import Catalogue, Classifier, builtin_volatility

SOMEBODY = Session("shop", "app", "web", "10.1.2.3:5555")


def chosen(text: str, *routes: dict[str, Any], session: Session = SOMEBODY) -> Choice:
    """What is known of a text under these routes."""
    rules = read_rules([Route.model_validate(route) for route in routes])
    classifier = Classifier(Catalogue(builtin_volatility))
    lexed, verdict = classifier.classify(text.encode())
    return decide(text, lexed.key, verdict, rules_for(rules, session))


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({"database": "shop"}, True),
        ({"database": "other"}, False),
        ({"user": "app"}, True),
        ({"user": "root"}, False),
        ({"application_name": "web"}, True),
        ({"application_name": "psql"}, False),
        ({"address": "10.1.0.0/16"}, True),
        ({"address": "10.1.2.3"}, True),
        ({"address": "10.2.0.0/16"}, False),
        ({"address": "::1"}, False),
        ({"address": "unix"}, False),
        ({"database": "shop", "user": "root"}, False),
    ],
)
def test_a_rule_holds_for_sessions_that_agree_in_all(match: dict[str, str], holds: bool) -> None:
    choice = chosen("select 1", {"match": match, "to": "replica"})
    assert (choice.target == "replica") is holds


@pytest.mark.parametrize(
    ("address", "named", "holds"),
    [("unix:", "unix", True), ("[::1]:5", "::1/128", True), ("[::1]:5", "127.0.0.1", False)],
)
def test_addresses_are_of_any_kind(address: str, named: str, holds: bool) -> None:
    session = Session("shop", "app", "", address)
    choice = chosen("select 1", {"match": {"address": named}, "to": "replica"}, session=session)
    assert (choice.target == "replica") is holds


@pytest.mark.parametrize(
    "text",
    [
        "select avg(price) from price_history",
        "SELECT *\n  FROM price_history",
        "/* why */ select day from price_history where id = 7",
    ],
)
def test_a_query_is_found_in_the_text_or_in_its_key(text: str) -> None:
    route = {"match": {"query": "^select .* from price_history"}, "to": "analytics"}
    assert chosen(text, route).target == "analytics"


def test_a_query_may_look_at_constants() -> None:
    route = {"match": {"query": "tenant = 42"}, "to": "replica"}
    assert chosen("select * from t where tenant = 42", route).target == "replica"
    assert chosen("select * from t where tenant = 43", route).target is None


@pytest.mark.parametrize("table", ["events", "audit.events"])
def test_a_table_has_its_schema_or_none(table: str) -> None:
    route = {"match": {"table": table}, "to": "primary"}
    assert chosen("select * from audit.events", route).target == "primary"
    assert chosen("select * from other", route).target is None


def test_a_fingerprint_is_that_of_all_texts_with_the_same_key() -> None:
    lexed, _ = Classifier(Catalogue(builtin_volatility)).classify(b"select * from t where a = 1")
    route = {"match": {"fingerprint": fingerprint_of(lexed.key)}, "to": "replica"}
    assert chosen("SELECT * FROM t WHERE a = 99 -- x", route).target == "replica"
    assert chosen("select * from t where b = 1", route).target is None


def test_the_first_rule_that_says_where_wins() -> None:
    routes = (
        {"match": {"table": "t"}, "log": True},
        {"match": {"table": "t"}, "to": "analytics"},
        {"match": {"user": "app"}, "to": "replica", "timeout": "5s"},
    )
    choice = chosen("select * from t", *routes)
    assert (choice.target, choice.timeout_s) == ("analytics", 5.0)
    assert choice.logged_by is not None


def test_a_rejection_stands_before_what_follows_it() -> None:
    choice = chosen(
        "truncate t",
        {"name": "none", "match": {"query": "^truncate"}, "reject": True},
        {"match": {"user": "app"}, "to": "primary"},
    )
    assert choice.rejected_by is not None
    assert (choice.rejected_by.name, choice.target) == ("none", None)


def test_a_rule_about_statements_sends_no_write_to_a_replica() -> None:
    route = {"match": {"table": "t"}, "to": "replica"}
    assert chosen("insert into t values (1)", route).target is None
    assert chosen("select nextval('s') from t", route).target == "replica"


def test_a_rule_about_sessions_sends_everything() -> None:
    route = {"match": {"user": "app"}, "to": "replica"}
    assert chosen("insert into t values (1)", route).target == "replica"


@pytest.mark.parametrize(
    ("text", "reads_only", "by_default", "of_the_session"),
    [
        ("select 1", True, True, False),
        ("begin", False, True, True),
        ("begin read only", True, True, True),
        ("begin; select 1; commit", False, True, False),
        ("begin; select nextval('s'); commit", False, False, False),
        ("begin read write", False, False, True),
        ("begin isolation level serializable", False, False, True),
        ("set work_mem = 1", False, False, True),
        ("set work_mem = 1; delete from t", False, False, False),
        ("select nextval('s')", False, False, False),
        ("syntax error", False, False, False),
    ],
)
def test_what_is_known_of_a_text_without_rules(
    text: str, reads_only: bool, by_default: bool, of_the_session: bool
) -> None:
    choice = chosen(text)
    known = (choice.reads_only, choice.reads_by_default, choice.of_the_session)
    assert known == (reads_only, by_default, of_the_session)
