# Which of several nodes gets the next statement.

cdef enum Balance:
    LEAST_CONN = 0
    ROUND_ROBIN = 1
    RANDOM = 2


cdef inline Py_ssize_t pool_busy(Pool pool) noexcept:
    return PySet_GET_SIZE(pool.servers) - pool.idle_count


cdef inline bint pool_may_grow(Pool pool) noexcept:
    return not pool.capped and pool.connecting + PySet_GET_SIZE(pool.servers) < pool.size


cdef Pool line_pick(Line line, Client c):
    """The pool to take a server connection from, or None when none has one that is free.

    Whose turn it is and has none is told to open one, so that a node which was not needed until now
    gets its share.
    """
    cdef Pool pool, chosen = None
    cdef bint near = False
    cdef int total = 0, lot = 0
    cdef int64_t least = c.least_lsn
    if PyList_GET_SIZE(line.pools) == 1:
        pool = <Pool>PyList_GET_ITEM(line.pools, 0)
        if pool.replayed < least or not pool.idle_count:
            return None
        return pool
    for pool in line.pools:
        if pool.is_near and pool.replayed >= least and (
                pool.idle_count or pool_may_grow(pool)):
            near = True
    for pool in line.pools:
        if pool.replayed >= least and (pool.is_near or not near):
            pool.credit += pool.weight
            total += pool.weight
    if line.balance == RANDOM and total:
        c.relay.chance ^= c.relay.chance << 13
        c.relay.chance ^= c.relay.chance >> 17
        c.relay.chance ^= c.relay.chance << 5
        lot = <int>(c.relay.chance % <uint32_t>total)
    for pool in line.pools:
        if pool.replayed < least or near and not pool.is_near:
            continue
        if line.balance == RANDOM:
            if chosen is None and lot < pool.weight:
                chosen = pool
            lot -= pool.weight
        elif chosen is None or line_prefers(line, pool, chosen):
            chosen = pool
    if chosen is None:
        return None
    chosen.credit -= total
    if chosen.idle_count:
        return chosen
    if not chosen.connecting and pool_may_grow(chosen):
        chosen.connecting += 1
        c.relay.control.grow(chosen)
    chosen = None
    for pool in line.pools:
        if pool.replayed >= least and pool.idle_count and (
                chosen is None or line_prefers(line, pool, chosen)):
            chosen = pool
    return chosen


cdef bint line_prefers(Line line, Pool pool, Pool other) noexcept:
    """Of two nodes, the one with fewer statements for its weight; else the one whose turn it is."""
    cdef Py_ssize_t mine, theirs
    if line.balance == LEAST_CONN:
        mine = (pool_busy(pool) + 1) * other.weight
        theirs = (pool_busy(other) + 1) * pool.weight
        if mine != theirs:
            return mine < theirs
    return pool.credit > other.credit
