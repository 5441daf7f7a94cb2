# Which statements the control plane is told of, once they have ended: all that were slow, and of the
# others a sample that costs the same however many there are.

cdef enum:
    # A text is kept this far while it runs: enough to know the statement by.
    MOST_KEPT_BYTES = 4096
    # Statements told of in a tenth of a second before only some are; see relay_samples.
    MOST_TOLD = 25


@cython.final
cdef class Ended:
    """A statement that has been answered."""


cdef inline int server_notes(Server s, const char *p, Py_ssize_t n, Py_ssize_t whole,
                             bytes key) except -1:
    """A request begins. Of those sent before its reply has come only the first is looked at.

    p, n: what is here of its text, without the NUL; whole: how long that is. key: instead of them,
    the key of the prepared statement that is run.
    """
    if s.noted:
        return 0
    s.noted = True
    s.ran = key
    s.said.start = s.said.end = 0
    if p != NULL and n > 0:
        octets_append(&s.said, p, min(n, MOST_KEPT_BYTES))
    s.cut = whole > s.said.end
    return 0


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
    ended.rows = s.rows
    ended.received_bytes = s.came
    ended.sqlstate = s.failed
    ended.stands_for = stands_for
    s.relay.control.statement_ended(c, s, ended)
    return 0
