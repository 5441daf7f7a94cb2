# Which statements the control plane is told of, once they have ended: all that were slow, and of the
# others a sample that costs the same however many there are.

cdef enum:
    # A text is kept this far while it runs: enough to know the statement by.
    MOST_KEPT_BYTES = 4096
    # Statements told of in a tenth of a second before only some are; see relay_samples.
    MOST_TOLD = 25
    # Texts that are kept of what was sent together.
    MOST_FOLLOWING = 64


@cython.final
cdef class Ended:
    """A statement that has been answered."""


cdef inline int server_notes(Server s, const char *p, Py_ssize_t n, Py_ssize_t whole,
                             bytes key) except -1:
    """A request begins. Of those sent before its reply has come only the first is looked at.

    p, n: what is here of its text, without the NUL; whole: how long that is. key: instead of them,
    the key of the prepared statement that is run.
    """
    if s.noted or s.following is not None:
        server_notes_another(s, p, n, whole, key)
        if s.noted:
            return 0
    s.noted = True
    s.ran = key
    s.said.start = s.said.end = 0
    if p != NULL and n > 0:
        octets_append(&s.said, p, min(n, MOST_KEPT_BYTES))
    s.cut = whole > s.said.end
    return 0


cdef int server_notes_another(Server s, const char *p, Py_ssize_t n, Py_ssize_t whole,
                              bytes key) except -1:
    """It was sent behind others, without awaiting their replies: its text is kept, in case the
    server is lost. What is not all known is b''."""
    if key is not None and key is s.ran:
        return 0
    if s.following is None:
        s.following = set()
    if len(s.following) >= MOST_FOLLOWING or key is None and (p == NULL or n < whole
                                                             or n > MOST_KEPT_BYTES):
        s.following.add(b'')
    else:
        s.following.add(p[:n] if key is None else key)
    return 0


cdef bint server_loses_outcome(Server s, Client c) except -1:
    """It is lost while it ran something: may that have taken effect for good?

    Nothing that a replica ran, or that only read. Of several requests of which none is answered
    each may have been run.
    """
    cdef bint in_transaction = c.status != 73
    cdef int i
    if not s.pool.takes_writes or s.copying_in:
        return False
    if not in_transaction and c.router is not None and c.router.splits and not c.dirty:
        return False
    for i in range(s.ledger.count):
        if s.ledger.replies[(s.ledger.head + i) & (s.ledger.size - 1)].kind == kinds.FUNCTION_CALL:
            return not in_transaction
    if s.noted and text_loses_outcome(
            c, s.ran if s.ran is not None else b'' if s.cut else s.said.data[:s.said.end],
            in_transaction):
        return True
    if s.following is not None:
        for text in s.following:
            if text_loses_outcome(c, <bytes>text, in_transaction):
                return True
    return False


cdef bint text_loses_outcome(Client c, bytes text, bint in_transaction) except -1:
    """text: a statement or its key; b'', or a key that has no text, when it is not known."""
    text = text[:strlen(text)]
    if not text:
        return not in_transaction
    return c.relay.control.outcome_unknown(c, text, in_transaction)


cdef inline void server_forgets_notes(Server s) noexcept:
    s.noted = False
    s.came = 0
    s.rows = 0
    s.failed = None


cdef inline int64_t rows_of_tag(const char *tag, Py_ssize_t length) noexcept nogil:
    """The number at the end of a CommandComplete's tag, 0 where there is none."""
    cdef int64_t rows = 0, place = 1
    cdef Py_ssize_t i = length
    while i > 0 and length - i < 18 and 48 <= tag[i - 1] <= 57:
        i -= 1
        rows += place * (tag[i] - 48)
        place *= 10
    return rows


cdef inline int relay_samples(Relay relay) noexcept:
    """Is this one to be told of? Result: how many it stands for, or 0.

    Every `stride`th is. The stride follows how many there were in the last tenth of a second, so
    few statements are all counted and a flood of them costs no more than a trickle.
    """
    cdef double span_s = relay.now_s - relay.told_since_s
    cdef uint64_t stride
    relay.passed += 1
    if span_s >= 0.1:
        relay.stride = max(1, <uint64_t>(0.1 * relay.passed / span_s) // MOST_TOLD)
        relay.told_since_s = relay.now_s
        relay.passed = relay.told = 0
        relay.until_told = 1
    relay.until_told -= 1
    if relay.until_told:
        return 0
    stride = relay.stride
    relay.told += 1
    if relay.told % MOST_TOLD == 0:
        # A flood has just begun.
        relay.stride *= 2
    relay.until_told = relay.stride
    return <int>stride


cdef bint server_is_traced(Server s) noexcept:
    """Does what runs name a trace? See proxy.telemetry.traceparent for who reads it."""
    if s.ran is not None:
        return memmem(<const char *>s.ran, len(s.ran), b'traceparent', 11) != NULL
    return s.said.end > 0 and memmem(s.said.data, s.said.end, b'traceparent', 11) != NULL


cdef inline int server_told(Server s, Client c, double spent_s) except -1:
    """What was noted has ended: tell it, if it is to be told, and forget it."""
    cdef int stands_for = 1
    if s.noted:
        if spent_s < c.line.slow_s and not c.line.tells_all \
                and not (c.line.tells_traced and server_is_traced(s)):
            stands_for = relay_samples(s.relay)
        if stands_for:
            server_tells(s, c, spent_s, stands_for)
    server_forgets_notes(s)
    c.waited_s = 0.0
    return 0


cdef int server_tells(Server s, Client c, double spent_s, int stands_for) except -1:
    cdef Ended ended = Ended.__new__(Ended)
    if s.ran is not None:
        # A key is text, NUL, types; one that was not kept begins with the NUL.
        ended.text = (<const char *>s.ran)[:strlen(s.ran)]
    else:
        ended.text = s.said.data[:s.said.end] if s.said.end else b''
        ended.is_cut = s.cut
    ended.spent_s = spent_s
    ended.waited_s = c.waited_s
    ended.opening_s = c.opening_s if c.waited_s else 0.0
    # Only what had a ReadyForQuery of its own can be told from the statement's own time: what was
    # injected as a part of its unit is answered together with it.
    ended.preparing_s = max(0.0, s.prepared_s - (s.relay.now_s - spent_s + c.waited_s))
    ended.rows = s.rows
    ended.received_bytes = s.came
    ended.sqlstate = s.failed
    ended.stands_for = stands_for
    s.relay.control.statement_ended(c, s, ended)
    return 0
