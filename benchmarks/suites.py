"""The tests that others ship, direct, through pgweir, and through PgBouncer.

    python -m benchmarks.suites [--only NAME,…] [--ways WAY,…] [--folder FOLDER] [--reuse]

Drivers', ORMs', a web framework's and PostgreSQL's own tests, at the versions named here, run on
the distribution's PostgreSQL on a direct connection, then through each proxy. Counted is how many
of those that pass directly pass through the proxy as well. pgweir and PgBouncer in transaction mode
have eight server connections; in session mode, where a client has one as long as it is there,
PgBouncer has as many as are asked for. Each run has a PostgreSQL and a proxy of its own.

Beside each run through a proxy bystanders, clients of the same user and database, look in each of
their transactions for anything in their session that is not their own: settings, role, locks,
temporary objects, held cursors, channels, prepared statements.

Packages come from PyPI, the Go module proxy and Debian, by pip, go and apt-get. The folder keeps
what was downloaded and each run: its log, what passed, what the bystanders saw, and which tests
only pass directly.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import yaml

from benchmarks.children import Child, Children
from benchmarks.contestants import find_program
from benchmarks.failure import BenchmarkError
from proxy.embedded import (
    Cluster,
    ClusterSpec,
    EmbeddedError,
    Node,
    distribution,
    free_port,
    is_port_free,
    unprivileged_account,
)

# The superuser, for what tests create; pg8000's log in as no other.
USER = "postgres"
DATABASE = "suite"
POOL_SIZE = 8
# A client in session mode keeps its server connection: the tests shall never wait for one.
SESSION_POOL_SIZE = 100
BYSTANDERS = 4
LIMIT_S = 3600
_START_S = 60.0
_MONITOR = "monitor"
_DRIVERS = (
    "psycopg[binary]==3.3.9",
    "psycopg2-binary==2.9.13",
    "asyncpg==0.32.0",
    "greenlet==3.5.6",
    "typing-extensions",
    "pytest==9.2.0",
    "pytest-timeout==2.4.0",
    "pytest-mock==3.17.0",
    "pytest-benchmark==5.3.1",
    "pg8000==1.31.6",
    "asgiref",
    "sqlparse",
    "pytz",
)
_PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=120", "--tb=short")
_APT_SOURCE = "${source:Package}=${source:Version}"
_GO_MODULE = "module suites\n\ngo 1.23\n"


@dataclass(frozen=True)
class Suite:
    """One suite, and how to run it.

    source: sdist, Go module or Debian's source package, as pip, go and apt-get take it. python:
    what Python is to run; go: packages instead. Words may speak of {host}, {port}, {user},
    {database}, {report} and {reference}. prepare: SQL for the new database. compared: its tests
    have no verdict but what they print, which is to be what a first direct run, the reference,
    printed.
    """

    name: str
    source: str
    python: tuple[str, ...] = ()
    go: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "."
    prepare: tuple[str, ...] = ()
    database: str = DATABASE
    debian: bool = False
    compared: bool = False


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
    Suite(
        "pg8000",
        "pg8000==1.31.6",
        # What asks for other ways to log in is left out.
        python=(
            *_PYTEST,
            *("--junitxml={report}", "--benchmark-disable", "test"),
            *(f"--ignore=test/{module}/auth" for module in ("dbapi", "legacy", "native")),
        ),
        environment={"PGHOST": "{host}", "PGPORT": "{port}"},
        prepare=("CREATE EXTENSION hstore",),
        database="postgres",
    ),
    Suite(
        "postgresql",
        "postgresql-15",
        python=(str(Path(__file__).with_name("regress.py")), "{report}", "{reference}"),
        environment=_LIBPQ,
        cwd="src/test/regress",
        prepare=(
            f"ALTER DATABASE {DATABASE} SET TimeZone = 'PST8PDT'",
            f"ALTER DATABASE {DATABASE} SET DateStyle = 'Postgres, MDY'",
            f"ALTER DATABASE {DATABASE} SET IntervalStyle = 'postgres_verbose'",
            f"ALTER DATABASE {DATABASE} SET lc_messages = 'C'",
        ),
        debian=True,
        compared=True,
    ),
)


@dataclass(frozen=True)
class Place:
    """Where a suite runs: a server or the proxy before it."""

    host: str
    port: int

    def dsn(self, database: str) -> str:
        """Write it for libpq."""
        return f"host={self.host} port={self.port} user={USER} dbname={database}"


# Starts what stands before a node; the folder takes its configuration and its log.
Start = Callable[[Path, Node], AbstractContextManager[Place]]


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
        UNION ALL SELECT 'temporary', pg_describe_object(classid, objid, objsubid) FROM pg_depend
            WHERE refclassid = 'pg_namespace'::regclass AND refobjid = pg_my_temp_schema()
        UNION ALL SELECT 'cursor', name FROM pg_cursors WHERE is_holdable
        UNION ALL SELECT 'channel', pg_listening_channels()
        UNION ALL SELECT 'statement', statement FROM pg_prepared_statements
    """

    def __init__(self, place: Place, suite: Suite, number: int) -> None:
        super().__init__(daemon=True)
        self._dsn = place.dsn(suite.database)
        self._own = f"bystander {number}" if number % 2 else ""
        self._work_mem = f"{1000 + number}"
        self._over = threading.Event()
        self.transactions = 0
        self.foreign: list[str] = []
        self.missed: list[str] = []
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
            # That its own name is not set is missed, and nothing of anybody else's.
            if foreign := rows - expected - {("own", "")}:
                self.foreign.append(repr(sorted(foreign)))
            if missed := expected - rows:
                self.missed.append(repr(sorted(missed)))


@dataclass
class Outcome:
    """What the tests of a run came to, by their names."""

    passed: set[str]
    failed: set[str]


@dataclass(frozen=True)
class Run:
    """A run of a suite. foreign, missed, errors: a line for each transaction of a bystander's."""

    passed: list[str]
    failed: list[str]
    transactions: int
    foreign: list[str]
    missed: list[str]
    errors: list[str]


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
            # Some are named after a folder of the moment.
            test = re.sub(r"[0-9]{8,}", "", said["Test"])
            name, passed = f"{said['Package']}.{test}", said["Action"] == "pass"
        else:
            continue
        (outcome.passed if passed else outcome.failed).add(name)
    outcome.passed -= outcome.failed
    return outcome


def read_report(report: Path, log: Path) -> Outcome:
    """Read what pytest, Django's tests or Go wrote.

    Raises BenchmarkError, which names the log, when there is not one test in it.
    """
    if not report.exists():
        raise BenchmarkError(f"no report; see {log}")
    is_junit = report.read_bytes().lstrip().startswith(b"<")
    outcome = read_junit(report) if is_junit else read_lines(report)
    if not outcome.passed | outcome.failed:
        raise BenchmarkError(f"not one test in its report; see {log}")
    return outcome


class Workshop:
    """The folder with sources, drivers and runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        if not self.python.exists():
            _run([sys.executable, "-m", "venv", str(folder / "venv")])
        stamp = folder / "venv" / "suites"
        if not stamp.exists() or stamp.read_text() != "\n".join(_DRIVERS):
            _run([self.python, "-m", "pip", "install", "-q", *_DRIVERS])
            stamp.write_text("\n".join(_DRIVERS))

    def fetch(self, suite: Suite) -> Path:
        """Unpack sources, or make a module that has the Go module's test dependencies."""
        if suite.go:
            return self._fetch_module(suite)
        archive = self._fetch_debian(suite) if suite.debian else self._fetch_sdist(suite)
        home = self.folder / suite.name
        if not home.exists():
            unfinished = self.folder / f"{suite.name}.unfinished"
            with tarfile.open(archive) as tar:
                tar.extractall(unfinished, filter="data")
            next(unfinished.iterdir()).rename(home)
        return home

    def _fetch_module(self, suite: Suite) -> Path:
        home = self.folder / suite.name
        if not (home / "go.sum").exists():
            home.mkdir(exist_ok=True)
            (home / "go.mod").write_text(_GO_MODULE)
            module, _, version = suite.source.partition("@")
            _run(["go", "get", "-t", f"{module}/...@{version}"], cwd=home)
        return home

    def _fetch_sdist(self, suite: Suite) -> Path:
        name, _, version = suite.source.partition("==")
        archive = self.folder / f"{name}-{version}.tar.gz"
        if not archive.exists():
            pip = [self.python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name]
            _run([*pip, suite.source, "-d", self.folder])
        return archive

    def _fetch_debian(self, suite: Suite) -> Path:
        """Get upstream's part of the source of an installed package, from where that is from."""
        home = self.folder / "apt"
        if not any(home.glob(f"{suite.source}_*.orig.tar.*")):
            (home / "lists" / "partial").mkdir(parents=True, exist_ok=True)
            line = "deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)"
            lines = _run(["apt-get", "indextargets", "--format", line, "Created-By: Packages"])
            (home / "sources.list").write_text(lines)
            apt = ["apt-get", "-q", "-o", "Dir::Etc::SourceParts=-"]
            apt += ["-o", f"Dir::Etc::SourceList={home}/sources.list"]
            apt += ["-o", f"Dir::State::Lists={home}/lists", "-o", f"Dir::Cache={home}/cache"]
            _run([*apt, "update"])
            wanted = _run(["dpkg-query", "-W", "-f", _APT_SOURCE, suite.source])
            _run([*apt, "source", "--download-only", wanted], cwd=home)
        return next(home.glob(f"{suite.source}_*.orig.tar.*"))

    def run(self, suite: Suite, way: str, *, reuse: bool) -> Run:
        """Run a suite in one way. reuse: or read what such a run has left.

        Raises BenchmarkError, which names the log, when no test of it was reported.
        """
        folder = self.folder / "runs" / f"{suite.name}-{way}"
        kept = folder / "run.json"
        if reuse and kept.exists():
            return Run(**json.loads(kept.read_text()))
        home = self.fetch(suite)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with running_node() as node, WAYS[way](folder, node) as place:
            prepare(node, suite)
            bystanders = []
            if way not in _DIRECTLY:
                bystanders = [Bystander(place, suite, n) for n in range(BYSTANDERS)]
            for bystander in bystanders:
                bystander.start()
            report = self._run_tests(suite, home, folder, place)
            for bystander in bystanders:
                bystander.stop()
        outcome = read_report(report, folder / "log")
        run = Run(
            sorted(outcome.passed),
            sorted(outcome.failed),
            sum(bystander.transactions for bystander in bystanders),
            [line for bystander in bystanders for line in bystander.foreign],
            [line for bystander in bystanders for line in bystander.missed],
            [line for bystander in bystanders for line in bystander.errors],
        )
        kept.write_text(json.dumps(asdict(run), indent=1))
        return run

    def _run_tests(self, suite: Suite, home: Path, folder: Path, place: Place) -> Path:
        """Run them at a place; what they print is in the log. Result: where their report is."""
        report = folder / ("log" if suite.go else "report")
        facts = {
            "host": place.host,
            "port": str(place.port),
            "user": USER,
            "database": suite.database,
            "report": str(report),
            "reference": str(folder.with_name(f"{suite.name}-{REFERENCE}")),
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
        with (folder / "log").open("wb") as log:
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
                say(f"{log.name}: not over after {LIMIT_S} s")
        return report


@dataclass(frozen=True)
class Row:
    """What became of a suite. runs: by proxy, None of one that failed."""

    suite: Suite
    direct: Run
    runs: Mapping[str, Run | None]

    def kept(self, way: str) -> set[str]:
        """The tests that pass directly, and in this way as well."""
        run = self.runs[way]
        return set(self.direct.passed) & set(run.passed) if run else set()


def compare(
    workshop: Workshop,
    suites: Sequence[Suite],
    ways: Sequence[str],
    failures: list[str],
    *,
    reuse: bool,
) -> Iterator[Row]:
    """Run the suites, each directly and then in these ways. failures: what failed, and why."""

    def attempt(suite: Suite, way: str) -> Run | None:
        started = time.monotonic()
        try:
            run = workshop.run(suite, way, reuse=reuse)
        except (BenchmarkError, EmbeddedError) as error:
            failures.append(f"{suite.name} {way}: {error}")
            say(failures[-1])
            return None
        say(f"{suite.name} {way}: {time.monotonic() - started:.0f} s")
        return run

    for suite in suites:
        if suite.compared and attempt(suite, REFERENCE) is None:
            continue
        direct = attempt(suite, "direct")
        if direct is None:
            continue
        row = Row(suite, direct, {way: attempt(suite, way) for way in ways})
        for way in ways:
            lost = sorted(set(direct.passed) - row.kept(way))
            path = workshop.folder / "runs" / f"{suite.name}-{way}.lost"
            path.write_text("".join(f"{name}\n" for name in lost))
        yield row


def table(rows: Iterator[Row], ways: Sequence[str]) -> Iterator[str]:
    """Write the rows as they come, and what they are together."""
    heads = [f"{way} | transactions beside it, foreign" for way in ways]
    yield f"| {' | '.join(['suite', 'passes directly', *heads])} |"
    yield "|---" * (2 + 2 * len(ways)) + "|"
    total = 0
    kept, looked, saw = (dict.fromkeys(ways, 0) for _ in range(3))
    for row in rows:
        direct = len(row.direct.passed)
        total += direct
        cells = [f"{row.suite.source} ({row.suite.name})", f"{direct:,}"]
        for way, run in row.runs.items():
            if run is None:
                cells += ["failed", ""]
                continue
            kept[way] += len(row.kept(way))
            looked[way] += run.transactions
            saw[way] += len(run.foreign)
            cells += [f"{len(row.kept(way)):,}", f"{run.transactions:,}, {len(run.foreign):,}"]
        yield f"| {' | '.join(cells)} |"
    cells = ["together", f"{total:,}"]
    for way in ways:
        share = kept[way] / total if total else 0
        cells += [f"{kept[way]:,} ({share:.1%})", f"{looked[way]:,}, {saw[way]:,}"]
    yield f"| {' | '.join(cells)} |"


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
            yield cluster.primary
        finally:
            runner.run(cluster.close())


def prepare(node: Node, suite: Suite) -> None:
    """Make the database as a suite wants it, and whom pgweir watches the node as."""
    place = Place(node.host, node.port)
    with psycopg.connect(place.dsn("postgres"), autocommit=True) as link:
        link.execute(f"CREATE ROLE {_MONITOR} LOGIN IN ROLE pg_monitor")
        if suite.database != "postgres":
            link.execute(f"CREATE DATABASE {suite.database} TEMPLATE template0 ENCODING 'UTF8'")
    with psycopg.connect(place.dsn(suite.database), autocommit=True) as link:
        for statement in suite.prepare:
            link.execute(statement)


def _direct(_folder: Path, node: Node) -> AbstractContextManager[Place]:
    return nullcontext(Place(node.host, node.port))


@contextmanager
def _through_pgweir(folder: Path, node: Node) -> Iterator[Place]:
    place = Place("127.0.0.1", free_port())
    configuration = {
        "listen": {"host": place.host, "port": place.port},
        "http": {"host": place.host, "port": 0},
        # Tests create users, who the server lets in.
        "auth": {"method": "any", "users": {USER: {"password": "unused"}}},
        "clusters": {
            "main": {
                "nodes": [{"name": "db1", "host": node.host, "port": node.port}],
                "monitor": {"user": _MONITOR, "password": "unused"},
            }
        },
        "databases": {"*": {"cluster": "main", "pool_mode": "transaction", "pool_size": POOL_SIZE}},
    }
    path = folder / "pgweir.yaml"
    path.write_text(yaml.safe_dump(configuration))
    with Children(folder) as children:
        argv = [sys.executable, "-m", "proxy", "run", "-c", str(path)]
        _until_it_listens(children.start("pgweir", argv), place)
        yield place


def _through_pgbouncer(mode: str) -> Start:
    @contextmanager
    def start(folder: Path, node: Node) -> Iterator[Place]:
        place = Place("127.0.0.1", free_port())
        with TemporaryDirectory(prefix="pgweir-suites-") as name, Children(folder) as children:
            # It refuses to run as root, and who it runs as may not enter our folder.
            account = unprivileged_account()
            Path(name).chmod(0o755)
            users, path = Path(name, "userlist.txt"), Path(name, "pgbouncer.ini")
            users.write_text(f'"{USER}" ""\n')
            settings = {
                "listen_addr": place.host,
                "listen_port": place.port,
                "unix_socket_dir": "",
                "auth_type": "trust",
                "auth_file": users,
                # For users that tests create.
                "auth_user": USER,
                "pool_mode": mode,
                "default_pool_size": SESSION_POOL_SIZE if mode == "session" else POOL_SIZE,
                "max_client_conn": 1000,
                # It knows none of these; with them, clients would not even be let in.
                "ignore_startup_parameters": "extra_float_digits, options, search_path",
            }
            path.write_text(
                f"[databases]\n* = host={node.host} port={node.port}\n\n[pgbouncer]\n"
                + "".join(f"{key} = {value}\n" for key, value in settings.items())
            )
            argv = [find_program("pgbouncer"), path]
            child = children.start("pgbouncer", argv, account=account)
            _until_it_listens(child, place)
            over = threading.Event()

            def keep_up(child: Child) -> None:
                # 1.18 ends itself when it has just sent a cancel request whose client is gone.
                while not over.wait(0.1):
                    if not child.is_running:
                        child = children.start("pgbouncer", argv, account=account)

            keeper = threading.Thread(target=keep_up, args=(child,))
            keeper.start()
            try:
                yield place
            finally:
                over.set()
                keeper.join()

    return start


def _until_it_listens(child: Child, place: Place) -> None:
    deadline = time.monotonic() + _START_S
    while is_port_free(place.port):
        if not child.is_running or time.monotonic() > deadline:
            raise BenchmarkError(f"{child.name} did not start:\n{child.tail()}")
        time.sleep(0.05)


REFERENCE = "reference"
_DIRECTLY = (REFERENCE, "direct")
WAYS: Mapping[str, Start] = {
    REFERENCE: _direct,
    "direct": _direct,
    "pgweir": _through_pgweir,
    "pgbouncer-session": _through_pgbouncer("session"),
    "pgbouncer-transaction": _through_pgbouncer("transaction"),
}


def say(line: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(line + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 when all of it ran and was reported, whatever came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suites", description=__doc__)
    names = [suite.name for suite in SUITES]
    proxies = [way for way in WAYS if way not in _DIRECTLY]
    parser.add_argument("--only", default=",".join(names), help="suites, with commas")
    parser.add_argument("--ways", default=",".join(proxies), help="proxies, with commas")
    parser.add_argument("--folder", type=Path, default=Path("build/suites"))
    parser.add_argument("--reuse", action="store_true", help="the runs that are there")
    options = parser.parse_args(arguments)
    wanted, ways = options.only.split(","), options.ways.split(",")
    if unknown := {*wanted, *ways} - {*names, *proxies}:
        parser.error(f"no {', '.join(unknown)}; there are {', '.join((*names, *proxies))}")
    suites = [suite for suite in SUITES if suite.name in wanted]
    failures: list[str] = []
    try:
        workshop = Workshop(options.folder.resolve())
        for line in table(compare(workshop, suites, ways, failures, reuse=options.reuse), ways):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    except (BenchmarkError, EmbeddedError) as error:
        failures.append(str(error))
    for failure in failures:
        say(f"suites: {failure}")
    return 1 if failures else 0


def _run(argv: Sequence[str | Path], cwd: Path | None = None) -> str:
    """Run a step of the preparations, which must succeed. Result: what it printed."""
    done = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")[-2000:]
        raise BenchmarkError(f"{' '.join(map(str, argv))} failed:\n{said}")
    return done.stdout.decode()


if __name__ == "__main__":
    sys.exit(main())
