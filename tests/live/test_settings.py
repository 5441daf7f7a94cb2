"""A client's settings are its own, on whichever server connection it runs: as on a direct one."""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres
from tests.live.conversation import (
    SYNC,
    Address,
    Wire,
    address_of,
    bind,
    errors_of,
    execute,
    kinds_of,
    parse,
    query,
    rows_of,
    run,
)

LOOKED_AT = (
    "app.current_user_id",
    "app.tenant",
    "statement_timeout",
    "work_mem",
    "search_path",
    "TimeZone",
    "DateStyle",
    "application_name",
    "default_transaction_isolation",
    "role",
    "session_authorization",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


def weir_before(node: Postgres, folder: Path) -> Iterator[Pgweir]:
    each = {"cluster": "main", "dbname": DATABASE}
    databases = {"one": {**each, "pool_size": 1}, "three": {**each, "pool_size": 3}}
    node.execute(f"GRANT pg_monitor TO {APP.name}")
    with running(configuration(node, databases=databases), folder) as weir:
        yield weir


@pytest.fixture(scope="module")
def weir18(pg18: Postgres, folder: Path) -> Iterator[Pgweir]:
    yield from weir_before(pg18, folder)


@pytest.fixture(scope="module")
def weir16(pg16: Postgres, folder: Path) -> Iterator[Pgweir]:
    yield from weir_before(pg16, folder)


def shown(wire: Wire, name: str) -> str:
    """Its value; "" for a custom setting that is not set, as it is once it has been."""
    ((value,),) = rows_of(wire.ask(query(f"SELECT current_setting('{name}', true)")))
    return (value or b"").decode()


# What is done, the setting, and its value then.
SETTERS = [
    ("SET statement_timeout = '7s'", "statement_timeout", "7s"),
    ("SET SESSION work_mem TO '9MB'", "work_mem", "9MB"),
    ("/* why */ SET work_mem TO '9MB'", "work_mem", "9MB"),
    ("-- why\nSET work_mem TO '9MB'", "work_mem", "9MB"),
    ("SET app.current_user_id = '42'", "app.current_user_id", "42"),
    ("SET App.Current_User_Id TO 42", "app.current_user_id", "42"),
    ("SELECT set_config('app.current_user_id', '42', false)", "app.current_user_id", "42"),
    ("SET TIME ZONE 'Asia/Tokyo'", "TimeZone", "Asia/Tokyo"),
    ("SET NAMES 'LATIN1'", "client_encoding", "LATIN1"),
    ('SET search_path = a, "B c", public', "search_path", 'a, "B c", public'),
    ("SET DateStyle = 'German'", "DateStyle", "German, DMY"),
    ("SET ROLE pg_monitor", "role", "pg_monitor"),
    (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "default_transaction_isolation",
        "serializable",
    ),
    ("SET app.tenant = 'o''k \\ \"q\" ü'", "app.tenant", 'o\'k \\ "q" ü'),
    ("BEGIN; SET lock_timeout = '3s'; COMMIT", "lock_timeout", "3s"),
    ("SELECT 1; SET lock_timeout = '3s'", "lock_timeout", "3s"),
    ("DO $$ BEGIN PERFORM set_config('lock_timeout', '3s', false); END $$", "lock_timeout", "3s"),
    ("DO $$ BEGIN SET lock_timeout = '3s'; END $$", "lock_timeout", "3s"),
    ("DO $$ BEGIN PERFORM set_config('app.tenant', '7', false); END $$", "app.tenant", "7"),
    ("DO $$ BEGIN SET App.Tenant = '7'; END $$", "app.tenant", "7"),
    ("SELECT set_config('app.tenant'::text, '7', false)", "app.tenant", "7"),
]


@pytest.mark.parametrize("weir", ["weir18", "weir16"])
@pytest.mark.parametrize(("sql", "name", "value"), SETTERS)
def test_a_setting_stays_with_its_client(
    request: pytest.FixtureRequest, weir: str, sql: str, name: str, value: str
) -> None:
    place: Pgweir = request.getfixturevalue(weir)
    with (
        Wire.connect(address_of(place, "one")) as mine,
        Wire.connect(address_of(place, "one")) as theirs,
    ):
        before = shown(theirs, name)
        assert errors_of(mine.ask(query(sql))) == []
        for _ in range(2):
            assert shown(mine, name) == value
            assert shown(theirs, name) == before


@pytest.mark.parametrize(
    "said", ["; SET work_mem = '7MB'", "; SELECT set_config('work_mem', '7MB', false)"]
)
@pytest.mark.parametrize("length", [40_000, 2_000_000])
def test_a_setting_at_the_end_of_a_long_script_stays_with_its_client(
    weir18: Pgweir, length: int, said: str
) -> None:
    with (
        Wire.connect(address_of(weir18, "one")) as setter,
        Wire.connect(address_of(weir18, "one")) as other,
    ):
        usual = shown(other, "work_mem")
        setter.ask(query(f"SELECT length('{'x' * length}'){said}"))
        assert shown(other, "work_mem") == usual
        assert shown(setter, "work_mem") == "7MB"


@pytest.mark.parametrize(("sql", "name", "value"), [each for each in SETTERS if ";" not in each[0]])
def test_a_setting_made_by_the_extended_protocol_stays_with_its_client(
    weir18: Pgweir, sql: str, name: str, value: str
) -> None:
    other = run("SELECT 1")
    for said, ready in (
        ([run(sql), SYNC], 1),
        ([run(sql, name="named"), SYNC], 1),
        ([other, run(sql), other, SYNC], 1),
        ([other, SYNC, run(sql), SYNC, query("SELECT 1")], 3),
        ([run("BEGIN"), run(sql, name="named"), run("COMMIT"), SYNC], 1),
    ):
        with (
            Wire.connect(address_of(weir18, "one")) as mine,
            Wire.connect(address_of(weir18, "one")) as theirs,
        ):
            before = shown(theirs, name)
            assert errors_of(mine.ask(*said, ready=ready)) == []
            assert shown(theirs, name) == before
            assert shown(mine, name) == value


@pytest.mark.parametrize("given", ["app.tenant", "App.Tenant"])
def test_a_name_given_by_a_parameter_is_followed(weir18: Pgweir, given: str) -> None:
    said = parse("SELECT set_config($1, $2, false)"), bind(given, "42"), execute(), SYNC
    with (
        Wire.connect(address_of(weir18, "one")) as mine,
        Wire.connect(address_of(weir18, "one")) as theirs,
    ):
        assert rows_of(mine.ask(*said)) == [[b"42"]]
        assert shown(theirs, "app.tenant") == ""
        assert shown(mine, "app.tenant") == "42"


@pytest.mark.parametrize(
    ("statements", "value"),
    [
        (["BEGIN", "SET app.tenant = 'a'", "COMMIT"], "a"),
        (["BEGIN", "SET app.tenant = 'a'", "ROLLBACK"], "before"),
        (["BEGIN", "SET app.tenant = 'a'", "SELECT 1/0", "COMMIT"], "before"),
        (["BEGIN", "SET LOCAL app.tenant = 'a'", "COMMIT"], "before"),
        (["BEGIN", "SELECT set_config('app.tenant', 'a', true)", "COMMIT"], "before"),
        (
            ["BEGIN", "SET app.tenant = 'a'", "SAVEPOINT s", "SET app.tenant = 'b'",
             "ROLLBACK TO s", "COMMIT"],
            "a",
        ),
        (
            ["BEGIN", "SAVEPOINT s", "SET app.tenant = 'b'", "ROLLBACK TO s", "COMMIT"],
            "before",
        ),
        (["SET app.tenant = 'a'; SELECT 1/0"], "before"),
        (["BEGIN", "RESET app.tenant", "ROLLBACK"], "before"),
        (["BEGIN", "RESET ALL", "ROLLBACK"], "before"),
        (["BEGIN", "SAVEPOINT s", "RESET ALL", "ROLLBACK TO s", "COMMIT"], "before"),
        (["RESET app.tenant"], ""),
        (["RESET ALL"], ""),
        (["DISCARD ALL"], ""),
        (["BEGIN", "SET app.tenant = 'a'", "RESET ALL", "COMMIT"], ""),
    ],
)  # fmt: skip
def test_what_a_transaction_means_for_settings(
    weir18: Pgweir, statements: list[str], value: str
) -> None:
    with (
        Wire.connect(address_of(weir18, "one")) as mine,
        Wire.connect(address_of(weir18, "one")) as theirs,
    ):
        mine.ask(query("SET app.tenant = 'before'"))
        theirs.ask(query("SET app.tenant = 'theirs'"))
        for sql in statements:
            mine.ask(query(sql))
        assert shown(theirs, "app.tenant") == "theirs"
        assert shown(mine, "app.tenant") == value


def test_set_and_use_in_one_pipeline(weir18: Pgweir) -> None:
    with (
        Wire.connect(address_of(weir18, "one")) as mine,
        Wire.connect(address_of(weir18, "one")) as theirs,
    ):
        heard = mine.ask(
            query("SET app.tenant = 'a'"), query("SELECT current_setting('app.tenant')"), ready=2
        )
        assert rows_of(heard) == [[b"a"]]
        heard = mine.ask(run("SET app.tenant = 'b'"), SYNC, run("SHOW app.tenant"), SYNC, ready=2)
        assert rows_of(heard) == [[b"b"]]
        assert shown(theirs, "app.tenant") == ""
        assert shown(mine, "app.tenant") == "b"


def test_reset_tells_the_client_the_value_it_came_with(weir18: Pgweir) -> None:
    with Wire.connect(address_of(weir18, "one"), TimeZone="Asia/Tokyo") as wire:
        wire.ask(query("SET TimeZone = 'UTC'"))
        heard = wire.ask(query("RESET TimeZone"), query("SELECT 1"), ready=2)
        heard += wire.ask(query("SELECT 2"))
        told = [each.body for each in heard if each.kind == b"S"]
        assert told[-1] == b"TimeZone\0Asia/Tokyo\0"


def test_a_client_that_leaves_right_after_its_set_leaves_nothing(weir18: Pgweir) -> None:
    for _ in range(20):
        wire = Wire.connect(address_of(weir18, "one"))
        wire.send(query("SET statement_timeout = 99"))
        wire.close()
        with Wire.connect(address_of(weir18, "one")) as other:
            assert shown(other, "statement_timeout") == "0"


def test_settings_that_agree(weir18: Pgweir) -> None:
    """A second client with the same settings gets the server connection as it is."""
    with (
        Wire.connect(address_of(weir18, "one")) as mine,
        Wire.connect(address_of(weir18, "one")) as theirs,
    ):
        for wire in (mine, theirs):
            wire.ask(query("SET app.tenant = 'same'"))
        for wire in (mine, theirs) * 2:
            heard = wire.ask(query("SELECT 1"))
            assert kinds_of(heard) == "TDCZ"


@pytest.mark.parametrize("how", ["simple", "extended", "pipelined", "in one text"])
def test_an_execute_sets_what_its_statement_or_its_values_name(weir18: Pgweir, how: str) -> None:
    for prepare, run_it in (
        ("PREPARE s AS SELECT set_config('app.tenant', $1, false)", "EXECUTE s('me')"),
        ("PREPARE s AS SELECT set_config($1, $2, false)", "EXECUTE s('app.tenant', 'me')"),
    ):
        with (
            Wire.connect(address_of(weir18, "one")) as mine,
            Wire.connect(address_of(weir18, "one")) as theirs,
        ):
            if how == "simple":
                heard = mine.ask(query(prepare)) + mine.ask(query(run_it))
            elif how == "extended":
                heard = mine.ask(run(prepare), SYNC) + mine.ask(run(run_it), SYNC)
            elif how == "pipelined":
                heard = mine.ask(run(prepare), SYNC, run(run_it), SYNC, ready=2)
            else:
                heard = mine.ask(query(f"{prepare}; {run_it}"))
            assert errors_of(heard) == []
            assert shown(theirs, "app.tenant") == ""
            assert shown(mine, "app.tenant") == "me"


# No session tells which custom settings it has.
HIDDEN_NAMES = (
    "SELECT set_config('app.' || 'tenant', 'me', false)",
    "SELECT set_config(name, 'me', false) FROM (VALUES ('app.tenant')) AS names (name)",
)


@pytest.mark.parametrize("sql", HIDDEN_NAMES)
@pytest.mark.parametrize("how", ["simple", "extended", "in a transaction", "in a pipeline"])
def test_a_setting_whose_name_is_computed_pins_its_client(
    weir18: Pgweir, sql: str, how: str
) -> None:
    with (
        Wire.connect(address_of(weir18, "three")) as mine,
        Wire.connect(address_of(weir18, "three")) as theirs,
    ):
        said = {
            "simple": [query(sql)],
            "extended": [run(sql), SYNC],
            "in a transaction": [query("BEGIN"), query(sql), query("COMMIT")],
            "in a pipeline": [run("SELECT 1"), run(sql), run("SELECT 2"), SYNC],
        }[how]
        assert errors_of(mine.ask(*said, ready=3 if "trans" in how else 1)) == []
        for _ in range(3):
            assert shown(theirs, "app.tenant") == ""
            assert shown(mine, "app.tenant") == "me"
        assert weir18.metric("pgweir_pinned_clients", database="three") == 1
        mine.ask(query("DISCARD ALL"))
        assert shown(mine, "app.tenant") == ""
        assert weir18.metric("pgweir_pinned_clients", database="three") == 0


@pytest.mark.parametrize(
    ("how", "size"),
    [
        (how, size)
        for how in ("simple", "extended", "named", "pipelined")
        for size in (10_000, 30_000, 200_000, 3_000_000)
        # A text that is not kept can have no name.
        if how != "named" or size < 1 << 20
    ],
)
def test_a_setting_at_the_end_of_a_long_text_is_seen(weir18: Pgweir, how: str, size: int) -> None:
    """The grammar does not read so long a text, and one beyond max_statement_bytes is not kept."""
    sql = f"SELECT '{'x' * size}', set_config('app.tenant', 'me', false)"
    with (
        Wire.connect(address_of(weir18, "one")) as mine,
        Wire.connect(address_of(weir18, "one")) as theirs,
    ):
        said, ready = {
            "simple": ([query(sql)], 1),
            "extended": ([run(sql), SYNC], 1),
            "named": ([run(sql, name="long"), SYNC], 1),
            "pipelined": ([query("SELECT 1"), run(sql), SYNC, query("SELECT 2")], 3),
        }[how]
        assert errors_of(mine.ask(*said, ready=ready)) == []
        assert shown(theirs, "app.tenant") == ""
        if size < 1 << 20:
            assert shown(mine, "app.tenant") == "me"


LONG = "x" * 3_000_000


@pytest.mark.parametrize(
    ("left", "asks", "hears"),
    [
        (f"SELECT '{LONG}', set_config('work_mem', '7MB', false)", "SHOW work_mem", "7MB"),
        (f"SET /* {LONG} */ work_mem = '7MB'", "SHOW work_mem", "7MB"),
        (f"CREATE TEMP TABLE left_by AS SELECT 1 AS a, '{LONG}'", "SELECT a FROM left_by", "1"),
        (f"PREPARE left_by AS SELECT 1, '{LONG}'", "EXECUTE left_by", "1"),
        (
            f"SELECT '{LONG}', pg_advisory_lock(7)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
            "1",
        ),
        (f"LISTEN /* {LONG} */ left_by", "SELECT * FROM pg_listening_channels()", "left_by"),
    ],
    ids=["set_config", "SET", "temporary table", "PREPARE", "advisory lock", "LISTEN"],
)
@pytest.mark.parametrize("database", ["one", "three"])
def test_what_a_parse_leaves_that_is_too_long_to_be_kept_is_its_client_s(
    weir18: Pgweir, database: str, left: str, asks: str, hears: str
) -> None:
    """It is asked for, and pins its client where it cannot be carried."""
    with (
        Wire.connect(address_of(weir18, database)) as mine,
        Wire.connect(address_of(weir18, database)) as theirs,
    ):
        # What was known of the unnamed statement before does not count.
        assert errors_of(mine.ask(run("SELECT 1"), SYNC)) == []
        assert errors_of(mine.ask(run(left), SYNC)) == []
        for _ in range(3):
            assert mine.value(asks) == hears
            # Of one connection alone the other client gets none while it is pinned.
            if database == "three" or asks == "SHOW work_mem":
                heard = theirs.ask(query(asks))
                assert errors_of(heard) or rows_of(heard) != [[hears.encode()]]


def test_psycopg_keeps_its_settings(weir18: Pgweir) -> None:
    url = address_of(weir18, "three")
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                psycopg.connect(
                    host=url.host, port=url.port, dbname="three", user=APP.name,
                    password=APP.password, autocommit=True,
                )
            )
            for _ in range(6)
        ]  # fmt: skip
        for number, client in enumerate(clients):
            client.execute("SELECT set_config('app.current_user_id', %s, false)", [str(number)])
        for _ in range(5):
            for number, client in enumerate(clients):
                row = client.execute("SELECT current_setting('app.current_user_id')").fetchone()
                assert row == (str(number),)


# -- the same things done at random, to a client and to a direct connection

VALUES = {
    "app.current_user_id": ["'1'", "'22'", "''"],
    "app.tenant": ["'red'", "'blue'"],
    "statement_timeout": ["'7s'", "0", "DEFAULT"],
    "work_mem": ["'5MB'", "'6MB'"],
    "search_path": ["a, public", "''", "DEFAULT"],
    "TimeZone": ["'Asia/Tokyo'", "'UTC'", "DEFAULT"],
    "DateStyle": ["'German'", "'ISO, YMD'"],
    "application_name": ["'one'", "'two'"],
}
OTHERS = [
    "BEGIN", "BEGIN", "COMMIT", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s",
    "SELECT 1/0", "SELECT 1", "RESET ALL", "DISCARD ALL", "SET ROLE pg_monitor", "RESET ROLE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "RESET default_transaction_isolation",
]  # fmt: skip


def something(choose: random.Random) -> str:
    name = choose.choice(list(VALUES))
    value = choose.choice(VALUES[name])
    match choose.randrange(7):
        case 0 | 1:
            return f"SET {name} TO {value}"
        case 2:
            return f"SET LOCAL {name} TO {value}"
        case 3 if value.startswith("'"):
            local = choose.choice(["true", "false"])
            return f"SELECT set_config('{name}', {value}, {local})"
        case 4:
            return f"RESET {name}"
        case _:
            return choose.choice(OTHERS)


class Twins:
    """A client of the proxy and a direct connection to which the same is done."""

    def __init__(self, stack: ExitStack, through: Address, direct: Address, startup: str) -> None:
        came_with = {"application_name": "twin", "TimeZone": startup}
        self.both = [
            stack.enter_context(Wire.connect(each, **came_with)) for each in (through, direct)
        ]
        self.said: list[str] = []

    def do(self, sql: str, choose: random.Random) -> None:
        self.said.append(sql)
        extended = choose.random() < 0.4
        told = [wire.ask(*([run(sql), SYNC] if extended else [query(sql)])) for wire in self.both]
        errors = [errors_of(each) for each in told]
        assert errors[0] == errors[1], self.said
        assert told[0][-1].body == told[1][-1].body, self.said

    def compare(self) -> None:
        if any(errors_of(wire.ask(query("SELECT 1"))) for wire in self.both):
            return  # an aborted transaction shows nothing
        for name in LOOKED_AT:
            mine, true = (shown(wire, name) for wire in self.both)
            assert mine == true, (name, self.said)


@pytest.mark.parametrize("weir", ["weir18", "weir16"])
@pytest.mark.parametrize("database", ["one", "three"])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_done_to_settings_is_as_on_a_direct_connection(
    request: pytest.FixtureRequest, weir: str, database: str, seed: int
) -> None:
    place: Pgweir = request.getfixturevalue(weir)
    node: Postgres = request.getfixturevalue(weir.replace("weir", "pg"))
    choose = random.Random(f"{database} {seed}")
    with ExitStack() as stack:
        clients = [
            Twins(stack, address_of(place, database), address_of(node), zone)
            for zone in ("UTC", "Asia/Tokyo", "Europe/Berlin", "UTC")
        ]
        for _ in range(40):
            # In a transaction a client keeps its server connection, so one goes at a time.
            twins = choose.choice(clients)
            for _ in range(choose.randrange(1, 6)):
                twins.do(something(choose), choose)
                twins.compare()
            twins.do("ROLLBACK" if choose.random() < 0.5 else "COMMIT", choose)
            twins.compare()


def test_who_is_in_other_settings_is_overtaken_a_few_times_and_no_more(weir18: Pgweir) -> None:
    """Its neighbours in line, whose settings the server connection is in, save it a SET each."""
    with ExitStack() as stack:

        def client(tenant: str) -> Wire:
            return stack.enter_context(
                Wire.connect(address_of(weir18, "one"), options=f"-c app.tenant={tenant}")
            )

        holder = client("many")
        other = client("other")
        many = [client("many") for _ in range(20)]
        holder.ask(query("BEGIN"))
        holder.ask(query("SELECT 1"))
        for number, wire in enumerate((other, *many), 1):
            wire.send(query("SELECT clock_timestamp()::text"))
            weir18.wait_until(
                lambda number=number: (
                    weir18.metric("pgweir_client_connections", state="waiting") == number
                )
            )
        holder.ask(query("COMMIT"))
        (theirs,) = (rows_of(other.until_ready())[0],)
        before = [wire for wire in many if rows_of(wire.until_ready())[0] < theirs]
    assert before == many[:8]
