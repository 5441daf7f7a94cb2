# A unit of extended messages whose prepared statement is out of date, after DDL mostly, is run once
# more with new plans, where the client cannot notice.

cdef bint server_may_replan(Server s, Client c, dict fields) except -1:
    """Is this "cached plan must not change result type", and can all be run again unnoticed?

    The routine's name is not translated; the message is. It is raised when a Bind or Execute finds
    that its statement would return other columns than when it was prepared, so before any row.
    """
    if not is_about_plans(fields) or c is None or s.retain != RETAIN_YES or c.retried:
        return False
    if s.status != 73 or c.passing or ledger_head(&s.ledger).kind == kinds.QUERY:
        return False
    return unit_tells_columns(s.unit.data + s.unit.start, s.unit.end - s.unit.start)


cdef bint is_about_plans(dict fields):
    """Is a prepared statement out of date, or gone although we had prepared it?

    The second comes of a DEALLOCATE that we did not see, from within a function for instance.
    """
    if fields.get('C') == '0A000':
        return fields.get('R') == 'RevalidateCachedQuery'
    return fields.get('C') == '26000' and ('"' + STATEMENT_PREFIX.decode()) in fields.get('M', '')


cdef bint unit_tells_columns(const char *p, Py_ssize_t n) except -1:
    """Will the client understand rows of another shape than it was told of before?

    Yes when each Bind is followed by a Describe, or asks for texts only. A client that asks for
    binary results of a shape it remembers would take one type's bytes for another's: it must see
    the error, as on a direct connection.
    """
    cdef Py_ssize_t pos = 0, size
    cdef const char *at
    cdef const char *end
    cdef int i, count
    cdef bint told = True
    while pos + 5 <= n:
        size = int32_at(p + pos + 1) + 1
        if p[pos] == kinds.BIND:
            if not told:
                return False
            told = True
            end = p + pos + size
            at = p + pos + 5
            at += strlen(at) + 1
            at += strlen(at) + 1
            if end - at < 2 or int16_at(at) < 0:
                return False
            at += 2 + 2 * int16_at(at)
            if end - at < 2:
                return False
            count = int16_at(at)
            at += 2
            for i in range(count):
                if end - at < 4:
                    return False
                at += 4 + max(0, int32_at(at))
            if end - at < 2:
                return False
            count = int16_at(at)
            at += 2
            for i in range(count):
                if end - at < 2:
                    return False
                if int16_at(at) != 0:
                    told = False
                at += 2
        elif p[pos] == kinds.DESCRIBE:
            told = True
        pos += size
    return told


cdef int server_replan(Server s, Client c) except -1:
    """The failed unit is over: forget all plans and send the same messages once more."""
    cdef Relay relay = s.relay
    cdef Octets unit = s.unit
    cdef Py_ssize_t pos = unit.start
    if c is None:
        return 1
    memset(&s.unit, 0, sizeof(Octets))
    relay.replans += 1
    c.retried = True
    c.unsettled = False
    while pos < unit.end:
        # A name that this unit gave was given in vain, and is given anew.
        if unit.data[pos] == kinds.PARSE and unit.data[pos + 5] != 0:
            client_forgets_one(c, <bytes>(unit.data + pos + 5))
        pos += int32_at(unit.data + pos + 1) + 1
    server_unprepare(s)
    s.dirt &= ~STALE_PLANS
    server_inject(s, b'DEALLOCATE ALL', 0)
    if c.prepared is not None:
        s.settings = relay.control.settings_without_statements(s.settings)
        client_bring_settings(c, s)
    try:
        client_process(c, unit.data + unit.start, unit.end - unit.start)
    finally:
        octets_free(&unit)
    return 1
