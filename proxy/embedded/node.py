"""One running PostgreSQL: start it, stop it, kill it, freeze it, ask it."""

import asyncio
import contextlib
import enum
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

from proxy.embedded import sweep
from proxy.embedded.account import Account
from proxy.embedded.binaries import Binaries
from proxy.embedded.failure import EmbeddedError, PortTaken
from proxy.embedded.ports import LOOPBACK
from proxy.embedded.programs import POLL_S, last_words, spawn, wait
from proxy.embedded.settings import SUPERUSER

START_S = 60.0
STOP_S = 30.0
GOODBYE_S = 5.0
# Line 8 of postmaster.pid once connections are accepted, on a hot standby too
# (src/include/utils/pidfile.h: PM_STATUS_READY).
_STATUS_LINE = 7
_READY = "ready"


class StopMode(enum.Enum):
    """PostgreSQL's shutdown modes and the signal that asks for each (see `pg_ctl stop`)."""

    SMART = signal.SIGTERM
    FAST = signal.SIGINT
    IMMEDIATE = signal.SIGQUIT


@dataclass(frozen=True)
class Place:
    """Where a node lives: its data, its log, its sockets, its port, and whose processes it is.

    socket_dir: None where the path would be too long for a Unix socket.
    """

    name: str
    binaries: Binaries
    account: Account | None
    data: Path
    log: Path
    socket_dir: Path | None
    port: int
    superuser_password: str


class Node:
    """A PostgreSQL instance whose data folder is ready to be started."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """Its `cluster_name`, and as a replica its `application_name` on the primary."""
        return self.place.name

    @property
    def host(self) -> str:
        """The address it listens on."""
        return LOOPBACK

    @property
    def port(self) -> int:
        """The port it listens on; the same after a restart."""
        return self.place.port

    @property
    def socket_dir(self) -> Path | None:
        """The folder of its Unix socket, for `host=`, or None where the path would be too long."""
        return self.place.socket_dir

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, or None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def is_standby(self) -> bool:
        """Whether it is, or would start as, a replica; promotion removes the file looked at."""
        return (self.place.data / "standby.signal").exists()

    def move(self, port: int) -> None:
        """Give a node that does not run another port; its settings must be written again."""
        self.place = replace(self.place, port=port)

    def dsn(
        self,
        user: str = SUPERUSER,
        password: str | None = None,
        database: str = "postgres",
    ) -> str:
        """Write a URL for libpq and asyncpg; the superuser's password is filled in."""
        if password is None and user == SUPERUSER:
            password = self.place.superuser_password
        secret = f":{quote(password, safe='')}" if password else ""
        at = f"{self.host}:{self.port}"
        return f"postgresql://{quote(user, safe='')}{secret}@{at}/{quote(database, safe='')}"

    # -- processes

    async def start(self) -> None:
        """Start it and wait until it accepts connections, which a replica does when consistent.

        Raises PortTaken, or EmbeddedError with the log's last words.
        """
        if self.pid is not None:
            raise EmbeddedError(f"{self.name} runs already")
        place = self.place
        with place.log.open("ab") as log:
            said_before = log.tell()
            self._process = spawn(
                [place.binaries.path("postgres"), "-D", place.data],
                account=place.account,
                cwd=place.data,
                output=log,
            )
        try:
            await self._until_ready(self._process, said_before)
        except BaseException:
            await self._finish_off()
            raise

    async def stop(self, mode: StopMode = StopMode.FAST, timeout_s: float = STOP_S) -> None:
        """Shut it down and wait for the end; killed, with an error, when that takes too long.

        A frozen node is thawed, or it would not hear. Nothing happens when it does not run.
        """
        process = self._process
        if process is None:
            return
        if self.pid is not None:
            process.send_signal(mode.value)
            self.thaw()
            if await wait(process, timeout_s) is None:
                await self._finish_off()
                raise EmbeddedError(
                    f"{self.name} did not stop ({mode.name.lower()}) in {timeout_s:g} s: killed"
                )
        self._process = None

    async def kill(self) -> None:
        """Kill postmaster and backends at once (SIGKILL), as a power cut would."""
        await self._finish_off()

    async def kill_postmaster(self) -> None:
        """Kill the postmaster alone; its backends notice by themselves, busy ones late."""
        if self._process is not None:
            self._process.kill()
            await wait(self._process, STOP_S)

    async def restart(self, mode: StopMode = StopMode.FAST) -> None:
        """Stop it, if it runs, and start it again on the same port."""
        await self.stop(mode)
        await self.start()

    def freeze(self) -> None:
        """Stop all its processes (SIGSTOP): its sockets stay open and nobody answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen node go on."""
        self._signal_all(signal.SIGCONT)

    def read_log(self) -> str:
        """Give all it has logged so far."""
        return self.place.log.read_text(errors="replace") if self.place.log.exists() else ""

    async def _until_ready(self, process: "subprocess.Popen[bytes]", said_before: int) -> None:
        deadline = asyncio.get_running_loop().time() + START_S
        pid_file = self.place.data / "postmaster.pid"
        while True:
            lines = []
            with contextlib.suppress(OSError):
                lines = pid_file.read_text().splitlines()
            # A file left by a killed predecessor says "ready" as well, of another pid.
            if (
                len(lines) > _STATUS_LINE
                and lines[0].strip() == str(process.pid)
                and lines[_STATUS_LINE].strip() == _READY
            ):
                return
            ended = process.poll() is not None
            if ended or asyncio.get_running_loop().time() > deadline:
                log = self.place.log.read_bytes()[said_before:]
                if b"could not bind" in log:
                    raise PortTaken(f"{self.name}: port {self.port} is taken")
                why = "stopped at start" if ended else f"not ready in {START_S:g} s"
                raise EmbeddedError(f"{self.name} {why}: {last_words(log)}")
            await asyncio.sleep(POLL_S)

    async def _finish_off(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        family = sweep.descendants({process.pid})
        process.kill()
        for pid in family - {process.pid}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        await wait(process, STOP_S)
        # Also those that were being born; a restart needs the shared memory free of all of them.
        await asyncio.to_thread(sweep.stop, [self.place.data], signal.SIGKILL, 0.0)

    def _signal_all(self, number: signal.Signals) -> None:
        if self.pid is None:
            raise EmbeddedError(f"{self.name} does not run")
        for pid in sorted(sweep.descendants({self.pid})):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    # -- SQL

    @contextlib.asynccontextmanager
    async def connection(
        self,
        database: str = "postgres",
        *,
        user: str = SUPERUSER,
        password: str | None = None,
    ) -> AsyncIterator[Any]:
        """Connect directly with asyncpg, as superuser unless told otherwise.

        Raises EmbeddedError when the node cannot be reached or refuses the login.
        """
        secret = password or (self.place.superuser_password if user == SUPERUSER else None)
        try:
            connection = await asyncpg.connect(
                host=self.host,
                port=self.port,
                user=user,
                password=secret,
                database=database,
                ssl=False,
                timeout=START_S,
            )
        except (OSError, asyncpg.PostgresError) as error:
            raise EmbeddedError(f"{self.name} on port {self.port}: {error}") from error
        try:
            yield connection
        except BaseException:
            # Without the polite Terminate: the node may be frozen or gone by now.
            connection.terminate()
            raise
        await connection.close(timeout=GOODBYE_S)

    async def execute(self, sql: str, database: str = "postgres") -> None:
        """Run one or more statements as superuser, several in one implicit transaction."""
        async with self.connection(database) as connection:
            await connection.execute(sql)

    async def fetch(
        self, sql: str, *arguments: object, database: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        """Run one statement as superuser and give its rows."""
        async with self.connection(database) as connection:
            return [tuple(row) for row in await connection.fetch(sql, *arguments)]

    async def value(self, sql: str, *arguments: object, database: str = "postgres") -> Any:
        """Run one statement as superuser and give the first column of its first row, or None."""
        rows = await self.fetch(sql, *arguments, database=database)
        return rows[0][0] if rows else None

    # -- replication

    async def is_in_recovery(self) -> bool:
        """Whether it follows a primary right now."""
        return bool(await self.value("SELECT pg_is_in_recovery()"))

    async def promote(self) -> None:
        """Make a replica the primary, and wait until it accepts writes."""
        if not await self.value("SELECT pg_promote(wait => true, wait_seconds => 60)"):
            raise EmbeddedError(f"{self.name} was not promoted in 60 s")

    async def pause_replay(self) -> None:
        """Let a replica receive but not replay, so that it lags; waits until that is so."""
        await self.execute("SELECT pg_wal_replay_pause()")

        async def paused() -> bool:
            return bool(await self.value("SELECT pg_get_wal_replay_pause_state()") == "paused")

        await until(paused, f"replay on {self.name} did not pause")

    async def resume_replay(self) -> None:
        """Let a paused replica replay again."""
        await self.execute("SELECT pg_wal_replay_resume()")


async def until(fact: Callable[[], Awaitable[bool]], otherwise: str, limit_s: float = 30.0) -> None:
    """Ask for a fact until it is so; EmbeddedError saying `otherwise` after `limit_s`."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while not await fact():
        if asyncio.get_running_loop().time() > deadline:
            raise EmbeddedError(f"{otherwise} in {limit_s:g} s")
        await asyncio.sleep(0.02)
