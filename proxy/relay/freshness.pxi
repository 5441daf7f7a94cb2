# What a session has written, and how far the nodes of its cluster are.
#
# Nobody is asked when something is written. What commits is marked with the time at which we heard
# of it; the first position of the primary that was asked for after that time is at or behind the
# end of it. A replica that has replayed up to there has it.
#
# What others wrote is marked in a table of times that all processes of the proxy share: their clocks
# agree, so each finds the position by what it has asked itself.

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* Times are positive doubles, and those compare like their bits. */
    static inline double pgweir_time_at(const uint64_t *place)
    {
        uint64_t bits = __atomic_load_n(place, __ATOMIC_ACQUIRE);
        double time_s;
        memcpy(&time_s, &bits, sizeof time_s);
        return time_s;
    }

    static inline void pgweir_raise_time(uint64_t *place, double time_s)
    {
        uint64_t bits, there = __atomic_load_n(place, __ATOMIC_RELAXED);
        memcpy(&bits, &time_s, sizeof bits);
        while (there < bits && !__atomic_compare_exchange_n(
                   place, &there, bits, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        }
    }
    """
    double time_at "pgweir_time_at"(const uint64_t *place) noexcept nogil
    void raise_time "pgweir_raise_time"(uint64_t *place, double time_s) noexcept nogil

cdef extern from "sys/mman.h" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_ANONYMOUS
    void *MAP_FAILED

cdef enum Consistency:
    READS_ANYTHING = 0
    READS_OWN = 1
    READS_ALL = 2

cdef enum:
    # Of positions asked for 100 ms apart, more than a minute and a half.
    SAMPLES_KEPT = 1024
    # Places of the table: two for each cluster, then one for all keys of the same hash.
    CLUSTER_PLACES = 128
    KEY_PLACES = 131072
    # least_lsn of a session that has written what has no position yet: nothing is as new as that.
    NOT_KNOWN_YET = 0x7fffffffffffffff
    # ... of one that could not be told what others wrote.
    UNHEARD = -1
    # Statements of one transaction may name so many keys; beyond that, it is as if it named all.
    MOST_KEYS = 256
    # Of a longer key, this much counts: what shares it reads a little fresher than it must.
    MOST_KEY_CHARS = 256

cdef enum Hearing:
    HAS_NOT_ASKED = 0
    ASKS = 1
    HAS_HEARD = 2

# In place of a key: every key there is.
cdef object EVERY_KEY = None


@cython.final
cdef class WriteTimes:
    """When something was last written, for each cluster and consistency key, seconds.

    Shared with every process that is forked from this one. Keys whose hashes agree share a place,
    which lets each read fresher than it must, never staler.
    """

    def __cinit__(self):
        cdef size_t size = (CLUSTER_PLACES + KEY_PLACES) * sizeof(uint64_t)
        # Zeros; what is not touched takes no memory.
        cdef void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                                 -1, 0)
        if memory == MAP_FAILED:
            raise MemoryError()
        self.places = <uint64_t *>memory

    def __dealloc__(self):
        if self.places != NULL:
            munmap(self.places, (CLUSTER_PLACES + KEY_PLACES) * sizeof(uint64_t))


@cython.final
cdef class Mark:
    """What somebody has written, as far as a replica may not have it."""


cdef int mark_write(Mark mark, double now_s) except -1:
    """Something was committed, at the latest now."""
    mark.written_s = now_s
    mark.lsn = 0
    return 0


@cython.final
cdef class Horizon:
    """How far the nodes of a cluster are, and what has been written to it through this proxy.

    times: where processes tell each other what was written. cluster: its name.
    """

    def __cinit__(self, WriteTimes times not None, str cluster not None):
        cdef Py_ssize_t hashed = hash(cluster)
        self.times = times
        self.cluster = cluster
        self.salt = <uint64_t>hashed
        self.all_written = times.places + 2 * (self.salt % (CLUSTER_PLACES // 2))
        self.all_keys = self.all_written + 1
        self.newest = Mark()
        self.is_quiet = True
        # What a proxy before this one has written is not known.
        self.doubt(monotonic_s())

    def sample(self, double at_s, int64_t lsn):
        """The primary's WAL ended at `lsn` or before it when it was asked, at `at_s` or after it."""
        cdef int last = (self.head + self.count - 1) & (SAMPLES_KEPT - 1)
        if at_s <= self.turned_s or self.count and at_s <= self.samples_s[last]:
            return
        if self.count == SAMPLES_KEPT:
            self.head = (self.head + 1) & (SAMPLES_KEPT - 1)
            self.count -= 1
        last = (self.head + self.count) & (SAMPLES_KEPT - 1)
        self.samples_s[last] = at_s
        self.samples_lsn[last] = lsn
        self.count += 1

    def doubt(self, double at_s):
        """Until then, anything may have been written by others."""
        raise_time(self.all_written, at_s)
        raise_time(self.all_keys, at_s)

    def doubt_keys(self, double at_s):
        """Until then, anything may have been written under any key."""
        raise_time(self.all_keys, at_s)

    def turn(self, double at_s):
        """The primary is on another timeline: positions from before `at_s` mean nothing any more."""
        self.turned_s = at_s
        self.turns += 1
        self.head = self.count = 0
        self.doubt(at_s)

    def note_key(self, str key not None, double at_s):
        """Something was written under a key, at the latest then."""
        raise_time(key_place(self, key), at_s)

    @property
    def written_s(self):
        """When something was last written through this proxy."""
        return time_at(self.all_written)

    @property
    def least_lsn(self):
        """Where all that was written here ends at most; None when that is not known yet."""
        cdef int64_t lsn = horizon_newest(self)
        return None if lsn == NOT_KNOWN_YET else lsn

    def lsn_after(self, double at_s):
        """Where all that was written until then ends at most; None when that is not known yet."""
        cdef int64_t lsn = horizon_lsn_after(self, at_s)
        return None if lsn == NOT_KNOWN_YET else lsn


cdef int64_t horizon_lsn_after(Horizon h, double at_s) noexcept:
    """The position that was asked for first after that time; the oldest known where it is later."""
    cdef int low = 0, high = h.count, middle
    while low < high:
        middle = (low + high) >> 1
        if h.samples_s[(h.head + middle) & (SAMPLES_KEPT - 1)] > at_s:
            high = middle
        else:
            low = middle + 1
    if low == h.count:
        return NOT_KNOWN_YET
    return h.samples_lsn[(h.head + low) & (SAMPLES_KEPT - 1)]


cdef int64_t horizon_least(Horizon h, Mark mark) noexcept:
    """What a node must have replayed to have this; 0: any has it."""
    cdef int64_t lsn
    if mark is None or mark.written_s == 0.0:
        return 0
    if mark.turns != h.turns:
        mark.turns = h.turns
        mark.lsn = 0
        mark.written_s = max(mark.written_s, h.turned_s)
    if mark.lsn:
        return mark.lsn
    lsn = horizon_lsn_after(h, mark.written_s)
    if lsn != NOT_KNOWN_YET:
        mark.lsn = lsn
    return lsn


cdef int64_t horizon_newest(Horizon h) noexcept:
    """What a node must have replayed to have all that was written through this proxy."""
    cdef double written_s = time_at(h.all_written)
    if written_s > h.newest.written_s:
        h.newest.written_s = written_s
        h.newest.lsn = 0
    return horizon_least(h, h.newest)


cdef uint64_t *key_place(Horizon h, object key) except NULL:
    """Where it stands when something was written under a key."""
    cdef Py_ssize_t hashed = hash(key)
    return h.times.places + CLUSTER_PLACES + (<uint64_t>hashed ^ h.salt) % KEY_PLACES


cdef int64_t horizon_least_of(Horizon h, object key) except? 0:
    """What a node must have replayed to have what was written under a key."""
    if key is EVERY_KEY:
        return NOT_KNOWN_YET
    return horizon_lsn_after(h, max(time_at(key_place(h, key)), time_at(h.all_keys)))


cdef int horizon_writes(Horizon h, tuple keys, double now_s) except -1:
    """Something was committed under these keys."""
    for key in keys:
        if key is EVERY_KEY:
            raise_time(h.all_keys, now_s)
        else:
            raise_time(key_place(h, key), now_s)
    return 0


cdef int pool_written(Pool pool, Relay relay) except -1:
    """A transaction that may have written is over, on whatever behalf."""
    cdef Horizon h = pool.horizon
    # Not the relay's "now", which is as old as this pass: the commit may be younger.
    raise_time(h.all_written, monotonic_s())
    if h.is_quiet:
        h.is_quiet = False
        relay.control.writes_begin(pool)
    return 0


cdef int client_written(Client c, Server s) except -1:
    """Its transaction is over, and may have written."""
    cdef Horizon h = s.pool.horizon
    cdef double now_s = monotonic_s()
    cdef tuple keys
    # Of a pipeline, what follows was noted when it was sent, and may write as well.
    c.dirty = s.ledger.count > 0
    if c.router is not None:
        if c.mark is None:
            c.mark = Mark.__new__(Mark)
        mark_write(c.mark, now_s)
    keys = client_keys(c)
    if keys is not None:
        horizon_writes(h, keys, now_s)
        # Other proxies are told before the client is.
        if h.is_shared and c.relay.control.keys_written(c, h.cluster, keys):
            c.withheld += 1
    if not c.dirty:
        c.said_keys = None
    return 0


cdef tuple client_keys(Client c):
    """The consistency keys that what it writes now is written under, or None."""
    key = client_key(c)
    if key is None:
        return c.said_keys
    return (key,) if c.said_keys is None else (key, *c.said_keys)


cdef tuple with_key(tuple keys, object key):
    """These keys, or None for none, and one more."""
    if keys is None:
        return (key,)
    if key in keys:
        return keys
    if len(keys) >= MOST_KEYS:
        return (EVERY_KEY,) if EVERY_KEY not in keys else keys
    return (*keys, key)


cdef tuple with_keys(tuple keys, tuple more):
    """These keys and more of them; None: none."""
    if keys is None or more is None:
        return more if keys is None else keys
    for key in more:
        keys = with_key(keys, key)
    return keys


cdef bint client_must_ask(Client c, Router r, Wish w) noexcept:
    """Are there keys under which something may have been written through another proxy?"""
    return (r.horizon.is_shared and r.consistency != READS_ANYTHING and c.hearing != HAS_HEARD
            and (w.keys is not None or client_key(c) is not None))


cdef int client_asks_others(Client c, Router r, Wish w, Line line) except -1:
    """Ask other proxies what was written under its keys. It waits; see `hear`."""
    cdef object key = client_key(c)
    cdef tuple keys = w.keys if key is None else with_keys((key,), w.keys)
    if c.hearing != ASKS:
        c.question += 1
        if not c.relay.control.ask_keys(c, c.question, r.horizon.cluster, keys):
            c.hearing = HAS_HEARD
            c.heard_lsn = UNHEARD
            c.reason = REDIS_UNAVAILABLE
            return TAKEN
        c.hearing = ASKS
    client_parks(c, line)
    return STOPPED


cdef int64_t client_least(Client c, Router r, tuple said_keys) except -1:
    """What a node must have replayed for this client's next read."""
    cdef int64_t least
    cdef Horizon h = r.horizon
    if r.consistency == READS_ANYTHING:
        return 0
    least = horizon_least(h, c.mark)
    if r.consistency == READS_ALL:
        least = max(horizon_newest(h), least)
    key = client_key(c)
    if key is not None:
        least = max(horizon_least_of(h, key), least)
    if said_keys is not None:
        for key in said_keys:
            least = max(horizon_least_of(h, key), least)
    return least
