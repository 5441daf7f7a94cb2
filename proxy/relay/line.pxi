# The line in which clients wait for a server connection, and the pools that serve it.

cdef double FOR_EVER = float('inf')

cdef enum:
    # How many at the head of a line are looked at for one whose settings a free server is in.
    MOST_LOOKED_AT = 64
    # ... and how often whoever is first may be overtaken by such a one.
    MOST_OVERTAKINGS = 8
    # How many free servers are looked at for one that is in a client's settings.
    MOST_COMPARED = 16
    # How often in a row a server may go to who comes for its settings, past those in line.
    MOST_RETURNS = 7

# Once whoever is first in line has waited so long, nothing is kept from it: what takes that long gains
# nothing from the switch it saves.
cdef double LONGEST_KEPT_S = 0.25

cdef enum Mode:
    SESSION_MODE = 1
    TRANSACTION_MODE = 2
    STATEMENT_MODE = 3


@cython.final
cdef class Histogram:
    """Counts of durations by upper bound, in C. Not cumulative."""

    def __cinit__(self, bounds_s):
        if len(bounds_s) > 16:
            raise ProxyBug('a histogram has at most 16 bounds')
        self.length = len(bounds_s)
        for i, bound in enumerate(bounds_s):
            self.bounds[i] = bound

    @property
    def bounds_s(self):
        """Upper bounds, seconds."""
        return tuple(self.bounds[i] for i in range(self.length))

    @property
    def seen(self):
        """One count per bound and one for what is above the last."""
        return tuple(self.counts[i] for i in range(self.length + 1))

    @property
    def sum_s(self):
        """Sum of all durations, seconds."""
        return self.total_s


cdef inline void observe(Histogram h, double duration_s) noexcept:
    cdef int i = 0
    while i < h.length and duration_s > h.bounds[i]:
        i += 1
    h.counts[i] += 1
    h.total_s += duration_s


@cython.final
cdef class Pool:
    """The server connections to one node for one database and user.

    size: how many there may be. max_prepared: prepared statements kept on each, 0 for any number.
    owner: whatever the control plane keeps with it.
    """

    def __cinit__(self, str cluster, str node, str role, str database, str user, int size,
                  int max_prepared):
        self.cluster = cluster
        self.node = node
        self.role = role
        self.database = database
        self.user = user
        self.size = size
        self.max_prepared = max_prepared
        self.lifetime_s = -1.0
        self.fresh_s = FOR_EVER
        self.check_query = b';'
        self.weight = 1
        self.takes_writes = role == 'primary'
        # Whatever is written is there.
        self.replayed = NOT_KNOWN_YET if self.takes_writes else 0
        self.servers = set()
        self.lines = []

    @property
    def idle(self):
        """Its free connections, those longest unused in front."""
        cdef Server s = self.oldest
        cdef list idle = []
        while s is not None:
            idle.append(s)
            s = s.newer
        return idle

    @property
    def query_count(self):
        """Statements sent to the node through this pool."""
        return self.queries

    @property
    def transaction_count(self):
        """Transactions finished in this pool."""
        return self.transactions

    @property
    def waiting(self):
        """Clients that wait in the lines which this pool serves."""
        return sum([(<Line>line).waiting for line in self.lines])

    @property
    def wanted(self):
        """Connections that those who wait in its lines could use beside those on their way."""
        cdef Line line
        cdef Pool pool
        cdef int missing, total = 0
        for line in self.lines:
            if line.held:
                continue
            missing = line.waiting
            for pool in line.pools:
                missing -= pool.connecting + pool.checking
            total += max(missing, 0)
        return total

    @property
    def longest_wait_s(self):
        """How long the first in any of its lines has waited, seconds."""
        return max([(<Line>line).longest_wait_s for line in self.lines], default=0.0)

    def has_replayed(self, int64_t lsn, double at_s):
        """The node, a replica, had everything up to there when it was asked, at `at_s` or after it.

        A node that was started anew may show less than it did before, and its connections tell that
        this happened: so what was asked before the newest of them was opened does not count.
        """
        if not self.takes_writes and at_s > self.opened_s:
            self.replayed = lsn

    def expire_checks(self, double now_s, double patience_s):
        """Close the servers that were asked and have not answered for so long."""
        for server in list(self.servers):
            if (<Server>server).asked_s and now_s - (<Server>server).asked_s > patience_s:
                server_close(<Server>server, b'no answer to server_check_query')

    def retire(self):
        """Close what is idle now and the rest as it becomes free; nothing new is accepted."""
        self.retired = True
        for server in list(self.servers):
            (<Server>server).retire()


@cython.final
cdef class Line:
    """Clients of one database and user, in the order in which they began to wait.

    It is served by the pools of one role: one for the primary, several for replicas.
    role: 'primary' or 'replica'. bounds_s: of the histogram of request durations.
    target: what is routed to it: as `role`, or a word that nodes have.
    """

    def __cinit__(self, str database, str user, str role, bounds_s, str target=None):
        self.database = database
        self.user = user
        self.role = role
        self.target = target or role
        self.pools = []
        self.mode = TRANSACTION_MODE
        self.tracks_statements = True
        self.max_statement_bytes = 1 << 20
        self.max_client_statements = 10000
        self.slow_s = FOR_EVER
        self.durations = Histogram(bounds_s)

    @property
    def query_count(self):
        """Statements sent for clients of this line."""
        return self.queries

    @property
    def transaction_count(self):
        """Transactions finished for clients of this line."""
        return self.transactions

    @property
    def duration_histogram(self):
        """From a request's first byte here to its ReadyForQuery."""
        return self.durations

    @property
    def longest_wait_s(self):
        """How long the first in line has waited, seconds."""
        if self.first is None:
            return 0.0
        # The relay's own "now" stands still while nothing happens.
        return monotonic_s() - self.first.waits_since_s

    def serve_from(self, list pools not None):
        """Let these pools serve the line from now on; clients who wait go on waiting."""
        cdef Pool pool
        for pool in self.pools:
            if pool not in pools:
                pool.lines.remove(self)
        for pool in pools:
            if self not in pool.lines:
                pool.lines.append(self)
        self.pools = list(pools)
        line_serve(self)
        if self.waiting:
            line_grow(self)

    def hold(self):
        """Give nobody a server connection: who needs one waits. Those who have one keep it."""
        self.held = True

    def release(self):
        """Go on after a `hold`."""
        self.held = False
        if self.router is not None:
            # What they wait with may be for others than this line's.
            return self.send_on()
        line_serve(self)
        if self.waiting:
            line_grow(self)

    @property
    def routed_counts(self):
        """Requests that were sent here, by the reason: {name in REASONS: count}."""
        return {REASONS[i]: self.routed[i] for i in range(len(REASONS)) if self.routed[i]}

    def send_on(self):
        """Let all who wait decide anew where to go."""
        cdef Client c
        cdef list waiting = []
        c = self.first
        while c is not None:
            waiting.append(c)
            c = c.behind
        for client in waiting:
            c = <Client>client
            if c.waiting and c.aim is self:
                line_leave(c)
                c.relay._dispatch(c, 0)

    def expire(self, double now_s):
        """Refuse those who have waited longer than `wait_timeout_s`; 0 is for ever."""
        cdef Client c
        cdef str sqlstate = '25006' if self.lacks_primary else '08001'
        if self.keeps_sequences and self.waiting:
            line_recalls(self, now_s)
        if self.wait_timeout_s <= 0:
            return
        while self.first is not None and now_s - self.first.waits_since_s > self.wait_timeout_s:
            c = self.first
            line_leave(c)
            if self.lacks_primary:
                c.refusal = messages.error_response(
                    sqlstate, 'no primary became known within query_wait_timeout',
                    hint='Nothing can be written until a node is the primary; reads may be sent to replicas.')
            else:
                c.refusal = messages.error_response(
                    sqlstate, 'no server connection became available within query_wait_timeout',
                    hint='All connections that the limits allow are in use, or no server can be reached.')
            count_error(c.relay, self.database, sqlstate)
            c.relay._dispatch(c, 0)

    def notify(self, double now_s, double after_s, bytes notice not None):
        """Tell those who have waited longer than `after_s`, once each."""
        cdef Client c = self.first
        while c is not None and now_s - c.waits_since_s > after_s:
            if not c.told:
                c.told = True
                c.relay.sent += len(notice)
                self.sent += len(notice)
                link_send(c, notice, len(notice))
            c = c.behind

    def refuse_all(self, bytes refusal not None, str sqlstate not None):
        """Answer everybody who waits with this ErrorResponse."""
        cdef Client c
        while self.first is not None:
            c = self.first
            line_leave(c)
            c.refusal = refusal
            count_error(c.relay, self.database, sqlstate)
            c.relay._dispatch(c, 0)


cdef Server line_take(Line line, Client c):
    """A free server connection, or None; of several nodes' as `line_pick` says.

    One that was unused for long is not given away but asked first; who waits gets it then.
    """
    cdef Pool best = None if line.held else line_pick(line, c)
    cdef Server s
    cdef bint passes_others
    cdef int i
    if best is None:
        return None
    # Who comes while others wait may have what is kept for such as it, and nothing else.
    passes_others = best.keeps and line.first is not None and not c.waits_since_s
    # The one used last, as its caches are warm, if its settings agree, or another of the last. Where
    # none do, the one that somebody is least likely to come back for.
    s = best.newest
    for i in range(MOST_COMPARED):
        if s.settings is c.settings or s.older is None:
            break
        s = s.older
    if passes_others and s.settings is not c.settings:
        return None
    s.returns = s.returns + 1 if passes_others else 0
    pool_takes_idle(best, s)
    if c.relay.now_s - s.idle_since_s > best.fresh_s:
        server_check(s)
        return None
    return s


cdef int line_join(Client c) except -1:
    """To the end of the line; the pools are told that somebody waits."""
    cdef Line line = c.aim
    c.waiting = True
    c.told = False
    if not c.waits_since_s:
        # It may have stood in another line before.
        c.waits_since_s = c.relay.now_s
    c.ahead = line.last
    c.behind = None
    if line.last is None:
        line.first = c
    else:
        line.last.behind = c
    line.last = c
    line.waiting += 1
    line_grow(line)
    if line.keeps_sequences:
        line_recalls(line, c.relay.now_s)
    return 0


cdef int line_leave(Client c) except -1:
    """Out of the line, wherever in it."""
    cdef Line line = c.aim
    if not c.waiting:
        return 0
    c.waiting = False
    if c.parked:
        c.parked = False
        del c.relay.parked[c]
        return 0
    if c.ahead is None:
        line.first = c.behind
    else:
        c.ahead.behind = c.behind
    if c.behind is None:
        line.last = c.ahead
    else:
        c.behind.ahead = c.ahead
    c.ahead = c.behind = None
    line.waiting -= 1
    return 0


cdef int line_grow(Line line) except -1:
    """Ask for server connections while more clients wait than are being opened."""
    cdef Pool pool, least
    cdef int opening = 0, i
    cdef bint may_grow = False
    cdef Py_ssize_t opened, fewest = 0
    if line.held:
        return 0
    for pool in line.pools:
        opening += pool.connecting + pool.checking
        may_grow = may_grow or pool_may_grow(pool)
    if not may_grow:
        # All are as large as they may be: so it is with each who waits under load.
        return 0
    for i in range(len(line.pools)):
        if opening >= line.waiting:
            return 0
        least = None
        for pool in line.pools:
            opened = (pool.connecting + PySet_GET_SIZE(pool.servers)) * 1000 // max(pool.weight, 1)
            if pool_may_grow(pool) and (least is None or opened < fewest):
                least = pool
                fewest = opened
        if least is None:
            return 0
        least.connecting += 1
        line.last.relay.control.grow(least)
        opening += not least.capped
    return 0


cdef bint line_has_idle(Line line) noexcept:
    cdef Pool pool
    if line.held:
        return False
    for pool in line.pools:
        if pool.idle_count:
            return True
    return False


cdef int line_serve(Line line) except -1:
    """While there is a free connection and somebody waits, let the first go on."""
    cdef Client c
    while line.first is not None and line_has_idle(line):
        c = line.first
        line_leave(c)
        client_read(c)
    return 0


cdef Client line_match(Line line, Server s):
    """Who of a line is in this server's settings already: the first, or one close behind; or None.

    That saves PostgreSQL a switch. Whoever is first is overtaken a few times at most, so everybody's
    turn comes.
    """
    cdef Client c = line.first
    cdef int i
    if line.overtakings < MOST_OVERTAKINGS:
        for i in range(MOST_LOOKED_AT):
            if c.settings is s.settings and c.least_lsn <= s.pool.replayed:
                return c
            c = c.behind
            if c is None:
                break
    return None


cdef int pool_give(Pool pool, Server s) except -1:
    """A server connection is free."""
    s.idle_since_s = s.relay.now_s
    pool_adds_idle(pool, s)
    return pool_serve(pool, 0.0)


cdef int pool_serve(Pool pool, double kept_before_s) except -1:
    """Give what is free to who waits: the line whose first has waited longest gets it.

    A connection may be kept a little, but not one that has been free since before `kept_before_s`.
    """
    cdef Line line, longest
    cdef Client c
    cdef Server s
    while pool.idle_count:
        longest = None
        for line in pool.lines:
            if line.first is not None and not line.held and (
                    longest is None or line.first.waits_since_s < longest.first.waits_since_s):
                longest = line
        s = pool.oldest if pool.oldest.idle_since_s < kept_before_s else pool.newest
        if longest is None:
            # It was opened for nobody who waits.
            s.opens_from_s = 0.0
            return 0
        c = line_match(longest, s)
        if c is None:
            if s.idle_since_s >= kept_before_s and pool_keeps(pool, longest, s):
                return 0
            c = longest.first
        longest.overtakings = 0 if c is longest.first else longest.overtakings + 1
        line_leave(c)
        if kept_before_s:
            # No event brought it here whose link would be dropped for a bug.
            c.relay._dispatch(c, 0)
        else:
            client_read(c)
    return 0


cdef bint pool_keeps(Pool pool, Line line, Server s) except -1:
    """Whether a server connection is kept from those who wait, as it would have to be switched.

    Its last client has just got its answer. Where the relay is behind with its work, most ask again
    within its next two passes, and need no switch. The connection stands idle until then, which
    costs nothing as long as there is something else to do: without that, it is given away at once.
    """
    if not s.relay.in_pass or s.returns >= MOST_RETURNS or line.overtakings >= MOST_OVERTAKINGS \
            or s.relay.now_s - line.first.waits_since_s > LONGEST_KEPT_S or PyList_GET_SIZE(pool.lines) != 1:
        return False
    if not pool.keeps:
        pool.keeps = True
        s.relay.keeping.append(pool)
    return True


cdef int relay_serves(Relay relay, double kept_before_s) except -1:
    """Give away the connections that have been kept since before that."""
    cdef list pools = relay.keeping
    relay.keeping = []
    for pool in pools:
        (<Pool>pool).keeps = False
        pool_serve(<Pool>pool, kept_before_s)
    return 0


cdef int pool_ask_next(Pool pool) except -1:
    """One that was asked is gone. Somebody may wait for it while others, as old, stand idle."""
    cdef Line line
    cdef Server s
    for line in pool.lines:
        if line.waiting and pool.idle_count and not line.held:
            s = pool.newest
            pool_takes_idle(pool, s)
            server_check(s)
            return 0
    return 0
