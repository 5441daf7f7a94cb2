"""COPY that goes wrong; and hundreds of megabytes through a proxy of constant size."""

import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres
from tests.live.conversation import (
    COPY_DONE,
    SYNC,
    Wire,
    address_of,
    bind,
    copy_data,
    errors_of,
    execute,
    parse,
    query,
    rows_of,
    run,
)

MB = 1 << 20
MOST_GROWTH_BYTES = 30 * MB


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    each = {"cluster": "main", "dbname": DATABASE}
    databases = {
        "one": {**each, "pool_size": 1},
        "two": {**each, "pool_size": 2},
        "session": {**each, "pool_size": 2, "pool_mode": "session"},
    }
    pg18.execute(f"CREATE TABLE bulk (a int, b text); ALTER TABLE bulk OWNER TO {APP.name}")
    with running(configuration(pg18, databases=databases), tmp_path_factory.mktemp("bulk")) as weir:
        yield weir
    pg18.execute("DROP TABLE bulk")


def resident_bytes(weir: Pgweir) -> int:
    """What the proxy holds in memory."""
    for line in Path(f"/proc/{weir.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


class Watch:
    """The largest resident size while something else goes on."""

    def __init__(self, weir: Pgweir) -> None:
        self.before = self.most = resident_bytes(weir)
        self._weir = weir
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.most = max(self.most, resident_bytes(self._weir))

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, resident_bytes(self._weir))

    @property
    def grown_bytes(self) -> int:
        return self.most - self.before


def take(wire: Wire, count: int) -> int:
    """Read and forget until a ReadyForQuery has ended at least so many bytes. Result: how many."""
    sock, total, tail = wire.sock, 0, b""
    while True:
        octets = sock.recv(1 << 18)
        assert octets, "the proxy hung up"
        total += len(octets)
        tail = (tail + octets)[-6:]
        if total >= count and tail[:5] == b"Z\0\0\0\5":
            return total


# -- much


@pytest.mark.slow
@pytest.mark.parametrize("database", ["one", "session"])
def test_a_result_of_200_mb_passes_in_constant_memory(weir: Pgweir, database: str) -> None:
    with Wire.connect(address_of(weir, database)) as wire, Watch(weir) as watch:
        wire.send(query("SELECT repeat('r', 1000000) FROM generate_series(1, 200)"))
        assert take(wire, 200_000_000) > 200_000_000
        assert wire.value("SELECT 1") == "1"
    assert watch.grown_bytes < MOST_GROWTH_BYTES


def test_a_row_costs_the_same_memory_whatever_its_size(weir: Pgweir) -> None:
    """So a row of 1 GB, PostgreSQL's largest, costs no more than one of 16 MB."""
    grown: dict[int, int] = {}
    for count in (16_000_000, 256_000_000):
        with Wire.connect(address_of(weir, "one")) as wire, Watch(weir) as watch:
            wire.send(run(f"SELECT repeat('r', {count})"), SYNC)
            assert take(wire, count) > count
            assert wire.value("SELECT 1") == "1"
        grown[count] = watch.grown_bytes
    small, large = grown.values()
    assert large < small + 8 * MB
    assert small < MOST_GROWTH_BYTES


def test_many_small_rows_pass_in_constant_memory(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "one")) as wire, Watch(weir) as watch:
        wire.send(query("SELECT i FROM generate_series(1, 1000000) i"))
        assert take(wire, 10_000_000) > 10_000_000
        assert wire.value("SELECT 1") == "1"
    assert watch.grown_bytes < MOST_GROWTH_BYTES


@pytest.mark.parametrize("database", ["one", "session"])
def test_a_parameter_of_100_mb_passes_in_constant_memory(weir: Pgweir, database: str) -> None:
    count = 100_000_000
    head = b"\0\0\0\0\0\1" + struct.pack("!i", count)
    start = b"B" + struct.pack("!i", 4 + len(head) + count + 2) + head
    block = b"p" * MB
    with Wire.connect(address_of(weir, database)) as wire, Watch(weir) as watch:
        wire.sock.settimeout(60)
        wire.send(parse("SELECT length($1::text)"), start)
        left = count
        while left:
            wire.send(block[: min(left, MB)])
            left -= min(left, MB)
        wire.send(b"\0\0", execute(), SYNC)
        heard = wire.until(lambda m: m.kind == b"Z", 60)
    assert rows_of(heard) == [[b"100000000"]]
    assert watch.grown_bytes < MOST_GROWTH_BYTES


def test_a_parameter_of_a_named_statement_of_50_mb_passes_in_constant_memory(weir: Pgweir) -> None:
    value = "n" * 50_000_000
    with Wire.connect(address_of(weir, "one")) as wire:
        wire.ask(parse("SELECT length($1::text)", "long"), SYNC)
        said = bind(value, name="long") + execute() + SYNC
        with Watch(weir) as watch:
            wire.sock.settimeout(60)
            wire.sock.sendall(said)
            heard = wire.until(lambda m: m.kind == b"Z", 60)
    assert rows_of(heard) == [[b"50000000"]]
    assert watch.grown_bytes < MOST_GROWTH_BYTES


def test_a_query_text_of_50_mb_passes_in_constant_memory(weir: Pgweir) -> None:
    said = query(f"SELECT length('{'q' * 50_000_000}')")
    with Wire.connect(address_of(weir, "one")) as wire, Watch(weir) as watch:
        wire.sock.settimeout(60)
        wire.sock.sendall(said)
        heard = wire.until(lambda m: m.kind == b"Z", 60)
    assert rows_of(heard) == [[b"50000000"]]
    assert watch.grown_bytes < MOST_GROWTH_BYTES


@pytest.mark.slow
def test_copy_of_100_mb_in_and_out_passes_in_constant_memory(weir: Pgweir, pg18: Postgres) -> None:
    line = b"1\t" + b"c" * 997 + b"\n"
    block = copy_data(line * 100)
    with Wire.connect(address_of(weir, "one")) as wire, Watch(weir) as watch:
        wire.sock.settimeout(60)
        wire.send(query("COPY bulk FROM STDIN"))
        wire.until_kind(b"G")
        for _ in range(1000):
            wire.send(block)
        wire.send(COPY_DONE)
        wire.until(lambda m: m.kind == b"Z", 60)
        wire.send(query("COPY bulk TO STDOUT"))
        assert take(wire, 100_000_000) > 100_000_000
    pg18.execute("TRUNCATE bulk")
    assert watch.grown_bytes < MOST_GROWTH_BYTES


# -- a client that does not read, and one that does not listen


def test_a_client_that_reads_slowly_does_not_grow_the_proxy(weir: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir, "two")) as slow,
        Wire.connect(address_of(weir, "two")) as other,
    ):
        with Watch(weir) as watch:
            slow.send(query("SELECT repeat('s', 1000000) FROM generate_series(1, 100)"))
            # Others are served meanwhile: the proxy has done all it could for the slow one.
            for _ in range(200):
                assert other.value("SELECT 'served'") == "served"
            assert take(slow, 100_000_000) > 100_000_000
        assert slow.value("SELECT 1") == "1"
    assert watch.grown_bytes < MOST_GROWTH_BYTES


def test_many_clients_that_do_not_read_do_not_grow_the_proxy(
    pg18: Postgres, tmp_path: Path
) -> None:
    with running(configuration(pg18, databases={DATABASE: {"pool_size": 20}}), tmp_path) as weir:
        wires = [Wire.connect(address_of(weir)) for _ in range(20)]
        try:
            with Watch(weir) as watch:
                for wire in wires:
                    wire.send(query("SELECT repeat('s', 1000000) FROM generate_series(1, 50)"))
                for wire in wires:
                    assert take(wire, 50_000_000) > 50_000_000
        finally:
            for wire in wires:
                wire.close()
    assert watch.grown_bytes < MOST_GROWTH_BYTES


def test_a_server_that_does_not_read_stops_its_client(weir: Pgweir) -> None:
    """COPY into a table that is locked: the server reads nothing before it has the lock."""
    line = copy_data(b"1\t" + b"l" * 9997 + b"\n")
    with (
        Wire.connect(address_of(weir, "two")) as locker,
        Wire.connect(address_of(weir, "two")) as wire,
    ):
        locker.ask(query("BEGIN"))
        locker.ask(query("LOCK bulk"))
        wire.sock.setblocking(False)
        sent = 0
        with Watch(weir) as watch:
            said = memoryview(query("COPY bulk FROM STDIN") + line * 3000)
            deadline = threading.Event()
            while sent < len(said) and not deadline.wait(0.001):
                try:
                    sent += wire.sock.send(said[sent : sent + MB])
                except BlockingIOError:
                    break
            locker.ask(query("ROLLBACK"))
            wire.sock.settimeout(30)
            wire.sock.sendall(said[sent:])
            wire.send(COPY_DONE)
            assert errors_of(wire.until(lambda m: m.kind == b"Z", 30)) == []
        wire.ask(query("TRUNCATE bulk"))
    assert watch.grown_bytes < MOST_GROWTH_BYTES


def test_a_pipeline_of_which_nothing_is_read_meanwhile_is_answered_in_full(weir: Pgweir) -> None:
    count = 20_000
    said = (bind("x" * 50, name="p") + execute()) * count
    with Wire.connect(address_of(weir, "one")) as wire:
        wire.ask(parse("SELECT $1::text", "p"), SYNC)
        heard = wire.exchange([said + SYNC], lambda h: bool(h) and h[-1].kind == b"Z")
    assert len(rows_of(heard)) == count


# -- COPY that goes wrong


def assert_usable(wire: Wire, word: str) -> None:
    assert wire.value(f"SELECT '{word}'") == word


def test_a_message_cut_in_two_by_a_failing_copy_reaches_no_other_client(
    pg18: Postgres, tmp_path: Path
) -> None:
    long = copy_data(b"5\tx\n" * 25_000)
    said = "COPY bulk FROM STDIN"
    databases = {DATABASE: {"pool_size": 1}}
    pg18.execute(
        f"CREATE TABLE IF NOT EXISTS bulk (a int, b text); ALTER TABLE bulk OWNER TO {APP.name}"
    )
    with (
        running(configuration(pg18, databases=databases), tmp_path) as weir,
        Wire.connect(address_of(weir)) as wire,
        Wire.connect(address_of(weir)) as other,
    ):
        wire.send(query(said))
        wire.until_kind(b"G")
        wire.send(copy_data(b"no number\tx\n"), long[:50_000])
        assert errors_of(wire.until_ready()) == ["22P02"]
        other.send(query("SELECT 'mine'"))
        wire.send(long[50_000:], COPY_DONE)
        assert rows_of(other.until_ready()) == [[b"mine"]]
        assert_usable(wire, "still here")
        assert_usable(other, "still here")


def test_a_message_cut_in_two_by_the_loss_of_its_server_reaches_no_other_client(
    pg18: Postgres, tmp_path: Path
) -> None:
    said = parse("SELECT length($1::text)") + bind("v" * 1_000_000) + execute() + SYNC
    databases = {DATABASE: {"pool_size": 2}}
    with (
        running(configuration(pg18, databases=databases), tmp_path) as weir,
        Wire.connect(address_of(weir)) as wire,
        Wire.connect(address_of(weir)) as other,
    ):
        wire.ask(query("BEGIN"))
        pid = wire.value("SELECT pg_backend_pid()")
        since = len(weir.log)
        wire.send(said[:500_000])
        pg18.execute(f"SELECT pg_terminate_backend({pid})")
        weir.wait_for_log("server connection closed", since=since)
        wire.send(said[500_000:520_000])
        for _ in range(5):
            assert rows_of(other.ask(query("SELECT 'mine'"))) == [[b"mine"]]
        wire.send(said[520_000:])
        assert errors_of(wire.until_ready()) == ["08006"]
        wire.ask(query("ROLLBACK"))
        assert_usable(wire, "still here")


@pytest.mark.parametrize("database", ["one", "two", "session"])
def test_a_copy_interrupted_by_a_query_harms_nobody_else(weir: Pgweir, database: str) -> None:
    with Wire.connect(address_of(weir, database)) as wire:
        wire.send(query("COPY bulk FROM STDIN"), copy_data(b"1\ta\n"), query("SELECT 1"))
        wire.until_kind(b"G")
        wire.until_kind(b"E")
        with Wire.connect(address_of(weir, database)) as other:
            assert_usable(other, "unharmed")


@pytest.mark.parametrize("said", ["simple", "extended"])
def test_a_copy_refused_after_it_was_begun_leaves_the_server_in_step(
    weir: Pgweir, said: str
) -> None:
    """PostgreSQL asks for the data and then finds that it cannot freeze them."""
    text = "COPY bulk FROM STDIN (FREEZE)"
    asked = query(text) if said == "simple" else parse(text) + bind() + execute() + SYNC
    rest = b"" if said == "simple" else SYNC
    with (
        Wire.connect(address_of(weir, "one")) as wire,
        Wire.connect(address_of(weir, "one")) as other,
    ):
        for number in range(30):
            wire.send(asked)
            wire.until_kind(b"G")
            wire.send(copy_data(b"1\ta\n"), COPY_DONE, rest)
            assert errors_of(wire.until_ready()) == ["55000"]
            assert_usable(other, f"other {number}")
        with Wire.connect(address_of(weir, "one")) as third:
            assert_usable(third, "third")


@pytest.mark.parametrize("database", ["one", "session"])
def test_a_client_that_leaves_in_the_middle_of_a_copy_in_leaves_nothing(
    weir: Pgweir, pg18: Postgres, database: str
) -> None:
    with Wire.connect(address_of(weir, database)) as wire:
        wire.send(query("COPY bulk FROM STDIN"))
        wire.until_kind(b"G")
        wire.send(copy_data(b"77\tabandoned\n"))
        wire.sock.close()
    with Wire.connect(address_of(weir, database)) as other:
        assert_usable(other, "next")
    assert pg18.value("SELECT count(*) FROM bulk WHERE a = 77") == 0


@pytest.mark.parametrize("database", ["one", "session"])
def test_a_client_that_leaves_in_the_middle_of_a_copy_out_leaves_a_usable_pool(
    weir: Pgweir, database: str
) -> None:
    for _ in range(3):
        with Wire.connect(address_of(weir, database)) as wire:
            wire.send(
                query("COPY (SELECT repeat('o', 1000) FROM generate_series(1, 100000)) TO STDOUT")
            )
            wire.until_kind(b"d")
            wire.sock.close()
        with Wire.connect(address_of(weir, database)) as other:
            assert_usable(other, "next")


def test_copies_of_many_clients_over_few_servers_arrive_whole(weir: Pgweir, pg18: Postgres) -> None:
    failures: list[BaseException] = []

    def load(client: int) -> None:
        try:
            with psycopg.connect(weir.dsn(database="two"), autocommit=True) as conn:
                for turn in range(10):
                    with conn.cursor() as cursor:
                        with cursor.copy("COPY bulk FROM STDIN") as copy:
                            for row in range(50):
                                copy.write_row((client, f"{turn}/{row}"))
                        if turn % 3 == 2:
                            with (
                                pytest.raises(psycopg.errors.InvalidTextRepresentation),
                                cursor.copy("COPY bulk FROM STDIN") as copy,
                            ):
                                copy.write(b"no number\tx\n")
        except BaseException as error:  # noqa: BLE001 -- shown by the test
            failures.append(error)

    threads = [threading.Thread(target=load, args=(client,)) for client in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = pg18.fetch(
        "SELECT a, count(*), count(DISTINCT b) FROM bulk WHERE b ~ '/' GROUP BY a ORDER BY a"
    )
    pg18.execute("TRUNCATE bulk")
    assert failures == []
    assert found == [(client, 500, 500) for client in range(8)]


@pytest.mark.parametrize("size", [1, 5, 4096, 8187, 8188, 8192, 16383, 16384, 65536, 300_000])
def test_rows_of_any_size_arrive_unchanged(weir: Pgweir, size: int) -> None:
    with Wire.connect(address_of(weir, "one")) as wire:
        heard = wire.ask(query(f"SELECT repeat(chr(97 + i), {size}) FROM generate_series(0, 9) i"))
    assert rows_of(heard) == [[bytes([97 + i]) * size] for i in range(10)]


def test_an_error_message_longer_than_any_buffer_passes(weir: Pgweir) -> None:
    with Wire.connect(address_of(weir, "one")) as wire:
        heard = wire.ask(query("DO $$ BEGIN RAISE '%', repeat('e', 100000); END $$"))
        assert errors_of(heard) == ["P0001"]
        assert max(len(each.body) for each in heard) > 100_000
        assert_usable(wire, "after")


@pytest.mark.parametrize("size", [200_000, 400_000, 2_000_000])
def test_a_long_error_message_passes_as_on_a_direct_connection(
    weir: Pgweir, pg18: Postgres, size: int
) -> None:
    said = query(f"DO $$ BEGIN RAISE '%', repeat('e', {size}); END $$")
    with Wire.connect(address_of(pg18)) as direct, Wire.connect(address_of(weir, "one")) as wire:
        assert wire.ask(said) == direct.ask(said)


@pytest.mark.parametrize("size", [100_000, 2_000_000])
def test_a_long_notice_passes_as_on_a_direct_connection(
    weir: Pgweir, pg18: Postgres, size: int
) -> None:
    said = query(f"DO $$ BEGIN RAISE NOTICE '%', repeat('n', {size}); END $$")
    with Wire.connect(address_of(pg18)) as direct, Wire.connect(address_of(weir, "one")) as wire:
        assert wire.ask(said) == direct.ask(said)


def test_a_row_description_of_many_columns_passes(weir: Pgweir) -> None:
    columns = ", ".join(f"{n} AS {'c' * 55}{n}" for n in range(1600))
    with Wire.connect(address_of(weir, "one")) as wire:
        heard = wire.ask(run(f"SELECT {columns}"), SYNC)
    assert rows_of(heard) == [[str(n).encode() for n in range(1600)]]


def test_large_objects_pass(weir: Pgweir, pg18: Postgres) -> None:
    octets = bytes(range(256)) * 20_000
    with psycopg.connect(weir.dsn(database="one")) as conn:
        conn.execute("SELECT lo_from_bytea(515151, %b)", (octets,))
        row = conn.execute("SELECT lo_get(515151)", binary=True).fetchone()
        assert row is not None and row[0] == octets
        conn.execute("SELECT lo_unlink(515151)")


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    def wait(fact: Callable[[], bool]) -> None:
        over = threading.Event()
        for _ in range(500):
            if fact():
                return
            over.wait(0.02)
        raise AssertionError("it did not come about")

    return wait


@pytest.mark.parametrize("database", ["one", "session"])
def test_a_client_that_leaves_a_long_query_has_it_cancelled(
    weir: Pgweir, pg18: Postgres, database: str, until: Callable[[Callable[[], bool]], None]
) -> None:
    marker = f"abandoned_{database}"
    running_now = (
        f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%{marker}%'"
        " AND state = 'active' AND pid <> pg_backend_pid()"
    )
    with Wire.connect(address_of(weir, database)) as wire:
        wire.send(query(f"SELECT pg_sleep(60) /* {marker} */"))
        until(lambda: pg18.value(running_now) == 1)
        wire.sock.close()
        until(lambda: pg18.value(running_now) == 0)
    with Wire.connect(address_of(weir, database)) as other:
        assert_usable(other, "next")
