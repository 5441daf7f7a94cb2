# Commands that need no server: a BEGIN before its first statement, the end of a transaction that
# no server knows of, DEALLOCATE of a name that is ours.

cdef int client_says_command(Client c, Command command, const char *text, Py_ssize_t length) except -1:
    """A command that may be answered here (simple protocol). Result: 0 when it may not."""
    cdef Server s = c.server
    cdef bytes name
    if c.lost is not None and command != COMMIT and command != ROLLBACK:
        return 0
    if command == OWN_SETTING:
        return client_asks_own(c, text, length, length + 6)
    if command == DEALLOCATE:
        name = deallocated_name(text, length)
        if name is None or c.statements is None or name not in c.statements or c.status == 69 \
                or s is not None and s.exposed:
            return 0
        if client_awaits_owed(c):
            return STOPPED
        client_forgets_one(c, name)
        client_say_complete(c, b'DEALLOCATE')
        client_ends_query(c)
        return TAKEN
    if s is not None or c.line.mode == SESSION_MODE and not c.aborted:
        return 0
    if (command == BEGIN or command == START_TRANSACTION) and c.status == 73:
        if c.line.mode == STATEMENT_MODE:
            client_refuse(c, '0A000', 'transaction blocks are not possible in statement pooling mode')
            client_say_ready(c)
            return TAKEN
        client_forgets_unnamed(c)
        client_begins(c, command, text[:length])
        client_say_ready(c)
        return TAKEN
    if (command == COMMIT or command == ROLLBACK) and (
            c.aborted or c.lost is None and c.begin is not None):
        client_end_transaction(c, command)
        client_say_ready(c)
        return TAKEN
    return 0


cdef bint client_awaits_owed(Client c) except -1:
    """Are replies owed that come before what is answered here? Then its server is asked for them."""
    cdef Server s = c.server
    if s is None:
        return False
    if s.open_unit:
        # Running it again would not say again what was answered here.
        s.retain = RETAIN_OVER
        if ledger_is_all(&s.ledger, FORGE):
            server_emit_forged(s, c)
        elif s.ledger.count:
            sink_write(&c.relay.to_server, FLUSH_MESSAGE, 5)
    c.awaits_replies = s.ledger.count > 0
    return c.awaits_replies


cdef int client_ends_query(Client c) except -1:
    """The end of a simple query that was answered here.

    What it does to a unit of extended messages that has had no Sync yet is for PostgreSQL to say: so
    then the server has a query as well, an empty one, and its ReadyForQuery is the client's.
    """
    cdef Server s = c.server
    if s is None or not s.open_unit:
        return client_say_ready(c)
    sink_write(&s.relay.to_server, EMPTY_QUERY, 6)
    ledger_push(&s.ledger, kinds.QUERY, FORWARD, 0, None, b'')
    client_breaks_unit(s)
    s.unnamed = None
    if not c.began_s:
        c.began_s = c.relay.now_s
    return 0


cdef int client_end_transaction(Client c, Command command) except -1:
    """End a transaction that no server knows of, or whose server is gone.

    A ROLLBACK of what is lost has happened: no error, which drivers would not expect here. A COMMIT
    that is the first to hear of the loss has failed, and ended its transaction all the same, as one
    that PostgreSQL refuses: drivers send no ROLLBACK after it.
    """
    if command == COMMIT and c.lost is not None:
        client_say_lost(c)
    else:
        client_say_complete(c, b'COMMIT' if command == COMMIT and not c.aborted else b'ROLLBACK')
    c.lost = None
    c.begin = None
    c.aborted = False
    c.transaction_s = c.opened_s = 0.0
    c.status = b'I'
    c.line.transactions += 1
    return 0


cdef Py_ssize_t client_answers_unit(Client c, char *p, Py_ssize_t n) except -1:
    """Answer a whole unit of extended messages that runs one command which needs no server.

    It must be complete and exactly: Parse if any, Bind without parameters, Execute, Sync, all of one
    statement and the unnamed portal, and perhaps a Describe behind Parse or Bind. So it cannot be
    something else. In an aborted transaction, whose end no server could prepare, it may also end
    with a Sync before the Bind.
    Result: bytes used; 0 when it is none of that; STILL_COMING when it may be and must be seen
    whole, as no server could take a part of it; NOT_YET when replies are owed that come first.
    """
    cdef Py_ssize_t pos = 0, size, length
    cdef int step = 0
    cdef char kind, described = 0
    cdef bint described_first = False
    cdef char *body
    cdef const char *name = NULL
    cdef const char *stated
    cdef bytes key = None, text
    cdef bint parsed = False
    cdef Command command = PLAIN
    cdef Statement statement
    while True:
        if n - pos < 5:
            return STILL_COMING if needs_whole(command) or c.aborted else 0
        kind = p[pos]
        size = int32_at(p + pos + 1) + 1
        if size < 5 or size > LOOK_BYTES:
            return 0
        if n - pos < size:
            return STILL_COMING if needs_whole(command) or c.aborted else 0
        body = p + pos + 5
        length = size - 5
        if kind == kinds.PARSE and step == 0:
            name = body
            if memchr(body, 0, length) == NULL:
                return 0
            stated = body + strlen(body) + 1
            length = body + length - stated
            if not is_parse_tail(stated, length) or length != <Py_ssize_t>strlen(stated) + 3:
                return 0
            if name[0] and c.statements is not None and <bytes>name in c.statements:
                return 0
            key = stated[:length]
            parsed = True
            step = 1
        elif kind == kinds.BIND and step <= 1:
            # Portal, statement, no parameter formats, no parameters, any result formats.
            if length < 8 or body[0] != 0 or memchr(body + 1, 0, length - 1) == NULL:
                return 0
            stated = body + 1 + strlen(body + 1) + 1
            if body + length - stated < 6 or int32_at(stated) != 0:
                return 0
            if body + length - stated != 6 + 2 * int16_at(stated + 4) or int16_at(stated + 4) < 0:
                return 0
            if step == 1 and strcmp(name, body + 1) != 0:
                return 0
            name = body + 1
            if step == 0:
                key = client_text_of(c, name)
            if key is None:
                return 0
            step = 2
        elif kind == kinds.DESCRIBE and (step == 1 or step == 2) and not described:
            if length < 2 or body[length - 1] != 0 or not (
                    body[0] == 80 and length == 2
                    or body[0] == 83 and strcmp(body + 1, name) == 0):
                return 0
            described = body[0]
            if step == 1:
                if described == 80:
                    return 0
                described_first = True
        elif kind == kinds.EXECUTE and step == 2:
            if length != 5 or body[0] != 0:
                return 0
            step = 3
        elif kind == kinds.SYNC and length == 0 and (step == 3 or step == 1 and c.aborted):
            pos += size
            break
        else:
            return 0
        if step and command == PLAIN and key is not None:
            command = command_of(key, strlen(key))
            if not client_can_answer(c, command, key):
                return 0
            if c.server is not None:
                if c.server.open_unit:
                    return 0
                if c.server.ledger.count:
                    return NOT_YET
        pos += size
    c.skipping = False
    text = key[:strlen(key)]
    if parsed:
        client_names(c, name, key)
        sink_write(&c.relay.to_client, PARSE_COMPLETE, 5)
    if step == 3 and not described_first:
        sink_write(&c.relay.to_client, BIND_COMPLETE, 5)
    if described == 83:
        sink_write(&c.relay.to_client, NO_PARAMETERS, 7)
    if described:
        sink_write(&c.relay.to_client, NO_DATA_MESSAGE, 5)
    if step == 3 and described_first:
        sink_write(&c.relay.to_client, BIND_COMPLETE, 5)
    if step == 1:
        client_say_ready(c)
        return pos
    if command == DEALLOCATE:
        client_forgets_one(c, deallocated_name(text, len(text)))
        client_say_complete(c, b'DEALLOCATE')
    elif command == COMMIT or command == ROLLBACK:
        client_end_transaction(c, command)
    else:
        client_begins(c, command, text)
    client_say_ready(c)
    return pos


cdef inline bint needs_whole(Command command) noexcept:
    """No server could take a part of it."""
    return command == DEALLOCATE


cdef bytes client_text_of(Client c, const char *name):
    """The key of the statement that the client calls so, or None."""
    cdef Statement statement
    if name[0] == 0:
        return None if c.unnamed is None else c.unnamed.key
    statement = None if c.statements is None else <Statement>c.statements.get(<bytes>name)
    return None if statement is None else statement.key


cdef bint client_can_answer(Client c, Command command, const char *text) except -1:
    """May this command be answered without a server? text: of the statement."""
    if command == PLAIN or command == DISCARD or command == OWN_SETTING or c.refusal is not None:
        return False
    if c.server is not None and (command != DEALLOCATE or c.server.exposed):
        return False
    if (command == COMMIT or command == ROLLBACK) and c.aborted:
        return True
    if c.lost is not None:
        return False
    if command == DEALLOCATE:
        return (c.status != 69 and c.statements is not None
                and deallocated_name(text, strlen(text)) in c.statements)
    if command == BEGIN or command == START_TRANSACTION:
        return c.status == 73 and c.line.mode == TRANSACTION_MODE
    return c.begin is not None or c.aborted


cdef int client_begins(Client c, Command command, bytes text) except -1:
    """A transaction begins that no server is told of until its first statement."""
    c.begin = text
    c.status = b'T'
    return client_say_complete(c, b'BEGIN' if command == BEGIN else b'START TRANSACTION')
