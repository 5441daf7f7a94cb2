"""One proxy for many scripted servers: each script plays the server of a database of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.raw_client import RawClient, startup
from tests.faults.wire import Script, Scripted, Wire
from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import APP

# Its database waits long for a server, and tries again at once.
PATIENT = "patient"


class Stage:
    """A proxy whose databases are all on `wire`, which plays for each what a test has named."""

    def __init__(self, wire: Wire, weir: Pgweir) -> None:
        self.wire = wire
        self.weir = weir
        self.played: list[str] = []
        self.lines_seen = 0
        self._scripts: dict[str, Script] = {}
        wire.script = self._play

    def play(self, script: Script, database: str | None = None) -> str:
        """Have a script play the server of a database, a new one; its name is returned."""
        database = database or f"play{len(self._scripts)}"
        self._scripts[database] = script
        return database

    def _play(self, server: Scripted) -> None:
        database = server.parameters["database"]
        self.played.append(database)
        self._scripts[database](server)

    def enter(self, script: Script) -> RawClient:
        """A client of a server that a script plays, up to its first ReadyForQuery."""
        return self.client_of(self.play(script))

    def client_of(self, database: str) -> RawClient:
        """A client of this database, up to its first ReadyForQuery."""
        return RawClient.logged_in(self.weir.port, APP.name, database)

    def knock(self, database: str) -> RawClient:
        """A client that has asked to be let in and has read nothing yet."""
        client = RawClient(self.weir.port)
        client.send(startup(user=APP.name, database=database))
        return client


@contextmanager
def watched(stage: Stage) -> Iterator[Stage]:
    """For one test: what scripts have raised, and what the proxy calls a bug, fail it."""
    yield stage
    lines, stage.lines_seen = stage.weir.log[stage.lines_seen :], len(stage.weir.log)
    bugs = [each for each in lines if "a bug closed" in each or "Traceback" in each]
    assert not bugs, "\n".join(lines[-80:])
    failures = stage.wire.failures.copy()
    stage.wire.failures.clear()
    if failures:
        raise failures[0]
