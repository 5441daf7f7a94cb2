"""The commands of the console: one table, with who may use each.

`COMMANDS` is what the documentation, `SHOW HELP` and the test that tries every command in every
role go by. What drivers and pools send of their own accord is answered by `courtesies`.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from proxy import __version__
from proxy.console.courtesies import find_courtesy, ignores_setting
from proxy.console.grammar import HELP, Statement, Token, shortened
from proxy.console.happenings import (
    EVENT_COLUMNS,
    PIN_COLUMNS,
    QUERY_COLUMNS,
    join_pins,
    show_events,
    show_pins,
    show_queries,
)
from proxy.console.joining import Join, one_after_another, own
from proxy.console.nodes import NODE_COLUMNS, join_nodes, show_nodes
from proxy.console.others import Told
from proxy.console.pools import (
    DATABASE_COLUMNS,
    DNS_HOST_COLUMNS,
    DNS_ZONE_COLUMNS,
    LIST_COLUMNS,
    MEM_COLUMNS,
    PEER_COLUMNS,
    PEER_POOL_COLUMNS,
    POOL_COLUMNS,
    USER_COLUMNS,
    join_databases,
    join_mem,
    join_pools,
    join_users,
    read_lists,
    show_databases,
    show_lists,
    show_mem,
    show_nothing,
    show_pools,
    show_users,
)
from proxy.console.routes import (
    ROUTE_COLUMNS,
    ROUTED_COLUMNS,
    join_routed,
    show_routed,
    show_routes,
)
from proxy.console.scene import Scene
from proxy.console.settings import CONFIG_COLUMNS, show_config
from proxy.console.sockets import (
    CLIENT_COLUMNS,
    SERVER_COLUMNS,
    SOCKET_COLUMNS,
    show_active_sockets,
    show_clients,
    show_servers,
    show_sockets,
)
from proxy.console.statistics import (
    STATS_AVERAGES_COLUMNS,
    STATS_COLUMNS,
    STATS_TOTALS_COLUMNS,
    TOTALS_COLUMNS,
    Passed,
    Statistics,
    show_stats,
    show_stats_averages,
    show_stats_totals,
    show_totals,
)
from proxy.console.steering import Shutdown, Steering
from proxy.console.table import Answer, Column, Row, columns
from proxy.errors import ClientError

Role = Literal["stats", "admin"]
"""Who may: `stats` is everybody at the console, `admin` those who may do more than look."""

VERSION = f"PgBouncer 1.25.0 (pgweir {__version__})"
"""Begins with the version of PgBouncer whose console this is: scrapers look at it."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What commands work with."""

    scene: Scene
    steering: Steering
    statistics: Statistics

    def read(self, table: str) -> Iterable[Any]:
        """What this process alone has for a table, by the name of its command."""
        return _READS[table](self)

    async def gather(self, table: str) -> tuple[Iterable[Row], int]:
        """The rows of a table over all processes, and how many of them have not answered."""
        join = _JOINS[table]
        told = Told() if join is own else await self.scene.others.read(table)
        return join([self.read(table), *told.tables]), told.silent


Read = Callable[[Desk], Iterable[Any]]
Deed = Callable[[Desk, str | None], Awaitable["str | Answer | None"]]


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    words: those it begins with. who: may use it. meaning: a sentence for the documentation.
    argument: how it is shown in the help; None when it takes none, in brackets when it may be left
    out. columns: of a SHOW, which has `read`, what one process has for it, and `join`, which makes
    rows of what all have. deed: of any other; its result is the tag when that is not the first
    word, or a whole answer.
    """

    words: tuple[str, ...]
    who: Role
    meaning: str
    argument: str | None = None
    columns: tuple[Column, ...] = ()
    read: Read | None = None
    join: Join = own
    deed: Deed | None = None

    @property
    def name(self) -> str:
        """Its words."""
        return " ".join(self.words)

    @property
    def needs_argument(self) -> bool:
        """Whether it cannot be without."""
        return self.argument is not None and not self.argument.startswith("[")


def _show(
    what: str,
    shown: tuple[Column, ...],
    read: Callable[[Scene], Iterable[Any]],
    meaning: str,
    join: Join = own,
) -> Command:
    return Command(
        ("SHOW", what),
        "stats",
        meaning,
        columns=shown,
        read=lambda desk: read(desk.scene),
        join=join,
    )


def _show_version(_scene: Scene) -> Iterable[Row]:
    return [(VERSION,)]


async def _pause(desk: Desk, database: str | None) -> None:
    await desk.steering.everywhere("PAUSE", database)


async def _resume(desk: Desk, database: str | None) -> None:
    await desk.steering.everywhere("RESUME", database)


async def _disable(desk: Desk, database: str | None) -> None:
    await desk.steering.everywhere("DISABLE", database)


async def _enable(desk: Desk, database: str | None) -> None:
    await desk.steering.everywhere("ENABLE", database)


async def _kill(desk: Desk, database: str | None) -> None:
    await desk.steering.everywhere("KILL", database)


async def _kill_client(desk: Desk, number: str | None) -> None:
    await desk.steering.kill_client_anywhere(number or "")


async def _reconnect(desk: Desk, database: str | None) -> None:
    await desk.steering.everywhere("RECONNECT", database)


async def _wait_close(desk: Desk, database: str | None) -> None:
    await desk.steering.everywhere("WAIT_CLOSE", database)


async def _reload(desk: Desk, _argument: str | None) -> Answer:
    changes = await desk.steering.reload()
    if not changes:
        return Answer("RELOAD")
    notice = f"changed: {len(changes)}"
    return Answer("RELOAD", notice=notice, detail="\n".join(changes))


async def _suspend(desk: Desk, _argument: str | None) -> None:
    await desk.steering.everywhere("SUSPEND", None)


_SHUTDOWNS: Mapping[str, Shutdown] = {
    "": "now",
    "WAIT_FOR_SERVERS": "servers",
    "WAIT_FOR_CLIENTS": "clients",
}


async def _shut_down(desk: Desk, how: str | None) -> None:
    when = _SHUTDOWNS.get((how or "").upper())
    if when is None:
        raise ClientError("42601", f"invalid command 'SHUTDOWN {how}', use SHOW HELP;", hint=HELP)
    await desk.steering.shut_down(when)


def _state_rows(desk: Desk) -> Iterable[Row]:
    for mode in ("active", "paused", "suspended"):
        yield mode, "yes" if desk.steering.mode == mode else "no"


def _read_statistics(desk: Desk) -> Iterable[Passed]:
    return desk.statistics.read()


_STATE_COLUMNS = columns(None, "key", "value")

COMMANDS: tuple[Command, ...] = (
    Command(("SHOW", "HELP"), "stats", "The commands, as a notice."),
    _show("CONFIG", CONFIG_COLUMNS, show_config, "The configuration in force, without secrets."),
    _show(
        "DATABASES",
        DATABASE_COLUMNS,
        show_databases,
        "Databases and what holds for each.",
        join=join_databases,
    ),
    _show(
        "POOLS",
        POOL_COLUMNS,
        show_pools,
        "Clients and server connections by database and user.",
        join=join_pools,
    ),
    _show("CLIENTS", CLIENT_COLUMNS, show_clients, "Client connections.", join=one_after_another),
    _show("SERVERS", SERVER_COLUMNS, show_servers, "Server connections.", join=one_after_another),
    _show("USERS", USER_COLUMNS, show_users, "Users and what holds for each.", join=join_users),
    _show("VERSION", columns(None, "version"), _show_version, "The version."),
    _show("PEERS", PEER_COLUMNS, show_nothing, "Always empty: there are no peers."),
    _show("PEER_POOLS", PEER_POOL_COLUMNS, show_nothing, "Always empty: there are no peers."),
    Command(("SHOW", "FDS"), "admin", "Refused: file descriptors are not handed on in this way."),
    _show(
        "SOCKETS",
        SOCKET_COLUMNS,
        show_sockets,
        "All connections, with what is held of each.",
        join=one_after_another,
    ),
    _show(
        "ACTIVE_SOCKETS",
        SOCKET_COLUMNS,
        show_active_sockets,
        "Of these, those with bytes that have not been passed on.",
        join=one_after_another,
    ),
    _show("LISTS", LIST_COLUMNS, read_lists, "How many there are of what.", join=show_lists),
    _show(
        "MEM", MEM_COLUMNS, show_mem, "Memory, by kind of object and of the process.", join=join_mem
    ),
    Command(
        ("SHOW", "STATE"),
        "stats",
        "Whether it is active, paused or suspended.",
        columns=_STATE_COLUMNS,
        read=_state_rows,
    ),
    _show(
        "DNS_HOSTS",
        DNS_HOST_COLUMNS,
        show_nothing,
        "Always empty: names are resolved anew for each connection.",
    ),
    _show("DNS_ZONES", DNS_ZONE_COLUMNS, show_nothing, "Always empty, for the same reason."),
    Command(
        ("SHOW", "STATS"),
        "stats",
        "What has passed, by database: totals, and averages over the last minute or two.",
        columns=STATS_COLUMNS,
        read=_read_statistics,
        join=show_stats,
    ),
    Command(
        ("SHOW", "STATS_TOTALS"),
        "stats",
        "The totals of SHOW STATS.",
        columns=STATS_TOTALS_COLUMNS,
        read=_read_statistics,
        join=show_stats_totals,
    ),
    Command(
        ("SHOW", "STATS_AVERAGES"),
        "stats",
        "The averages of SHOW STATS.",
        columns=STATS_AVERAGES_COLUMNS,
        read=_read_statistics,
        join=show_stats_averages,
    ),
    Command(
        ("SHOW", "TOTALS"),
        "stats",
        "Both, of all databases together.",
        columns=TOTALS_COLUMNS,
        read=_read_statistics,
        join=show_totals,
    ),
    _show(
        "NODES",
        NODE_COLUMNS,
        show_nodes,
        "Nodes, with role, state, lag and timeline.",
        join=join_nodes,
    ),
    _show(
        "PINS",
        PIN_COLUMNS,
        show_pins,
        "Clients that keep their server connection for what they left in the session, and why.",
        join=join_pins,
    ),
    _show("ROUTES", ROUTE_COLUMNS, show_routes, "The rules that route statements, in their order."),
    _show(
        "ROUTED",
        ROUTED_COLUMNS,
        show_routed,
        "Requests by where they were sent and why: see [routing](routing.md).",
        join=join_routed,
    ),
    _show(
        "EVENTS",
        EVENT_COLUMNS,
        lambda scene: scene.events(),
        "What happened lately, the newest first.",
        join=show_events,
    ),
    _show(
        "QUERIES",
        QUERY_COLUMNS,
        lambda scene: scene.queries(),
        "Statements that take most of the time, without their constants.",
        join=show_queries,
    ),
    Command(
        ("SET",),
        "admin",
        "Change a key of SHOW CONFIG until the configuration is read again.",
        "key = value",
    ),
    Command(("RELOAD",), "admin", "Read the configuration again.", deed=_reload),
    Command(
        ("PAUSE",),
        "admin",
        "Hold back new transactions, close server connections as they become free, and return when "
        "all are closed.",
        "[db]",
        deed=_pause,
    ),
    Command(("RESUME",), "admin", "Go on after PAUSE, KILL or SUSPEND.", "[db]", deed=_resume),
    Command(("DISABLE",), "admin", "Let no new clients into a database.", "db", deed=_disable),
    Command(("ENABLE",), "admin", "Let them in again.", "db", deed=_enable),
    Command(
        ("RECONNECT",),
        "admin",
        "Close server connections as they become free; others are opened when needed.",
        "[db]",
        deed=_reconnect,
    ),
    Command(
        ("KILL",),
        "admin",
        "Drop clients and server connections at once, and hold back who comes until RESUME.",
        "[db]",
        deed=_kill,
    ),
    Command(
        ("KILL_CLIENT",),
        "admin",
        "Drop one client, by its id in SHOW CLIENTS.",
        "id",
        deed=_kill_client,
    ),
    Command(("SUSPEND",), "admin", "Pass nothing on any more, until RESUME.", deed=_suspend),
    Command(
        ("SHUTDOWN",),
        "admin",
        "End the process: at once, when transactions are over, or when all clients have left.",
        "[WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]",
        deed=_shut_down,
    ),
    Command(
        ("WAIT_CLOSE",),
        "admin",
        "Return when the server connections are gone that RECONNECT or RELOAD had closed.",
        "[db]",
        deed=_wait_close,
    ),
    Command(
        ("FAILOVER",),
        "admin",
        "Make another node the primary of a cluster: the one named, or else the replica that is"
        " furthest.",
        "cluster [TO node]",
    ),
)


_READS = {command.name: command.read for command in COMMANDS if command.read is not None}
_JOINS = {command.name: command.join for command in COMMANDS}


@dataclass(frozen=True, slots=True)
class Order:
    """A statement that has been understood.

    run: carries it out; only when its time has come. deed: its text, when it changes something.
    name: of the command; None where it only looks like one, for a driver's sake.
    """

    columns: tuple[Column, ...]
    run: Callable[[Desk], Awaitable[Answer]]
    deed: str | None = None
    name: str | None = None


def read_order(statement: Statement, role: Role) -> Order:
    """Find out what a statement asks for, and whether the role may.

    Raises ClientError: 42601 when there is no such command, 42501 when it is not allowed, 0A000
    when it has parameters, which only what drivers and tools ask of their own accord may have.
    """
    tokens = statement.tokens
    if (courtesy := find_courtesy(tokens, VERSION)) is not None:
        return _constant(courtesy)
    if statement.parameters:
        raise ClientError(
            "0A000",
            "the console's commands take no parameters",
            hint="Write the value into the command.",
        )
    if tokens[0].is_word("SET"):
        return _read_set(statement, role)
    command, rest = _find(statement)
    if command.who == "admin" and role != "admin":
        raise _needs_admin()
    if command.name == "FAILOVER":
        return _read_failover(statement, rest)
    argument = _argument(command, rest, statement)
    if command.name == "SHOW HELP":
        usage = Answer("SHOW", notice="Console usage", detail=help_text())
        return replace(_constant(usage), name=command.name)
    if command.read is not None:
        return _table(command)
    if command.deed is not None:
        return _deed(statement.text, command, command.deed, argument)
    raise ClientError(
        "0A000",
        f"{command.name} is not supported",
        hint="SHOW CLIENTS and SHOW SERVERS list connections.",
    )


def _constant(answer: Answer) -> Order:
    async def run(_desk: Desk) -> Answer:
        return answer

    return Order(answer.columns, run)


def _table(command: Command) -> Order:
    async def run(desk: Desk) -> Answer:
        rows, silent = await desk.gather(command.name)
        notice = f"processes that did not answer, and are missing here: {silent}"
        return Answer("SHOW", command.columns, rows, notice if silent else None)

    return Order(command.columns, run, name=command.name)


def _deed(text: str, command: Command, deed: Deed, argument: str | None) -> Order:
    async def run(desk: Desk) -> Answer:
        done = await deed(desk, argument)
        return done if isinstance(done, Answer) else Answer(done or command.words[0])

    return Order((), run, text, command.name)


def _find(statement: Statement) -> tuple[Command, tuple[Token, ...]]:
    """The command a statement begins with, and what follows it."""
    tokens = statement.tokens
    first = tokens[0]
    # PgBouncer takes the one for the other, and some tools can only SELECT.
    is_show = first.is_word("SHOW") or first.is_word("SELECT")
    for command in COMMANDS:
        words = command.words
        if is_show and words[0] == "SHOW":
            if len(tokens) > 1 and tokens[1].text.upper() == words[1]:
                return command, tokens[2:]
        elif len(words) == 1 and first.is_word(words[0]):
            return command, tokens[1:]
    raise _invalid(statement)


def _argument(command: Command, rest: tuple[Token, ...], statement: Statement) -> str | None:
    if command.argument is None or len(rest) > 1:
        if rest:
            raise _invalid(statement)
        return None
    if not rest:
        if command.needs_argument:
            what = "a database" if command.argument == "db" else f"an {command.argument}"
            raise ClientError("42601", f"{what} is required", hint=HELP)
        return None
    if rest[0].kind == "symbol" or not rest[0].text:
        raise _invalid(statement)
    return rest[0].text


def _read_set(statement: Statement, role: Role) -> Order:
    """SET key = value, or TO in place of the sign."""
    tokens = statement.tokens
    if len(tokens) > 1 and ignores_setting(tokens[1:]):
        return _constant(Answer("SET", notice="SET ignored"))
    if role != "admin":
        raise _needs_admin()
    is_one = (
        len(tokens) == 4
        and tokens[1].kind in ("word", "name")
        and (tokens[2] == Token("symbol", "=") or tokens[2].is_word("TO"))
        and tokens[3].kind != "symbol"
    )
    if not is_one:
        raise _invalid(statement)
    key, value = tokens[1].text, tokens[3].text

    async def run(desk: Desk) -> Answer:
        await desk.steering.everywhere("SET", f"{key}={value}")
        return Answer(f"SET {key}={value}")

    return Order((), run, statement.text, "SET")


def _read_failover(statement: Statement, rest: tuple[Token, ...]) -> Order:
    """FAILOVER cluster, or FAILOVER cluster TO node."""
    names = [token for token in rest if token.kind != "symbol" and token.text]
    has_node = len(rest) == 3 and rest[1].is_word("TO")
    if len(names) != len(rest) or not (len(rest) == 1 or has_node):
        raise _invalid(statement)
    cluster, node = rest[0].text, rest[2].text if has_node else None

    async def run(desk: Desk) -> Answer:
        done = await desk.steering.fail_over(cluster, node)
        return Answer("FAILOVER", notice=done)

    return Order((), run, statement.text, "FAILOVER")


def _needs_admin() -> ClientError:
    return ClientError("42501", "admin access needed", hint="Users under auth.admins may do that.")


def _invalid(statement: Statement) -> ClientError:
    return ClientError("42601", f"invalid command {shortened(statement.text)}, use SHOW HELP;")


def help_text() -> str:
    """What SHOW HELP says."""
    shows = [command.words[1] for command in COMMANDS if command.words[0] == "SHOW"]
    lines = ["SHOW " + "|".join(shows[at : at + 6]) for at in range(0, len(shows), 6)]
    for command in COMMANDS:
        if command.words[0] != "SHOW":
            lines.append(" ".join(filter(None, (command.name, command.argument))))
    return "\n" + "\n".join(f"\t{line}" for line in lines)
