"""README and docs lead where they say, and name what there is."""

import re
from pathlib import Path

import pytest

from proxy.config import Config, json_schema
from proxy.config.pgbouncer_keys import DATABASES, PGBOUNCER, USERS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = [found[1] for found in LINK.finditer(page.read_text("utf-8"))]
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_is_there(page: Path) -> None:
    named = re.findall(r"`(tests/\w+/\w+\.py)::(\w+)`", page.read_text("utf-8"))
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).exists() or f"def {test}(" not in (ROOT / file).read_text("utf-8")
    ]
    assert missing == []


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    named = {found[1] for found in LINK.finditer(readme)}
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= named


def test_make_commands_of_the_readme_are_in_the_makefile() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    asked = set(re.findall(r"\bmake ([a-z]+)", readme))
    assert asked <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def keys_of(schema: object) -> set[str]:
    """All names of properties, anywhere in a JSON Schema."""
    if isinstance(schema, list):
        return set().union(*map(keys_of, schema))
    if not isinstance(schema, dict):
        return set()
    named = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return named.union(*map(keys_of, schema.values()))


def limits_in_tables() -> list[tuple[str, str]]:
    """Pages, and the keys that the first column of their tables of limits has."""
    found = []
    for name in ("pooling.md", "prepared-statements.md"):
        text = (ROOT / "docs" / name).read_text("utf-8")
        found += [(name, key) for key in re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)]
    return found


@pytest.mark.parametrize(("page", "key"), limits_in_tables())
def test_keys_in_tables_are_keys_of_the_configuration(page: str, key: str) -> None:
    modes = {"transaction", "session", "statement"}
    assert key in keys_of(json_schema()) | modes


def test_keys_beside_pgbouncers_are_keys_of_the_configuration() -> None:
    page = (ROOT / "docs" / "from-pgbouncer.md").read_text("utf-8")
    text = page.partition("\n## `[pgbouncer]`\n")[2]
    rows = [line.split("|")[2] for line in text.splitlines() if line.startswith("| `")]
    named = {
        key
        for cell in rows
        for path in re.findall(r"`([a-z_.A-Z]+)`", cell)
        for key in path.split(".")
        if key and key != "NAME"
    }
    assert named - keys_of(json_schema()) - {"info"} == set()


def test_each_key_of_pgbouncer_stands_beside_ours() -> None:
    text = (ROOT / "docs" / "from-pgbouncer.md").read_text("utf-8")
    for section, keys in (("pgbouncer", PGBOUNCER), ("databases", DATABASES), ("users", USERS)):
        page = text.partition(f"\n## `[{section}]`\n")[2].partition("\n## ")[0]
        rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
        beside = {key: cell for cells, cell in rows for key in re.findall(r"`(\w+)`", cells)}
        assert beside.keys() == keys.keys()
        for name, key in keys.items():
            # What is in each cluster, database or user has its names in between.
            last = "" if key.path is None else key.path[-1]
            assert section != "pgbouncer" or f".{last}`" in beside[name] or key.path is None, name


DEFAULTS = {"s": 1, "m": 60, "h": 3600}


def durations_in_pooling() -> list[tuple[str, float]]:
    text = (ROOT / "docs" / "pooling.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d+)([smh]?) \|", text, re.MULTILINE)
    return [(key, float(number) * DEFAULTS.get(unit, 1)) for key, number, unit in rows]


@pytest.mark.parametrize(("key", "seconds"), durations_in_pooling())
def test_defaults_of_timeouts_are_those_of_the_program(key: str, seconds: float) -> None:
    assert getattr(Config.model_fields["limits"].get_default(call_default_factory=True), key) == (
        seconds
    )
