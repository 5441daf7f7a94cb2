"""Who may come to the console, and who is there."""

import asyncio
import logging
from collections.abc import Callable

from proxy.client import Startup
from proxy.client.door import facts_of
from proxy.config import Config
from proxy.console.commands import VERSION, Desk
from proxy.console.conversation import Conversation
from proxy.console.scene import Scene, Visitor
from proxy.console.statistics import Statistics
from proxy.console.steering import CONSOLE_NAMES, Levers, Steering
from proxy.errors import ClientError
from proxy.relay import Client
from proxy.telemetry import LimitedLog, NoteAudit
from proxy.wire import messages

_log = logging.getLogger("pgweir.console")
_client_log = logging.getLogger("pgweir.client")

# Those who may only look come in great numbers only by mistake, and do not count for
# max_client_conn. Administrators are never too many.
_MOST_LOOKING = 100

_SERVER_VERSION = VERSION.split()[1] + "/bouncer"
# What PgBouncer's console reports.
_PARAMETERS = {
    "server_version": _SERVER_VERSION,
    "client_encoding": "UTF8",
    "server_encoding": "UTF8",
    "DateStyle": "ISO",
    "TimeZone": "GMT",
    "standard_conforming_strings": "on",
    "is_superuser": "on",
}


class Reception:
    """Lets visitors in. config: asked at each login. note: takes what they do, for the audit log.

    greeting: ParameterStatus messages for who comes in. by_pid: who is there, by cancel key.
    """

    def __init__(
        self, scene: Scene, levers: Levers, config: Callable[[], Config], note: NoteAudit
    ) -> None:
        self._scene = scene
        self._note = note
        self._config = config
        self.steering = Steering(scene, levers)
        self.desk = Desk(scene, self.steering, Statistics(scene))
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines = LimitedLog(_log, scene.clock)
        self.by_pid: dict[int, Conversation] = {}
        self.greeting = b"".join(
            messages.parameter_status(name, value) for name, value in _PARAMETERS.items()
        )

    def is_console(self, database: str) -> bool:
        """Whether a client that asks for this database wants the console."""
        return database in CONSOLE_NAMES

    def welcome(self, link: Client, startup: Startup, *, is_own: bool) -> Visitor:
        """Say whether a user may come in. Raises ClientError: 28000, 53300, 0A000.

        is_own: it is the account that runs this process, in the console's own name.
        """
        auth = self._config().auth
        is_admin = is_own or startup.user in auth.admins
        if not (is_admin or startup.user in auth.stats):
            raise ClientError(
                "28000",
                f'user "{startup.user}" is not allowed to use the console',
                hint="Users under auth.admins and auth.stats are.",
            )
        if startup.wants_replication:
            raise ClientError("0A000", "the console has nothing to replicate")
        looking = sum(not visitor.is_admin for visitor in self._scene.visitors)
        if not is_admin and looking >= _MOST_LOOKING:
            raise ClientError("53300", "too many connections to the console")
        return Visitor(link, startup, is_admin)

    def receive(self, visitor: Visitor, pid: int, secret: bytes) -> None:
        """A visitor has been told that it is in: speak with it from now on."""
        conversation = Conversation(visitor, self.desk, secret, self._note)
        self._scene.visitors.append(visitor)
        self.by_pid[pid] = conversation
        task = self._scene.relay.loop.create_task(self._speak(visitor, pid, conversation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _speak(self, visitor: Visitor, pid: int, conversation: Conversation) -> None:
        """Task: one visit."""
        link = visitor.link
        facts = facts_of(link, visitor.startup)
        reason = "an error of the proxy"
        try:
            reason = await conversation.hold()
        except asyncio.CancelledError:
            reason = "the proxy is shutting down"
            link.write(messages.error_response("57P01", reason, severity="FATAL"))
        except Exception as bug:  # noqa: BLE001 -- top of a task
            self._lines.log(logging.ERROR, "a console connection failed", facts, bug)
            link.write(messages.error_response("XX000", reason, severity="FATAL"))
        finally:
            del self.by_pid[pid]
            self._scene.visitors.remove(visitor)
            link.close()
        ended = {"reason": reason or "client said Terminate"}
        _client_log.info("client disconnected", extra={"facts": {**facts, **ended}})
        self._note("disconnect", "DISCONNECT", facts, ended)

    def tick(self) -> None:
        """Once a second."""
        self.desk.statistics.tick()
        self._lines.report_ended()

    async def close(self) -> None:
        """Send everybody away; for the end of the process."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
