"""Which rules, catalogue and nodes decide where statements go? What routing needs, put together.

The relay decides for each statement by what it finds here: a `Router` for each kind of session, and
a `Decision` for each text, made once. From the monitor come the positions of nodes, which say how
fresh a replica is and whether it may answer at all; from the primary comes the catalogue of each
database, so that the effects of functions are known.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.cluster import DIALLING_FAILURES, ClusterView, NodeAddress, ProbeLogin
from proxy.cluster.catalogue import CatalogueRows
from proxy.config import Cluster, Config, Policy
from proxy.pool import Reservoir
from proxy.relay import (
    Client,
    Decision,
    Decisions,
    Horizon,
    Line,
    Pool,
    Router,
    WriteTimes,
)
from proxy.routing import (
    Applying,
    Choice,
    Rotation,
    Rule,
    Session,
    Standing,
    decide,
    read_rules,
    rules_for,
)
from proxy.sql import (
    Catalogue,
    Classifier,
    Lexed,
    Verdict,
    builtin_volatility,
    lex,
    unreadable,
)
from proxy.telemetry import LimitedLog, report
from proxy.wire import messages
from proxy.workers.catalogues import Catalogues
from proxy.workers.rereading import AGAIN_S, EVERY_S, keep_reading, pause_after
from proxy.workers.suspicion import Suspicion

_log = logging.getLogger("pgweir.routing")

# Under `session` a key counts as well; under `key` it is meant to be there.
_CONSISTENCY = {"none": 0, "session": 1, "key": 1, "global": 2}
_BALANCE = {"least_conn": 0, "round_robin": 1, "random": 2}
_OTHERWISE = {"primary": 0, "wait": 1, "refuse": 2}

# Options of the lexer, see sql/lexer.pxd.
_BACKSLASHES = 1
_AMBIGUOUS_ENCODING = 2
# PostgreSQL's encodings of clients in which half a character may be a quote or a backslash.
_AMBIGUOUS = frozenset({"SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004"})

# While there are writes, nodes are asked this often where they are.
_BUSY_INTERVAL_S = 0.1
# Without a write for so long, and with replicas that have them all, it is quiet again.
_QUIET_AFTER_S = 2.0
_MOST_ROUTERS = 10_000

_NOT_READ_YET = Verdict(reads_only=False, reasons=("comes before the catalogue was read",))


@dataclass(slots=True, eq=False)
class _Schema:
    """The catalogue of one database, as known. classifier: None before it was first asked for."""

    cluster: str
    dbname: str
    rows: CatalogueRows | None = None
    classifier: Classifier | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class _Pace:
    """How busy a cluster was when last looked at. written_s: when it was last written to."""

    written_s: float = 0.0
    quiet_since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Grounds:
    """What decisions are made by."""

    schema: _Schema
    classifier: Classifier | None
    applying: Applying


class Switchboard:
    """Routing of one process.

    times: where the processes of the proxy tell each other what was written.
    shares_keys: it tells other proxies, too, what is written under keys.
    primary_of: a cluster's primary now. login_of: how to ask a database of a cluster.
    pace: called with a cluster and how often its nodes are to be asked, seconds.
    on_rotation: called when other replicas of a cluster may answer than before.
    on_code: called with a cluster and a database in which functions, or what stands for them, were
    created, altered or dropped through this process.
    """

    def __init__(
        self,
        config: Config,
        *,
        times: WriteTimes,
        shares_keys: bool,
        primary_of: Callable[[str], NodeAddress | None],
        login_of: Callable[[str, str], ProbeLogin],
        pace: Callable[[str, float], None],
        on_rotation: Callable[[str], None],
        on_code: Callable[[str, str], None],
        clock: Callable[[], float],
    ) -> None:
        self._times = times
        self._shares_keys = shares_keys
        self._primary_of = primary_of
        self._login_of = login_of
        self._pace = pace
        self._on_rotation = on_rotation
        self._on_code = on_code
        self._clock = clock
        self._horizons: dict[str, Horizon] = {}
        self._timelines: dict[str, int] = {}
        self._paces: dict[str, _Pace] = {}
        self._rotations: dict[str, Rotation] = {}
        self._out: dict[str, dict[str, str]] = {}
        self._schemas: dict[tuple[str, str], _Schema] = {}
        self._lines: dict[tuple[str, str], tuple[Policy, Mapping[str, Line]]] = {}
        self._routers: dict[tuple[str, str, Applying], Router] = {}
        self._decisions: dict[tuple[_Schema, Applying], Decisions] = {}
        self._failures = LimitedLog(_log, clock)
        self._catalogues = Catalogues(clock)
        self._suspicion = Suspicion(primary_of, login_of, self._catalogues, clock)
        self._builtin = Classifier(Catalogue(builtin_volatility))
        self._take(config)

    def adopt(self, config: Config) -> None:
        """Go by another configuration from now on."""
        before = self._config
        self._take(config)
        for schema in self._schemas.values():
            cluster = config.clusters.get(schema.cluster)
            known = before.clusters.get(schema.cluster)
            if cluster is None or known is None or cluster.replicas != known.replicas:
                schema.classifier = None
                schema.rows = None
                schema.wake.set()
        # Whoever watches the nodes may be another from now on: the next write tells it the pace.
        self._paces.clear()
        for horizon in self._horizons.values():
            horizon.is_quiet = True
        self._forget()

    def _take(self, config: Config) -> None:
        self._config = config
        self._rules = read_rules(config.routes)
        for name, cluster in config.clusters.items():
            limits = cluster.replicas
            self._rotations[name] = Rotation(limits.max_lag, limits.max_lag_bytes)

    def _forget(self) -> None:
        """What was decided until now is decided anew."""
        for router in self._routers.values():
            router.is_stale = True
        self._routers.clear()
        self._decisions.clear()

    def close(self) -> list[asyncio.Task[None]]:
        """End its tasks; whoever closes waits for them."""
        tasks = [schema.task for schema in self._schemas.values() if schema.task is not None]
        for task in tasks:
            task.cancel()
        return [*tasks, *self._suspicion.close()]

    # --- what pools ask ------------------------------------------------------------------------

    def targets_of(self, policy: Policy) -> tuple[str, ...]:
        """What statements may be routed to beside the primary; nothing where none are."""
        cluster = self._config.clusters.get(policy.cluster)
        if cluster is None or cluster.serve_from != "primary" or policy.pool_mode == "session":
            return ()
        is_wanted = policy.read_write_split or policy.looks_at_statements
        if not is_wanted and (self._is_lonely(cluster) or policy.target != "primary"):
            return ()
        roles = {role: None for node in cluster.nodes for role in node.roles}
        return ("replica", *roles)

    def watch(self, policy: Policy, line: Line) -> None:
        """Tell this line which functions may leave something in a session."""
        self._suspicion.watch(policy, line)

    def horizon_of(self, cluster: str) -> Horizon | None:
        """How far the cluster's nodes are; None where nobody reads what is written through us."""
        declared = self._config.clusters.get(cluster)
        if declared is None or declared.serve_from != "primary" or self._is_lonely(declared):
            return None
        return self._horizon(cluster)

    def _is_lonely(self, cluster: Cluster) -> bool:
        """Whether there is no replica to read from, here or through another proxy."""
        return len(cluster.nodes) == 1 and not self._shares_keys

    def _horizon(self, cluster: str) -> Horizon:
        if cluster not in self._horizons:
            horizon = self._horizons[cluster] = Horizon(self._times, cluster)
            horizon.is_shared = self._shares_keys
        return self._horizons[cluster]

    def connect(self, policy: Policy, lines: Mapping[str, Line]) -> None:
        """Let these lines have what decides between them."""
        self._lines[policy.database, policy.user] = policy, lines
        balance = _BALANCE[self._config.clusters[policy.cluster].replicas.balance]
        for line in lines.values():
            line.balance = balance
        may_hold = Applying(
            tuple(
                rule
                for rule in self._rules
                if rule.route.match.may_match(policy.database, policy.user)
            )
        )
        lines["primary"].router = self._router(policy, lines, may_hold)
        self._schema(policy.cluster, policy.dbname)

    # --- what the relay asks -------------------------------------------------------------------

    def routing_of(self, client: Client) -> tuple[Router, int, bool, bool, str | None, str | None]:
        """Say who decides where this client's statements go; see `relay.Control`."""
        line, settings = client.line, client.settings
        policy, lines = self._lines[line.database, line.user]
        session = Session(
            line.database, line.user, settings.get("application_name", ""), client.address
        )
        router = self._router(policy, lines, rules_for(self._rules, session))
        route = settings.get("pgweir.route") or None
        return (
            router,
            _options_of(client),
            settings.get("default_transaction_read_only", "off") == "on",
            settings.get("default_transaction_isolation", "") == "serializable",
            route if route in ("primary", "replica") or route in lines else None,
            settings.get("pgweir.consistency_key") or None,
        )

    def _router(self, policy: Policy, lines: Mapping[str, Line], applying: Applying) -> Router:
        key = (policy.database, policy.user, applying)
        router = self._routers.get(key)
        if router is not None:
            return router
        if len(self._routers) >= _MOST_ROUTERS:
            self._forget()
        cluster = self._config.clusters[policy.cluster]
        schema = self._schema(policy.cluster, policy.dbname)
        decisions = self._decisions.get((schema, applying))
        if decisions is None:
            decisions = self._decisions[schema, applying] = Decisions(
                _Grounds(schema, schema.classifier, applying), by_text=applying.by_text
            )
        router = Router(decisions, dict(lines), self._horizon(policy.cluster))
        router.splits = policy.read_write_split
        router.begins_reading = policy.reads_begin_on_replicas
        router.looks = applying.looks
        router.guards = applying.guards
        router.session_target = applying.target
        router.consistency = _CONSISTENCY[cluster.consistency]
        router.wait_s = cluster.replicas.wait
        router.otherwise = _OTHERWISE[cluster.replicas.otherwise]
        self._routers[key] = router
        return router

    def decide(self, router: Router, text: bytes, options: int) -> Decision:
        """Say what is to be known of a text that was not seen before."""
        _, _, choice = _choose(router, text, options)
        refusal = None
        if choice.rejected_by is not None:
            refusal = messages.error_response(
                "42501",
                f'statement rejected by rule "{choice.rejected_by.name}" of the proxy',
                hint="The rule stands under routes in the proxy's configuration.",
            )
        return Decision(
            reads_only=choice.reads_only,
            reads_by_default=choice.reads_by_default,
            of_the_session=choice.of_the_session,
            target=choice.target,
            refusal=refusal,
            timeout_s=choice.timeout_s,
            note=choice.logged_by,
        )

    def foresee(self, client: Client, text: bytes) -> tuple[str, str]:
        """Say where a client's statement would go outside of a transaction, and why."""
        router, options, _, _, route, _ = self.routing_of(client)
        lexed, verdict, choice = _choose(router, text, options)
        if choice.rejected_by is not None:
            return "nowhere", f'rule "{choice.rejected_by.name}" rejects it'
        hint = lexed.role if lexed.target == "role" else lexed.target
        rule = choice.target or router.session_target
        for target, why in ((hint, "a hint"), (route, "pgweir.route"), (rule, "a rule")):
            if target is not None:
                return target, f"{why} says so"
        if not verdict.reads_only:
            return "primary", _sentence_of(verdict)
        if router.splits:
            return "replica", "it only reads"
        return "primary", "it only reads, and read_write_split is off"

    def classify(self, client: Client, policy: Policy | None, text: bytes) -> Verdict:
        """Say what a client's statement would do, whether or not it was routed by that.

        Where nothing is, the catalogue is not read, and functions are known that are PostgreSQL's.
        """
        schema = policy and self._schemas.get((policy.cluster, policy.dbname))
        classifier = schema.classifier if schema else None
        options = _options_of(client)
        _, verdict = (classifier or self._builtin).classify(
            text,
            backslashes=bool(options & _BACKSLASHES),
            ambiguous_encoding=bool(options & _AMBIGUOUS_ENCODING),
        )
        return verdict

    def why_no_read(self, client: Client, text: bytes) -> str:
        """Say why a client's statement does not only read."""
        router, options, *_ = self.routing_of(client)
        return _sentence_of(_choose(router, text, options)[1])

    def rule_met(self, client: Client, rule: Rule) -> None:
        """A statement came that a rule wants logged."""
        _log.info(
            "rule met",
            extra={
                "facts": {
                    "rule": rule.name,
                    "database": client.line.database,
                    "user": client.line.user,
                    "addr": client.address,
                }
            },
        )

    def writes_begin(self, pool: Pool) -> None:
        """Something was written, for the first time since it was quiet."""
        self.hurry(pool.cluster)

    def hurry(self, cluster: str) -> None:
        """Ask the nodes of a cluster often where they are, until it is quiet again."""
        declared = self._config.clusters.get(cluster)
        if declared is not None and declared.consistency != "none":
            horizon = self._horizon(cluster)
            horizon.is_quiet = False
            self._paces[cluster] = _Pace(horizon.written_s, self._clock())
            self._pace(cluster, min(_BUSY_INTERVAL_S, declared.monitor.interval))

    # --- what other proxies tell and are told --------------------------------------------------

    def position_after(self, cluster: str, at_s: float) -> tuple[int, int] | None:
        """Timeline and position where all that was written until then ends, when it is known."""
        horizon = self._horizons.get(cluster)
        lsn = None if horizon is None else horizon.lsn_after(at_s)
        return None if lsn is None else (self.timeline(cluster), lsn)

    def timeline(self, cluster: str) -> int:
        """The primary's; 0 when it is not known."""
        return self._timelines.get(cluster, 0)

    def note_key(self, cluster: str, key: str, at_s: float) -> None:
        """Something was written under a key through another proxy, at the latest then."""
        self._horizon(cluster).note_key(key, at_s)

    def doubt_keys(self, at_s: float) -> None:
        """Until then anything may have been written under any key."""
        for horizon in self._horizons.values():
            horizon.doubt_keys(at_s)

    def schema_changed(self, pool: Pool, *, of_code: bool) -> None:
        """Something was created, altered or dropped; of_code: functions among that."""
        policy: Policy = pool.owner.policy
        self._changed(pool.cluster, policy.dbname, of_code=of_code)
        if of_code:
            self._on_code(pool.cluster, policy.dbname)

    def code_changed(self, cluster: str, dbname: str) -> None:
        """Functions were, or what stands for them, through another process."""
        self._changed(cluster, dbname, of_code=True)

    def _changed(self, cluster: str, dbname: str, *, of_code: bool) -> None:
        self._catalogues.changed(cluster, dbname)
        if of_code:
            self._suspicion.schema_changed(cluster, dbname)
        schema = self._schemas.get((cluster, dbname))
        if schema is not None:
            schema.wake.set()

    # --- what the monitor tells ----------------------------------------------------------------

    def observe(self, view: ClusterView, reservoir: Reservoir) -> None:
        """Nodes were asked where they are."""
        if view.name not in self._config.clusters or self.horizon_of(view.name) is None:
            return
        horizon = self._horizon(view.name)
        primary = view.primary_node
        if primary is not None and primary.sampled_at is not None and not primary.in_recovery:
            self._see_timeline(view.name, primary.timeline)
            horizon.sample(primary.sampled_at, primary.insert_lsn or 0)
        for node in view.replicas:
            if node.sampled_at is not None:
                # Without a receiver it is where it was, unless that is on another timeline.
                is_here = not node.stale or (
                    node.timeline is not None and node.timeline == self._timelines.get(view.name)
                )
                is_known = is_here and node.in_recovery and node.sampled_at > horizon.turned_s
                lsn = node.replay_lsn or 0 if is_known else 0
                reservoir.note_replayed(view.name, node.name, lsn, node.sampled_at)
        out = self._rotations[view.name].update(
            Standing(node.name, node.lag_s, node.lag_bytes, node.stale) for node in view.replicas
        )
        before = self._out.get(view.name, {})
        self._out[view.name] = out
        if out.keys() != before.keys():
            for name in out.keys() - before.keys():
                self._log_rotation(view.name, name, "replica gets no statements", out[name])
            for name in before.keys() - out.keys():
                self._log_rotation(view.name, name, "replica gets statements again", "")
            self._on_rotation(view.name)

    def _see_timeline(self, name: str, timeline: int | None) -> None:
        """Positions of another timeline are no measure for what is written on this one."""
        if timeline is None:
            return
        known = self._timelines.get(name)
        self._timelines[name] = timeline
        if known not in (None, timeline):
            self._horizon(name).turn(self._clock())

    @staticmethod
    def _log_rotation(cluster: str, node: str, what: str, reason: str) -> None:
        facts = {"cluster": cluster, "node": node}
        if reason:
            facts["reason"] = reason
        report(_log, "rotation", what, facts, logging.WARNING if reason else logging.INFO)

    def why_out(self, cluster: str, node: str) -> str | None:
        """Why a replica may not answer, or None when it may."""
        return self._out.get(cluster, {}).get(node)

    def tick(self, views: Mapping[str, ClusterView]) -> None:
        """Several times a second: when it is quiet, nodes are asked less often again.

        And more often, when it is another process through which somebody has written.
        """
        now_s = self._clock()
        for name, horizon in self._horizons.items():
            if name not in self._paces and now_s - horizon.written_s < _QUIET_AFTER_S:
                self.hurry(name)
        for name, pace in list(self._paces.items()):
            horizon = self._horizon(name)
            if horizon.written_s != pace.written_s:
                pace.written_s, pace.quiet_since_s = horizon.written_s, now_s
            elif now_s - pace.quiet_since_s > _QUIET_AFTER_S and (
                self._has_everything(name, views.get(name))
                or now_s - pace.quiet_since_s > 15 * _QUIET_AFTER_S
            ):
                del self._paces[name]
                horizon.is_quiet = True
                if name in self._config.clusters:
                    self._pace(name, self._config.clusters[name].monitor.interval)

    def _has_everything(self, name: str, view: ClusterView | None) -> bool:
        least = self._horizon(name).least_lsn
        if view is None or least is None:
            return False
        return all((node.replay_lsn or 0) >= least for node in view.replicas if not node.stale)

    # --- catalogues ----------------------------------------------------------------------------

    def _schema(self, cluster: str, dbname: str) -> _Schema:
        schema = self._schemas.get((cluster, dbname))
        if schema is None:
            schema = self._schemas[cluster, dbname] = _Schema(cluster, dbname)
            schema.task = asyncio.get_running_loop().create_task(self._keep_reading(schema))
        return schema

    async def _keep_reading(self, schema: _Schema) -> None:
        """Task: one database's catalogue."""
        await keep_reading(lambda: self._read(schema), schema.wake, self._failures, "the catalogue")

    async def _read(self, schema: _Schema) -> float:
        """Read it once. Result: when to do so again, seconds."""
        address = self._primary_of(schema.cluster)
        if address is None:
            return AGAIN_S
        cluster = self._config.clusters.get(schema.cluster)
        if cluster is None:
            return EVERY_S
        login = self._login_of(schema.cluster, schema.dbname)
        try:
            rows, again_s = await self._catalogues.read(
                CatalogueRows, schema.cluster, schema.dbname, address, login
            )
        except DIALLING_FAILURES as failed:
            self._failures.log(
                logging.WARNING,
                "the catalogue cannot be read: functions not PostgreSQL's own count as writing",
                {"cluster": schema.cluster, "database": schema.dbname, "reason": str(failed)},
            )
            if schema.classifier is None:
                self._judge_by(schema, cluster, None)
            return pause_after(failed)
        if schema.classifier is None or rows != schema.rows:
            self._judge_by(schema, cluster, rows)
        return again_s

    def _judge_by(self, schema: _Schema, cluster: Cluster, rows: CatalogueRows | None) -> None:
        lists = cluster.replicas.read_only_functions, cluster.replicas.writing_functions
        if rows is None:
            catalogue = Catalogue(builtin_volatility, frozenset(lists[0]), frozenset(lists[1]))
        else:
            catalogue = rows.catalogue(*lists)
        schema.rows = rows
        schema.classifier = Classifier(catalogue)
        for key, router in list(self._routers.items()):
            if router.decisions.owner.schema is schema:
                router.is_stale = True
                del self._routers[key]
        for grounds in [key for key in self._decisions if key[0] is schema]:
            del self._decisions[grounds]
        # Their lines hold one as well, which says no more than whether there are rules.


def _options_of(client: Client) -> int:
    """How the lexer is to read what a client says in its present settings."""
    options = 0
    if client.settings.get("standard_conforming_strings", "on") == "off":
        options |= _BACKSLASHES
    if client.settings.get("client_encoding", "UTF8").upper() in _AMBIGUOUS:
        options |= _AMBIGUOUS_ENCODING
    return options


def _sentence_of(verdict: Verdict) -> str:
    return "it " + "; it ".join(verdict.reasons)


def _choose(router: Router, text: bytes, options: int) -> tuple[Lexed, Verdict, Choice]:
    """Read a text, and say what is to be known of it."""
    grounds: _Grounds = router.decisions.owner
    lexed = lex(
        text,
        backslashes=bool(options & _BACKSLASHES),
        ambiguous_encoding=bool(options & _AMBIGUOUS_ENCODING),
    )
    if grounds.classifier is None:
        verdict = _NOT_READ_YET
    elif lexed.trouble is not None:
        verdict = unreadable(lexed.trouble)
    else:
        verdict = grounds.classifier.verdict_of(lexed.key, lexed.tokens, len(lexed.spans))
    choice = decide(
        text.decode("utf-8", "surrogateescape"),
        lexed.key if lexed.trouble is None else b"",
        verdict,
        grounds.applying,
    )
    return lexed, verdict, choice
