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
    # What may wait for a client that does not read: notifications come unasked.
    MOST_UNREAD_BYTES = 8388608
    # How long a statement that has been cancelled for its length may take to end.
    CANCEL_GRACE_S = 3


@cython.final
cdef class Client(Link):
    """One client connection. In the LOGIN stage a coroutine logs it in; `enter` hands it over."""

    def enter(self, Line line not None, settings, int pid, bytes secret not None):
        """Logged in: from now on its messages go to the servers of the line.

        settings: interned Settings it was told of. pid, secret: the cancel key it was given.
        """
        self.side = CLIENT_SIDE
        self.line = self.aim = line
        self.settings = self.startup = settings
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
        cdef Reply *head
        if self.waiting:
            line_leave(self)
            self.refusal = messages.error_response('57014', 'canceling statement due to user request')
            count_error(self.relay, self.line.database, '57014')
            self.relay._dispatch(self, 0)
            return True
        if s is None or s.ledger.count == 0:
            return False
        head = ledger_head(&s.ledger)
        if head.action == SWALLOW and (head.kind == kinds.QUERY or head.kind == kinds.SYNC
                                       or head.effect == TO_CARRY):
            # What runs is ours, and the client's statement would follow it: wait for that. What we
            # prepare for the client is part of its own unit, and may wait for a lock like that.
            s.cancel_wanted = True
        else:
            server_cancel(s)
        return True

    def dismiss(self, str sqlstate not None, str text not None, str hint=None):
        """End the connection with a FATAL error."""
        client_refuse_fatally(self, sqlstate, text, hint)

    def go_on(self):
        """What `may_run` had it wait for is there, or is known not to come."""
        self.awaits_listener = False
        self.relay._dispatch(self, 0)

    def tell(self, bytes message not None):
        """Send an asynchronous message where PostgreSQL would: at once when it is idle, else in
        front of the ReadyForQuery that ends its transaction.

        Raises OverflowError when it reads nothing, and too much is waiting for it already.
        """
        if self.stage != RELAYING:
            return
        if self.unsent.end - self.unsent.start + (0 if self.pending is None else len(self.pending)) \
                > MOST_UNREAD_BYTES:
            raise OverflowError('too much is waiting for the client')
        if client_is_free(self):
            self.relay.sent += len(message)
            link_send(self, message, len(message))
        else:
            self.pending = message if self.pending is None else self.pending + message

    @property
    def is_idle(self):
        """Nothing running, no transaction open."""
        if self.stage != RELAYING or self.waiting or self.status != 73 or self.passing:
            return False
        if self.held.end > self.held.start:
            return False
        # In session mode it has a server all the time.
        return self.server is None or not (self.server.ledger.count or self.server.open_unit)

    def hear(self, uint32_t question, lsn):
        """The answer to a question about its keys: what a node must have replayed for what others
        wrote under them, 0 for nothing; None: nobody can tell."""
        if self.hearing != ASKS or self.question != question:
            return
        self.hearing = HAS_HEARD
        self.heard_lsn = UNHEARD if lsn is None else lsn
        if self.parked:
            line_leave(self)
            self.relay.now_s = monotonic_s()
            self.relay._dispatch(self, 0)

    @property
    def is_waiting(self):
        """In line for a server connection."""
        return self.waiting

    @property
    def has_server(self):
        """A server connection is linked to it."""
        return self.server is not None

    @property
    def server_pid(self):
        """Process id of the server connection it has, 0 without one."""
        return 0 if self.server is None else self.server.pid

    @property
    def is_pinned(self):
        """It keeps its server connection for what it left in the session."""
        return self.server is not None and self.server.pinned

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
                c.line.received += n
                continue
        else:
            n = link_recv(c, relay.scratch, READ_BYTES)
            if n > 0:
                relay.received += n
                c.line.received += n
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


cdef inline bint client_must_wait(Client c) noexcept:
    """For a server, for a slow peer, or for replies."""
    cdef Server s = c.server
    if c.waiting or c.awaits_listener or c.unsent.end > c.unsent.start:
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
        relay.at = p + pos
        relay.left = n - pos
        if c.on_replica and client_awaits_turn(c, kind):
            break
        if (kind == kinds.PARSE or kind == kinds.BIND and c.runs_commands) \
                and (not c.skipping or c.lost is not None) and not c.seen_bytes \
                and (c.line.mode != SESSION_MODE or c.aborted):
            k = client_answers_unit(c, p + pos, n - pos)
            if k > 0:
                client_forgets_seen(c)
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
            done = (client_drop(c, k, size) if c.lost is None
                    else client_answers_loss(c, kind, k, size))
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
        client_forgets_seen(c)
        pos += k
    relay.left = 0
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


cdef inline int client_attach(Client c) except -1:
    """Make sure it has a server connection, in the client's settings and transaction.

    Result: TAKEN; STOPPED when it has to wait or was refused its turn.
    """
    return TAKEN if c.server is not None else client_gets_server(c)


cdef int client_gets_server(Client c) except -1:
    """As client_attach, for one that has none."""
    cdef Server s
    cdef double waited_s = 0.0
    if c.line.router is not None:
        if client_routes(c) == STOPPED:
            return STOPPED
    elif c.aim is not c.line:
        # Nothing is routed any more.
        client_aims_home(c)
    s = line_take(c.aim, c)
    if s is None:
        if c.line.router is not None:
            c.wished_bytes = c.relay.wished_bytes
            client_swaps_wish(c)
        line_join(c)
        return STOPPED
    if c.waits_since_s:
        waited_s = c.relay.now_s - c.waits_since_s
        c.line.waited_s += waited_s
        c.began_s = c.waits_since_s
        c.waits_since_s = 0.0
        c.opening_s = 0.0
        if s.opens_from_s:
            c.opening_s = min(waited_s, max(0.0, c.relay.now_s - s.opens_from_s))
            s.opens_from_s = 0.0
    observe(c.relay.waits, waited_s)
    c.waited_s = waited_s
    server_forgets_notes(s)
    c.line.assignments += 1
    c.server = s
    s.client = c
    s.replied = False
    s.open_unit = False
    s.keys = None
    c.bound = None
    if c.line.router is not None:
        client_routed(c, s)
    s.notifier = 0
    if s.settings is not c.settings:
        client_bring_settings(c, s, True)
    if s.misread:
        s.misread = False
        server_inject(s, b'DISCARD PLANS', 0)
    if s.keeper is not c and (s.keeper is not None or c.line.tells_sequences):
        server_forgets_sequences(s)
    if s.pool.reset == RESETS_ALWAYS:
        s.dirt |= SESSION_TOUCHED
    if c.begin is not None:
        server_inject(s, c.begin, TO_BEGIN)
        c.begin = None
    return TAKEN


cdef int client_says_other(Client c, char kind, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Close, Flush, COPY data, function calls, the end; and what must not be said."""
    cdef Server s = c.server
    cdef uint16_t effect = 0
    if kind == kinds.CLOSE:
        return client_says_close(c, p, have, size)
    if kind == kinds.FLUSH:
        if have < size:
            return STARVED
        if s is None:
            return client_drop(c, have, size)
        if s.open_unit and s.retain == RETAIN_YES:
            octets_append(&s.unit, p, size)
        c.has_flushed = True
        if ledger_is_all(&s.ledger, FORGE):
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
        if have < size and have < 9:
            return STARVED
        if c.lost is not None or c.aborted or c.refusal is not None:
            return client_answers_loss(c, kind, have, size)
        if client_attach(c) == STOPPED:
            return STOPPED
        s = c.server
        c.dirty = True
        if c.line.mode != SESSION_MODE and not is_of_large_objects(p, have):
            # Nothing tells what it does; what it may set is named in its arguments, if anywhere.
            effect = ALL_LEFT
            server_adds_touched(s, c.relay.control.settings_of_words(
                p[5:size] if have == size and size <= MOST_RETAINED_BYTES else b'', None))
        ledger_push(&s.ledger, kind, FORWARD, effect)
        s.retain = RETAIN_OVER
        if not c.began_s:
            c.began_s = c.relay.now_s
        return client_pass(c, p, have, size)
    if kind == kinds.TERMINATE:
        client_gone(c, '', True)
        return STOPPED
    return client_violates(c, 'message type')


cdef bint is_of_large_objects(const char *p, Py_ssize_t have) noexcept:
    """Is this FunctionCall one of those that drivers make, for large objects? They leave nothing.

    lo_open, lo_close, loread, lowrite, lo_lseek, lo_creat, lo_create, lo_tell, lo_truncate,
    lo_unlink, and those of 64 bits. Source: PostgreSQL, src/include/catalog/pg_proc.dat.
    """
    cdef int32_t oid
    if have < 9:
        return False
    oid = int32_at(p + 5)
    return (952 <= oid <= 958 or oid == 964 or oid == 715 or oid == 1004 or 3170 <= oid <= 3172)


cdef int client_check_time(Client c, double now_s) except -1:
    """End what has lasted longer than its line allows."""
    cdef Line line = c.line
    cdef Server s = c.server
    if c.stage != RELAYING or c.waiting:
        return 0
    if line.transaction_timeout_s and client_transacts_s(c, now_s) > line.transaction_timeout_s:
        return client_refuse_fatally(c, '25P04', 'transaction timeout')
    if s is not None and s.ledger.count:
        if c.began_s and not c.overdue and (
                line.query_timeout_s and now_s - c.began_s > line.query_timeout_s
                or c.limit_s and now_s - c.began_s > c.limit_s):
            # The server's own error, 57014, tells the client.
            c.overdue = True
            c.overdue_s = now_s
            c.cancel()
        elif c.overdue and now_s - c.overdue_s > CANCEL_GRACE_S:
            # It does not hear of that: it waits for the rest of a message or of a COPY, or for its
            # rows to be read.
            client_refuse_fatally(c, '57014', 'query timeout')
    elif s is not None and c.status != 73 or c.begin is not None:
        if line.idle_transaction_timeout_s and now_s - c.ready_s > line.idle_transaction_timeout_s:
            client_refuse_fatally(c, '25P03', 'idle transaction timeout')
    elif c.held.end == c.held.start or c.starved:
        # A part of a message is no request yet.
        if line.client_idle_timeout_s and now_s - c.ready_s > line.client_idle_timeout_s:
            client_refuse_fatally(c, '57P05', 'client idle timeout')
    return 0


cdef double client_transacts_s(Client c, double now_s) noexcept:
    """How long its transaction has lasted: a block as seen from tick to tick, a single statement
    since it came; 0 when there is none."""
    if c.status != 73:
        if not c.transaction_s:
            c.transaction_s = now_s
        return now_s - c.transaction_s
    if c.server is not None and c.server.ledger.count and c.began_s:
        return now_s - c.began_s
    return 0.0


cdef int client_violates(Client c, str what) except -1:
    """It broke the protocol: told once, then closed."""
    count_violation(c.relay, 'client', what)
    client_refuse_fatally(c, '08P01', 'protocol violation: ' + what)
    return STOPPED


cdef bint client_is_free(Client c) noexcept:
    """Is it outside of a transaction, with nothing of a reply still to come?"""
    cdef Server s = c.server
    if c.status != 73 or c.begin is not None or c.skipping:
        return False
    return s is None or not (s.open_unit or s.passing or s.copying_in) and (
        s.ledger.count == 0 or s.asked is not None and s.ledger.count == 1)


cdef inline int client_tells_pending(Client c) except -1:
    """Into the sink what waited until it would be idle."""
    sink_write(&c.relay.to_client, c.pending, len(c.pending))
    c.pending = None
    return 0


cdef int client_refuse(Client c, str sqlstate, str text) except -1:
    """An ErrorResponse, into the sink."""
    cdef bytes error = messages.error_response(sqlstate, text)
    count_error(c.relay, c.line.database, sqlstate)
    return sink_write(&c.relay.to_client, error, len(error))


cdef int client_refuses_unit(Client c, str sqlstate, str text, Py_ssize_t have,
                             Py_ssize_t size) except -1:
    """An error of the extended protocol that no server raised: the rest of the unit is dropped.

    Where a server may have begun the unit or a transaction, that must fail with it, and in its
    turn: so the server is given something to refuse, and its words are replaced by ours.
    """
    count_error(c.relay, c.line.database, sqlstate)
    return client_refuses_unit_with(c, messages.error_response(sqlstate, text), have, size)


cdef int client_refuses_unit_with(Client c, bytes error, Py_ssize_t have, Py_ssize_t size) except -1:
    cdef Server s
    if c.server is None and c.begin is None:
        sink_write(&c.relay.to_client, error, len(error))
        c.skipping = True
        return client_drop(c, have, size)
    if client_attach(c) == STOPPED:
        return STOPPED
    s = c.server
    client_begin_unit(c, s, NULL, 0, 1, False)
    bind = message_head(kinds.BIND, len(REFUSED_BIND)) + REFUSED_BIND
    sink_write(&s.relay.to_server, bind, len(bind))
    ledger_push(&s.ledger, kinds.BIND, FORWARD, 0, None, error)
    return client_drop(c, have, size)


cdef int client_refuses_query_with(Client c, bytes error, Py_ssize_t have, Py_ssize_t size) except -1:
    """An error of the simple protocol that no server raised. A transaction must fail with it: so its
    server is given something to refuse, and its words are replaced by ours."""
    cdef Server s
    cdef bytes query
    if c.server is None and c.begin is None:
        sink_write(&c.relay.to_client, error, len(error))
        client_say_ready(c)
        return client_drop(c, have, size)
    if client_attach(c) == STOPPED:
        return STOPPED
    s = c.server
    query = query_message(REFUSED_TEXT)
    sink_write(&s.relay.to_server, query, len(query))
    ledger_push(&s.ledger, kinds.QUERY, FORWARD, 0, None, error)
    s.retain = RETAIN_OVER
    return client_drop(c, have, size)


cdef int client_refuse_fatally(Client c, str sqlstate, str text, str hint=None) except -1:
    """The last thing it hears."""
    cdef bytes error = messages.error_response(sqlstate, text, severity='FATAL', hint=hint)
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
    if c.pending is not None and c.status == 73:
        client_tells_pending(c)
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
    c.pending = None
    client_keeps_no_sequences(c)
    relay.clients.pop(c.pid, None)
    c.line.clients -= 1
    client_forgets(c)
    client_forgets_unnamed(c)
    if polite and c.ended and c.unsent.end == c.unsent.start:
        # It said Terminate and closed: nobody is there to be told of the end of TLS.
        link_close(c)
    else:
        link_finish(c)
    relay.control.client_gone(c, reason)
    if s is None or s.stage != RELAYING:
        return 0
    s.client = None
    if c.line.mode == SESSION_MODE or s.pinned:
        s.dirt |= SESSION_TOUCHED
        s.pinned = False
    if c.passing and not c.discarding or s.open_unit or s.copying_in:
        # The server waits for the rest of a message or unit that will never come.
        if s.ledger.count:
            s.cancels += 1
            relay.control.cancel(s)
        return server_close(s, b'its client left in the middle of a request')
    if s.ledger.count:
        s.orphaned = True
        s.keys = client_keys(c) if c.dirty else None
        if not polite and s.asked is None:
            server_cancel(s)
        # It may have stopped being read because the client was slow. What lies there is no news to
        # epoll, and a server that cannot send does not hear that it is cancelled.
        return relay_again(relay, s)
    return server_settle(s)
