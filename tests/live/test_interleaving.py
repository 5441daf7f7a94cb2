"""Many clients, each with a token of its own in every row, on few servers, while things go wrong.

Invariant: nobody ever sees a token that is not theirs, in a row, a COPY, a setting or an error.
"""

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.faults.raw_client import (
    FLUSH,
    SYNC,
    Message,
    RawClient,
    bind,
    close,
    describe,
    execute,
    message,
    parse,
    query,
    send_cancel,
)
from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import APP, DATABASE, Postgres

CLIENTS = 12
# How often each of them asks.
QUIET = 40
STORMY = 60
STORMIER = 200


class Chat:
    """One client's life: it asks in every way there is, and looks for foreign tokens."""

    def __init__(self, weir: Pgweir, number: int, *, may_leave: bool) -> None:
        self.weir = weir
        self.chance = random.Random(number)
        self.number = number
        self.may_leave = may_leave
        self.counts: Counter[str] = Counter()
        self.foreign: list[str] = []
        self.count = 0
        self.client = self.come()

    def come(self) -> RawClient:
        """Log in; in a storm, where a login may wait for a server in vain, as often as it takes."""
        self.prepared = 0
        while True:
            try:
                return RawClient.logged_in(
                    self.weir.port, APP.name, DATABASE, application_name=f"chat-{self.number}"
                )
            except (AssertionError, ConnectionError):
                if not self.may_leave:
                    raise
                self.counts["lost"] += 1

    def token(self) -> str:
        self.count += 1
        return f"token-{self.number}-{self.count}-"

    def look(self, replies: list[Message], *tokens: str) -> None:
        """Rows and errors hold one of these tokens, in order; or an error says why they do not."""
        left = list(tokens)
        for each in replies:
            if each.kind in (b"D", b"d"):
                text = each.body.decode("utf-8", "replace")
                while left and left[0] not in text:
                    left.pop(0)
                if not left:
                    self.foreign.append(f"client {self.number} wanted {tokens}, saw {text!r}")
            elif each.kind == b"E":
                self.counts[each.fields["C"]] += 1
                text = each.fields["M"]
                if "token-" in text and f"token-{self.number}-" not in text:
                    self.foreign.append(f"client {self.number} saw the error {text!r}")
        self.counts["answers"] += 1

    # Each way of asking.

    def simple(self) -> None:
        token = self.token()
        self.look(self.client.ask(f"SELECT '{token}' FROM generate_series(1, 3)"), token)

    def several(self) -> None:
        one, two = self.token(), self.token()
        self.look(self.client.ask(f"SELECT '{one}'; SELECT '{two}'"), one, two)

    def extended(self) -> None:
        token = self.token()
        self.client.send(
            parse("", f"SELECT '{token}'") + bind("", "") + describe("P", "") + execute() + SYNC
        )
        self.look(self.client.read_until(b"Z"), token)

    def flushed(self) -> None:
        token = self.token()
        self.client.send(parse("", f"SELECT '{token}'") + FLUSH)
        self.client.send(bind("", "") + execute() + SYNC)
        self.look(self.client.read_until(b"Z"), token)

    def named(self) -> None:
        name = f"own{self.prepared % 4}"
        token = f"token-{self.number}-named{self.prepared % 4}-"
        if self.prepared >= 4:
            self.client.send(bind("", name) + execute() + SYNC)
        else:
            self.client.send(parse(name, f"SELECT '{token}'") + bind("", name) + execute() + SYNC)
        replies = self.client.read_until(b"Z")
        if not [each for each in replies if each.kind == b"E"]:
            self.prepared += 1
        elif self.prepared < 4:
            # It may or may not have been prepared: begin anew.
            self.client.send(close("S", name) + SYNC)
            self.client.read_until(b"Z")
        self.look(replies, token)

    def pipelined(self) -> None:
        tokens = [self.token() for _ in range(4)]
        octets = b""
        for at, token in enumerate(tokens):
            sql = f"SELECT '{token}'" if at != 2 else f"SELECT '{token}'::int"
            octets += parse("", sql) + bind("", "") + execute() + SYNC
        self.client.send(octets)
        for token in tokens:
            self.look(self.client.read_until(b"Z"), token)

    def transaction(self) -> None:
        token = self.token()
        self.look(self.client.ask("BEGIN"))
        self.look(self.client.ask(f"SET LOCAL work_mem = '{64 + self.number}kB'"))
        self.look(self.client.ask(f"SELECT '{token}', current_setting('work_mem')"), token)
        self.look(self.client.ask(self.chance.choice(["COMMIT", "ROLLBACK"])))

    def setting(self) -> None:
        replies = self.client.ask("SELECT 'x', current_setting('application_name')")
        for each in replies:
            if each.kind == b"D" and each.columns[1] != f"chat-{self.number}".encode():
                self.foreign.append(f"client {self.number} has the settings of {each.columns[1]!r}")
        self.counts["answers"] += 1

    def copy_out(self) -> None:
        token = self.token()
        sql = f"COPY (SELECT '{token}' FROM generate_series(1, 50)) TO STDOUT"
        self.look(self.client.ask(sql), token)

    def copy_in(self) -> None:
        token = self.token()
        self.client.send(query("COPY interleaved FROM STDIN"))
        while (each := self.client.read()) is not None and each.kind not in (b"G", b"E"):
            pass
        assert each is not None
        if each.kind == b"G":
            self.client.send(message(b"d", f"{token}\n".encode()) * 5 + message(b"c"))
            self.look(self.client.read_until(b"Z"))
        else:
            self.look([each, *self.client.read_until(b"Z")])
        sql = f"SELECT line FROM interleaved WHERE line LIKE 'token-{self.number}-%' LIMIT 5"
        self.look(self.client.ask(sql), f"token-{self.number}-")

    def error(self) -> None:
        token = self.token()
        self.look(self.client.ask(f"SELECT '{token}'::int"), token)

    def large(self) -> None:
        token = self.token()
        self.look(self.client.ask(f"SELECT repeat('{token}', 2000)"), token)

    def cancelled(self) -> None:
        token = self.token()
        self.client.send(query(f"SELECT '{token}', pg_sleep({self.chance.uniform(0, 0.004)})"))
        threading.Event().wait(self.chance.uniform(0, 0.004))
        send_cancel(self.weir.port, self.client.pid, self.client.secret)
        self.look(self.client.read_until(b"Z"), token)

    def left(self) -> None:
        """Vanish in the middle of something, and come again."""
        token = self.token()
        octets = self.chance.choice(
            [
                query(f"SELECT '{token}', pg_sleep(0.003)"),
                query("BEGIN") + query(f"SELECT '{token}'"),
                parse("", f"SELECT '{token}'") + bind("", "") + execute() + SYNC,
                query(f"SELECT repeat('{token}', 20000)"),
                query("COPY interleaved FROM STDIN") + message(b"d", f"{token}\n".encode()),
            ]
        )
        self.client.send(octets[: self.chance.randint(1, len(octets))])
        threading.Event().wait(self.chance.uniform(0, 0.003))
        if self.chance.random() < 0.5:
            self.client.reset()
        else:
            self.client.close()
        self.client = self.come()
        self.counts["left"] += 1

    def live(self, turns: int) -> None:
        ways = [
            self.simple, self.several, self.extended, self.flushed, self.named, self.pipelined,
            self.transaction, self.setting, self.copy_out, self.copy_in, self.error, self.large,
        ]  # fmt: skip
        if self.may_leave:
            ways += [self.cancelled, self.cancelled, self.left]
        for _ in range(turns):
            way = self.chance.choice(ways)
            try:
                way()
            except (AssertionError, ConnectionError):
                # Its connection is gone, which a server that dies in a long row may cost.
                if not self.may_leave:
                    raise
                self.counts["lost"] += 1
                self.client.close()
                self.client = self.come()
        self.client.close()


@pytest.fixture
def interleaved(pg18: Postgres) -> Iterator[Postgres]:
    """A table to copy into."""
    pg18.execute(
        "DROP TABLE IF EXISTS interleaved; CREATE UNLOGGED TABLE interleaved (line text);"
        f"GRANT ALL ON interleaved TO {APP.name}"
    )
    yield pg18
    pg18.execute("SET lock_timeout = '5s'; DROP TABLE interleaved")


def live(
    weir: Pgweir, turns: int, *, may_leave: bool, trouble: Callable[[], None] | None = None
) -> Counter[str]:
    """Let all clients live, and give what they counted; fails when one saw what is not its own."""
    chats = [Chat(weir, number, may_leave=may_leave) for number in range(CLIENTS)]
    failures: list[BaseException] = []

    def run(chat: Chat) -> None:
        try:
            chat.live(turns)
        except BaseException as error:  # noqa: BLE001 -- raised below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(chat,)) for chat in chats]
    for each in threads:
        each.start()
    while trouble is not None and any(each.is_alive() for each in threads):
        trouble()
        threading.Event().wait(0.05)
    for each in threads:
        each.join()
    for chat in chats:
        chat.client.close()
    if failures:
        raise failures[0]
    assert [each for chat in chats for each in chat.foreign] == []
    counts: Counter[str] = Counter()
    for chat in chats:
        counts += chat.counts
    return counts


def start(start_pgweir: Callable[..., Pgweir], node: Postgres, **limits: object) -> Pgweir:
    return start_pgweir(
        node,
        auth={"method": "trust"},
        databases={DATABASE: limits},
        log={"level": "info"},
    )


@pytest.mark.parametrize("share_unnamed", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("pool_size", [1, 5])
def test_in_quiet_times_every_client_gets_its_own_answers_and_no_errors_but_its_own(
    start_pgweir: Callable[..., Pgweir],
    interleaved: Postgres,
    pool_size: int,
    share_unnamed: bool,
) -> None:
    weir = start(start_pgweir, interleaved, pool_size=pool_size, share_unnamed=share_unnamed)
    counts = live(weir, QUIET, may_leave=False)
    assert counts.pop("answers") >= CLIENTS * QUIET
    # invalid_text_representation is asked for; 25P02 would be somebody else's failed transaction.
    assert set(counts) == {"22P02"}


@pytest.mark.parametrize("pool_size", [1, 5])
def test_under_cancels_departures_and_killed_servers_nobody_sees_anothers_token(
    start_pgweir: Callable[..., Pgweir], interleaved: Postgres, pool_size: int
) -> None:
    weir = start(start_pgweir, interleaved, pool_size=pool_size)
    counts = storm(weir, interleaved, STORMY)
    assert counts["answers"] > 200


@pytest.mark.slow
@pytest.mark.parametrize("pool_size", [1, 5])
def test_under_a_long_storm_nobody_sees_anothers_token(
    start_pgweir: Callable[..., Pgweir], interleaved: Postgres, pool_size: int
) -> None:
    limits = {
        "max_prepared_statements": 5,
        "server_lifetime": "300ms",
        "query_wait_timeout": "200ms",
    }
    weir = start(start_pgweir, interleaved, pool_size=pool_size, share_unnamed=True, **limits)
    counts = storm(weir, interleaved, STORMIER)
    assert counts["answers"] > 400


def storm(weir: Pgweir, node: Postgres, turns: int) -> Counter[str]:
    """Live while servers are killed now and then; at the end everything must be clean again."""
    chance = random.Random(1)
    with psycopg.connect(node.superuser_dsn, autocommit=True) as superuser:

        def kill_one() -> None:
            if chance.random() < 0.3:
                superuser.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE usename = %s ORDER BY random() LIMIT 1",
                    (APP.name,),
                )

        counts = live(weir, turns, may_leave=True, trouble=kill_one)
    weir.wait_until(lambda: weir.metric("pgweir_client_connections") == 0)
    weir.wait_until(lambda: weir.metric("pgweir_server_connections", state="active") == 0)
    weir.wait_until(lambda: weir.metric("pgweir_server_connections", state="closing") == 0)
    with contextlib.closing(RawClient.logged_in(weir.port, APP.name, DATABASE)) as client:
        assert client.value("SELECT 'calm'") == "calm"
    return counts
