"""What `pgweir top` draws: a head, and tables of nodes, pools and top statements."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Footer, Sparkline, Static

from proxy.tasks import in_thread

Status = dict[str, Any]
ORDERS = ("total_ms", "calls", "mean_ms", "p95_ms")
"""By what the statements may stand in order; `o` goes on to the next."""

NODES = ("cluster", "node", "role", "state", "lag", "behind", "connections", "round trip")
POOLS = ("database", "user", "node", "in use", "size", "idle", "waiting", "longest wait")
QUERIES = ("share", "calls", "mean", "p95", "rows", "ran on", "database", "statement")


def node_rows(status: Status) -> Iterable[Sequence[str]]:
    """A row for each node."""
    for cluster in status["clusters"]:
        for node in cluster["nodes"]:
            yield (
                cluster["name"],
                node["name"],
                node["role"] or "-",
                node["state"],
                _seconds(node["lag_s"]),
                _bytes(node["lag_bytes"]),
                f"{node['connections']}/{node['connection_limit'] or '-'}",
                _ms(node["round_trip_ms"]),
            )


def pool_rows(status: Status) -> Iterable[Sequence[str]]:
    """A row for each pool, the busiest first."""
    busiest = sorted(status["pools"], key=lambda pool: (-pool["waiting"], -pool["active"]))
    for pool in busiest:
        yield (
            pool["database"],
            pool["user"],
            pool["node"],
            str(pool["active"]),
            str(pool["size"]),
            str(pool["idle"]),
            str(pool["waiting"]),
            _seconds(pool["oldest_wait_s"]) if pool["waiting"] else "-",
        )


def query_rows(status: Status, order: str = ORDERS[0]) -> Iterable[Sequence[str]]:
    """A row for each of the top statements."""
    for query in sorted(status["queries"], key=lambda query: query[order] or 0, reverse=True):
        yield (
            f"{100 * query['share']:.1f} %",
            _count(query["calls"]),
            _ms(query["mean_ms"]),
            _ms(query["p95_ms"]),
            _count(query["rows"]),
            " ".join(f"{node}:{_count(calls)}" for node, calls in query["nodes"].items()),
            query["database"],
            query["statement"],
        )


def headline(status: Status, place: str) -> str:
    """The first line: is it well, and how much does it do?"""
    now = status["points"][-1] if status["points"] else None
    state = "ready" if status["ready"] else f"NOT READY: {status['not_ready']}"
    parts = [
        f"pgweir {status['version']} at {place}",
        state,
        f"up {_seconds(status['uptime_s'])}",
        f"{_count(now['queries']) if now else '-'} statements/s",
        f"p95 {_ms(status['latency']['p95_ms'])}",
        f"clients {status['clients']['total']}, {status['clients']['waiting']} waiting",
        f"pinned {len(status['pins']['clients'])}",
    ]
    return "  ·  ".join(parts)


class Board(App[None]):
    """The terminal.

    ask: gives the status, may block and raise OSError or ValueError. place: whose it is.
    """

    CSS = """
    #head { height: 1; background: $primary; color: $text; padding: 0 1; }
    #curve { height: 2; margin: 0 1; }
    .name { height: 1; color: $text-muted; padding: 0 1; }
    #nodes { height: auto; max-height: 25%; }
    #pools { height: auto; max-height: 30%; }
    #queries { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "Quit"),
        ("o", "order", "Order of statements"),
        ("space", "pause", "Hold"),
    ]

    def __init__(self, ask: Callable[[], Status], place: str, interval_s: float = 1.0) -> None:
        super().__init__()
        self._ask = ask
        self._place = place
        self._interval_s = interval_s
        self._order = 0
        self._is_held = False
        self._status: Status | None = None

    def compose(self) -> ComposeResult:
        """The parts, from top to bottom."""
        yield Static("connecting …", id="head", markup=False)
        yield Sparkline([], id="curve", summary_function=max)
        for name, columns in (("nodes", NODES), ("pools", POOLS), ("queries", QUERIES)):
            yield Static(name, classes="name", markup=False)
            table: DataTable[str] = DataTable(id=name, cursor_type="none", zebra_stripes=True)
            table.add_columns(*columns)
            yield table
        yield Footer()

    def on_mount(self) -> None:
        """Begin to ask."""
        self.run_worker(self._keep_asking())

    async def _keep_asking(self) -> None:
        while True:
            if not self._is_held:
                await self.refresh_now()
            await asyncio.sleep(self._interval_s)

    async def refresh_now(self) -> None:
        """Ask once, and draw what is said."""
        try:
            self._status = await in_thread(self._ask)
        except (OSError, ValueError) as failure:
            self.query_one("#head", Static).update(f"{self._place} does not answer: {failure}")
            return
        self._draw()

    def _draw(self) -> None:
        status = self._status
        if status is None:
            return
        self.query_one("#head", Static).update(headline(status, self._place))
        self.query_one("#curve", Sparkline).data = [point["queries"] for point in status["points"]]
        self._fill("nodes", node_rows(status))
        self._fill("pools", pool_rows(status))
        self._fill("queries", query_rows(status, ORDERS[self._order]))

    def _fill(self, name: str, rows: Iterable[Sequence[str]]) -> None:
        table = self.query_one(f"#{name}", DataTable)
        top_row = table.scroll_y
        table.clear()
        for row in rows:
            # As text: a name may hold what Textual would take for markup.
            table.add_row(*[_plain(cell) for cell in row])
        table.scroll_to(y=top_row, animate=False)

    def action_order(self) -> None:
        """Another order of the statements."""
        self._order = (self._order + 1) % len(ORDERS)
        self.notify(f"by {ORDERS[self._order].removesuffix('_ms')}")
        self._draw()

    def action_pause(self) -> None:
        """Hold the picture, or go on."""
        self._is_held = not self._is_held
        self.notify("held" if self._is_held else "live")


def _plain(text: str) -> Text:
    return Text("".join(char if char.isprintable() else "�" for char in text))


def _count(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if number >= size:
            return f"{number / (1e3 if unit == 'k' else size):.1f}{unit}"
    return f"{number:.0f}"


def _bytes(number: int | None) -> str:
    if number is None:
        return "-"
    size, units = float(number), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}"


def _ms(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number / 1000:.1f} s" if number >= 10_000 else f"{number:.2f} ms"


def _seconds(number: float | None) -> str:
    if number is None:
        return "-"
    if number < 90:
        return f"{number:.1f} s"
    return f"{number / 60:.0f} min" if number < 5400 else f"{number / 3600:.1f} h"
