"""How many clients are inside, and whether one more may come in."""

import pytest

from proxy.client.census import Census
from proxy.errors import ClientError


def enter(census: Census, who: str, of_database: int = 0, of_user: int = 0) -> None:
    database, user = who.split("/")
    census.enter(database, user, most_of_database=of_database, most_of_user=of_user)


def test_zero_is_no_limit() -> None:
    census = Census()
    for _ in range(100):
        enter(census, "db/app")
    assert census.total == 100


def test_a_database_is_full_whoever_asks() -> None:
    census = Census()
    enter(census, "db/one", of_database=2)
    enter(census, "db/two", of_database=2)
    enter(census, "other/two", of_database=2)
    with pytest.raises(ClientError, match=r"\(max_db_client_connections\)") as caught:
        enter(census, "db/three", of_database=2)
    assert caught.value.sqlstate == "53300"
    assert census.total == 3


def test_a_user_is_full_wherever_they_go() -> None:
    census = Census()
    enter(census, "db/app", of_user=2)
    enter(census, "other/app", of_user=2)
    enter(census, "db/else", of_user=2)
    with pytest.raises(ClientError, match=r"\(max_user_client_connections\)") as caught:
        enter(census, "third/app", of_user=2)
    assert caught.value.sqlstate == "53300"


def test_who_leaves_makes_room() -> None:
    census = Census()
    enter(census, "db/app", of_database=1, of_user=1)
    census.leave("db", "app")
    enter(census, "db/app", of_database=1, of_user=1)
    assert census.total == 1


def test_the_total_is_checked_by_itself() -> None:
    census = Census()
    census.check_total(1)
    enter(census, "db/app")
    with pytest.raises(ClientError, match=r"\(max_client_conn\)"):
        census.check_total(1)
