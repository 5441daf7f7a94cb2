"""PAUSE, RESUME, KILL, RECONNECT and the others that change what the process does.

Semantics and words are PgBouncer's. What takes time is a coroutine that returns when it has come
about; whoever waits for it may leave, and it is done all the same.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from proxy.config import Config
from proxy.console.pools import is_database, known_databases
from proxy.console.scene import Scene
from proxy.console.settings import with_setting
from proxy.errors import ClientError
from proxy.pool import EVERYTHING, Scope
from proxy.telemetry import keep_event

_log = logging.getLogger("pgweir.console")

_LOOK_S = 0.02
# PgBouncer's suspend_timeout: what a client does not take by then waits for it to be resumed.
_SUSPEND_S = 10.0

Mode = Literal["active", "paused", "suspended"]
Shutdown = Literal["now", "servers", "clients"]
"""When the process ends: at once; when transactions are over; when all clients have left."""


@dataclass(frozen=True, slots=True)
class Levers:
    """What the console has done by others.

    reload: read the configuration again; its result is what has changed, a line each; raises
    ClientError when it is wrong. adopt: go over to
    another one. shut_down: begin to end all processes; for "clients", this one. fail_over: make
    another node the primary of a cluster, one of its replicas for None; its result says what was
    done.
    """

    reload: Callable[[], Awaitable[Sequence[str]]]
    adopt: Callable[[Config], Awaitable[object]]
    shut_down: Callable[[Shutdown], None]
    fail_over: Callable[[str, str | None], Awaitable[str]]


class Steering:
    """Holds what has been paused, suspended and changed."""

    def __init__(self, scene: Scene, levers: Levers) -> None:
        self._scene = scene
        self._levers = levers
        self._others = scene.others
        self._changed: dict[str, str] = {}
        self.mode: Mode = "active"

    async def everywhere(self, command: str, argument: str | None) -> None:
        """Do a command here and in all other processes, and wait for all. Raises ClientError."""
        await asyncio.gather(self.obey(command, argument), self._others.obey(command, argument))

    async def obey(self, command: str, argument: str | None) -> None:
        """Do a command in this process alone. Raises ClientError."""
        done = _COMMANDS[command](self, argument)
        if done is not None:
            await done

    def standing(self) -> list[tuple[str, str | None]]:
        """The commands by which a process that has just begun comes to where this one is."""
        scene = self._scene
        commands: list[tuple[str, str | None]] = [
            ("SET", f"{key}={written}") for key, written in self._changed.items()
        ]
        commands += [
            ("DISABLE", name)
            for name in known_databases(scene)
            if scene.reservoir.is_disabled(name)
        ]
        commands += [
            ("PAUSE", scope.database)
            for scope in scene.reservoir.held
            if scope.database is not None
        ]
        if self.mode != "active":
            commands.append(("SUSPEND" if self.mode == "suspended" else "PAUSE", None))
        return commands

    # --- holding back ----------------------------------------------------------------------------

    async def pause(self, database: str | None = None) -> None:
        """Hold back new transactions and close server connections as they become free.

        Returns when all are closed. Raises ClientError.
        """
        self._check_active()
        scope = self._scope(database, "pause")
        if database is None:
            self.mode = "paused"
        self._scene.reservoir.hold(scope, drain=True)
        _tell("paused", database)
        await _until(
            lambda: (
                not self._scene.reservoir.is_held(scope)
                or not self._scene.reservoir.server_count(scope)
            )
        )

    async def suspend(self) -> None:
        """Pass nothing on any more, as soon as what was read has been passed on.

        Raises ClientError.
        """
        self._check_active()
        if self._scene.reservoir.held:
            raise ClientError("55000", "cannot suspend with paused databases")
        self.mode = "suspended"
        _tell("suspended")
        self._scene.reservoir.hold(EVERYTHING)
        self._scene.relay.suspend()
        # Who does not read what it asked for is not waited for.
        until_s = self._scene.clock() + _SUSPEND_S
        await _until(lambda: not self._has_unsent() or self._scene.clock() >= until_s)

    def _has_unsent(self) -> bool:
        relay = self._scene.relay
        clients = list(relay.clients.values())
        return relay.suspended and any(client.unsent_bytes for client in clients)

    def resume(self, database: str | None = None) -> None:
        """Go on after PAUSE, KILL or SUSPEND. Raises ClientError."""
        scope = self._scope(database, "resume")
        reservoir = self._scene.reservoir
        if not reservoir.is_held(scope):
            if database is None:
                raise ClientError("55000", "pooler is not paused/suspended")
            raise ClientError("55000", f"database {database} is not paused")
        if database is None:
            self.mode = "active"
        if self._scene.relay.suspended:
            self._scene.relay.resume(reservoir.servers())
        reservoir.release(scope)
        _tell("resumed", database)

    async def pause_by_signal(self) -> str:
        """PAUSE, asked for by SIGUSR1: what hinders it is logged. Result: "ok", or the SQLSTATE."""
        _log.info("console command", extra={"facts": {"command": "PAUSE", "signal": "SIGUSR1"}})
        try:
            await self.pause()
        except ClientError as refused:
            return _told_to_the_log(refused)
        return "ok"

    async def resume_by_signal(self) -> str:
        """RESUME, asked for by SIGUSR2. Result: as of `pause_by_signal`."""
        _log.info("console command", extra={"facts": {"command": "RESUME", "signal": "SIGUSR2"}})
        try:
            self.resume()
        except ClientError as refused:
            return _told_to_the_log(refused)
        return "ok"

    async def wait_close(self, database: str | None = None) -> None:
        """Return when no server connection is left that was to be closed. Raises ClientError."""
        scope = self._scope(database, "wait in")
        servers = [each for each in self._scene.reservoir.servers(scope) if each.retiring]
        await _until(lambda: all(server.is_closed for server in servers))

    # --- ending connections ----------------------------------------------------------------------

    def reconnect(self, database: str | None = None) -> None:
        """Close server connections as they become free. Raises ClientError."""
        scope = self._scope(database, "reconnect")
        self._scene.reservoir.reconnect(scope)
        _tell("server connections are opened anew", database)

    def kill(self, database: str | None = None) -> None:
        """Drop all clients and server connections at once, and hold back who comes until RESUME.

        Raises ClientError.
        """
        self._check_active()
        scope = self._scope(database, "kill")
        if database is None:
            self.mode = "paused"
        self._scene.reservoir.hold(scope, drain=True)
        for client in list(self._scene.relay.clients.values()):
            if database in (None, client.line.database):
                client.dismiss("57P01", "terminating connection due to administrator command")
        self._scene.reservoir.drop(scope)
        _tell("all connections were ended, and who comes waits", database)

    async def kill_client_anywhere(self, number: str) -> None:
        """Drop one client, whichever process it is in. number: its id in SHOW CLIENTS.

        Raises ClientError.
        """
        if not number.isdecimal():
            raise ClientError("22023", "invalid client id", hint="SHOW CLIENTS has them.")
        index = int(number) % self._others.count
        if index == self._others.index:
            self.kill_client(number)
        else:
            await self._others.obey_at(index, "KILL_CLIENT", number)

    def kill_client(self, number: str) -> None:
        """Drop one client of this process. Raises ClientError."""
        for client in list(self._scene.relay.clients.values()):
            if self._scene.number_of(client) == int(number):
                client.dismiss("57P01", "terminating connection due to administrator command")
                return
        raise ClientError("42704", f"client {number} not found", hint="SHOW CLIENTS has them.")

    # --- who may come in -------------------------------------------------------------------------

    def disable(self, database: str) -> None:
        """Let no new clients into a database. Raises ClientError."""
        self._scope(database, "disable")
        self._scene.reservoir.disable(database)
        _tell("disabled", database)

    def enable(self, database: str) -> None:
        """Let them in again. Raises ClientError."""
        self._scope(database, "enable")
        self._scene.reservoir.enable(database)
        _tell("enabled", database)

    # --- the process -----------------------------------------------------------------------------

    async def reload(self) -> Sequence[str]:
        """Read the configuration again; what SET has changed is forgotten.

        Result: what has changed, a line each. Raises ClientError.
        """
        return await self._levers.reload()

    def forget_changes(self) -> None:
        """The configuration was read again: what SET has changed holds no longer."""
        self._changed.clear()

    async def set_value(self, key: str, written: str) -> None:
        """Change a key of the configuration until it is read again. Raises ClientError."""
        config = with_setting(self._scene.config(), key, written)
        await self._levers.adopt(config)
        self._changed[key] = written
        keep_event("setting", f"{key} was set", {"key": key}, logger=_log.name)

    def with_changes(self, config: Config) -> Config:
        """The same configuration with what SET has changed. Raises ClientError."""
        for key, written in self._changed.items():
            config = with_setting(config, key, written)
        return config

    async def fail_over(self, cluster: str, node: str | None) -> str:
        """Make another node the primary. Result: what was done. Raises ClientError."""
        return await self._levers.fail_over(cluster, node)

    async def shut_down(self, when: Shutdown) -> None:
        """Begin to end all processes."""
        if when == "clients":
            # Each waits for those that are its own.
            await self.everywhere("SHUTDOWN", when)
        else:
            self._levers.shut_down(when)

    def end_when_all_have_left(self) -> None:
        """Begin to end this process."""
        self._levers.shut_down("clients")

    # --- what commands have in common ------------------------------------------------------------

    def _check_active(self) -> None:
        if self.mode != "active":
            raise ClientError("55000", "already suspended/paused", hint="RESUME ends that.")

    def _scope(self, database: str | None, verb: str) -> Scope:
        if database is None:
            return EVERYTHING
        if database in CONSOLE_NAMES:
            raise ClientError("0A000", f"cannot {verb} admin db: {database}")
        if not is_database(self._scene, database):
            raise ClientError("3D000", f"no such database: {database}")
        return Scope(database=database)


_COMMANDS: Mapping[str, Callable[[Steering, str | None], Awaitable[None] | None]] = {
    "PAUSE": Steering.pause,
    "RESUME": Steering.resume,
    "SUSPEND": lambda steering, _database: steering.suspend(),
    "RECONNECT": Steering.reconnect,
    "WAIT_CLOSE": Steering.wait_close,
    "KILL": Steering.kill,
    "DISABLE": lambda steering, database: steering.disable(database or ""),
    "ENABLE": lambda steering, database: steering.enable(database or ""),
    "KILL_CLIENT": lambda steering, number: steering.kill_client(number or ""),
    "SET": lambda steering, setting: steering.set_value(*(setting or "").split("=", 1)),
    "SHUTDOWN": lambda steering, _when: steering.end_when_all_have_left(),
}
"""What is done in all processes of a proxy."""

CONSOLE_NAMES = ("pgweir", "pgbouncer")
"""The databases that are the console."""


def _tell(what: str, database: str | None = None) -> None:
    """Tell of an event; who has asked for it stands in the log."""
    keep_event("pause", what, {} if database is None else {"database": database}, logger=_log.name)


def _told_to_the_log(refused: ClientError) -> str:
    _log.warning("%s", refused.message)
    return refused.sqlstate


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 -- nothing tells of the counts it looks at
        await asyncio.sleep(_LOOK_S)
