"""What does the control plane answer when the relay asks? The `Control` of one process.

Each answer is a few lines that hand the question to the room whose it is; see `proxy.relay.control`
for what is asked when.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.channels import Hub
from proxy.client import Door
from proxy.client.door import facts_of
from proxy.pool import Reservoir
from proxy.relay import About, Client, Decision, Ended, Leaves, Link, Pool, Router, Server
from proxy.routing import Rule
from proxy.session import Settings, SettingsBook
from proxy.session.asking import SessionAnswer, SessionQuestion
from proxy.session.following import (
    Question,
    Touched,
    merge,
    read_custom_names,
    read_custom_names_in_bind,
    read_touched,
)
from proxy.session.foresight import explained, pin_foreseen, read_channels, write_explanation
from proxy.session.settings import Values, switch_values
from proxy.session.statements import write_switch
from proxy.telemetry import LimitedLog
from proxy.wire import messages
from proxy.workers.clusters import Clusters
from proxy.workers.observing import Observer
from proxy.workers.pinned import Pinned

if TYPE_CHECKING:
    from proxy.marks import Marks

_client_log = logging.getLogger("pgweir.client")
_server_log = logging.getLogger("pgweir.server")

# How long a closing link may take over its last bytes.
_LINGER_S = 5.0


def _suspected(client: Client, text: bytes) -> Leaves:
    """Say what functions that a text uses may leave in the session."""
    suspects = client.line.suspects
    return Leaves(0) if suspects is None else Leaves(suspects.find(text)[0])


def _nobody() -> None:
    """Who wrote it has left."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """Those that the relay's questions are for."""

    reservoir: Reservoir
    door: Door
    clusters: Clusters
    observer: Observer
    pinned: Pinned
    hub: Hub
    marks: "Marks | None"


class Answers:
    """Answers the relay. It is made before the relay, and the rooms after: see `attend`.

    book: knows the settings of sessions. bugs: where what must not happen is logged.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, book: SettingsBook, bugs: LimitedLog
    ) -> None:
        self._loop = loop
        self._book = book
        self._bugs = bugs

    def attend(self, rooms: Rooms) -> None:
        """Say whom to ask; before the relay has its first client."""
        self._reservoir = rooms.reservoir
        self._door = rooms.door
        self._clusters = rooms.clusters
        self._switchboard = rooms.clusters.switchboard
        self._observer = rooms.observer
        self._pinned = rooms.pinned
        self._hub = rooms.hub
        self._marks = rooms.marks

    # --- pools and connections -----------------------------------------------------------------

    def grow(self, pool: Pool) -> None:
        """A pool wants one more connection."""
        self._reservoir.grow(pool)

    def cancel(self, server: Server) -> None:
        """A server's statement is to be cancelled."""
        self._reservoir.cancel(server)

    def client_gone(self, client: Client, reason: str) -> None:
        """A client's connection is over."""
        self._door.let_out(client)
        self._observer.client_gone(client)
        self._pinned.forget(client)
        self._hub.forget(client)
        if client.line is not None and client.login.wants_replication:
            for pool in client.line.pools:
                self._loop.call_soon(pool.retire)
        if not (self._observer.keeps_audit or _client_log.isEnabledFor(logging.INFO)):
            return
        whose = facts_of(client, client.login)
        facts: dict[str, object] = {
            "reason": reason or "client said Terminate",
            "seconds": round(time.monotonic() - client.since_s, 3),
        }
        _client_log.info("client disconnected", extra={"facts": {**whose, **facts}})
        self._observer.note("disconnect", "DISCONNECT", whose, facts)

    def server_gone(self, server: Server, reason: str) -> None:
        """A server's connection is over."""
        pool = server.pool
        self._reservoir.server_gone(pool)
        if reason:
            self._clusters.poke(pool.cluster, pool.node)
        level = logging.WARNING if reason else logging.DEBUG
        if _server_log.isEnabledFor(level):
            facts = {
                "cluster": pool.cluster,
                "node": pool.node,
                "database": pool.database,
                "user": pool.user,
                "reason": reason or "closed by the proxy",
            }
            _server_log.log(level, "server connection closed", extra={"facts": facts})

    def server_violated(self, server: Server, what: str) -> None:
        """A server sent what it must not."""
        self._bugs.log(
            logging.ERROR,
            "server broke the protocol",
            {"node": server.pool.node, "database": server.pool.database, "what": what},
        )

    def link_lingers(self, link: Link) -> None:
        """A closing link's peer does not read."""
        self._loop.call_later(_LINGER_S, link.abandon)

    # --- sessions ------------------------------------------------------------------------------

    def settings_reported(self, settings: Settings, name: str, value: str) -> Settings:
        """The settings after a ParameterStatus."""
        return self._book.reported(settings, name, value)

    def settings_switch(
        self, have: Settings, want: Settings
    ) -> tuple[bytes, Values, tuple[bytes, ...]]:
        """SQL between two settings, and names and values."""
        text, others = write_switch(have, want)
        return text, switch_values(have, want), others

    def settings_without_statements(self, settings: Settings) -> Settings:
        """Settings after a DEALLOCATE ALL."""
        return self._book.with_statements(settings, ())

    def settings_touched(self, text: bytes | None, values: bytes | None) -> tuple[Touched, bool]:
        """What a statement may do to settings."""
        touched = read_touched(text, values)
        return touched, touched.hides

    def settings_of_words(self, text: bytes, values: bytes | None) -> Touched:
        """What may touch any settings, and those that a text or its values name."""
        names = read_custom_names(text)
        if values is not None:
            names |= read_custom_names_in_bind(values)
        return Touched(frozenset(names), True)

    def settings_of(self, settings: Settings) -> Touched:
        """What touches just these settings."""
        return Touched(frozenset(name.lower() for name in settings), True)

    def session_question(
        self,
        server: Server,
        client: Client,
        touched: list[Touched] | None,
        about: int,
    ) -> tuple[bytes, SessionQuestion]:
        """SQL that asks what was left in a session."""
        settings = None
        if touched is not None:
            login = server.pool.owner.policy.server_user or server.pool.user
            reported = frozenset(name.lower() for name in server.defaults)
            believed, startup = client.settings, client.startup
            settings = Question(believed, startup, merge(touched), login, reported)
        if about & About.CHANNELS:
            self._hub.commits(client)
        asked = SessionQuestion(client.settings, settings, About(about))
        return asked.text().encode("utf-8", "surrogateescape"), asked

    def session_answered(self, asked: SessionQuestion, rows: list[bytes]) -> SessionAnswer:
        """What was left in a session."""
        return asked.answered(rows, self._book)

    def client_pinned(
        self, client: Client, server: Server, pins: tuple[str, ...], cause: bytes
    ) -> bytes:
        """A client keeps its server connection, or no longer."""
        self._observer.client_pinned(client, pins)
        return self._pinned.note(client, server, pins, cause)

    def may_run(self, client: Client, text: bytes, pins_refused: bool) -> bytes | None:
        """Whether a client may run a text that may LISTEN or pin."""
        if pins_refused:
            reason = pin_foreseen(text, client.line.session_functions, _suspected(client, text))
            if reason is not None:
                return messages.error_response(
                    "0A000",
                    f"this would keep a server connection for its client: {reason}",
                    hint="pins: refuse is configured here; do it within one transaction, or use "
                    "a database in session mode.",
                )
        place = self._clusters.channel_place(client)
        if place is None:
            return None
        listened, unlistens = read_channels(text)
        leave = self._hub.may_listen(client, place, listened) if listened else None
        return self._hub.may_unlisten(client) if leave is None and unlistens else leave

    def client_listens(self, client: Client, channels: frozenset[str]) -> None:
        """To these channels, from now on."""
        if (place := self._clusters.channel_place(client)) is not None:
            self._hub.listens(client, place, channels)

    def notified(self, client: Client, server: Server, body: bytes) -> bool:
        """Whether a notification of its server connection is a client's to hear."""
        return self._hub.notified(client, server, body)

    def explain_pooling(self, client: Client, text: bytes) -> bytes:
        """SQL that answers EXPLAIN POOLING."""
        statement = explained(text)
        return write_explanation(
            statement,
            client.line.session_functions,
            _suspected(client, statement),
            lambda said: self._foresee(client, said),
        )

    def _foresee(self, client: Client, statement: bytes) -> tuple[str, str]:
        """Say where a client's statement would go, and why."""
        if client.line.router is not None:
            return self._switchboard.foresee(client, statement)
        policy = self._clusters.policy_of(client)
        if policy is None or policy.target == "primary":
            return "primary", "nothing here goes by what a statement does"
        return policy.target, "a rule says so"

    # --- statements ----------------------------------------------------------------------------

    def outcome_unknown(self, client: Client, text: bytes, in_transaction: bool) -> bool:
        """Whether a statement whose answer is lost may have taken effect for good."""
        verdict = self._switchboard.classify(client, self._clusters.policy_of(client), text)
        return verdict.ends_transaction if in_transaction else verdict.may_write

    def statement_ended(self, client: Client, server: Server, ended: Ended) -> None:
        """A statement was slow, or is one of a sample."""
        self._observer.statement_ended(client, server, ended)

    def routing_of(self, client: Client) -> tuple[Router, int, bool, bool, str | None, str | None]:
        """Who decides where a client's statements go."""
        return self._switchboard.routing_of(client)

    def decide(self, router: Router, text: bytes, options: int) -> Decision:
        """What is to be known of a new text."""
        return self._switchboard.decide(router, text, options)

    def why_no_read(self, client: Client, text: bytes) -> str:
        """Why a client's statement does not only read."""
        return self._switchboard.why_no_read(client, text)

    def rule_met(self, client: Client, note: Rule) -> None:
        """A rule wants a statement logged."""
        self._switchboard.rule_met(client, note)

    def writes_begin(self, pool: Pool) -> None:
        """A cluster is written to, for the first time since it was quiet."""
        self._switchboard.writes_begin(pool)

    def keys_written(
        self, client: Client | None, cluster: str, keys: tuple[str | None, ...]
    ) -> bool:
        """Something was committed under keys; other proxies are told before the client."""
        if self._marks is None:
            return False
        return self._marks.announce(cluster, keys, _nobody if client is None else client.release)

    def ask_keys(
        self, client: Client, question: int, cluster: str, keys: tuple[str | None, ...]
    ) -> bool:
        """A client wants to read what others wrote under keys."""
        if self._marks is None:
            return False
        known = [key for key in keys if key is not None]
        return self._marks.ask(cluster, known, lambda lsn: client.hear(question, lsn))

    def schema_changed(self, pool: Pool, of_code: bool) -> None:
        """A database's catalogue has changed."""
        self._switchboard.schema_changed(pool, of_code=of_code)

    def bug(self, link: Link, error: Exception) -> None:
        """Handling a link raised."""
        self._bugs.log(logging.ERROR, "a bug closed a connection", {"addr": link.address}, error)
