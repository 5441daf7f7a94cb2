"""The table of cases: every question that is asked, and what the answer should be. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.targets import Target

Mode = Literal["simple", "extended", "prepared"]
POOL_SIZE = 20


@dataclass(frozen=True)
class Rig:
    """What stands around the proxies of a case; cases with the same rig share it.

    server: `stub` answers at once, `postgres` is a real PostgreSQL 18, `replicated` one with two
    replicas, between which pgweir splits. auth: how clients log in to the poolers. max_clients:
    what the proxies are told to allow. node_share: how much of a core each node has for itself, as
    if on a machine of its own; None leaves the machine to all.
    """

    server: Literal["stub", "postgres", "replicated"] = "stub"
    auth: Literal["trust", "scram-sha-256"] = "trust"
    tls: bool = False
    share_unnamed: bool = False
    max_clients: int = 600
    node_share: float | None = None

    @property
    def is_pinned(self) -> bool:
        """Whether proxy and load get cores of their own: with the stub the proxy is the limit."""
        return self.server == "stub"


@dataclass(frozen=True)
class PgbenchLoad:
    """pgbench with so many clients.

    script: a file in scripts/, or one of pgbench's own with a leading `@`. reconnect: a connection
    for each transaction. warm_up_s: how long it asks before it counts, whole seconds: a new backend
    knows no table yet, which costs it as much as fifty statements.
    """

    clients: int
    mode: Mode = "simple"
    script: str = "select.sql"
    reconnect: bool = False
    warm_up_s: int = 0


@dataclass(frozen=True)
class FillLoad:
    """The loader of load.c, which costs little enough to leave the proxy as the bottleneck."""

    clients: int
    mode: Mode


@dataclass(frozen=True)
class IdleLoad:
    """Many clients that logged in, of whom `active` ask one statement after the other."""

    clients: int
    active: int


@dataclass(frozen=True)
class Case:
    """One question. contestants: who can take part; `direct` is no proxy at all."""

    name: str
    rig: Rig
    load: PgbenchLoad | FillLoad | IdleLoad
    contestants: tuple[str, ...] = ("pgweir", "pgbouncer", "haproxy")
    targets: tuple[Target, ...] = ()
    quick: bool = False


STUB = Rig()
POSTGRES = Rig(server="postgres")
# Little enough that the nodes are full long before what proxy and load have left: 1.4 cores of two.
APART = Rig(server="replicated", share_unnamed=True, node_share=0.2)
TOGETHER = replace(APART, node_share=None)

# Debian's PgBouncer, 1.18, has no prepared statements in transaction mode.
_WHO: dict[Mode, tuple[str, ...]] = {
    "simple": ("pgweir", "pgbouncer", "haproxy"),
    "extended": ("pgweir", "pgbouncer", "haproxy"),
    "prepared": ("pgweir", "haproxy"),
}
_MODES: tuple[Mode, ...] = ("simple", "extended", "prepared")
_COUNTS = (1, 8, 64, 500)
_CPU_HAPROXY = Target("cpu", 1.10, "haproxy")
_AT_64: dict[Mode, tuple[Target, ...]] = {
    "simple": (Target("cpu", 0.85, "pgbouncer"), _CPU_HAPROXY, Target("p99", 1.0, "pgbouncer")),
    "extended": (Target("cpu", 0.85, "pgbouncer"), _CPU_HAPROXY, Target("p99", 1.0, "pgbouncer")),
    "prepared": (_CPU_HAPROXY,),
}
_MB_TARGETS = (Target("cpu", 0.6, "pgbouncer"),)
_MB = PgbenchLoad(8, script="mb_rows.sql")


def _ladder(prefix: str, rig: Rig, script: str) -> list[Case]:
    """Every mode at every number of clients."""
    return [
        Case(
            f"{prefix}-{mode}-{clients}",
            rig,
            PgbenchLoad(clients, mode, script),
            _WHO[mode],
            _AT_64[mode] if clients == 64 else (),
            quick=clients == 64 and (prefix, mode) != ("pg", "prepared"),
        )
        for mode in _MODES
        for clients in _COUNTS
    ]


def _full(mode: Mode) -> Case:
    targets = (Target("tx/s", 1.15, "pgbouncer", at_least=True), Target("p99", 1.0, "pgbouncer"))
    return Case(
        f"full-{mode}-64",
        STUB,
        FillLoad(64, mode),
        _WHO[mode],
        targets if mode != "prepared" else (),
        quick=mode == "simple",
    )


def _nodes(prefix: str, rig: Rig) -> list[Case]:
    """Every mode with some, many and very many clients, beside a third of them at each node."""
    return [
        Case(
            f"{prefix}-{mode}-{clients}",
            rig,
            PgbenchLoad(clients, mode, "@select-only", warm_up_s=warm_up_s),
            ("pgweir", "direct"),
            (Target("tx/s", 1.0, "direct", at_least=True),),
        )
        for mode in _MODES
        for clients, warm_up_s in ((24, 1), (96, 2), (480, 6))
    ]


def _shared(clients: int) -> Case:
    """Proxy and backends together, beside no proxy: what preparing once saves."""
    return Case(
        f"share-unnamed-{clients}",
        Rig(server="postgres", share_unnamed=True),
        PgbenchLoad(clients, "extended", "@select-only"),
        ("pgweir", "pgbouncer", "direct"),
        (Target("total cpu", 1.0, "direct"),),
        quick=clients == 64,
    )


CASES: tuple[Case, ...] = (
    *_ladder("stub", STUB, "select.sql"),
    *(_full(mode) for mode in _MODES),
    *(
        Case(
            f"split-{mode}-64",
            STUB,
            FillLoad(64, mode),
            ("pgweir", "pgweir-split"),
            quick=mode == "simple",
        )
        for mode in _MODES
    ),
    Case(
        "connect-trust",
        STUB,
        PgbenchLoad(8, reconnect=True),
        targets=(Target("cpu", 3.0, "pgbouncer"),),
        quick=True,
    ),
    Case("mb-rows", STUB, _MB, targets=_MB_TARGETS, quick=True),
    Case("mb-one-row", STUB, PgbenchLoad(8, script="mb_one_row.sql"), targets=_MB_TARGETS),
    Case(
        "connect-scram",
        Rig(auth="scram-sha-256"),
        PgbenchLoad(8, reconnect=True),
        ("pgweir", "pgbouncer"),
        (Target("cpu", 0.15, "pgbouncer"),),
        quick=True,
    ),
    Case(
        "tls-simple-64",
        Rig(tls=True),
        PgbenchLoad(64),
        ("pgweir", "pgbouncer"),
        (Target("cpu", 1.2, "pgbouncer"),),
        quick=True,
    ),
    Case(
        "connect-tls",
        Rig(tls=True),
        PgbenchLoad(8, reconnect=True),
        ("pgweir", "pgbouncer"),
        (Target("cpu", 1.2, "pgbouncer"),),
    ),
    Case(
        "idle-10000",
        Rig(max_clients=10_000),
        IdleLoad(10_000, active=500),
        ("pgweir", "pgbouncer"),
        (Target("KiB/client", 2.5), Target("errors", 0.0)),
        quick=True,
    ),
    *_ladder("pg", POSTGRES, "@select-only"),
    Case("pg-tpcb-8", POSTGRES, PgbenchLoad(8, "simple", "@tpcb-like"), quick=True),
    Case(
        "pg-mb-rows",
        POSTGRES,
        PgbenchLoad(8, script="mb_rows_postgres.sql"),
        targets=_MB_TARGETS,
    ),
    _shared(8),
    _shared(64),
    *_nodes("nodes", APART),
    *_nodes("one-machine", TOGETHER),
)


def choose(cases: Sequence[Case], names: Sequence[str], *, quick: bool) -> list[Case]:
    """Pick cases by name or by a name's beginning; all of them, or the quick ones, for none.

    Raises ValueError for a name that picks nothing.
    """
    if not names:
        return [case for case in cases if case.quick or not quick]
    for name in names:
        if not any(case.name.startswith(name) for case in cases):
            raise ValueError(f"no case {name!r}; there are {', '.join(c.name for c in cases)}")
    # `stub-simple-8` means that one and not its namesakes that go on.
    exact = {case.name for case in cases}
    return [
        case
        for case in cases
        if any(
            case.name == name or (name not in exact and case.name.startswith(name))
            for name in names
        )
    ]
