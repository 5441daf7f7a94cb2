"""proxy/sql/functions.txt says what the catalogues say. Run as a program, this file writes it."""

import asyncio
from pathlib import Path

import proxy.sql.volatility
from proxy.embedded import Cluster, ClusterSpec, bundled
from proxy.sql import Name, builtin_volatility
from tests.fixtures.postgres import Postgres

PAGE = Path(proxy.sql.volatility.__file__).with_name("functions.txt")
MAJORS = (16, 18)
QUERY = """
    SELECT proname::text, max(translate(provolatile, 'isv', '123')) FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY 1
"""
GROUPS = {"1": "[i]", "2": "[s]", "3": "[v]"}


def render(*catalogues: list[tuple[str, str]]) -> str:
    """All names by how volatile they are; the most volatile of all versions counts."""
    volatile: dict[str, str] = {}
    for catalogue in catalogues:
        for name, how in catalogue:
            volatile[name] = max(how, volatile.get(name, how))
    lines = []
    for how, title in GROUPS.items():
        lines.append(title)
        line = ""
        for name in sorted(each for each in volatile if volatile[each] == how):
            if len(line) + len(name) > 98:
                lines.append(line.rstrip())
                line = ""
            line += name + " "
        lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


def test_the_table_is_that_of_the_catalogues(pg16: Postgres, pg18: Postgres) -> None:
    written = PAGE.read_text("ascii")
    expected = render(pg16.fetch(QUERY), pg18.fetch(QUERY))
    assert written == expected, "run: python tests/sql/test_volatility.py"


def test_functions_are_looked_up_by_name_and_schema() -> None:
    assert builtin_volatility(Name("", "lower"), 1) == "i"
    assert builtin_volatility(Name("pg_catalog", "now"), 0) == "s"
    assert builtin_volatility(Name("", "nextval"), 1) == "v"
    assert builtin_volatility(Name("public", "lower"), 1) is None
    assert builtin_volatility(Name("", "no_such_function"), 0) is None


async def _fetch(major: int) -> list[tuple[str, str]]:
    async with Cluster(ClusterSpec(binaries=bundled(major))) as cluster:
        return [tuple(row) for row in await cluster.primary.fetch(QUERY, database="postgres")]


if __name__ == "__main__":
    PAGE.write_text(render(*(asyncio.run(_fetch(major)) for major in MAJORS)), "ascii")
