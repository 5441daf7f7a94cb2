# What a client says, one message after another: what needs a server gets one and is passed on,
# the rest is answered here.

cdef enum:
    # A simple query is looked at this far. No command of ours is longer; what is longer is PLAIN.
    LOOK_BYTES = 512
    # Result of client_answers_unit.
    STILL_COMING = -2
    NOT_YET = -3
    # Names in Bind, Describe, Close, Execute: PostgreSQL's limit for small messages.
    MOST_NAME_BYTES = 10000


@cython.final
cdef class Client(Link):
    """One client connection. In the LOGIN stage a coroutine logs it in; `enter` hands it over."""

    def enter(self, Line line not None, settings, int pid, bytes secret not None):
        """Logged in: from now on its messages go to the servers of the line.

        settings: interned Settings it was told of. pid, secret: the cancel key it was given.
        """
        self.side = CLIENT_SIDE
        self.line = line
        self.settings = settings
        self.pid = pid
        self.secret = secret
        self.status = b'I'
        self.ready_s = self.relay.now_s
        self.stage = RELAYING
        line.clients += 1
        self.relay.clients[pid] = self
        self.readable = True
        self.relay._dispatch(self, 0)

    def cancel(self):
        """Cancel what it has running; True when there is something to cancel."""
        cdef Server s = self.server
        if self.waiting:
            line_leave(self)
            self.refusal = messages.error_response('57014', 'canceling statement due to user request')
            count_error(self.relay, self.line.database, '57014')
            self.relay._dispatch(self, 0)
            return True
        if s is None or s.ledger.count == 0:
            return False
        if ledger_head(&s.ledger).action == SWALLOW:
            # What runs is ours, and the client's statement would follow it: wait for that.
            s.cancel_wanted = True
        else:
            server_cancel(s)
        return True

    def dismiss(self, str sqlstate not None, str text not None):
        """End the connection with a FATAL error."""
        client_refuse_fatally(self, sqlstate, text)

    @property
    def is_idle(self):
        """Nothing running, no transaction open."""
        if self.stage != RELAYING or self.waiting or self.status != 73 or self.passing:
            return False
        if self.held.end > self.held.start:
            return False
        # In session mode it has a server all the time.
        return self.server is None or not (self.server.ledger.count or self.server.open_unit)

    @property
    def is_waiting(self):
        """In line for a server connection."""
        return self.waiting

    @property
    def has_server(self):
        """A server connection is linked to it."""
        return self.server is not None

    @property
    def statement_count(self):
        """Prepared statements it has names for."""
        return 0 if self.statements is None else len(self.statements)


cdef int client_read(Client c) except -1:
    """Go on with what is held, then with what the socket has, until something must be waited for."""
    cdef Relay relay = c.relay
    cdef Py_ssize_t n, used
    cdef int turn = 0
    while c.stage == RELAYING:
        if client_must_wait(c):
            if c.ended and c.waiting:
                return client_gone(c, 'client closed the connection while waiting', False)
            return 0
        if c.held.end > c.held.start and not c.starved:
            n = c.held.end - c.held.start
            used = client_process(c, c.held.data + c.held.start, n)
            if c.stage != RELAYING:
                return 0
            octets_consume(&c.held, used)
            client_lets_go(c)
            continue
        if not c.readable:
            return 0
        if turn == READS_A_TURN:
            return relay_again(relay, c)
        turn += 1
        if c.held.end > c.held.start:
            octets_reserve(&c.held, READ_BYTES)
            n = link_recv(c, c.held.data + c.held.end, READ_BYTES)
            if n > 0:
                c.held.end += n
                c.starved = False
                relay.received += n
                continue
        else:
            n = link_recv(c, relay.scratch, READ_BYTES)
            if n > 0:
                relay.received += n
                used = client_process(c, relay.scratch, n)
                if used < n and c.stage == RELAYING:
                    octets_append(&c.held, relay.scratch + used, n - used)
                client_lets_go(c)
                continue
        if n == NOTHING:
            return 0
        return client_gone(c, 'client closed the connection unexpectedly', False)
    return 0


cdef bint client_awaits_settling(Client c, char kind) noexcept:
    """Names have changed in a unit whose replies are owed. Should it fail, they have not: so what
    begins the next unit waits for them."""
    cdef Server s = c.server
    if s is None or s.ledger.count == 0:
        c.unsettled = False
        return False
    if s.open_unit or c.passing or kind == kinds.SYNC or kind == kinds.FLUSH \
            or kind == kinds.TERMINATE or kind == kinds.COPY_DATA or kind == kinds.COPY_DONE \
            or kind == kinds.COPY_FAIL:
        return False
    c.awaits_replies = True
    return True


cdef int client_lets_go(Client c) except -1:
    """What it said last owes nothing: its server may be free, and no reply will come to tell."""
    cdef Server s = c.server
    if s is not None and not s.ledger.count and not s.open_unit and not c.passing \
            and s.status == 73 and c.line.mode != SESSION_MODE:
        return server_settle(s)
    return 0


cdef int client_resume(Client c) except -1:
    """Go on, if there is anything to go on with."""
    if c is not None and c.stage == RELAYING and (
            c.readable or c.awaits_replies or c.held.end > c.held.start and not c.starved):
        return client_read(c)
    return 0


cdef bint client_must_wait(Client c) noexcept:
    """For a server, for a slow peer, or for replies."""
    cdef Server s = c.server
    if c.waiting or c.unsent.end > c.unsent.start:
        return True
    if s is None:
        c.awaits_replies = False
        return False
    if s.ledger.count == 0:
        c.awaits_replies = False
    return (c.awaits_replies or s.cancels or s.unsent.end > s.unsent.start
            or s.ledger.count > MOST_REPLIES_OWED)


cdef Py_ssize_t client_process(Client c, char *p, Py_ssize_t n) except -1:
    """Take messages one after another. Result: bytes used; the rest waits or is incomplete."""
    cdef Relay relay = c.relay
    cdef Py_ssize_t pos = 0, size, k
    cdef int done
    cdef char kind
    c.starved = False
    while pos < n and c.stage == RELAYING:
        if c.server is not None and c.server.ledger.count > MOST_REPLIES_OWED and not c.passing:
            break
        if c.passing:
            k = min(c.passing, n - pos)
            if not c.discarding:
                sink_put(&relay.to_server, p + pos, k)
            c.passing -= k
            pos += k
            continue
        if n - pos < 5:
            c.starved = True
            break
        kind = p[pos]
        if c.unsettled and client_awaits_settling(c, kind):
            break
        if (kind == kinds.PARSE or kind == kinds.BIND and c.runs_commands) and not c.skipping \
                and (c.line.mode != SESSION_MODE or c.aborted):
            k = client_answers_unit(c, p + pos, n - pos)
            if k > 0:
                pos += k
                continue
            if k == STILL_COMING and n - pos < MOST_NAME_BYTES:
                # No server could take a part of it.
                c.starved = True
                break
            if k == NOT_YET:
                c.awaits_replies = True
                break
        size = int32_at(p + pos + 1)
        if size < 4 or size > (MAX_LARGE_BYTES if is_large(kind) else MAX_SMALL_BYTES):
            client_violates(c, 'message length')
            break
        size += 1
        k = min(size, n - pos)
        if kind == kinds.QUERY:
            done = client_says_query(c, p + pos, k, size)
        elif c.skipping and kind != kinds.SYNC and kind != kinds.TERMINATE:
            done = client_drop(c, k, size)
        elif kind == kinds.BIND:
            done = client_says_bind(c, p + pos, k, size)
        elif kind == kinds.EXECUTE:
            done = client_says_execute(c, p + pos, k, size)
        elif kind == kinds.SYNC:
            done = client_says_sync(c, p + pos, k, size)
        elif kind == kinds.PARSE:
            done = client_says_parse(c, p + pos, k, size)
        elif kind == kinds.DESCRIBE:
            done = client_says_describe(c, p + pos, k, size)
        else:
            done = client_says_other(c, kind, p + pos, k, size)
        if done == STARVED:
            c.starved = True
            break
        if done == STOPPED:
            break
        pos += k
    if c.server is not None:
        if c.server.ledger.count > MOST_REPLIES_OWED:
            client_makes_room(c)
        if not sink_is_empty(&relay.to_server):
            server_flush(c.server)
    if not sink_is_empty(&relay.to_client):
        client_flush(relay, c)
    return pos


cdef int client_makes_room(Client c) except -1:
    """Too many replies are owed: answer what is ours, have the server send what it holds back."""
    cdef Server s = c.server
    s.retain = RETAIN_OVER
    server_emit_forged(s, c)
    if s.ledger.count > MOST_REPLIES_OWED and not c.passing:
        sink_write(&c.relay.to_server, FLUSH_MESSAGE, 5)
    return 0


# What a client_says_… function did with its message: took the bytes there are (the rest of it
# is passed on or dropped as it comes), needs more of it first, or cannot go on now.
cdef enum Done:
    TAKEN = 1
    STARVED = 2
    STOPPED = 3


cdef inline bint is_large(char kind) noexcept:
    return (kind == kinds.QUERY or kind == kinds.BIND or kind == kinds.PARSE
            or kind == kinds.COPY_DATA or kind == kinds.FUNCTION_CALL)


cdef inline int client_pass(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """The message goes to the server as it is; what is not here yet follows."""
    sink_put(&c.relay.to_server, p, have)
    c.passing = size - have
    c.discarding = False
    return TAKEN


cdef inline int client_drop(Client c, Py_ssize_t have, Py_ssize_t size) except -1:
    """The message goes nowhere."""
    c.passing = size - have
    c.discarding = True
    return TAKEN


cdef int client_attach(Client c) except -1:
    """Make sure it has a server connection, in the client's settings and transaction.

    Result: TAKEN; STOPPED when it has to wait or was refused its turn.
    """
    cdef Server s = c.server
    cdef double waited_s = 0.0
    if s is not None:
        return TAKEN
    s = line_take(c.line, c)
    if s is None:
        line_join(c)
        return STOPPED
    if c.waits_since_s:
        waited_s = c.relay.now_s - c.waits_since_s
        c.began_s = c.waits_since_s
        c.waits_since_s = 0.0
    observe(c.relay.waits, waited_s)
    c.server = s
    s.client = c
    s.replied = False
    s.open_unit = False
    if s.settings is not c.settings:
        client_bring_settings(c, s)
    if c.begin is not None:
        server_inject(s, c.begin, TO_BEGIN)
        c.begin = None
    return TAKEN


cdef int client_bring_settings(Client c, Server s) except -1:
    """Give the server the client's settings, in front of its statement."""
    cdef Relay relay = c.relay
    cdef bytes text
    pair = (s.settings, c.settings)
    text = relay.switches.get(pair)
    if text is None:
        text = relay.control.settings_switch(s.settings, c.settings)
        if len(relay.switches) >= 4096:
            relay.switches.clear()
        relay.switches[pair] = text
    if text:
        s.pending_settings = c.settings
        server_inject(s, text, TO_SET)
    else:
        s.settings = c.settings
    return 0


cdef int client_says_query(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Query: the simple protocol."""
    cdef Server s
    cdef Command command = PLAIN
    cdef uint8_t effect = 0
    cdef int done
    if c.skipping:
        return client_drop(c, have, size)
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
    effect = effect_of(p + 5, have - 5)
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.QUERY, have, size)
    if client_attach(c) == STOPPED:
        # The request that waited in vain is answered at its next reading.
        return STOPPED
    s = c.server
    ledger_push(&s.ledger, kinds.QUERY, FORWARD, effect)
    s.retain = RETAIN_OVER
    if not c.began_s:
        c.began_s = c.relay.now_s
    s.open_unit = False
    s.unnamed = None
    if c.unnamed is not None or c.shared_unnamed is not None:
        client_forgets_unnamed(c)
    if command == DEALLOCATE or command == DISCARD:
        c.unsettled = True
    if command == COMMIT and c.status != 73 or may_commit_within(p + 5, have - 5):
        s.committing = True
    c.line.queries += 1
    s.pool.queries += 1
    return client_pass(c, p, have, size)


cdef int client_says_command(Client c, Command command, const char *text, Py_ssize_t length) except -1:
    """A command that may be answered here (simple protocol). Result: 0 when it may not."""
    cdef Server s = c.server
    cdef bytes name
    if command == DEALLOCATE:
        name = deallocated_name(text, length)
        if name is None or c.statements is None or name not in c.statements or c.status == 69:
            return 0
        if s is not None and (s.ledger.count or s.open_unit):
            c.awaits_replies = True
            return STOPPED
        client_forgets_one(c, name)
        client_say_complete(c, b'DEALLOCATE')
        client_say_ready(c)
        return TAKEN
    if s is not None or c.line.mode == SESSION_MODE and not c.aborted:
        return 0
    if (command == BEGIN or command == START_TRANSACTION) and c.status == 73:
        if c.line.mode == STATEMENT_MODE:
            client_refuse(c, '0A000', 'transaction blocks are not possible in statement pooling mode')
            client_say_ready(c)
            return TAKEN
        if c.lost is not None:
            return 0
        client_forgets_unnamed(c)
        client_begins(c, command, text[:length])
        client_say_ready(c)
        return TAKEN
    if command == ROLLBACK and c.aborted or c.lost is None and (
            command == COMMIT or command == ROLLBACK) and (c.begin is not None or c.aborted):
        # A ROLLBACK of what is lost has happened: no error, which drivers would not expect here.
        c.lost = None
        client_end_transaction(c, command)
        client_say_ready(c)
        return TAKEN
    return 0


cdef int client_end_transaction(Client c, Command command) except -1:
    """End a transaction that no server knows of, or whose server is gone."""
    client_say_complete(c, b'COMMIT' if command == COMMIT and not c.aborted else b'ROLLBACK')
    c.begin = None
    c.aborted = False
    c.status = b'I'
    c.line.transactions += 1
    return 0


cdef int client_answers_loss(Client c, char kind, Py_ssize_t have, Py_ssize_t size) except -1:
    """Its server is gone, its transaction aborted, or it waited in vain: answer with that error."""
    cdef bytes error
    if c.refusal is not None:
        error = c.refusal
        c.refusal = None
        c.waits_since_s = 0.0
        if c.begin is not None:
            c.begin = None
            c.aborted = True
            c.status = b'E'
    elif c.lost is not None:
        error = messages.error_response(
            '08006', 'the server connection was lost', detail=c.lost.decode('utf-8', 'surrogateescape'))
        count_error(c.relay, c.line.database, '08006')
        c.lost = None
        if c.aborted:
            c.status = b'E'
    else:
        error = messages.error_response(
            '25P02', 'current transaction is aborted, commands ignored until end of transaction block',
            hint='Its server connection was lost; send ROLLBACK and begin anew.')
    sink_write(&c.relay.to_client, error, len(error))
    if kind == kinds.QUERY or kind == kinds.FUNCTION_CALL:
        client_say_ready(c)
    else:
        c.skipping = True
    return client_drop(c, have, size)


cdef inline int client_begin_unit(Client c, Server s, char *p, Py_ssize_t have, Py_ssize_t size,
                                  bint worthwhile) except -1:
    """An extended message is about to go out: keep it if the unit may have to be sent again.

    worthwhile: it refers to a statement whose plan may be out of date.
    """
    if not s.open_unit:
        s.open_unit = True
        if not c.began_s:
            c.began_s = c.relay.now_s
        if s.ledger.count == 0 or (s.ledger.count == 1 and ledger_head(&s.ledger).action == SWALLOW):
            s.unit.start = s.unit.end = 0
            s.replied = False
            s.retain = RETAIN_YES if worthwhile and c.status == 73 and not c.retried else RETAIN_NO
        else:
            s.retain = RETAIN_OVER
    if s.retain == RETAIN_YES:
        if have < size or s.unit.end + size > MOST_RETAINED_BYTES:
            s.retain = RETAIN_OVER
        else:
            octets_append(&s.unit, p, size)
    return 0


cdef int client_says_parse(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Parse: a statement gets a name, or becomes the unnamed one."""
    cdef Server s
    cdef Statement statement
    cdef const char *nul = <const char *>memchr(p + 5, 0, have - 5)
    cdef char *tail
    cdef Py_ssize_t length
    cdef bytes name, key
    cdef Command command
    if nul == NULL:
        if have < size and have < MOST_NAME_BYTES:
            return STARVED
        return client_violates(c, 'a statement name without its terminator')
    tail = <char *>nul + 1
    length = p + size - tail
    if not c.line.tracks_statements:
        if c.lost is not None or c.aborted or c.refusal is not None:
            return client_answers_loss(c, kinds.PARSE, have, size)
        return client_passes_extended(c, kinds.PARSE, p, have, size)
    if length > c.line.max_statement_bytes:
        return client_parses_unkept(c, nul == p + 5, p, have, size)
    if have < size:
        return STARVED
    if not is_parse_tail(tail, length):
        # PostgreSQL answers it better than we could: its text or its counts are malformed.
        return client_passes_extended(c, kinds.PARSE, p, have, size)
    command = command_of(tail, strlen(tail))
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.PARSE, have, size)
    if (command == BEGIN or command == START_TRANSACTION) and c.line.mode == STATEMENT_MODE:
        return client_refuses_unit(
            c, '0A000', 'transaction blocks are not possible in statement pooling mode', have, size)
    if client_attach(c) == STOPPED:
        return STOPPED
    s = c.server
    key = tail[:length]
    if nul == p + 5 and not c.line.share_unnamed:
        client_begin_unit(c, s, p, have, size, False)
        client_forgets_unnamed(c)
        c.unnamed = s.unnamed = key
        c.unnamed_command = command
        if command != PLAIN:
            c.runs_commands = True
        c.unnamed_effect = effect_of(tail, strlen(tail))
        ledger_push(&s.ledger, kinds.PARSE, FORWARD)
        c.relay.parses_sent += 1
        return client_pass(c, p, have, size)
    client_begin_unit(c, s, p, have, size, True)
    if nul == p + 5:
        statement = client_shares_unnamed(c, key)
        return client_prepares(c, s, statement, None)
    name = p[5:nul - p]
    if c.statements is not None and name in c.statements:
        # The server says that it exists already, and does whatever else an error entails.
        statement = <Statement>c.statements[name]
        client_ensures(s, statement)
        client_send_parse(c, s, statement)
        ledger_push(&s.ledger, kinds.PARSE, FORWARD, 0, None, b'')
        return TAKEN
    if c.statements is not None and len(c.statements) >= c.line.max_client_statements:
        return client_refuses_unit(
            c, '54000', 'too many prepared statements (max_client_statements)', have, size)
    client_names(c, name, key)
    return client_prepares(c, s, <Statement>c.statements[name], name)


cdef int client_prepares(Client c, Server s, Statement statement, bytes name) except -1:
    """The client wants this prepared: say it is when the server has it, else send the Parse."""
    c.unsettled = c.unsettled or name is not None or statement not in s.prepared
    if statement.command != PLAIN:
        c.runs_commands = True
    if statement in s.prepared:
        if c.status == 69 and not statement.effect & LEAVES_ABORTED:
            # The server refuses it, as the transaction is aborted.
            ledger_push(&s.ledger, kinds.PARSE, FORWARD, 0, None, name)
            return client_send_parse(c, s, statement) + TAKEN
        server_uses(s, statement)
        ledger_push(&s.ledger, kinds.PARSE, FORGE, statement.effect, None, name)
        c.relay.parses_forged += 1
        return TAKEN
    server_keeps(s, statement)
    ledger_push(&s.ledger, kinds.PARSE, FORWARD, 0, statement, name)
    client_send_parse(c, s, statement)
    c.relay.parses_sent += 1
    return TAKEN


cdef int client_send_parse(Client c, Server s, Statement statement) except -1:
    cdef bytes message = parse_message(statement)
    return sink_write(&c.relay.to_server, message, len(message))


cdef int client_ensures(Server s, Statement statement) except -1:
    """The statement is on the server, or its Parse goes ahead of what needs it."""
    cdef bytes message
    if statement is s.latest:
        return 0
    if statement in s.prepared:
        return server_uses(s, statement)
    server_keeps(s, statement)
    message = parse_message(statement)
    sink_write(&s.relay.to_server, message, len(message))
    ledger_push(&s.ledger, kinds.PARSE, SWALLOW, 0, statement)
    s.relay.parses_injected += 1
    return 0


cdef inline int server_uses(Server s, Statement statement) except -1:
    """Mark as used last."""
    if statement is not s.latest:
        s.latest = statement
        # The order matters only once something may be evicted.
        if s.pool.max_prepared and 2 * PyDict_Size(s.prepared) > s.pool.max_prepared:
            del s.prepared[statement]
            s.prepared[statement] = True
    return 0


cdef int server_keeps(Server s, Statement statement) except -1:
    """It will have this statement; the one that was used longest ago goes when there are too many."""
    cdef Statement oldest
    cdef bytes message
    if s.pool.max_prepared and len(s.prepared) >= s.pool.max_prepared:
        oldest = <Statement>next(iter(s.prepared))
        del s.prepared[oldest]
        message = close_message(oldest.name)
        sink_write(&s.relay.to_server, message, len(message))
        ledger_push(&s.ledger, kinds.CLOSE, SWALLOW, 0, oldest)
        statement_drop(s.relay, oldest)
        s.relay.evictions += 1
    s.prepared[statement] = True
    statement_use(statement)
    s.latest = statement
    return 0


cdef int client_parses_unkept(Client c, bint unnamed, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """A statement text too long to be kept: it can be unnamed, as long as its server stays."""
    cdef Server s
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.PARSE, have, size)
    if not unnamed:
        return client_refuses_unit(
            c, '54000', 'the text of a named statement is longer than max_statement_bytes', have, size)
    if client_attach(c) == STOPPED:
        return STOPPED
    s = c.server
    client_begin_unit(c, s, p, have, size, False)
    client_forgets_unnamed(c)
    # An object of its own: equal to nothing that another server has.
    c.unnamed = s.unnamed = UNKEPT + c.address.encode()
    ledger_push(&s.ledger, kinds.PARSE, FORWARD)
    return client_pass(c, p, have, size)


cdef Py_ssize_t client_answers_unit(Client c, char *p, Py_ssize_t n) except -1:
    """Answer a whole unit of extended messages that runs one command which needs no server.

    It must be complete and exactly: Parse if any, Bind without parameters, Describe if any,
    Execute, Sync, all of one statement and the unnamed portal. So it cannot be something else.
    Result: bytes used; 0 when it is none of that; STILL_COMING when it may be and must be seen
    whole, as no server could take a part of it; NOT_YET when replies are owed that come first.
    """
    cdef Py_ssize_t pos = 0, size, length
    cdef int step = 0
    cdef char kind, described = 0
    cdef char *body
    cdef const char *name = NULL
    cdef const char *stated
    cdef bytes key = None, text
    cdef bint parsed = False
    cdef Command command = PLAIN
    cdef Statement statement
    while True:
        if n - pos < 5:
            return STILL_COMING if command == DEALLOCATE or c.aborted else 0
        kind = p[pos]
        size = int32_at(p + pos + 1) + 1
        if size < 5 or size > LOOK_BYTES:
            return 0
        if n - pos < size:
            return STILL_COMING if command == DEALLOCATE or c.aborted else 0
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
        elif kind == kinds.DESCRIBE and step == 2 and not described:
            if length < 2 or body[length - 1] != 0 or not (
                    body[0] == 80 and length == 2
                    or body[0] == 83 and strcmp(body + 1, name) == 0):
                return 0
            described = body[0]
        elif kind == kinds.EXECUTE and step == 2:
            if length != 5 or body[0] != 0:
                return 0
            step = 3
        elif kind == kinds.SYNC and step == 3 and length == 0:
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
    text = key[:strlen(key)]
    if parsed:
        client_names(c, name, key)
        sink_write(&c.relay.to_client, PARSE_COMPLETE, 5)
    sink_write(&c.relay.to_client, BIND_COMPLETE, 5)
    if described == 83:
        sink_write(&c.relay.to_client, NO_PARAMETERS, 7)
    if described:
        sink_write(&c.relay.to_client, NO_DATA_MESSAGE, 5)
    if command == DEALLOCATE:
        client_forgets_one(c, deallocated_name(text, len(text)))
        client_say_complete(c, b'DEALLOCATE')
    elif command == COMMIT or command == ROLLBACK:
        c.lost = None
        client_end_transaction(c, command)
    else:
        client_begins(c, command, text)
    client_say_ready(c)
    return pos


cdef bytes client_text_of(Client c, const char *name):
    """The key of the statement that the client calls so, or None."""
    cdef Statement statement
    if name[0] == 0:
        if c.shared_unnamed is not None:
            return c.shared_unnamed.key
        return None if c.unnamed is None or c.unnamed.startswith(UNKEPT) else c.unnamed
    statement = None if c.statements is None else <Statement>c.statements.get(<bytes>name)
    return None if statement is None else statement.key


cdef bint client_can_answer(Client c, Command command, const char *text) except -1:
    """May this command be answered without a server? text: of the statement."""
    if command == PLAIN or command == DISCARD or c.refusal is not None:
        return False
    if c.server is not None and command != DEALLOCATE:
        return False
    if command == ROLLBACK and c.aborted:
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


cdef int client_names(Client c, bytes name, bytes key) except -1:
    """Remember what the client calls this statement."""
    cdef Statement statement
    if not name:
        client_forgets_unnamed(c)
        c.unnamed = key
        c.unnamed_command = command_of(key, strlen(key))
        c.unnamed_effect = 0
        c.runs_commands = True
        return 0
    client_forgets_one(c, name)
    statement = statement_of(c.relay, key)
    statement_use(statement)
    if statement.command != PLAIN:
        c.runs_commands = True
    if c.statements is None:
        c.statements = {}
    c.statements[name] = statement
    return 0


cdef Statement client_shares_unnamed(Client c, bytes key):
    """The unnamed statement is a shared one from now on."""
    cdef Statement statement = statement_of(c.relay, key)
    statement_use(statement)
    client_forgets_unnamed(c)
    c.shared_unnamed = statement
    return statement


cdef int client_forgets_unnamed(Client c) except -1:
    c.unnamed = None
    c.unnamed_command = PLAIN
    if c.shared_unnamed is not None:
        client_keeps_alias(c, c.shared_unnamed, b'')
        statement_drop(c.relay, c.shared_unnamed)
        c.shared_unnamed = None
    return 0


cdef int client_forgets_one(Client c, bytes name) except -1:
    """This name is free again."""
    cdef Statement statement
    if c.statements is not None:
        statement = <Statement>c.statements.pop(name, None)
        if statement is not None:
            client_keeps_alias(c, statement, name)
            statement_drop(c.relay, statement)
    return 0


cdef int client_keeps_alias(Client c, Statement statement, bytes name) except -1:
    """An error that is still to come may speak of a statement whose name is given up now."""
    if c.server is not None and c.server.ledger.count:
        if c.server.aliases is None:
            c.server.aliases = {}
        c.server.aliases[statement.name] = name
    return 0


cdef int client_forgets(Client c) except -1:
    """All its names are free again."""
    if c.statements is not None:
        for name, statement in c.statements.items():
            client_keeps_alias(c, <Statement>statement, name)
            statement_drop(c.relay, <Statement>statement)
        c.statements = None
    return 0


cdef bytes client_names_in(Client c, bytes body):
    """An error text with the client's own name for a statement in place of the server's."""
    cdef bytes name
    cdef Statement statement
    if c.shared_unnamed is not None:
        body = body.replace(b'"' + c.shared_unnamed.name + b'"', b'""')
    body = body.replace(b'"' + DISGUISED_PREFIX, b'"' + STATEMENT_PREFIX)
    if c.statements is not None:
        for name, statement in c.statements.items():
            body = body.replace(b'"' + statement.name + b'"', b'"' + name + b'"')
    if c.server is not None and c.server.aliases is not None:
        for ours, name in c.server.aliases.items():
            body = body.replace(b'"' + ours + b'"', b'"' + name + b'"')
    return body


cdef int client_passes_extended(Client c, char kind, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """An extended message that goes to the server as it is."""
    cdef Server s
    if client_attach(c) == STOPPED:
        return STOPPED
    s = c.server
    client_begin_unit(c, s, p, have, size, False)
    if kind == kinds.PARSE:
        s.unnamed = None
        ledger_push(&s.ledger, kind, FORWARD, 0, None, b'')
    else:
        ledger_push(&s.ledger, kind, FORWARD)
    return client_pass(c, p, have, size)


cdef int client_says_bind(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Bind: a portal from a statement. The name in it becomes the one that servers know."""
    cdef Server s
    cdef Statement statement = None
    cdef const char *name = <const char *>memchr(p + 5, 0, have - 5)
    cdef const char *rest = NULL
    cdef char head[5]
    cdef Command command
    cdef bytes known
    cdef uint8_t effect = 0
    if name != NULL:
        name += 1
        rest = <const char *>memchr(name, 0, p + have - name)
    if rest == NULL:
        if have < size and have < MOST_NAME_BYTES:
            return STARVED
        return client_violates(c, 'a name without its terminator')
    rest += 1
    if not c.line.tracks_statements:
        if c.lost is not None or c.aborted or c.refusal is not None:
            return client_answers_loss(c, kinds.BIND, have, size)
        return client_passes_extended(c, kinds.BIND, p, have, size)
    if name[0] == 0:
        effect = c.unnamed_effect
        command = <Command>c.unnamed_command
        statement = c.shared_unnamed
        if statement is not None:
            command = <Command>statement.command
    else:
        if c.statements is not None:
            statement = <Statement>c.statements.get(<bytes>name[:rest - name - 1])
        command = <Command>statement.command if statement is not None else PLAIN
    if statement is not None:
        effect = statement.effect
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.BIND, have, size)
    if client_attach(c) == STOPPED:
        return STOPPED
    if command == DEALLOCATE or command == DISCARD:
        c.unsettled = True
    c.bound_effect = effect
    c.bound_commit = command == COMMIT
    s = c.server
    client_begin_unit(c, s, p, have, size, statement is not None)
    if statement is None:
        if name[0] == 0:
            client_ensures_unnamed(c, s)
        elif strncmp(name, STATEMENT_PREFIX, len(STATEMENT_PREFIX)) == 0:
            # A name of ours that is not this client's: it must not exist for it.
            (<char *>name)[0] = 45
        ledger_push(&s.ledger, kinds.BIND, FORWARD)
        return client_pass(c, p, have, size)
    client_ensures(s, statement)
    ledger_push(&s.ledger, kinds.BIND, FORWARD)
    known = statement.name
    head[0] = kinds.BIND
    put_int32(head + 1, <int32_t>(size - 1 - (rest - name - 1) + len(known)))
    sink_write(&c.relay.to_server, head, 5)
    sink_write(&c.relay.to_server, p + 5, name - (p + 5))
    sink_write(&c.relay.to_server, <char *>known, len(known))
    return client_pass(c, <char *>rest - 1, p + have - rest + 1, p + size - rest + 1)


cdef int client_ensures_unnamed(Client c, Server s) except -1:
    """The server's unnamed statement is this client's, or there is none."""
    cdef bytes message
    cdef char head[5]
    if c.unnamed is s.unnamed and c.unnamed is not None:
        return 0
    s.unnamed = None
    if c.unnamed is None or c.unnamed.startswith(UNKEPT):
        message = close_message(b'')
        sink_write(&s.relay.to_server, message, len(message))
        return ledger_push(&s.ledger, kinds.CLOSE, SWALLOW)
    head[0] = kinds.PARSE
    put_int32(head + 1, <int32_t>(4 + 1 + len(c.unnamed)))
    message = head[:5] + b'\0' + c.unnamed
    sink_write(&s.relay.to_server, message, len(message))
    ledger_push(&s.ledger, kinds.PARSE, SWALLOW)
    s.unnamed = c.unnamed
    s.relay.parses_injected += 1
    return 0


cdef int client_says_execute(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Execute: run a portal."""
    cdef Server s
    if have < size:
        return STARVED
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.EXECUTE, have, size)
    if client_attach(c) == STOPPED:
        return STOPPED
    s = c.server
    client_begin_unit(c, s, p, have, size, False)
    ledger_push(&s.ledger, kinds.EXECUTE, FORWARD, c.bound_effect)
    if c.bound_commit and c.status != 73:
        s.committing = True
    c.line.queries += 1
    s.pool.queries += 1
    return client_pass(c, p, have, size)


cdef int client_says_sync(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Sync: the end of a unit."""
    cdef Server s = c.server
    if size != 5:
        return client_violates(c, 'a Sync with a body')
    if s is None or (not s.open_unit and not s.ledger.count and not s.copying_in):
        c.skipping = False
        client_say_ready(c)
        return TAKEN
    c.skipping = False
    if s.retain == RETAIN_YES and s.open_unit:
        octets_append(&s.unit, p, size)
    if not s.copying_in:
        ledger_push(&s.ledger, kinds.SYNC, FORWARD)
        s.open_unit = False
    return client_pass(c, p, have, size)


cdef int client_says_describe(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Describe: a statement's parameters and columns, or a portal's columns."""
    cdef Server s
    cdef Statement statement = None
    cdef bytes name
    if have < size:
        return STARVED
    if size < 7 or p[size - 1] != 0:
        return client_violates(c, 'a malformed Describe')
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.DESCRIBE, have, size)
    if p[5] != 83 or not c.line.tracks_statements:
        return client_passes_extended(c, kinds.DESCRIBE, p, have, size)
    if client_attach(c) == STOPPED:
        return STOPPED
    s = c.server
    name = p[6:size - 1]
    if not name:
        statement = c.shared_unnamed
    elif c.statements is not None:
        statement = <Statement>c.statements.get(name)
    client_begin_unit(c, s, p, have, size, statement is not None)
    if statement is None:
        if not name:
            client_ensures_unnamed(c, s)
        elif name.startswith(STATEMENT_PREFIX):
            p[6] = 45
        ledger_push(&s.ledger, kinds.DESCRIBE, FORWARD)
        return client_pass(c, p, have, size)
    client_ensures(s, statement)
    ledger_push(&s.ledger, kinds.DESCRIBE, FORWARD)
    client_send_named(c, kinds.DESCRIBE, statement.name)
    return TAKEN


cdef int client_send_named(Client c, char kind, bytes name) except -1:
    """A Describe or Close of a statement, under this name."""
    cdef bytes head = message_head(kind, len(name) + 2)
    sink_write(&c.relay.to_server, head, 5)
    sink_write(&c.relay.to_server, b'S', 1)
    return sink_write(&c.relay.to_server, <const char *>name, len(name) + 1)


cdef int client_says_close(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Close: a portal, or a name the client has no more use for. Servers keep the statement."""
    cdef Server s = c.server
    cdef bytes name
    cdef bint shared
    if have < size:
        return STARVED
    if size < 7 or p[size - 1] != 0:
        return client_violates(c, 'a malformed Close')
    if p[5] == 83 and c.line.tracks_statements:
        name = p[6:size - 1]
        shared = not name and c.shared_unnamed is not None
        if shared or c.statements is not None and name in c.statements:
            if s is None:
                if shared:
                    client_forgets_unnamed(c)
                else:
                    client_forgets_one(c, name)
                sink_put(&c.relay.to_client, CLOSE_COMPLETE, 5)
                return TAKEN
            client_begin_unit(c, s, p, have, size, False)
            # Running it again would close it once more: no second try.
            s.retain = RETAIN_OVER
            if shared:
                ledger_push(&s.ledger, kinds.CLOSE, FORGE)
                client_forgets_unnamed(c)
            else:
                c.unsettled = True
                ledger_push(&s.ledger, kinds.CLOSE, FORGE, 0, c.statements[name], name)
                client_forgets_one(c, name)
            return TAKEN
        if s is None:
            # Closing what does not exist is no error.
            if not name:
                client_forgets_unnamed(c)
            sink_put(&c.relay.to_client, CLOSE_COMPLETE, 5)
            return TAKEN
        if not name:
            c.unnamed = s.unnamed = None
        elif name.startswith(STATEMENT_PREFIX):
            p[6] = 45
    elif p[5] == 80 and s is None and c.line.mode != SESSION_MODE and c.begin is None \
            and c.lost is None and not c.aborted:
        # No transaction, so no portal.
        sink_put(&c.relay.to_client, CLOSE_COMPLETE, 5)
        return TAKEN
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.CLOSE, have, size)
    return client_passes_extended(c, kinds.CLOSE, p, have, size)


cdef int client_says_other(Client c, char kind, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Close, Flush, COPY data, function calls, the end; and what must not be said."""
    cdef Server s = c.server
    if kind == kinds.CLOSE:
        return client_says_close(c, p, have, size)
    if kind == kinds.FLUSH:
        if have < size:
            return STARVED
        if s is None:
            return client_drop(c, have, size)
        if s.open_unit and s.retain == RETAIN_YES:
            octets_append(&s.unit, p, size)
        if ledger_is_ours(&s.ledger):
            # The server has nothing to say that ours could come before.
            server_emit_forged(s, c)
        return client_pass(c, p, have, size)
    if kind == kinds.COPY_DATA or kind == kinds.COPY_DONE or kind == kinds.COPY_FAIL:
        # Without a COPY these are leftovers of one that failed: PostgreSQL drops them, too.
        if s is None or not s.ledger.count:
            return client_drop(c, have, size)
        s.fed = True
        if kind != kinds.COPY_DATA:
            if s.copying_in:
                s.copying_in = False
            else:
                ledger_push(&s.ledger, kinds.COPY_DONE, FORGE)
        return client_pass(c, p, have, size)
    if kind == kinds.FUNCTION_CALL:
        if c.lost is not None or c.aborted or c.refusal is not None:
            return client_answers_loss(c, kind, have, size)
        if client_attach(c) == STOPPED:
            return STOPPED
        s = c.server
        ledger_push(&s.ledger, kind, FORWARD)
        s.retain = RETAIN_OVER
        return client_pass(c, p, have, size)
    if kind == kinds.TERMINATE:
        client_gone(c, '', True)
        return STOPPED
    return client_violates(c, 'message type')


cdef int client_check_time(Client c, double now_s) except -1:
    """End what has lasted longer than its line allows."""
    cdef Line line = c.line
    cdef Server s = c.server
    if c.stage != RELAYING or c.waiting:
        return 0
    if s is not None and s.ledger.count:
        if line.query_timeout_s and not c.overdue and now_s - c.began_s > line.query_timeout_s:
            # The server's own error, 57014, tells the client.
            c.overdue = True
            c.cancel()
    elif s is not None and c.status != 73 or c.begin is not None:
        if line.idle_transaction_timeout_s and now_s - c.ready_s > line.idle_transaction_timeout_s:
            client_refuse_fatally(c, '25P03', 'idle transaction timeout')
    elif c.held.end == c.held.start:
        if line.client_idle_timeout_s and now_s - c.ready_s > line.client_idle_timeout_s:
            client_refuse_fatally(c, '57P05', 'client idle timeout')
    return 0


cdef int client_violates(Client c, str what) except -1:
    """It broke the protocol: told once, then closed."""
    count_violation(c.relay, 'client', what)
    client_refuse_fatally(c, '08P01', 'protocol violation: ' + what)
    return STOPPED


cdef int client_refuse(Client c, str sqlstate, str text) except -1:
    """An ErrorResponse, into the sink."""
    cdef bytes error = messages.error_response(sqlstate, text)
    count_error(c.relay, c.line.database, sqlstate)
    return sink_write(&c.relay.to_client, error, len(error))


cdef int client_refuses_unit(Client c, str sqlstate, str text, Py_ssize_t have,
                             Py_ssize_t size) except -1:
    """An error of the extended protocol that no server raised: the rest of the unit is dropped."""
    if c.server is not None and c.server.ledger.count:
        # Replies that must come first are still owed, and nothing makes the server send them.
        client_refuse_fatally(c, sqlstate, text)
        return STOPPED
    client_refuse(c, sqlstate, text)
    c.skipping = True
    return client_drop(c, have, size)


cdef int client_refuse_fatally(Client c, str sqlstate, str text) except -1:
    """The last thing it hears."""
    cdef bytes error = messages.error_response(sqlstate, text, severity='FATAL')
    if c.stage != RELAYING:
        return 0
    count_error(c.relay, c.line.database, sqlstate)
    client_flush(c.relay, c)
    # In the middle of a row there is no place for an error.
    if c.server is None or not c.server.passing or c.server.discarding:
        link_send(c, error, len(error))
    return client_gone(c, text, False)


cdef int client_say_ready(Client c) except -1:
    """ReadyForQuery with the status it knows."""
    cdef char ready[6]
    c.ready_s = c.relay.now_s
    memcpy(ready, <const char *>READY, 5)
    ready[5] = c.status
    return sink_write(&c.relay.to_client, ready, 6)


cdef int client_say_complete(Client c, bytes tag) except -1:
    """CommandComplete."""
    cdef bytes head = message_head(kinds.COMMAND_COMPLETE, len(tag) + 1)
    sink_write(&c.relay.to_client, head, 5)
    return sink_write(&c.relay.to_client, <const char *>tag, len(tag) + 1)


cdef int client_gone(Client c, str reason, bint polite) except -1:
    """It left or was dismissed. What it left behind on a server is ended before anybody else comes.

    polite: it said Terminate, so what it had sent before is still carried out, as PostgreSQL would.
    """
    cdef Server s = c.server
    cdef Relay relay = c.relay
    if c.stage >= CLOSING:
        return 0
    if s is not None and not sink_is_empty(&relay.to_server):
        server_flush(s)
    client_flush(relay, c)
    line_leave(c)
    c.server = None
    c.begin = None
    relay.clients.pop(c.pid, None)
    c.line.clients -= 1
    client_forgets(c)
    client_forgets_unnamed(c)
    link_finish(c)
    relay.control.client_gone(c, reason)
    if s is None or s.stage != RELAYING:
        return 0
    s.client = None
    if c.line.mode == SESSION_MODE:
        s.dirt |= SESSION_TOUCHED
    if c.passing and not c.discarding or s.open_unit or s.copying_in:
        # The server waits for the rest of a message or unit that will never come.
        if s.ledger.count:
            s.cancels += 1
            relay.control.cancel(s)
        return server_close(s, b'its client left in the middle of a request')
    if s.ledger.count:
        s.orphaned = True
        if not polite:
            server_cancel(s)
        return 0
    return server_settle(s)
