"""Which families of fixtures the suite knows, in what order, and how patient its properties are."""

import collections

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.fixtures.postgres",
    "tests.fixtures.pgweir",
    "tests.fixtures.console",
    "tests.fixtures.node",
    "tests.fixtures.regress",
    "tests.fixtures.golang",
    "tests.fixtures.java",
    "tests.fixtures.issuer",
    "tests.fixtures.slapd",
    "tests.fixtures.etcd",
    "tests.fixtures.redis",
    "tests.fixtures.kubernetes",
    "tests.fixtures.agreement",
    "tests.fixtures.browser",
    "tests.fixtures.disks",
]

# How long an example takes says more about the machine than about the code.
settings.register_profile("pgweir", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pgweir")

# Roughly the seconds that a test takes, by the first of these that it is marked with or asks for.
WEIGHTS = {
    "regression_suite": 60.0,
    "slow": 15.0,
    "failover": 10.0,
    "golang": 5.0,
    "java": 5.0,
    "node": 3.0,
    "browser": 3.0,
    "redis_server": 3.0,
    "etcd": 2.0,
    "start_pgweir": 1.5,
    "replication": 1.5,
    "live": 0.1,
}


@pytest.hookimpl(trylast=True)  # by then tests have all their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files first that take longest: those that are begun last shall be short ones.

    Else one process would work alone in the end on a file that another should have begun.
    """
    of_file: collections.Counter[str] = collections.Counter()
    for item in items:
        needs = {*(mark.name for mark in item.iter_markers()), *getattr(item, "fixturenames", ())}
        of_file[str(item.path)] += next((WEIGHTS[each] for each in WEIGHTS if each in needs), 0.01)
    items.sort(key=lambda item: (-of_file[str(item.path)], str(item.path)))
