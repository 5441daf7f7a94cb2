"""The tests that drivers, ORMs and web frameworks ship, direct and through pgweir.

    python -m benchmarks.suites [--only NAME,…] [--folder FOLDER]

Each suite, at the version named here, runs twice on the distribution's PostgreSQL: on a direct
connection, and through pgweir in transaction mode with a pool of eight server connections. Counted
is how many of the tests that pass directly pass through the proxy as well. Meanwhile bystanders,
clients of the same user and database, look in each of their transactions for anything in their
session that is not their own: settings, role, locks, temporary objects, held cursors, channels,
prepared statements.

Packages come from PyPI and the Go module proxy, by pip and go. The folder keeps what was
downloaded, every report, and the lists of tests that pass directly only.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import yaml

from benchmarks.children import Children
from benchmarks.failure import BenchmarkError
from proxy.embedded import (
    Cluster,
    ClusterSpec,
    EmbeddedError,
    Login,
    Node,
    create_roles,
    distribution,
    free_port,
    is_port_free,
)

USER = "suite"
DATABASE = "suite"
POOL_SIZE = 8
BYSTANDERS = 4
LIMIT_S = 3600
_START_S = 60.0
_MONITOR = Login("monitor", "watching")
_DRIVERS = (
    "psycopg[binary]==3.3.9",
    "psycopg2-binary==2.9.13",
    "asyncpg==0.32.0",
    "greenlet==3.5.6",
    "typing-extensions",
    "pytest==9.2.0",
    "pytest-timeout==2.4.0",
    "asgiref",
    "sqlparse",
    "pytz",
)
_PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=60", "--tb=short")
_GO_MODULE = "module suites\n\ngo 1.23\n"


@dataclass(frozen=True)
class Suite:
    """One suite, and how to run it.

    source: sdist or Go module, as pip and go take it. python: what Python is to run; go: packages
    instead. Words may speak of {host}, {port}, {user}, {database} and {report}. prepare: SQL for
    the new database.
    """

    name: str
    source: str
    python: tuple[str, ...] = ()
    go: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "."
    prepare: tuple[str, ...] = ()


def _sqlalchemy(driver: str) -> Suite:
    """SQLAlchemy's tests of its PostgreSQL dialect and its compliance suite, with one driver."""
    return Suite(
        f"sqlalchemy-{driver}",
        "sqlalchemy==2.1.9",
        python=(
            *_PYTEST,
            *("--maxfail=100000", "--backend-only", "--junitxml={report}"),
            f"--dburi=postgresql+{driver}://{{user}}@{{host}}:{{port}}/{{database}}",
            *("test/dialect/postgresql", "test/dialect/test_suite.py"),
        ),
        prepare=(
            "CREATE SCHEMA test_schema",
            "CREATE SCHEMA test_schema_2",
            "CREATE EXTENSION hstore",
            "CREATE EXTENSION citext",
            f"ALTER DATABASE {DATABASE} SET default_text_search_config = 'pg_catalog.english'",
        ),
    )


_LIBPQ = {
    "PGHOST": "{host}",
    "PGPORT": "{port}",
    "PGUSER": "{user}",
    "PGDATABASE": "{database}",
    "PGSSLMODE": "disable",
}
# Those that are about the database itself; most of the 200 test forms, templates and pages.
_DJANGO_APPS = (
    *("backends", "bulk_create", "get_or_create", "postgres_tests", "queries", "raw_query"),
    *("select_for_update", "transaction_hooks", "transactions"),
)
_DJANGO_SETTINGS = """
import json
import os
import unittest

from django.test.runner import DiscoverRunner

_SERVER = {{"ENGINE": "django.db.backends.postgresql", "HOST": "{host}", "PORT": "{port}",
           "USER": "{user}"}}
DATABASES = {{
    "default": {{**_SERVER, "NAME": "postgres", "TEST": {{"NAME": "{database}"}}}},
    "other": {{**_SERVER, "NAME": "postgres", "TEST": {{"NAME": "{database}_other"}}}},
}}
SECRET_KEY = "tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False


class Recorded(unittest.TextTestResult):
    def addSuccess(self, test):
        super().addSuccess(test)
        self.record(test, True)

    def addError(self, test, error):
        super().addError(test, error)
        self.record(test, False)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.record(test, False)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.record(test, False)

    def record(self, test, passed):
        with open({report!r}, "a") as report:
            report.write(json.dumps([test.id(), passed]) + chr(10))


class TEST_RUNNER_CLASS(DiscoverRunner):
    def get_resultclass(self):
        return Recorded


TEST_RUNNER = __name__ + ".TEST_RUNNER_CLASS"
"""

SUITES = (
    _sqlalchemy("psycopg"),
    _sqlalchemy("asyncpg"),
    _sqlalchemy("psycopg2"),
    Suite(
        "django",
        "django==5.2.19",
        python=(
            *("runtests.py", "--settings=suite_settings", "--parallel=1", "--keepdb", "--noinput"),
            *_DJANGO_APPS,
        ),
        environment={"PYTHONPATH": ".:..", "PYTHONWARNINGS": "default"},
        cwd="tests",
        prepare=(f"CREATE DATABASE {DATABASE}_other",),
    ),
    Suite(
        "asyncpg",
        "asyncpg==0.32.0",
        # What starts servers of its own or logs in is left out.
        python=(
            *_PYTEST,
            *("--junitxml={report}", "--import-mode=importlib", "."),
            *(f"--ignore=test_{name}.py" for name in ("adversity", "connect", "scram")),
            *("--ignore=test__sourcecode.py", "--ignore=test__environment.py"),
        ),
        environment=_LIBPQ,
        cwd="tests",
    ),
    Suite(
        "psycopg2",
        "psycopg2==2.9.13",
        python=(*_PYTEST, "--junitxml={report}", "tests"),
        environment={
            "PSYCOPG2_TESTDB": "{database}",
            "PSYCOPG2_TESTDB_HOST": "{host}",
            "PSYCOPG2_TESTDB_PORT": "{port}",
            "PSYCOPG2_TESTDB_USER": "{user}",
        },
        prepare=("CREATE EXTENSION hstore",),
    ),
    Suite(
        "pgx",
        "github.com/jackc/pgx/v5@v5.13.0",
        go=("github.com/jackc/pgx/v5/...",),
        environment={
            "PGX_TEST_DATABASE": "host={host} port={port} user={user} database={database}"
            " sslmode=disable"
        },
        prepare=(
            "CREATE EXTENSION hstore",
            "CREATE EXTENSION ltree",
            "CREATE DOMAIN uint64 AS numeric(20,0)",
        ),
    ),
    Suite(
        "lib-pq",
        "github.com/lib/pq@v1.12.3",
        go=("github.com/lib/pq/...",),
        environment=_LIBPQ,
    ),
)


@dataclass(frozen=True)
class Place:
    """Where a suite runs: a server or the proxy before it."""

    host: str
    port: int

    def dsn(self, database: str = DATABASE) -> str:
        """Write it for libpq."""
        return f"host={self.host} port={self.port} user={USER} dbname={database}"


class Bystander(threading.Thread):
    """A client that looks in each transaction for what is not its own; odd ones have settings."""

    _QUESTION = """
        SELECT 'setting', name || ' = ' || setting FROM pg_settings
            WHERE source = 'session' AND setting IS DISTINCT FROM reset_val
        UNION ALL SELECT 'role', current_user
        UNION ALL SELECT 'session role', session_user
        UNION ALL SELECT 'own', coalesce(current_setting('app.bystander', true), '')
        UNION ALL SELECT 'lock', objid::text FROM pg_locks
            WHERE locktype = 'advisory' AND pid = pg_backend_pid()
        UNION ALL SELECT 'temporary', relname FROM pg_class
            WHERE relnamespace = pg_my_temp_schema()
        UNION ALL SELECT 'cursor', name FROM pg_cursors WHERE is_holdable
        UNION ALL SELECT 'channel', pg_listening_channels()
        UNION ALL SELECT 'statement', statement FROM pg_prepared_statements
    """

    def __init__(self, place: Place, number: int) -> None:
        super().__init__(daemon=True)
        self._dsn = place.dsn()
        self._own = f"bystander {number}" if number % 2 else ""
        self._work_mem = f"{1000 + number}"
        self._over = threading.Event()
        self.transactions = 0
        self.foreign: list[str] = []
        self.errors: list[str] = []

    def run(self) -> None:
        """Look until it is told to stop; connect again when the connection was ended."""
        while not self._over.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True, prepare_threshold=None) as link:
                    self._watch(link)
            except psycopg.Error as error:
                self.errors.append(str(error).partition("\n")[0])
                self._over.wait(0.5)

    def stop(self) -> None:
        """Let it end, and wait for that."""
        self._over.set()
        self.join()

    def _watch(self, link: psycopg.Connection) -> None:
        expected = {("role", USER), ("session role", USER), ("own", self._own)}
        if self._own:
            link.execute(f"SET app.bystander = '{self._own}'")
            link.execute(f"SET work_mem = {self._work_mem}")
            expected.add(("setting", f"work_mem = {self._work_mem}"))
        while not self._over.wait(0.01):
            with link.transaction():
                rows = set(link.execute(self._QUESTION).fetchall())
            self.transactions += 1
            if rows != expected:
                self.foreign.append(repr(sorted(rows ^ expected)))


@dataclass
class Outcome:
    """What a run of a suite came to."""

    passed: set[str]
    failed: set[str]


def read_junit(report: Path) -> Outcome:
    """Read what pytest wrote; a test counts as passed when all that bear its name have."""
    outcome = Outcome(set(), set())
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        results = {result.tag for result in case}
        if results & {"failure", "error"}:
            outcome.failed.add(name)
        elif "skipped" not in results:
            outcome.passed.add(name)
    outcome.passed -= outcome.failed
    return outcome


def read_lines(report: Path) -> Outcome:
    """Read what Django's tests recorded, or what `go test -json` wrote."""
    outcome = Outcome(set(), set())
    for line in report.read_text("utf-8", "replace").splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, list):
            name, passed = said
        elif "Test" in said and said["Action"] in ("pass", "fail"):
            name, passed = f"{said['Package']}.{said['Test']}", said["Action"] == "pass"
        else:
            continue
        (outcome.passed if passed else outcome.failed).add(name)
    outcome.passed -= outcome.failed
    return outcome


def _read(suite: Suite, report: Path) -> Outcome:
    return read_junit(report) if "--junitxml={report}" in suite.python else read_lines(report)


class Workshop:
    """The folder with sources, drivers and reports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        folder.mkdir(parents=True, exist_ok=True)
        if not self.python.exists():
            _run([sys.executable, "-m", "venv", str(folder / "venv")])
        stamp = folder / "venv" / "suites"
        if not stamp.exists() or stamp.read_text() != "\n".join(_DRIVERS):
            _run([self.python, "-m", "pip", "install", "-q", *_DRIVERS])
            stamp.write_text("\n".join(_DRIVERS))

    def fetch(self, suite: Suite) -> Path:
        """Unpack an sdist, or make a module that has the Go module's test dependencies."""
        if suite.go:
            home = self.folder / suite.name
            if not (home / "go.sum").exists():
                home.mkdir(exist_ok=True)
                (home / "go.mod").write_text(_GO_MODULE)
                module, _, version = suite.source.partition("@")
                _run(["go", "get", "-t", f"{module}/...@{version}"], cwd=home)
            return home
        name, _, version = suite.source.partition("==")
        home = self.folder / f"{name}-{version}"
        if not home.exists():
            pip = [
                str(self.python),
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--no-binary",
                name,
            ]
            _run([*pip, suite.source, "-d", self.folder])
            with tarfile.open(self.folder / f"{name}-{version}.tar.gz") as archive:
                archive.extractall(self.folder, filter="data")
        return home

    def run(self, suite: Suite, place: Place, way: str) -> Outcome:
        """Run a suite at a place; its output and report stay in the folder."""
        home = self.fetch(suite)
        report = self.folder / f"{suite.name}-{way}.report"
        report.unlink(missing_ok=True)
        facts = {
            "host": place.host,
            "port": str(place.port),
            "user": USER,
            "database": DATABASE,
            "report": str(report.resolve()),
        }
        environment = {
            **os.environ,
            **{key: value.format(**facts) for key, value in suite.environment.items()},
        }
        cwd = home / suite.cwd
        if suite.name == "django":
            (cwd / "suite_settings.py").write_text(_DJANGO_SETTINGS.format(**facts))
        if suite.go:
            argv: list[str | Path] = ["go", "test", "-json", "-count=1", "-p=1", *suite.go]
        else:
            argv = [self.python, *(w.format(**facts) for w in suite.python)]
        with (self.folder / f"{suite.name}-{way}.log").open("wb") as log:
            try:
                subprocess.run(
                    argv,
                    cwd=cwd,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=LIMIT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                say(f"{suite.name} {way}: not over after {LIMIT_S} s")
        return _read(suite, Path(log.name) if suite.go else report)

    def read(self, suite: Suite, way: str) -> Outcome | None:
        """Read the report of an earlier run, None when there is none."""
        report = self.folder / f"{suite.name}-{way}.{'log' if suite.go else 'report'}"
        return _read(suite, report) if report.exists() else None


def compare(workshop: Workshop, suites: Sequence[Suite], *, reuse: bool) -> Iterator[str]:
    """Run the suites both ways and give the table, line by line."""
    yield "| suite | passes directly | of these through pgweir | transactions of bystanders |"
    yield "|---|---|---|---|"
    total = kept = transactions = foreign = 0
    with running_node() as node, running_proxy(workshop.folder, node) as proxy:
        for suite in suites:
            direct = workshop.read(suite, "direct") if reuse else None
            if direct is None:
                fresh_database(node, suite)
                direct = workshop.run(suite, Place(node.host, node.port), "direct")
            fresh_database(node, suite)
            bystanders = [Bystander(proxy, number) for number in range(BYSTANDERS)]
            for bystander in bystanders:
                bystander.start()
            through = workshop.run(suite, proxy, "pgweir")
            for bystander in bystanders:
                bystander.stop()
            lost = sorted(direct.passed - through.passed)
            (workshop.folder / f"{suite.name}.lost").write_text("".join(f"{n}\n" for n in lost))
            met = [line for bystander in bystanders for line in bystander.foreign]
            met += [f"error: {line}" for bystander in bystanders for line in bystander.errors]
            (workshop.folder / f"{suite.name}.bystanders").write_text(
                "".join(f"{n}\n" for n in met)
            )
            looked = sum(bystander.transactions for bystander in bystanders)
            saw = sum(len(bystander.foreign) for bystander in bystanders)
            yield (
                f"| {suite.source} ({suite.name}) | {len(direct.passed):,} |"
                f" {len(direct.passed) - len(lost):,} | {looked:,}, {saw} with something foreign |"
            )
            total += len(direct.passed)
            kept += len(direct.passed) - len(lost)
            transactions += looked
            foreign += saw
    share = kept / total if total else 0
    yield f"| together | {total:,} | {kept:,} ({share:.1%}) | {transactions:,}, {foreign} |"


@contextmanager
def running_node() -> Iterator[Node]:
    """The distribution's PostgreSQL, which has contrib; everybody is trusted."""
    binaries = distribution()
    if binaries is None:
        raise BenchmarkError("no PostgreSQL of the distribution: run .ci/packages test")
    settings = {"max_prepared_transactions": "20", "autovacuum": "off"}
    spec = ClusterSpec(
        binaries=binaries,
        max_connections=200,
        settings=settings,
        hba=("host all all 127.0.0.1/32 trust",),
    )
    with asyncio.Runner() as runner:
        cluster = Cluster(spec)
        runner.run(cluster.start())
        try:
            app = Login(USER, "")
            runner.run(create_roles(cluster.primary, app=app, monitor=_MONITOR, database=DATABASE))
            runner.run(cluster.primary.execute(f"ALTER ROLE {USER} SUPERUSER"))
            yield cluster.primary
        finally:
            runner.run(cluster.close())


@contextmanager
def running_proxy(folder: Path, node: Node) -> Iterator[Place]:
    """Run pgweir in transaction mode before the node."""
    place = Place("127.0.0.1", free_port())
    configuration = {
        "listen": {"host": place.host, "port": place.port},
        "http": {"host": place.host, "port": 0},
        "auth": {"method": "trust", "users": {USER: {"password": "unused"}}},
        "clusters": {
            "main": {
                "nodes": [{"name": "db1", "host": node.host, "port": node.port}],
                "monitor": {"user": _MONITOR.name, "password": _MONITOR.password},
            }
        },
        "databases": {"*": {"cluster": "main", "pool_mode": "transaction", "pool_size": POOL_SIZE}},
    }
    path = folder / f"pgweir-{place.port}.yaml"
    path.write_text(yaml.safe_dump(configuration))
    with Children(folder) as children:
        argv = [sys.executable, "-m", "proxy", "run", "-c", str(path)]
        child = children.start("pgweir", argv)
        deadline = time.monotonic() + _START_S
        while is_port_free(place.port):
            if not child.is_running or time.monotonic() > deadline:
                raise BenchmarkError(f"pgweir did not start:\n{child.tail()}")
            time.sleep(0.05)
        yield place


def fresh_database(node: Node, suite: Suite) -> None:
    """Make the database anew, as a suite wants it."""
    with psycopg.connect(Place(node.host, node.port).dsn("postgres"), autocommit=True) as link:
        rows = link.execute(
            "SELECT datname FROM pg_database WHERE datname ^@ %s", [USER]
        ).fetchall()
        for (name,) in rows:
            link.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        link.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8'")
    with psycopg.connect(Place(node.host, node.port).dsn(), autocommit=True) as link:
        for statement in suite.prepare:
            link.execute(statement)


def say(line: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(line + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 when all suites ran, whatever they found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suites", description=__doc__)
    names = [suite.name for suite in SUITES]
    parser.add_argument("--only", default=",".join(names), help="names, with commas")
    parser.add_argument("--folder", type=Path, default=Path("build/suites"))
    parser.add_argument("--reuse", action="store_true", help="the direct runs that are there")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(names):
        parser.error(f"no suite {', '.join(unknown)}; there are {', '.join(names)}")
    try:
        workshop = Workshop(options.folder.resolve())
        suites = [suite for suite in SUITES if suite.name in wanted]
        for line in compare(workshop, suites, reuse=options.reuse):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    except (BenchmarkError, EmbeddedError) as error:
        sys.stderr.write(f"suites: {error}\n")
        return 1
    return 0


def _run(argv: Sequence[str | Path], cwd: Path | None = None) -> None:
    """Run a step of the preparations, which must succeed."""
    done = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")[-2000:]
        raise BenchmarkError(f"{' '.join(map(str, argv))} failed:\n{said}")


if __name__ == "__main__":
    sys.exit(main())
