"""Which families of fixtures the suite knows, and how patient its properties are."""

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
