"""Sessions that share one server connection, and what no statement's text tells of, in any order.

Functions, triggers, DO and EXECUTE leave settings, roles, temporary tables, locks, held cursors,
channels and prepared statements, each with a token of its client. Whatever is said is said on a
direct connection, too, and the answers must be the same: so nobody ever meets another's token, and
nobody loses its own.
"""

import select
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres
from tests.live.conversation import (
    LIMIT_S,
    SYNC,
    Address,
    Message,
    Wire,
    address_of,
    bind,
    execute,
    fields_of,
    parse,
    query,
    rows_of,
    run,
)

CLIENTS = 3

CODE = """
DROP SCHEMA IF EXISTS unseen CASCADE;
CREATE SCHEMA unseen;
SET search_path = unseen;
CREATE FUNCTION set_tenant(who text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.tenant', who, false); RETURN who; END $$;
CREATE FUNCTION set_in_sql(who text) RETURNS text LANGUAGE sql AS
    $$ SELECT unseen.set_tenant(who) $$;
CREATE FUNCTION set_locally(who text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.tenant', who, true); RETURN who; END $$;
CREATE FUNCTION set_by_text(who text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE format('SET app.other = %L', who); RETURN who; END $$;
CREATE FUNCTION set_for_itself(who text) RETURNS text LANGUAGE plpgsql SET app.tenant = 'inside' AS
    $$ BEGIN PERFORM set_config('app.other', who, false);
       RETURN current_setting('app.tenant'); END $$;
CREATE FUNCTION set_and_fail(who text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.tenant', who, false); RETURN 1 / 0; END $$;
CREATE FUNCTION set_in_vain(who text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.tenant', who, false); RETURN 1 / 0;
       EXCEPTION WHEN division_by_zero THEN RETURN 0; END $$;
CREATE FUNCTION set_after(who text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN RETURN 1 / 0;
       EXCEPTION WHEN division_by_zero THEN
           PERFORM set_config('app.tenant', who, false); RETURN 0; END $$;
CREATE FUNCTION set_memory(kilobytes int) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE format('SET work_mem = %s', kilobytes); RETURN kilobytes; END $$;
CREATE FUNCTION set_zone(zone text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('TimeZone', zone, false); RETURN zone; END $$;
CREATE FUNCTION run_it(command text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE command; RETURN 1; END $$;
CREATE FUNCTION reset_it() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN RESET ALL; RETURN 1; END $$;
CREATE PROCEDURE set_and_commit(who text) LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.tenant', who, false); COMMIT;
       PERFORM set_config('app.other', who, false); ROLLBACK; END $$;
CREATE FUNCTION become() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN SET ROLE pg_monitor; RETURN 1; END $$;
CREATE FUNCTION prepare_it(who text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE format('PREPARE mine AS SELECT %L::text', who); RETURN 1; END $$;
CREATE FUNCTION prepare_a_call(who text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE format('PREPARE mine AS SELECT unseen.set_tenant(%L)', who); RETURN 1; END $$;
CREATE FUNCTION listen_to(who text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE format('LISTEN %I', who); RETURN 1; END $$;
CREATE FUNCTION lock_it(key int) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_lock(key); RETURN 1; END $$;
CREATE FUNCTION lock_and_fail(key int) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_lock(key); RETURN 1 / 0; END $$;
CREATE FUNCTION unlock_them() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_unlock_all(); RETURN 1; END $$;
CREATE FUNCTION make_table(who text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE format('CREATE TEMP TABLE unseen_table AS SELECT %L::text AS a', who);
       RETURN 1; END $$;
CREATE FUNCTION drop_table() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN DROP TABLE unseen_table; RETURN 1; END $$;
CREATE FUNCTION hold_it(who text) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE format('DECLARE held CURSOR WITH HOLD FOR SELECT %L::text', who);
       RETURN 1; END $$;
CREATE TABLE fires (a text);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM unseen.set_in_sql(new.a); RETURN NULL; END $$;
CREATE TRIGGER fire BEFORE INSERT ON fires FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TABLE has_default (a text, b text DEFAULT set_tenant('default'));
CREATE VIEW calls AS SELECT set_tenant('view') AS a;
RESET search_path;
GRANT USAGE ON SCHEMA unseen TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA unseen TO PUBLIC;
"""

# TOKEN: the client's own, another each time. LOCK: a key that nobody else has.
LEAVES = [
    "SELECT unseen.set_tenant('TOKEN')",
    "SELECT unseen.set_in_sql('TOKEN')",
    "SELECT unseen.set_locally('TOKEN')",
    "SELECT unseen.set_by_text('TOKEN')",
    "SELECT unseen.set_for_itself('TOKEN')",
    "SELECT unseen.set_and_fail('TOKEN')",
    "SELECT unseen.set_in_vain('TOKEN')",
    "SELECT unseen.set_after('TOKEN')",
    "SELECT unseen.set_memory(NUMBER)",
    "SELECT unseen.set_zone('ZONE')",
    "SELECT unseen.run_it('SET app.other = ''TOKEN''')",
    "SELECT unseen.run_it('SET LOCAL app.other = ''TOKEN''')",
    "SELECT unseen.reset_it()",
    "CALL unseen.set_and_commit('TOKEN')",
    "SELECT unseen.become()",
    "SELECT unseen.prepare_it('TOKEN')",
    "SELECT unseen.prepare_a_call('TOKEN')",
    "SELECT unseen.listen_to('TOKEN')",
    "INSERT INTO unseen.fires VALUES ('TOKEN')",
    "WITH i AS (INSERT INTO unseen.has_default (a) VALUES ('TOKEN') RETURNING b) SELECT b FROM i",
    "SELECT a FROM unseen.calls",
    "DO $$ BEGIN PERFORM set_config('app.tenant', 'TOKEN', false); END $$",
    "DO $$ BEGIN EXECUTE 'SET app.other = ''TOKEN'''; END $$",
    "DO $$ BEGIN PERFORM unseen.set_by_text('TOKEN'); RAISE division_by_zero; END $$",
    "SET app.tenant = 'TOKEN'",
    "SET LOCAL app.other = 'TOKEN'",
    "SELECT set_config('app.other', 'TOKEN', false)",
    "SET work_mem = NUMBER",
    "SET TimeZone = 'ZONE'",
    "PREPARE mine AS SELECT 'TOKEN'::text",
    "PREPARE mine AS SELECT unseen.set_by_text('TOKEN')",
]
PINS = [
    "SELECT unseen.lock_it(LOCK)",
    "SELECT unseen.lock_and_fail(LOCK)",
    "SELECT unseen.make_table('TOKEN')",
    "SELECT unseen.hold_it('TOKEN')",
    "DO $$ BEGIN PERFORM pg_advisory_lock(LOCK); END $$",
    "SELECT unseen.run_it('CREATE TEMP TABLE IF NOT EXISTS unseen_table AS SELECT ''TOKEN'' AS a')",
]
ENDS = [
    "SELECT unseen.unlock_them()",
    "SELECT unseen.drop_table()",
    "DROP TABLE IF EXISTS unseen_table",
    "CLOSE held",
    "DEALLOCATE mine",
    "RESET ALL",
    "RESET app.tenant",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION DEFAULT",
    "UNLISTEN *",
    "DISCARD ALL",
]
LOOK = """
SELECT nullif(current_setting('app.tenant', true), ''),
       nullif(current_setting('app.other', true), ''),
       current_setting('work_mem'), current_setting('TimeZone'), current_user, session_user,
       (SELECT string_agg(name, ',') FROM pg_prepared_statements WHERE from_sql),
       (SELECT string_agg(relname, ',') FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
       (SELECT string_agg(name, ',') FROM pg_cursors WHERE is_holdable),
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
       (SELECT string_agg(c, ',' ORDER BY c) FROM pg_listening_channels() AS c)
"""
SHOWS = [LOOK, LOOK, "EXECUTE mine", "SELECT a FROM unseen_table", "FETCH ALL FROM held"]
BLOCKS = [
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "RELEASE a",
    "SELECT 1 / 0",
]
HELD = """
SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = pg_my_temp_schema())
    OR EXISTS (SELECT FROM pg_cursors WHERE is_holdable)
    OR EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
"""


@dataclass(frozen=True)
class Request:
    """What a client says at a time, with its tokens still to be filled in."""

    how: str
    texts: tuple[str, ...]


texts = st.one_of(*(st.sampled_from(each) for each in (LEAVES, LEAVES, PINS, ENDS, SHOWS, BLOCKS)))
requests = st.one_of(
    st.builds(Request, st.sampled_from(["simple", "extended", "named"]), st.tuples(texts)),
    st.builds(
        Request,
        st.sampled_from(["together", "unit", "pipelined", "queries"]),
        st.tuples(texts, texts),
    ),
    st.just(Request("again", ())),
    st.just(Request("bound", ())),
    st.just(Request("left", ())),
)


@dataclass
class Session:
    """One client, and the direct connection that says the same."""

    number: int
    through: Address
    directly: Address
    said: list[str] = field(default_factory=list)
    tokens: int = 0
    names: int = 0
    awaited: tuple[bytes, int] | None = None
    heard: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.come()

    def come(self) -> None:
        self.mine = Wire.connect(self.through)
        self.same = Wire.connect(self.directly)

    def leave(self) -> None:
        self.mine.close()
        self.same.close()

    def write(self, request: Request, *, direct: bool) -> tuple[bytes, int]:
        """The bytes, and how many ReadyForQuery end their answer."""
        filled = []
        for at, text in enumerate(request.texts):
            token = f"token-{self.number}-{self.tokens + at}"
            lock = 1000 * self.number + 500 * direct + at
            filled.append(
                text.replace("TOKEN", token)
                .replace("LOCK", str(lock))
                .replace("NUMBER", str(1024 + 64 * self.number + at))
                .replace("ZONE", f"Etc/GMT-{self.number + 1}")
            )
        if not direct:
            self.said.append(f"{self.number} {request.how} {filled}")
        match request.how:
            case "simple":
                return query(filled[0]), 1
            case "together":
                return query("; ".join(filled)), 1
            case "queries":
                return b"".join(query(text) for text in filled), 2
            case "extended":
                return run(filled[0]) + SYNC, 1
            case "named":
                name = f"n{self.names}"
                return parse(filled[0], name) + bind(name=name) + execute() + SYNC, 1
            case "unit":
                return b"".join(run(text) for text in filled) + SYNC, 1
            case "pipelined":
                return b"".join(run(text) + SYNC for text in filled), 2
            case "again":
                return bind(name=f"n{self.names - 1}") + execute() + SYNC, 1
            case _:
                return run("SELECT unseen.set_tenant($1)", f"token-{self.number}-bound") + SYNC, 1

    def say(self, request: Request) -> None:
        """Say it through the proxy; the direct connection will when this is answered."""
        self.tokens += 2
        self.names += request.how == "named"
        octets, times = self.write(request, direct=False)
        self.awaited = self.write(request, direct=True)[0], times
        self.heard = []
        self.mine.send(octets)

    def hear(self) -> bool:
        """Take what has come. True once the answer is whole, and as it should be."""
        assert self.awaited is not None
        octets, times = self.awaited
        self.heard += self.mine.until_ready()
        if len([each for each in self.heard if each.kind == b"Z"]) < times:
            return False
        expected = self.same.ask(octets, ready=times)
        self.awaited = None
        assert seen(self.heard) == seen(expected), "\n".join(self.said)
        return True

    def holds(self) -> bool:
        """Is it to keep the server connection?"""
        if self.heard[-1].body != b"I":
            return True
        return self.same.value(HELD) == "t"


def seen(heard: Sequence[Message]) -> list[object]:
    """What of an answer is to be the same."""
    found: list[object] = []
    for each in heard:
        if each.kind == b"E":
            found.append(("E", fields_of(each)["C"]))
        elif each.kind == b"T":
            found.append(("T", struct.unpack_from("!H", each.body)))
        elif each.kind == b"D":
            found.append(rows_of([each]))
        elif each.kind not in (b"N", b"S", b"A"):
            found.append(each)
    return found


class Stage:
    """Sessions on one server connection; whoever holds it is heard before the others."""

    def __init__(self, through: Address, directly: Address) -> None:
        self.said: list[str] = []
        self.sessions = [Session(number, through, directly, self.said) for number in range(CLIENTS)]
        self.holder: Session | None = None

    def take(self, who: int, request: Request) -> None:
        """One step."""
        session = self.sessions[who]
        if session.awaited is not None:
            return
        if request.how == "left":
            self.said.append(f"{who} left")
            session.leave()
            session.come()
            if self.holder is session:
                self.holder = None
            self.hear_all()
            return
        session.say(request)
        self.hear_all()

    def hear_all(self) -> None:
        """Hear all whose turn comes."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            if self.holder is not None:
                waiting = [self.holder] if self.holder.awaited is not None else []
            else:
                waiting = [each for each in self.sessions if each.awaited is not None]
            if not waiting:
                return
            ready, _, _ = select.select([each.mine.sock for each in waiting], [], [], LIMIT_S)
            assert ready and time.monotonic() < deadline, "\n".join(["no answer:", *self.said])
            for each in waiting:
                if each.mine.sock in ready:
                    self.holder = each
                    while not each.hear():
                        pass
                    if not each.holds():
                        self.holder = None
                    break

    def end(self) -> None:
        """Let everybody come to an end, look around, and leave."""
        for _ in range(2 * CLIENTS):
            if self.holder is None:
                break
            for text in ("ROLLBACK", "DISCARD ALL"):
                self.take(self.holder.number, Request("simple", (text,)))
                if self.holder is None:
                    break
        for _ in range(2):
            for who in range(CLIENTS):
                self.take(who, Request("simple", (LOOK,)))

    def close(self) -> None:
        for each in self.sessions:
            each.leave()


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    pg18.execute(f"GRANT pg_monitor TO {APP.name}")
    pg18.execute(CODE)
    databases = {"one": {"cluster": "main", "dbname": DATABASE, "pool_size": 1}}
    with running(
        configuration(pg18, databases=databases), tmp_path_factory.mktemp("unseen")
    ) as weir:
        explain = query("EXPLAIN POOLING SELECT unseen.set_tenant('x')")
        with Wire.connect(address_of(weir, "one")) as wire:
            weir.wait_until(lambda: rows_of(wire.ask(explain))[0][0] == b"replayed")
        yield weir
    pg18.execute("DROP SCHEMA unseen CASCADE")


def test_whatever_functions_leave_in_any_order_stays_with_its_client(
    weir: Pgweir, pg18: Postgres
) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.integers(0, CLIENTS - 1), requests), min_size=5, max_size=25))
    def anything(steps: list[tuple[int, Request]]) -> None:
        stage = Stage(address_of(weir, "one"), address_of(pg18))
        try:
            for who, request in steps:
                stage.take(who, request)
            stage.end()
        finally:
            stage.close()

    anything()


def test_what_is_left_while_functions_are_read_anew_stays_with_its_client(
    weir: Pgweir, pg18: Postgres
) -> None:
    """After a DROP beside a call they are; what they leave is known all the same."""
    drops = Request("together", ("DROP TABLE IF EXISTS unseen_table", LEAVES[0]))
    for _ in range(5):
        stage = Stage(address_of(weir, "one"), address_of(pg18))
        try:
            stage.take(0, drops)
            for who in (1, 2):
                stage.take(who, Request("simple", (LEAVES[0],)))
            stage.end()
        finally:
            stage.close()
