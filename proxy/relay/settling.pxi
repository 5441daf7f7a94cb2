# What we ask of a server ourselves, and who gets it when a client is done with it.

cdef int server_inject(Server s, bytes text, uint16_t why) except -1:
    """A Query of our own, into the sink; its reply is swallowed."""
    cdef bytes message = query_message(text)
    sink_write(&s.relay.to_server, message, len(message))
    ledger_push(&s.ledger, kinds.QUERY, SWALLOW, why)
    s.unnamed = None
    return 0


cdef int server_syncs(Server s) except -1:
    """A Sync of our own, into the sink."""
    sink_write(&s.relay.to_server, SYNC_MESSAGE, 5)
    return ledger_push(&s.ledger, kinds.SYNC, SWALLOW)


cdef int server_flush(Server s) except -1:
    """Send the server what the sink holds."""
    cdef Sink *out = &s.relay.to_server
    if s.stage == RELAYING:
        if out.copying:
            link_send(s, out.copy.data, out.copy.end)
        elif out.length:
            link_send(s, out.piece, out.length)
    sink_reset(out)
    return 0


cdef int server_cancel(Server s) except -1:
    """Have the running statement cancelled. Nobody gets the server until that has been delivered."""
    s.cancel_wanted = False
    s.cancels += 1
    s.relay.control.cancel(s)
    return 0


cdef int server_settle(Server s) except -1:
    """After a pass: is the connection free, and who may use it next?"""
    cdef Client c = s.client
    cdef bytes text
    if s.stage != RELAYING or s.cancels or s.idling:
        return 0
    if s.ledger.count or s.open_unit or s.passing or s.held.end > s.held.start or s.copying_in:
        if s.ledger.count < MOST_REPLIES_OWED // 2:
            client_resume(c)
        return 0
    if c is not None and c.passing and not c.discarding:
        # The rest of a message is still to come, and belongs to this server.
        return client_resume(c)
    if s.in_doubt:
        server_inject(s, b'', TO_TELL)
        server_flush(s)
        return client_resume(c)
    if s.status != 73:
        if c is None:
            server_inject(s, b'ROLLBACK', TO_ROLL_BACK)
            server_flush(s)
        elif s.went_back and s.status == 84 and c.line.mode != SESSION_MODE:
            s.went_back = False
            if server_asks_session(s, c):
                return 0
        return client_resume(c)
    if c is not None:
        if c.line.mode == SESSION_MODE:
            return client_resume(c)
        # What went back before is asked for here: in its next transaction a question would come
        # before a SET TRANSACTION, which must be the first.
        s.went_back = False
        if s.dirt & LEFT_IN_SESSION and server_asks_session(s, c):
            return 0
        if s.pinned or s.keeper is c and server_is_kept(s):
            return client_resume(c)
        s.client = None
        c.server = None
    if s.pool.reset == RESETS_NEVER:
        s.dirt &= STALE_PLANS
    s.touched = None
    s.cause = None
    s.went_back = False
    s.orphaned = False
    s.cancel_wanted = False
    s.aliases = None
    octets_free(&s.held)
    if s.unit.size > 4096:
        octets_free(&s.unit)
    if s.retiring or s.pool.retired or 0 <= s.pool.lifetime_s <= s.relay.now_s - s.ages_from_s:
        server_close(s, b'')
    elif s.pool.yields > 0:
        # Somebody who waits at a limit has a better claim to it.
        s.pool.yields -= 1
        server_close(s, b'')
    elif s.dirt:
        s.resetting = True
        if s.dirt == SETTINGS_TOUCHED and not s.carried:
            server_inject(s, RESET_TEXT, TO_RESET)
        else:
            server_unprepare(s)
            if s.dirt == STALE_PLANS:
                server_inject(s, b'DEALLOCATE ALL', TO_FORGET)
            else:
                server_inject(s, b'DISCARD ALL', TO_RESET)
        server_flush(s)
    else:
        pool_give(s.pool, s)
    return client_resume(c)


cdef int server_violates(Server s, str what) except -1:
    """It said something it must not say here: close it, whoever it is, and never use it again."""
    s.relay.control.server_violated(s, what)
    count_violation(s.relay, 'server', what)
    server_lost(s, b'the server broke the protocol: ' + what.encode())
    return 0


cdef int server_close(Server s, bytes reason) except -1:
    """Out of the pool and closed; reason b'' when that was our wish."""
    cdef Pool pool = s.pool
    if s.stage == CLOSED:
        return 0
    pool.servers.discard(s)
    if s.keeper is not None:
        client_keeps_no_sequences(s.keeper)
    if s.idling:
        pool_takes_idle(pool, s)
    server_unprepare(s)
    ledger_free(&s.ledger)
    octets_free(&s.unit)
    sink_reset(&s.relay.to_server)
    if not reason:
        link_send(s, TERMINATE, 5)
    link_close(s)
    s.relay.control.server_gone(s, reason.decode('utf-8', 'replace'))
    if s.asked_s:
        s.asked_s = 0.0
        pool.checking -= 1
        pool_ask_next(pool)
    for line in pool.lines:
        if (<Line>line).waiting:
            line_grow(<Line>line)
    return 0


cdef int server_lost(Server s, bytes reason) except -1:
    """The connection is gone. Its client gets one error and keeps its own, where that is possible."""
    cdef Relay relay = s.relay
    cdef Client c = s.client
    cdef bint midway = s.passing > 0 and not s.discarding
    cdef bint running = s.ledger.count > 0 and s.asked is None or s.open_unit
    cdef bint open_unit = s.open_unit
    cdef bint owed = not ledger_is_all(&s.ledger, SWALLOW)
    cdef bint committing = s.committing
    cdef bint unknown = False
    cdef list ends = []
    cdef int i
    if c is not None and c.stage == RELAYING and running and s.ledger.count and server_may_rerun(s, c):
        client_reruns(c, s)
        c = None
    elif c is not None and c.is_half and not s.ledger.count and not c.passing:
        # It was told of what it had prepared, and has that wherever it goes on.
        c.is_half = False
        c.server = None
        s.client = None
        relay_again(relay, c)
        c = None
    if c is not None:
        unknown = running and (committing or server_loses_outcome(s, c))
        if (c.dirty or c.router is None) and s.pool.horizon is not None and s.pool.takes_writes:
            # It may have been committed.
            pool_written(s.pool, relay)
            client_written(c, s)
        # What of the reply was read before the loss is the client's.
        client_flush(relay, c)
        for i in range(s.ledger.count):
            kind = s.ledger.replies[(s.ledger.head + i) & (s.ledger.size - 1)].kind
            if s.ledger.replies[(s.ledger.head + i) & (s.ledger.size - 1)].action == FORWARD and (
                    kind == kinds.QUERY or kind == kinds.FUNCTION_CALL or kind == kinds.SYNC):
                ends.append(kind)
    s.client = None
    server_close(s, reason or b'closed')
    if c is None:
        return 0
    c.server = None
    c.begin = None
    # The rest of a message that was on its way to this server is nobody else's.
    c.discarding = True
    if c.stage != RELAYING:
        return 0
    if midway:
        return client_gone(c, 'server lost in the middle of a row', False)
    if not running:
        if c.status != 73 or c.line.mode == SESSION_MODE or s.pinned \
                or s.dirt & LEFT_IN_SESSION:
            c.lost = '08006', 'the server connection was lost', reason
            c.aborted = c.status != 73
        return client_read(c)
    if c.status != 73 and not unknown:
        c.aborted = True
        c.status = 69
    else:
        committing = committing or c.status != 73
        c.status = 73
        c.transaction_s = c.opened_s = 0.0
    sqlstate = '08007' if unknown else '08006'
    if committing:
        text = 'the server connection was lost while committing: the outcome is unknown'
    elif unknown:
        text = 'the server connection was lost: whether the statement took effect is unknown'
    else:
        text = 'the server connection was lost'
    s.failed = sqlstate
    server_told(s, c, relay.now_s - c.began_s)
    if open_unit and not owed:
        # It has all its replies and expects no message before it has said something. In a unit
        # that has failed it expects none before its Sync.
        if not c.skipping:
            c.lost = sqlstate, text, reason
            c.skipping = True
        return client_read(c)
    count_error(relay, c.line.database, sqlstate)
    error = messages.error_response(sqlstate, text, detail=reason.decode('utf-8', 'surrogateescape'))
    for i in range(max(1, len(ends))):
        sink_write(&relay.to_client, error, len(error))
        if i < len(ends):
            client_say_ready(c)
    if open_unit:
        c.skipping = True
    client_flush(relay, c)
    return client_read(c)
