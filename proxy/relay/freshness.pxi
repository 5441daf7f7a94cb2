# What a session has written, and how far the nodes of its cluster are.
#
# Nobody is asked when something is written. What commits is marked with the time at which we heard
# of it; the first position of the primary that was asked for after that time is at or behind the
# end of it. A replica that has replayed up to there has it.

cdef enum Consistency:
    READS_ANYTHING = 0
    READS_OWN = 1
    READS_ALL = 2

cdef enum:
    SAMPLES_KEPT = 64
    # least_lsn of a session that has written what has no position yet: nothing is as new as that.
    NOT_KNOWN_YET = 0x7fffffffffffffff


@cython.final
cdef class Mark:
    """What somebody has written, as far as a replica may not have it."""


cdef int mark_write(Mark mark, double now_s) except -1:
    """Something was committed, at the latest now."""
    mark.written_s = now_s
    mark.lsn = 0
    return 0


cdef int mark_join(Mark mark, Mark other) except -1:
    """The first is from now on both."""
    if other.written_s > mark.written_s:
        mark.written_s = other.written_s
        mark.lsn = other.lsn
    return 0


@cython.final
cdef class Horizon:
    """How far the nodes of a cluster are, and what has been written to it through this process.

    max_marks: consistency keys that are remembered one by one. What is known of those used longest
    ago becomes one, which holds for every key that is not known.
    """

    def __cinit__(self, int max_marks=100_000):
        self.newest = Mark()
        self.forgotten = Mark()
        self.marks = {}
        self.max_marks = max_marks
        self.is_quiet = True

    def sample(self, double at_s, int64_t lsn):
        """The primary's WAL ended at `lsn` or before it when it was asked, at `at_s` or after it."""
        cdef int last = (self.head + self.count - 1) & (SAMPLES_KEPT - 1)
        if self.count and at_s <= self.samples_s[last]:
            return
        if self.count == SAMPLES_KEPT:
            self.head = (self.head + 1) & (SAMPLES_KEPT - 1)
            self.count -= 1
        last = (self.head + self.count) & (SAMPLES_KEPT - 1)
        self.samples_s[last] = at_s
        self.samples_lsn[last] = lsn
        self.count += 1

    @property
    def least_lsn(self):
        """Where all that was written here ends at most; None when that is not known yet."""
        cdef int64_t lsn = horizon_least(self, self.newest)
        return None if lsn == NOT_KNOWN_YET else lsn

    @property
    def mark_count(self):
        """Consistency keys that are remembered one by one."""
        return len(self.marks)


cdef int64_t horizon_least(Horizon h, Mark mark) noexcept:
    """What a node must have replayed to have this; 0: any has it."""
    cdef int i, at
    if mark is None or mark.written_s == 0.0:
        return 0
    if mark.lsn:
        return mark.lsn
    # The oldest sample behind it: of the last few, as a rule.
    for i in range(h.count - 1, -1, -1):
        at = (h.head + i) & (SAMPLES_KEPT - 1)
        if h.samples_s[at] <= mark.written_s:
            break
        mark.lsn = h.samples_lsn[at]
    return mark.lsn if mark.lsn else NOT_KNOWN_YET


cdef Mark horizon_mark(Horizon h, object key):
    """What is known of a consistency key."""
    mark = h.marks.get(key)
    return h.forgotten if mark is None else <Mark>mark


cdef int horizon_writes(Horizon h, object key, double now_s) except -1:
    """Something was committed for this consistency key."""
    cdef Mark mark = <Mark>h.marks.pop(key, None)
    if mark is None:
        mark = Mark.__new__(Mark)
        while len(h.marks) >= h.max_marks:
            mark_join(h.forgotten, <Mark>h.marks.pop(next(iter(h.marks))))
    mark_write(mark, now_s)
    h.marks[key] = mark
    return 0


cdef int pool_written(Pool pool, Relay relay) except -1:
    """A transaction that may have written is over, on whatever behalf."""
    cdef Horizon h = pool.horizon
    # Not the relay's "now", which is as old as this pass: the commit may be younger.
    mark_write(h.newest, monotonic_s())
    h.writes += 1
    if h.is_quiet:
        h.is_quiet = False
        relay.control.writes_begin(pool)
    return 0


cdef int client_written(Client c, Server s) except -1:
    """Its transaction is over, and may have written."""
    cdef Horizon h = s.pool.horizon
    cdef double now_s = monotonic_s()
    # Of a pipeline, what follows was noted when it was sent, and may write as well.
    c.dirty = s.ledger.count > 0
    if c.router is None:
        return 0
    if c.mark is None:
        c.mark = Mark.__new__(Mark)
    mark_write(c.mark, now_s)
    for key in client_keys(c):
        horizon_writes(h, key, now_s)
    return 0


cdef tuple client_keys(Client c):
    """The consistency keys that what it writes now is written under."""
    key = client_key(c)
    if key is None:
        return () if c.said_key is None else (c.said_key,)
    return (key,) if c.said_key is None else (key, c.said_key)


cdef int64_t client_least(Client c, Router r, object said_key) except -1:
    """What a node must have replayed for this client's next read."""
    cdef int64_t least = 0
    cdef Horizon h = r.horizon
    if r.consistency == READS_ANYTHING:
        return 0
    least = max(horizon_least(h, c.mark), least)
    if r.consistency == READS_ALL:
        least = max(horizon_least(h, h.newest), least)
    key = client_key(c)
    if key is not None:
        least = max(horizon_least(h, horizon_mark(h, key)), least)
    if said_key is not None:
        least = max(horizon_least(h, horizon_mark(h, said_key)), least)
    return least
