# The replies a server still owes, in order: PostgreSQL answers requests strictly in sequence, so
# what it says next can always be checked against the head of this queue.

cdef enum Action:
    FORWARD = 0     # the client asked, the client hears
    SWALLOW = 1     # we asked, nobody hears
    FORGE = 2       # the client asked, the server was not: we answer when its turn comes

# CopyDone and CopyFail owe nothing themselves. Sent before the server has said CopyInResponse, they
# stand in the queue all the same, as an entry of their own kind that goes when it reaches the head:
# a Sync before them is ignored by the server, one behind them is not.

# More replies owed than this, and the client is not read until some have come. They are at least
# five bytes each, so that a server has long sent some: its output buffer has 8 KiB.
cdef enum:
    MOST_REPLIES_OWED = 16384


cdef inline int ledger_push(Ledger *l, char kind, uint8_t action, uint16_t effect=0,
                            object statement=None, object name=None) except -1:
    cdef Reply *r
    if l.count == l.size:
        ledger_grow(l)
    r = &l.replies[(l.head + l.count) & (l.size - 1)]
    r.kind = kind
    r.action = action
    r.effect = effect
    r.statement = NULL
    r.name = NULL
    if statement is not None:
        r.statement = <PyObject *>statement
        Py_INCREF(statement)
    if name is not None:
        r.name = <PyObject *>name
        Py_INCREF(name)
    l.count += 1
    return 0


cdef int ledger_grow(Ledger *l) except -1:
    """Make room for as many again."""
    cdef int i, size = max(8, 2 * l.size)
    cdef Reply *replies = <Reply *>malloc(size * sizeof(Reply))
    if replies == NULL:
        raise MemoryError()
    for i in range(l.count):
        replies[i] = l.replies[(l.head + i) & (l.size - 1)]
    free(l.replies)
    l.replies = replies
    l.head = 0
    l.size = size
    return 0


cdef inline Reply *ledger_head(Ledger *l) noexcept:
    return &l.replies[l.head]


cdef inline void ledger_pop(Ledger *l) noexcept:
    cdef Reply *r = &l.replies[l.head]
    if r.statement != NULL:
        Py_XDECREF(r.statement)
    if r.name != NULL:
        Py_XDECREF(r.name)
    l.head = (l.head + 1) & (l.size - 1)
    l.count -= 1


cdef void ledger_pass_marks(Ledger *l) noexcept:
    """Drop what owes nothing from the head."""
    while l.count and l.replies[l.head].kind == kinds.COPY_DONE:
        ledger_pop(l)


cdef bint ledger_is_all(Ledger *l, uint8_t action) noexcept:
    """Is all that is owed of this action? FORGE: we answer it ourselves; SWALLOW: nobody asked."""
    cdef int i
    for i in range(l.count):
        if l.replies[(l.head + i) & (l.size - 1)].action != action:
            return False
    return True


cdef void ledger_free(Ledger *l) noexcept:
    while l.count:
        ledger_pop(l)
    free(l.replies)
    l.replies = NULL
    l.head = l.count = l.size = 0


cdef inline bint reply_replaces_unnamed(Reply *r) noexcept:
    """Does the client's unnamed statement end with this request: by a Parse of another, a Close, or a
    Query in the middle of a unit?"""
    if r.name != NULL and type(<object>r.name) is Unnamed:
        return r.kind == kinds.PARSE or r.kind == kinds.CLOSE or r.kind == kinds.QUERY
    return r.kind == kinds.PARSE and r.action != SWALLOW and r.name == NULL


cdef inline bint reply_is_ours(Reply *r) noexcept:
    """Was the server given this Bind or Query in place of what the client has said?"""
    return r.name != NULL and type(<object>r.name) is bytes
