"""PostgreSQL's regression suite beside the classifier: is every read one that a replica runs?

    python -m tests.sql.regression …/src/test/regress

The folder is that of PostgreSQL's sources, for instance from

    apt-get source --download-only --tar-only postgresql-15

Each statement of the suite runs on a primary whose commits wait for its replica. What is taken for
a read then runs on the replica, too, in a session with the same settings. Where the primary answers
and the replica refuses for being one, the verdict was wrong. So it was where the answers differ,
unless the session has a temporary table of that name or has rolled a setting back: that is known
where sessions are, and not here. Takes about four minutes; no part of the suite of tests.
"""

import asyncio
import re
import sys
from collections import Counter
from pathlib import Path

import psycopg
from psycopg.pq import ExecStatus, PGconn, TransactionStatus

from proxy.embedded import Cluster, ClusterSpec
from proxy.sql import Catalogue, Classifier, Touch, Verdict, builtin_volatility, lex

DATABASE = "regression"
SETTINGS = {"fsync": "off", "hot_standby_feedback": "on", "max_prepared_transactions": "5"}
# psql's own commands, endless recursion on purpose, folders that are not here.
LEFT_OUT = {"psql", "psql_crosstab", "infinite_recurse", "tablespace", "largeobject"}
# read_only_sql_transaction, and what recovery answers with.
REFUSED = (b"25006", b"55000", b"0A000")


def read_statements(file: Path) -> list[bytes]:
    """The statements of one of its files, without psql's commands and the data of COPY."""
    text = file.read_bytes()
    text = re.sub(rb"(?msi)^(copy [^;]*from stdin[^;]*;).*?^\\\.$", b"", text)
    text = re.sub(rb"\\(gset|gexec|gdesc|crosstabview|;)", b";", text)
    text = re.sub(rb"(?m)\\g\b.*$", b";", text)
    text = re.sub(rb"(?m)^\\.*$", b"", text)
    return [text[start:end] for start, end in lex(text).spans]


def order_of(folder: Path) -> list[str]:
    """The files in the order of the suite."""
    lines = (folder / "parallel_schedule").read_text("utf-8").splitlines()
    names = [name for line in lines if line.startswith("test:") for name in line[5:].split()]
    return [name for name in dict.fromkeys(["test_setup", *names]) if name not in LEFT_OUT]


class Answer:
    """What one node answers."""

    def __init__(self, link: PGconn, text: bytes) -> None:
        result = link.exec_(text)
        self.rows: list[str] = []
        if result.status == ExecStatus.COPY_IN:
            link.put_copy_end(b"not now")
        if result.status == ExecStatus.COPY_OUT:
            while link.get_copy_data(0)[0] > 0:
                pass
        while result.status in (ExecStatus.COPY_IN, ExecStatus.COPY_OUT) and link.get_result():
            pass
        self.error = result.error_message if result.status == ExecStatus.FATAL_ERROR else None
        self.sqlstate = result.error_field(67) if self.error else None
        columns = range(result.nfields)
        self.rows = sorted(
            repr([result.get_value(row, column) for column in columns])
            for row in range(result.ntuples)
        )


def is_setting(verdict: Verdict) -> bool:
    """Whether it does nothing but change what the session on the replica must have, too."""
    touches = {effect.touch for effect in verdict.effects}
    return bool(touches) and touches <= {Touch.SETTING, Touch.ROLE}


def compare(primary: PGconn, replica: PGconn, texts: list[bytes], found: Counter[str]) -> None:
    """Run one file."""
    classifier = Classifier(Catalogue(builtin_volatility))
    for text in texts:
        answer = Answer(primary, text)
        verdict = classifier.classify(text)[1]
        found["statements"] += 1
        if is_setting(verdict):
            Answer(replica, text)
        outside = primary.transaction_status == TransactionStatus.IDLE
        if not verdict.reads_only or not outside:
            continue
        found["reads"] += 1
        there = Answer(replica, text)
        if there.error and not answer.error and there.sqlstate in REFUSED:
            found["REFUSED"] += 1
            print(f"REFUSED {text!r}: {there.error.decode()}", flush=True)
        elif there.error != answer.error:
            found["other errors"] += 1
        elif there.rows != answer.rows and not text.lower().startswith(b"explain"):
            found["other answers"] += 1
            print(f"differs {text!r}", flush=True)


def connect(dsn: str, settings: str) -> PGconn:
    link = psycopg.connect(dsn, autocommit=True).pgconn
    link.exec_(
        f"{settings}; SET statement_timeout = '10s'; SET client_min_messages = error".encode()
    )
    return link


async def main(folder: Path) -> int:
    """Run the whole suite; 1 when a read was refused."""
    found: Counter[str] = Counter()
    async with Cluster(ClusterSpec(replicas=1, settings=SETTINGS)) as cluster:
        primary, replica = cluster.primary, cluster.replicas[0]
        await primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'", "postgres")
        await primary.execute("SELECT pg_reload_conf()", "postgres")
        await primary.execute(
            f"CREATE DATABASE {DATABASE} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0", "postgres"
        )
        await cluster.until_caught_up()
        for name in order_of(folder):
            texts = read_statements(folder / "sql" / f"{name}.sql")
            links = (
                connect(primary.dsn(database=DATABASE), "SET synchronous_commit = remote_apply"),
                connect(replica.dsn(database=DATABASE), "SET extra_float_digits = 1"),
            )
            await asyncio.to_thread(compare, *links, texts, found)
            for link in links:
                link.finish()
    print(", ".join(f"{count} {what}" for what, count in found.items()))
    return 1 if found["REFUSED"] else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
