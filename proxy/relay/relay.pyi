import asyncio
import ssl
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

from proxy.relay.control import Control

class Histogram:
    def __init__(self, bounds_s: Sequence[float]) -> None: ...
    @property
    def bounds_s(self) -> tuple[float, ...]: ...
    @property
    def seen(self) -> tuple[int, ...]: ...
    @property
    def sum_s(self) -> float: ...

class Ended:
    text: bytes
    is_cut: bool
    spent_s: float
    waited_s: float
    opening_s: float
    preparing_s: float
    rows: int
    received_bytes: int
    sqlstate: str | None
    stands_for: int

class Link:
    address: str
    since_s: float
    number: int
    def take_packet(self, max_bytes: int) -> bytes | None: ...
    def take_message(self, max_bytes: int) -> tuple[bytes, bytes] | None: ...
    def take_bytes(self, most: int = ...) -> bytes: ...
    @property
    def has_unread(self) -> bool: ...
    def wait(self) -> Awaitable[None] | None: ...
    def write(self, octets: bytes) -> None: ...
    def start_tls(
        self, connection: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None: ...
    @property
    def tls_version(self) -> str | None: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def has_ended(self) -> bool: ...
    @property
    def unsent_bytes(self) -> int: ...
    @property
    def held_bytes(self) -> int: ...
    @property
    def awaited_bytes(self) -> int: ...
    @property
    def fileno(self) -> int: ...
    def release(self) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...

class Client(Link):
    line: Line
    server: Server | None
    waits_since_s: float
    def hear(self, question: int, lsn: int | None) -> None: ...
    began_s: float
    ready_s: float
    settings: Any
    startup: Any
    route: str | None
    consistency_key: str | None
    login: Any
    pid: int
    secret: bytes
    def enter(self, line: Line, settings: object, pid: int, secret: bytes) -> None: ...
    def cancel(self) -> bool: ...
    def dismiss(self, sqlstate: str, text: str, hint: str | None = ...) -> None: ...
    def go_on(self) -> None: ...
    def tell(self, message: bytes) -> None: ...
    @property
    def server_pid(self) -> int: ...
    @property
    def is_idle(self) -> bool: ...
    @property
    def is_waiting(self) -> bool: ...
    @property
    def has_server(self) -> bool: ...
    @property
    def statement_count(self) -> int: ...
    @property
    def is_pinned(self) -> bool: ...

class Server(Link):
    pool: Pool
    client: Client | None
    resetting: bool
    retiring: bool
    asked_s: float
    settings: Any
    defaults: Any
    pid: int
    secret: bytes
    idle_since_s: float
    ages_from_s: float
    opens_from_s: float
    notifier: int
    def enter(self, pool: Pool, pid: int, secret: bytes, settings: object) -> None: ...
    def cancel_done(self, ok: bool) -> None: ...
    def retire(self) -> None: ...
    def lose(self, reason: bytes) -> None: ...
    @property
    def is_idle(self) -> bool: ...
    @property
    def is_active(self) -> bool: ...
    @property
    def cancels_in_flight(self) -> int: ...
    @property
    def prepared_count(self) -> int: ...

class Pool:
    cluster: str
    node: str
    role: str
    database: str
    user: str
    size: int
    connecting: int
    max_prepared: int
    lifetime_s: float
    fresh_s: float
    check_query: bytes
    checking: int
    reset: int
    capped: bool
    yields: int
    idle: list[Server]
    servers: set[Server]
    owner: Any
    retired: bool
    takes_writes: bool
    weight: int
    is_near: bool
    replayed: int
    horizon: Horizon | None
    def __init__(
        self,
        cluster: str,
        node: str,
        role: str,
        database: str,
        user: str,
        size: int,
        max_prepared: int,
    ) -> None: ...
    @property
    def query_count(self) -> int: ...
    @property
    def transaction_count(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def wanted(self) -> int: ...
    @property
    def longest_wait_s(self) -> float: ...
    def retire(self) -> None: ...
    def has_replayed(self, lsn: int, at_s: float) -> None: ...
    def expire_checks(self, now_s: float, patience_s: float) -> None: ...

class Line:
    database: str
    user: str
    role: str
    target: str
    balance: int
    router: Router | None
    pools: list[Pool]
    mode: int
    share_unnamed: bool
    tracks_statements: bool
    max_statement_bytes: int
    max_client_statements: int
    refuses_pins: bool
    session_functions: Any
    suspects: Suspects | None
    wait_timeout_s: float
    query_timeout_s: float
    transaction_timeout_s: float
    idle_transaction_timeout_s: float
    client_idle_timeout_s: float
    slow_s: float
    tells_all: bool
    tells_traced: bool
    held: bool
    lacks_primary: bool
    waiting: int
    clients: int
    received: int
    sent: int
    assignments: int
    parses: int
    server_parses: int
    binds: int
    waited_s: float
    transacted_s: float
    spent_s: float
    def __init__(
        self,
        database: str,
        user: str,
        role: str,
        bounds_s: Sequence[float],
        target: str | None = ...,
    ) -> None: ...
    @property
    def routed_counts(self) -> dict[str, int]: ...
    @property
    def query_count(self) -> int: ...
    @property
    def transaction_count(self) -> int: ...
    @property
    def duration_histogram(self) -> Histogram: ...
    @property
    def longest_wait_s(self) -> float: ...
    def serve_from(self, pools: list[Pool]) -> None: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...
    def send_on(self) -> None: ...
    def expire(self, now_s: float) -> None: ...
    def notify(self, now_s: float, after_s: float, notice: bytes) -> None: ...
    def refuse_all(self, refusal: bytes, sqlstate: str) -> None: ...

REASONS: tuple[str, ...]

class Suspects:
    def __init__(
        self, rows: Sequence[tuple[str, int, int, int, Any]], suspects_all: bool = False
    ) -> None: ...
    def find(self, text: bytes) -> tuple[int, list[Any]]: ...

class WriteTimes:
    def __init__(self) -> None: ...

class Horizon:
    cluster: str
    is_quiet: bool
    is_shared: bool
    turned_s: float
    def __init__(self, times: WriteTimes, cluster: str) -> None: ...
    def sample(self, at_s: float, lsn: int) -> None: ...
    def doubt(self, at_s: float) -> None: ...
    def doubt_keys(self, at_s: float) -> None: ...
    def turn(self, at_s: float) -> None: ...
    def note_key(self, key: str, at_s: float) -> None: ...
    @property
    def written_s(self) -> float: ...
    @property
    def least_lsn(self) -> int | None: ...
    def lsn_after(self, at_s: float) -> int | None: ...

class Decision:
    flags: int
    target: str | None
    refusal: bytes | None
    timeout_s: float
    note: Any
    def __init__(
        self,
        *,
        reads_only: bool = ...,
        reads_by_default: bool = ...,
        of_the_session: bool = ...,
        target: str | None = ...,
        refusal: bytes | None = ...,
        timeout_s: float = ...,
        note: object = ...,
    ) -> None: ...

class Decisions:
    owner: Any
    by_text: bool
    def __init__(self, owner: object, *, by_text: bool = ...) -> None: ...
    def __len__(self) -> int: ...

class Router:
    decisions: Decisions
    lines: dict[str, Line]
    horizon: Horizon
    splits: bool
    begins_reading: bool
    looks: bool
    guards: bool
    session_target: str | None
    consistency: int
    wait_s: float
    otherwise: int
    is_stale: bool
    def __init__(
        self, decisions: Decisions, lines: dict[str, Line], horizon: Horizon
    ) -> None: ...

class Relay:
    loop: asyncio.AbstractEventLoop
    control: Control
    now_s: float
    suspended: bool
    clients: dict[int, Client]
    errors: dict[tuple[str, str], int]
    violations: dict[tuple[str, str], int]
    waits: Histogram
    has_limits: bool
    def __init__(
        self, loop: asyncio.AbstractEventLoop, control: Control, wait_bounds_s: Sequence[float]
    ) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def accept(self, listener: int) -> Client | None: ...
    def dial(self, fd: int, address: str) -> Server: ...
    def poll(self) -> None: ...
    def suspend(self) -> None: ...
    def resume(self, servers: Iterable[Server]) -> None: ...
    def unpark(self) -> None: ...
    def check_times(self) -> None: ...
    @property
    def rerun_count(self) -> int: ...
    @property
    def received_bytes(self) -> int: ...
    @property
    def sent_bytes(self) -> int: ...
    @property
    def statement_figures(self) -> dict[str, int]: ...
    @property
    def statement_count(self) -> int: ...

def effects(text: bytes) -> tuple[int, int]: ...
