# A unit of extended messages whose prepared statement is out of date, after DDL mostly, is run once
# more with new plans, where the client cannot notice. Where it could, as the statement returns other
# columns than those it knows, its Bind is refused then: see columns.pxi.

cdef bint server_may_replan(Server s, Client c, dict fields) except -1:
    """Is this "cached plan must not change result type", and can all be run again unnoticed?

    The routine's name is not translated; the message is. It is raised when a Bind or Execute finds
    that its statement would return other columns than when it was prepared, so before any row.
    """
    if not is_about_plans(fields) or c is None or s.retain != RETAIN_YES or c.retried:
        return False
    return (s.status == 73 and not c.passing and ledger_head(&s.ledger).kind != kinds.QUERY
            and not unit_parses_later(&s.unit))


cdef bint unit_parses_later(Octets *unit) noexcept:
    """Does a unit use the unnamed statement, and then parse another? What it used is forgotten."""
    cdef Py_ssize_t pos = unit.start
    cdef const char *body
    cdef bint uses = False
    while pos < unit.end:
        body = unit.data + pos + 5
        if unit.data[pos] == kinds.PARSE and body[0] == 0:
            return uses
        if unit.data[pos] == kinds.BIND:
            uses = uses or body[strlen(body) + 1] == 0
        elif unit.data[pos] == kinds.DESCRIBE:
            uses = uses or body[0] == 83 and body[1] == 0
        pos += int32_at(unit.data + pos + 1) + 1
    return False


cdef bint is_about_plans(dict fields):
    """Is a prepared statement out of date, or gone although we had prepared it?

    The second comes of a DEALLOCATE that we did not see, from within a function for instance.
    """
    if fields.get('C') == '0A000':
        return fields.get('R') == 'RevalidateCachedQuery'
    return fields.get('C') == '26000' and ('"' + STATEMENT_PREFIX.decode()) in fields.get('M', '')


cdef int server_replan(Server s, Client c) except -1:
    """The failed unit is over: forget all plans, and let the client say the same once more."""
    cdef Relay relay = s.relay
    if c is None:
        return 1
    relay.replans += 1
    c.retried = True
    client_takes_back(c, s)
    server_unprepare(s)
    s.dirt &= ~STALE_PLANS
    server_inject(s, b'DEALLOCATE ALL', 0)
    if c.prepared is not None:
        s.settings = relay.control.settings_without_statements(s.settings)
        client_bring_settings(c, s, False)
    server_flush(s)
    relay_again(relay, c)
    return 1


cdef int client_takes_back(Client c, Server s) except -1:
    """Give the client the unit that was kept back, as if it had come only now."""
    cdef Octets unit = s.unit
    cdef Py_ssize_t pos = unit.start
    memset(&s.unit, 0, sizeof(Octets))
    while pos < unit.end:
        if unit.data[pos] == kinds.PARSE and unit.data[pos + 5] != 0:
            # A name that this unit gave was given in vain, and is given anew.
            client_forgets_one(c, <bytes>(unit.data + pos + 5))
        pos += int32_at(unit.data + pos + 1) + 1
    if c.held.end > c.held.start:
        octets_append(&unit, c.held.data + c.held.start, c.held.end - c.held.start)
    octets_free(&c.held)
    c.held = unit
    c.unsettled = c.starved = c.awaits_replies = False
    return 0
