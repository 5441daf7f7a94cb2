"""Which families of fixtures the suite knows."""

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.pgweir", "tests.fixtures.node"]
