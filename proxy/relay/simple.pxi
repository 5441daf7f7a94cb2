# The simple protocol: a Query, and what a client is told whose server is gone.

cdef int client_says_query(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Query: the simple protocol."""
    cdef Server s
    cdef Command command = PLAIN
    cdef uint16_t effect, said
    cdef int done
    cdef bytes leave, refusal, explained = None
    cdef Unnamed before
    cdef bint is_there
    if c.skipping:
        if c.lost is None:
            return client_drop(c, have, size)
        # It does not know yet that its unit has failed: this ends it.
        c.skipping = False
    if client_has_seen(c, p, have):
        said = c.seen_effect
    else:
        if size <= LOOK_BYTES:
            if have < size:
                return STARVED
            if size < 6 or p[size - 1] != 0:
                return client_violates(c, 'a query without its terminator')
            command = command_of(p + 5, size - 6)
            if command != PLAIN:
                done = client_says_command(c, command, p + 5, size - 6)
                if done:
                    return done
        elif have < size and size <= c.line.max_statement_bytes and c.line.mode != SESSION_MODE:
            # What it does to the session may stand at its end.
            return STARVED
        said = effect_of(p + 5, have - 5)
    effect = said
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.QUERY, have, size)
    if c.line.router is not None and c.line.router.guards:
        if have < size and size <= MOST_AWAITED_BYTES:
            return STARVED
        refusal = client_meets_rules(c, p + 5, have - 6)
        if refusal is not None:
            return client_refuses_query_with(c, refusal, have, size)
    if c.began_reading and c.server is not None:
        if have < size and size <= MOST_AWAITED_BYTES:
            return STARVED
        if have == size:
            refusal = client_meets_replica(c, p + 5, size - 6, None)
            if refusal is not None:
                return client_refuses_query_with(c, refusal, have, size)
    if effect & EXPLAINS and size <= c.line.max_statement_bytes:
        if have < size:
            return STARVED
        explained = c.relay.control.explain_pooling(c, p[5:size - 1])
    if c.line.session_functions is not None and client_calls_function(c, p[5:have]):
        effect |= CALLS_SESSION_FUNCTION | MAY_PIN
    effect |= client_suspects(c, p + 5, have - 5)
    if effect & TELLS_SEQUENCE:
        c.line.tells_sequences = True
    if client_needs_leave(c, effect):
        leave = client_asks_leave(c, effect, p[5:have - (have == size)])
        if leave is not None:
            return client_refuses_query_with(c, leave, have, size) if leave else STOPPED
    if c.server is not None:
        if client_takes_note(c, p + 5, have - 5):
            if have < size:
                # Not all of it is here: it may write.
                c.dirty = True
            client_notes_write(c, c.server, p + 5, have - 5 - (have == size))
    elif client_attach(c) == STOPPED:
        client_remembers(c, p, have, command, said)
        # The request that waited in vain is answered at its next reading.
        return STOPPED
    s = c.server
    if have < size:
        # The rest is passed on as it comes, and may do anything to the session.
        effect |= client_suspects_all(c)
    if is_notify(p + 5, have - 5):
        # Who listens may hear of it before its CommandComplete is here.
        s.notifier = c.pid
    if effect & MAY_PIN:
        s.cause = p[5:have - (have == size)]
    if effect & (NAMES_STATEMENTS | SHOWS_STATEMENTS):
        effect = client_speaks_of_statements(c, s, effect, p + 5, have - 5, False)
    server_meets_setting(s, effect, p + 5, have - 5)
    if effect & NAMES_SETTINGS:
        effect |= server_notes_settings(s, p[5:size - 1] if have == size else None, None)
    s.names_suspects = s.names_suspects or c.names_suspects
    s.alters_within = s.alters_within or alters_within(p + 5, have - 5)
    if c.suspicion & SETTINGS_TOUCHED:
        server_notes_suspects(s, c, p[5:size - 1] if have == size else None, None)
    before = c.unnamed if s.open_unit else None
    ledger_push(&s.ledger, kinds.QUERY, FORWARD, effect, None, before)
    s.retain = RETAIN_OVER
    if c.on_replica and have == size and size <= MOST_RETAINED_BYTES:
        s.unit.start = s.unit.end = 0
        octets_append(&s.unit, p, size)
        s.retain = RETAIN_YES
    server_notes(s, p + 5, (size - 1 if have == size else have) - 5, size - 6, None)
    if not c.began_s:
        c.began_s = c.relay.now_s
    if s.open_unit:
        client_breaks_unit(s)
    is_there = before is not None and server_has_unnamed(s, before)
    s.unnamed = None
    client_forgets_unnamed(c)
    if is_there:
        # In a unit that has failed it is ignored: the server knows whether there still is one.
        c.unnamed = s.unnamed = unnamed_of(None)
        c.unnamed.place = s.number
        s.unnamed_shape = 0
    if command == DEALLOCATE or command == DISCARD:
        c.unsettled = True
    if command == COMMIT and c.status != 73 or may_commit_within(p + 5, have - 5):
        s.committing = True
    c.line.queries += 1
    s.pool.queries += 1
    if explained is not None:
        explained = query_message(explained)
        sink_write(&c.relay.to_server, explained, len(explained))
        return client_drop(c, have, size)
    return client_pass(c, p, have, size)


cdef void client_breaks_unit(Server s) noexcept:
    """A query, or a function call, in a unit of extended messages that has had no Sync.

    After the Sync that follows PostgreSQL 18 says that it is idle, and answers what comes next with
    "StartTransactionCommand: unexpected state STARTED": nobody else shall have this connection.
    """
    s.open_unit = False
    s.retiring = True


cdef int client_answers_loss(Client c, char kind, Py_ssize_t have, Py_ssize_t size) except -1:
    """Its server is gone, its transaction aborted, or it waited in vain: answer with that error."""
    cdef bytes error = None
    if c.refusal is not None:
        error = c.refusal
        c.refusal = None
        c.waits_since_s = 0.0
        if c.begin is not None:
            c.begin = None
            c.aborted = True
            c.status = b'E'
    elif c.lost is not None:
        client_say_lost(c)
        c.lost = None
        if c.aborted:
            c.status = b'E'
    else:
        error = messages.error_response(
            '25P02', 'current transaction is aborted, commands ignored until end of transaction block',
            hint='Its server connection was lost; send ROLLBACK and begin anew.')
    if error is not None:
        sink_write(&c.relay.to_client, error, len(error))
    c.skipping = kind != kinds.QUERY and kind != kinds.FUNCTION_CALL and kind != kinds.SYNC
    if not c.skipping:
        client_say_ready(c)
    return client_drop(c, have, size)


cdef int client_say_lost(Client c) except -1:
    """ErrorResponse: its server is gone, and why."""
    cdef bytes error
    sqlstate, text, reason = c.lost
    error = messages.error_response(sqlstate, text, detail=reason.decode('utf-8', 'surrogateescape'))
    count_error(c.relay, c.line.database, sqlstate)
    return sink_write(&c.relay.to_client, error, len(error))
