"""PostgreSQL's regression suite beside the classifier: is every read one that a replica runs?

Each statement of the suite runs on a primary whose commits wait for its replica. What is taken for
a read then runs on the replica, too, in a session with the same settings. Where the primary answers
and the replica refuses for being one, the verdict was wrong. Answers that differ are counted and no
failure: the session has a temporary table of that name, say, or has rolled a setting back, which is
known where sessions are and not here.
"""

import time
from collections import Counter
from collections.abc import Callable

import psycopg
import pytest
from psycopg.pq import ConnStatus, ExecStatus, PGconn, TransactionStatus

from proxy.sql import Catalogue, Classifier, Touch, Verdict, builtin_volatility
from tests.fixtures.postgres import DATABASE, PostgresCluster
from tests.fixtures.regress import Suite

NAME = "regression"
SETTINGS = {"fsync": "off", "hot_standby_feedback": "on", "max_prepared_transactions": "5"}
# read_only_sql_transaction, and what recovery answers with.
REFUSED = (b"25006", b"55000", b"0A000")
# So many reads of the suite are run by both, or the test would be worth little.
LEAST_READS = 12_000
# A statement that it does not survive ends its file. Few may do that.
MOST_CRASHES = 4
RESTART_S = 30.0


class Answer:
    """What one node answers."""

    def __init__(self, link: PGconn, text: bytes) -> None:
        result = link.exec_(text)
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


def compare(
    primary: PGconn, replica: PGconn, texts: list[bytes], found: Counter[str]
) -> list[tuple[bytes, bytes]]:
    """Run one file. Result: the reads that the replica refused, with what it said."""
    classifier = Classifier(Catalogue(builtin_volatility))
    refused = []
    for text in texts:
        try:
            answer = Answer(primary, text)
        except psycopg.OperationalError:
            # Some statements PostgreSQL itself does not survive: then it is up again in a second.
            found["crashes"] += 1
            break
        verdict = classifier.classify(text)[1]
        found["statements"] += 1
        if is_setting(verdict):
            Answer(replica, text)
        outside = primary.transaction_status == TransactionStatus.IDLE
        if not verdict.reads_only or not outside:
            continue
        found["reads"] += 1
        there = Answer(replica, text)
        if there.error and (
            there.sqlstate == b"25006" or (not answer.error and there.sqlstate in REFUSED)
        ):
            refused.append((text, there.error))
        elif there.error != answer.error:
            found["other errors"] += 1
        elif there.error:
            found["the same error"] += 1
        elif there.rows != answer.rows and not text.lower().startswith(b"explain"):
            found["other answers"] += 1
        else:
            found["the same answer"] += 1
    return refused


def connect(dsn: str, settings: str) -> PGconn:
    deadline = time.monotonic() + RESTART_S
    while (link := PGconn.connect(dsn.encode())).status != ConnStatus.OK:
        assert time.monotonic() < deadline, link.error_message
        link.finish()
        time.sleep(0.1)
    link.exec_(
        f"{settings}; SET statement_timeout = '5s'; SET client_min_messages = error".encode()
    )
    return link


@pytest.mark.slow
@pytest.mark.replication
@pytest.mark.timeout(600)
def test_what_is_taken_for_a_read_runs_on_a_replica(
    start_cluster: Callable[..., PostgresCluster], regression_suite: Suite
) -> None:
    cluster = start_cluster(replicas=1, settings=SETTINGS)
    primary, replica = cluster.nodes
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.execute("SELECT pg_reload_conf()")
    primary.execute(f"CREATE DATABASE {NAME} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    cluster.until_caught_up()
    found: Counter[str] = Counter()
    refused = []
    for texts in regression_suite.files.values():
        links = [
            connect(node.superuser_dsn.replace(DATABASE, NAME), settings)
            for node, settings in (
                (primary, "SET synchronous_commit = remote_apply"),
                (replica, "SET extra_float_digits = 1"),
            )
        ]
        refused += compare(*links, texts, found)
        for link in links:
            link.finish()
    print(", ".join(f"{count} {what}" for what, count in found.items()))
    assert refused == []
    assert found["the same answer"] >= LEAST_READS
    assert found["crashes"] <= MOST_CRASHES
