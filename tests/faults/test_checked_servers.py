"""A server connection that was unused for long is asked before it is given to a client."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.faults.conftest import proxy_before
from tests.faults.raw_client import RawClient, query
from tests.faults.wire import Wire, wire_to
from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import APP, DATABASE, MONITOR, Postgres

MARK = b"SELECT 'are you there'"
CHECKED = {
    "cluster": "main",
    "dbname": DATABASE,
    "pool_size": 1,
    "server_check_delay": "100ms",
    "server_check_query": MARK.decode(),
}
# Each a database of its own, with these limits in place of the above.
LIMITS: dict[str, dict[str, object]] = {
    "one": {},
    "three": {"pool_size": 3},
    "later": {"server_check_delay": "1s"},
    "always": {"server_check_delay": 0},
    "never": {"server_check_query": ""},
    "impatient": {"server_connect_timeout": "300ms"},
    "wrong": {"server_check_query": "SELECT 1/0"},
}


@pytest.fixture(scope="module")
def checked_proxy(
    pg18: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Wire, Pgweir]]:
    wire = wire_to((pg18.host, pg18.port), MONITOR.name)
    databases = {name: {**CHECKED, **limits} for name, limits in LIMITS.items()}
    folder = tmp_path_factory.mktemp("checked")
    with proxy_before(wire, folder, databases=databases) as both:
        yield both


class Scene:
    """A wire, a proxy, and what the proxy has said to servers since `said` was cleared."""

    def __init__(self, wire: Wire, weir: Pgweir) -> None:
        self.wire = wire
        self.weir = weir
        self.said: list[bytes] = []
        wire.on_request = self._listen

    def _listen(self, octets: bytes) -> bool:
        self.said.append(octets)
        return True

    def login(self, database: str) -> RawClient:
        return RawClient.logged_in(self.weir.port, APP.name, database)

    def make_idle(self, database: str, count: int = 1, idle_s: float = 0.2) -> None:
        """Let the pool have so many connections, unused for so long."""
        clients = [self.login(database) for _ in range(count)]
        for each in clients:
            each.ask("BEGIN")
            each.value("SELECT 1")
        for each in clients:
            each.ask("COMMIT")
            each.close()
        assert self.weir.metric("pgweir_server_connections", state="idle") == count
        threading.Event().wait(idle_s)  # nothing else makes a connection old
        self.said.clear()

    def wait_for_waiting(self, count: int) -> None:
        self.weir.wait_until(
            lambda: self.weir.metric("pgweir_client_connections", state="waiting") == count
        )


@pytest.fixture
def scene(checked_proxy: tuple[Wire, Pgweir]) -> Iterator[Scene]:
    """The proxy as new: no client, no server."""
    wire, weir = checked_proxy
    yield Scene(wire, weir)

    def is_empty() -> bool:
        wire.restore()
        gauges = ("pgweir_client_connections", "pgweir_server_connections")
        return not any(weir.metric(each) for each in gauges)

    weir.wait_until(is_empty)


def test_an_old_connection_is_asked_and_a_fresh_one_is_not(scene: Scene) -> None:
    scene.make_idle("later", idle_s=1.1)
    with scene.login("later") as client:
        pid = client.value("SELECT pg_backend_pid()")
        assert client.value("SELECT pg_backend_pid()") == pid
    assert [MARK in octets for octets in scene.said] == [True, False, False]


def test_with_an_empty_query_nobody_is_asked(scene: Scene) -> None:
    scene.make_idle("never")
    with scene.login("never") as client:
        client.value("SELECT 'on'")
    assert len(scene.said) == 1


def test_with_a_delay_of_0_each_is_asked(scene: Scene) -> None:
    scene.make_idle("always", idle_s=0)
    with scene.login("always") as client:
        client.value("SELECT 2")
        client.value("SELECT 3")
    assert [MARK in octets for octets in scene.said] == [True, False, True, False]


@pytest.mark.parametrize(("database", "count"), [("one", 1), ("three", 3)])
def test_connections_that_die_at_the_question_cost_their_client_no_error(
    scene: Scene, database: str, count: int
) -> None:
    scene.make_idle(database, count)
    scene.wire.on_request = lambda octets: MARK not in octets
    with scene.login(database) as client:
        assert client.value("SELECT 'on'") == "on"


def test_a_connection_that_does_not_answer_costs_its_client_no_error(scene: Scene) -> None:
    """A firewall has forgotten it: it is neither closed nor alive."""
    scene.make_idle("impatient")
    for passage in scene.wire.passages:
        passage.is_held.set()
    with scene.login("impatient") as client:
        assert client.value("SELECT 'on'") == "on"


def test_those_who_wait_for_answers_are_served_first_come_first_served(scene: Scene) -> None:
    scene.make_idle("one")
    scene.wire.passages[-1].is_held.set()
    with scene.login("one") as one, scene.login("one") as two, scene.login("one") as three:
        for number, each in enumerate((one, two, three), 1):
            each.send(query("SELECT clock_timestamp()::text"))
            scene.wait_for_waiting(number)
        scene.wire.passages[-1].is_held.clear()
        times = []
        for each in (one, two, three):
            times += [found.columns[0] for found in each.read_until(b"Z") if found.kind == b"D"]
        assert times == sorted(times, key=lambda time: time or b"")


def test_a_question_that_is_wrong_replaces_connections_and_fails_nobody(scene: Scene) -> None:
    scene.make_idle("wrong")
    with scene.login("wrong") as client:
        assert client.value("SELECT 'on'") == "on"
    assert scene.weir.metric("pgweir_server_connections", database="wrong") == 1


def test_a_client_that_leaves_while_a_connection_is_asked_costs_the_next_nothing(
    scene: Scene,
) -> None:
    scene.make_idle("one")
    scene.wire.passages[-1].is_held.set()
    with scene.login("one") as two:
        one = scene.login("one")
        one.send(query("SELECT 'gone'"))
        scene.wait_for_waiting(1)
        one.reset()
        scene.weir.wait_until(
            lambda: scene.weir.metric("pgweir_client_connections", database="one") == 1
        )
        scene.wire.passages[-1].is_held.clear()
        assert two.value("SELECT 'on'") == "on"


def test_a_connection_that_is_not_wanted_any_more_need_not_answer(
    start_wired: Callable[..., tuple[Wire, Pgweir]], tmp_path: Path
) -> None:
    """Its database is taken out of the configuration while it is asked."""
    wire, weir = start_wired(databases={"one": CHECKED})
    scene = Scene(wire, weir)
    scene.make_idle("one")
    wire.passages[-1].is_held.set()
    client = scene.login("one")
    client.send(query("SELECT 'gone'"))
    scene.wait_for_waiting(1)
    client.reset()
    weir.wait_until(lambda: weir.metric("pgweir_client_connections") == 0)
    path = next(tmp_path.glob("pgweir-*.yaml"))
    config = yaml.safe_load(path.read_text())
    del config["databases"]["one"]
    path.write_text(yaml.safe_dump(config))
    weir.send(signal.SIGHUP)
    weir.wait_for_log("server connection closed.*database=one")
