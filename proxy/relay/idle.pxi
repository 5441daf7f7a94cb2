# The free connections of a pool: a chain from the one unused longest to the one used last, as one
# of them comes and goes with each statement while clients wait.

cdef void pool_adds_idle(Pool pool, Server s) noexcept:
    """It is free from now on, as the one used last."""
    s.idling = True
    s.older = pool.newest
    s.newer = None
    if pool.newest is None:
        pool.oldest = s
    else:
        pool.newest.newer = s
    pool.newest = s
    pool.idle_count += 1


cdef void pool_takes_idle(Pool pool, Server s) noexcept:
    """It is not free any more, wherever in the chain it stood."""
    s.idling = False
    if s.older is None:
        pool.oldest = s.newer
    else:
        s.older.newer = s.newer
    if s.newer is None:
        pool.newest = s.older
    else:
        s.newer.older = s.older
    s.older = s.newer = None
    pool.idle_count -= 1
