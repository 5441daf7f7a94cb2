# What PostgreSQL says: framed, checked against the ledger, and passed on to whoever asked.

cdef enum Injected:
    # Why a swallowed Query was sent; stands in Reply.effect.
    TO_CHECK = 8
    TO_SET = 16
    TO_BEGIN = 32
    TO_ROLL_BACK = 64
    TO_RESET = 128
    TO_READ = 144
    TO_TELL = 160
    # One of these may fail: then it is not there.
    TO_CARRY = 176
    TO_FORGET = 192
    # One step of a switch by prepared statements; TO_SET is its last.
    TO_PREPARE = 208

cdef enum Resetting:
    RESETS_SMARTLY = 0
    RESETS_ALWAYS = 1
    RESETS_NEVER = 2

cdef enum Retain:
    RETAIN_NO = 0
    RETAIN_YES = 1
    RETAIN_OVER = 2

cdef enum:
    # A frame up to this size is passed on whole, so that a server that dies in the middle of it
    # costs its client an error and not its connection; a longer one is passed on as it comes.
    WHOLE_BYTES = 8192
    # Messages we must read (errors, tags, parameters) are never longer than this from a sane server.
    MOST_READ_BYTES = 262144
    # An error quotes what a statement gave it, which may be long; so may a statement's parameters be
    # many: the extended protocol has 65,535, a Describe of more.
    MOST_QUOTED_BYTES = 8388608
    # The client's messages of one request that are kept for a second try.
    MOST_RETAINED_BYTES = 65536
    # Consecutive full reads from one link before the others get a turn.
    READS_A_TURN = 16

# Kept after a statement was refused because its plan is out of date: see server_settle.
cdef enum:
    STALE_PLANS = 64


@cython.final
cdef class Server(Link):
    """One connection to PostgreSQL. In the LOGIN stage a coroutine logs in; `enter` hands it over."""

    def enter(self, Pool pool not None, int pid, bytes secret not None, settings):
        """Logged in and idle: from now on it belongs to the pool.

        settings: interned Settings as the server reported them at login.
        """
        self.side = SERVER_SIDE
        self.stage = RELAYING
        self.pool = pool
        self.pid = pid
        self.secret = secret
        self.settings = self.defaults = settings
        self.status = b'I'
        self.prepared = {}
        self.idle_since_s = self.relay.now_s
        if not self.ages_from_s:
            self.ages_from_s = self.since_s
        pool.servers.add(self)
        if not pool.takes_writes:
            pool.opened_s = monotonic_s()
            pool.replayed = 0
        if pool.retired or self.ended:
            server_close(self, b'')
            return
        pool_give(pool, self)

    def cancel_done(self, bint ok):
        """A cancel request for this server has been delivered (or not: ok is False)."""
        self.cancels -= 1
        if self.stage != RELAYING:
            return
        if not ok:
            # It may still arrive, and would hit whoever is here by then.
            self.retiring = True
        server_settle(self)
        if self.client is not None:
            self.relay._dispatch(self.client, 0)

    def retire(self):
        """Close as soon as it is free."""
        self.retiring = True
        # Who is being asked whether it is there may never answer.
        if self.stage == RELAYING and (self.asked_s or self.client is None
                                       and not self.ledger.count and not self.orphaned
                                       and not self.cancels):
            server_close(self, b'')

    def lose(self, bytes reason not None):
        """Give it up as if the connection had broken; its client gets one error and keeps its own."""
        if self.stage == RELAYING:
            server_lost(self, reason)

    @property
    def is_idle(self):
        """In the pool, waiting for work."""
        return self.idling

    @property
    def is_active(self):
        """A client has it."""
        return self.client is not None

    @property
    def cancels_in_flight(self):
        """Cancel requests on their way to it: it is given to nobody meanwhile."""
        return self.cancels

    @property
    def prepared_count(self):
        """Prepared statements it holds for us."""
        return len(self.prepared)

    def __dealloc__(self):
        ledger_free(&self.ledger)
        free(self.unit.data)
        free(self.said.data)


cdef int server_read(Server s) except -1:
    """Read and pass on until the socket is empty, its client is slow, or its turn is over."""
    cdef Relay relay = s.relay
    cdef Py_ssize_t n, used
    cdef char *p
    cdef int turn = 0
    while s.readable and s.stage == RELAYING:
        if s.client is not None and s.client.unsent.end > s.client.unsent.start:
            return 0
        if turn == READS_A_TURN:
            return relay_again(relay, s)
        turn += 1
        if s.held.end > s.held.start:
            octets_reserve(&s.held, READ_BYTES)
            n = link_recv(s, s.held.data + s.held.end, READ_BYTES)
            if n > 0:
                s.held.end += n
            p = s.held.data + s.held.start
        else:
            n = link_recv(s, relay.scratch, READ_BYTES)
            p = relay.scratch
        if n == NOTHING:
            return 0
        if n <= 0:
            return server_lost(s, b'the server closed the connection unexpectedly')
        s.came += n
        if s.held.end > s.held.start:
            n = s.held.end - s.held.start
            used = server_process(s, p, n)
            if s.stage != RELAYING:
                return 0
            s.held.start += used
            if s.held.start >= s.held.end:
                s.held.start = s.held.end = 0
        else:
            used = server_process(s, p, n)
            if s.stage != RELAYING:
                return 0
            if used < n:
                octets_append(&s.held, p + used, n - used)
        server_settle(s)
    return 0


cdef Py_ssize_t server_process(Server s, char *p, Py_ssize_t n) except -1:
    """Check and pass on what was read. Result: bytes used; the rest is the start of a message."""
    cdef Relay relay = s.relay
    cdef Client c = s.client
    cdef Sink *out = &relay.to_client
    cdef Reply *head
    cdef Py_ssize_t pos = 0, size, k
    cdef char kind
    cdef bint forward
    while pos < n:
        if s.passing:
            k = min(s.passing, n - pos)
            if not s.discarding:
                sink_put(out, p + pos, k)
            s.passing -= k
            pos += k
            continue
        if n - pos < 5:
            break
        kind = p[pos]
        size = int32_at(p + pos + 1)
        if size < 4 or size > MAX_LARGE_BYTES:
            server_violates(s, 'message length')
            return pos
        size += 1
        if kind == kinds.DATA_ROW or kind == kinds.COPY_DATA:
            if s.ledger.count and n - pos < size and size <= WHOLE_BYTES:
                break
            head = ledger_head(&s.ledger)
            if s.ledger.count == 0 or not (
                    head.kind == kinds.EXECUTE or head.kind == kinds.QUERY
                    or head.action == FORGE):
                server_violates(s, 'a row that nobody asked for')
                return pos
            if head.action == FORGE:
                server_emit_forged(s, c)
                continue
            forward = c is not None and head.action == FORWARD
            k = min(size, n - pos)
            if forward:
                sink_put(out, p + pos, k)
                s.replied = True
            elif head.action == SWALLOW and head.effect == TO_READ:
                if k < size and size <= MOST_READ_BYTES:
                    break
                if k < size or len(s.answer) > MOST_SETTINGS_READ:
                    server_violates(s, 'settings beyond measure')
                    return pos
                s.answer.append(p[pos + 5:pos + size])
            s.passing = size - k
            s.discarding = not forward
            pos += k
            continue
        if s.ledger.count == 0 and not (
                kind == kinds.NOTICE_RESPONSE or kind == kinds.NOTIFICATION_RESPONSE
                or kind == kinds.PARAMETER_STATUS or kind == kinds.ERROR_RESPONSE
                or kind == kinds.READY_FOR_QUERY and s.doubtful_syncs):
            server_violates(s, 'a reply that nobody asked for')
            return pos
        if n - pos < size:
            k = MOST_READ_BYTES
            if kind == kinds.ERROR_RESPONSE or kind == kinds.PARAMETER_DESCRIPTION:
                k = MOST_QUOTED_BYTES
            if size <= k:
                break
            if not (kind == kinds.ROW_DESCRIPTION or kind == kinds.FUNCTION_CALL_RESPONSE
                    or kind == kinds.NOTICE_RESPONSE or kind == kinds.NOTIFICATION_RESPONSE):
                server_violates(s, 'an overlong message')
                return pos
        if not server_message(s, c, kind, p + pos, min(size, n - pos), size):
            return pos
        pos += min(size, n - pos)
        c = s.client
    if not sink_is_empty(out):
        client_flush(relay, c)
    return pos


cdef int client_flush(Relay relay, Client c) except -1:
    """Send the client what the sink holds."""
    cdef Sink *out = &relay.to_client
    if c is not None and c.server is not None:
        c.server.replied = True
        c.server.reached = True
    if c is not None and c.stage == RELAYING:
        if out.copying:
            relay.sent += out.copy.end
            c.line.sent += out.copy.end
            link_send(c, out.copy.data, out.copy.end)
        elif out.length:
            relay.sent += out.length
            c.line.sent += out.length
            link_send(c, out.piece, out.length)
    sink_reset(out)
    return 0


cdef inline int server_emit_forged(Server s, Client c) except -1:
    """Answer, in the server's stead, what stands at the head and was never asked of it."""
    if s.ledger.count and ledger_head(&s.ledger).action == FORGE:
        return server_forges(s, c)
    return 0


cdef int server_forges(Server s, Client c) except -1:
    cdef Reply *head
    while s.ledger.count:
        head = ledger_head(&s.ledger)
        if head.action != FORGE:
            return 0
        if head.kind == kinds.COPY_DONE:
            ledger_pop(&s.ledger)
            continue
        if c is not None and not (head.kind == kinds.PARSE and s.status == 69
                                  and not head.effect & LEAVES_ABORTED):
            # In an aborted transaction the server refuses what follows in its stead.
            sink_write(&s.relay.to_client, PARSE_COMPLETE if head.kind == kinds.PARSE else CLOSE_COMPLETE, 5)
        ledger_pop(&s.ledger)
    return 0


cdef bint is_expected(Reply *head, char kind) noexcept:
    """May this kind come next, for a reply of this kind?"""
    cdef char asked = head.kind
    if asked == kinds.QUERY:
        return (kind == kinds.ROW_DESCRIPTION or kind == kinds.COMMAND_COMPLETE
                or kind == kinds.EMPTY_QUERY_RESPONSE or kind == kinds.COPY_IN_RESPONSE
                or kind == kinds.COPY_OUT_RESPONSE or kind == kinds.COPY_BOTH_RESPONSE
                or kind == kinds.COPY_DONE or kind == kinds.READY_FOR_QUERY)
    if asked == kinds.EXECUTE:
        return (kind == kinds.COMMAND_COMPLETE or kind == kinds.EMPTY_QUERY_RESPONSE
                or kind == kinds.PORTAL_SUSPENDED or kind == kinds.COPY_IN_RESPONSE
                or kind == kinds.COPY_OUT_RESPONSE or kind == kinds.COPY_DONE)
    if asked == kinds.BIND:
        return kind == kinds.BIND_COMPLETE
    if asked == kinds.SYNC:
        return kind == kinds.READY_FOR_QUERY
    if asked == kinds.DESCRIBE:
        return (kind == kinds.ROW_DESCRIPTION or kind == kinds.NO_DATA
                or kind == kinds.PARAMETER_DESCRIPTION)
    if asked == kinds.PARSE:
        return kind == kinds.PARSE_COMPLETE
    if asked == kinds.CLOSE:
        return kind == kinds.CLOSE_COMPLETE
    if asked == kinds.FUNCTION_CALL:
        return kind == kinds.FUNCTION_CALL_RESPONSE or kind == kinds.READY_FOR_QUERY
    return False


cdef bint is_last_of(char asked, char kind) noexcept:
    """Does this message complete the reply (but for a Query's, which ReadyForQuery completes)?"""
    if asked == kinds.EXECUTE:
        return (kind == kinds.COMMAND_COMPLETE or kind == kinds.EMPTY_QUERY_RESPONSE
                or kind == kinds.PORTAL_SUSPENDED)
    if asked == kinds.DESCRIBE:
        return kind != kinds.PARAMETER_DESCRIPTION
    return asked == kinds.BIND or asked == kinds.PARSE or asked == kinds.CLOSE


cdef int server_message(Server s, Client c, char kind, char *p, Py_ssize_t have,
                        Py_ssize_t size) except -1:
    """One message that is no row. p: the whole frame, or its first `have` bytes of `size` when it
    is a long one that need not be read. Result: 0 when the connection is closed over it."""
    cdef Ledger *l = &s.ledger
    cdef Reply *head
    cdef uint16_t effect
    cdef bint forward
    # Asynchronous messages come at any time.
    if kind == kinds.NOTICE_RESPONSE or kind == kinds.NOTIFICATION_RESPONSE:
        forward = c is not None and (l.count == 0 or ledger_head(l).action != SWALLOW)
        if forward and kind == kinds.NOTIFICATION_RESPONSE and c.line.mode != SESSION_MODE:
            # The control plane listens in the client's stead; this is here as well.
            forward = have == size and s.relay.control.notified(c, s, p[5:size])
            if forward:
                put_int32(p + 5, <int32_t>c.pid)
        return server_pass(s, forward, p, have, size)
    if kind == kinds.PARAMETER_STATUS:
        return server_reports(s, c, p, have)
    if kind == kinds.ERROR_RESPONSE:
        return server_fails(s, c, p, have)
    if kind == kinds.BACKEND_KEY_DATA or kind == kinds.AUTHENTICATION:
        return server_violates(s, 'a login message after the login')
    server_emit_forged(s, c)
    if s.doubtful_syncs and server_resolves_doubt(s, c, kind):
        return s.stage == RELAYING
    if l.count == 0:
        return server_violates(s, 'a reply that nobody asked for')
    head = ledger_head(l)
    if not is_expected(head, kind):
        return server_violates(s, 'a reply to another request')
    if kind == kinds.READY_FOR_QUERY:
        return server_ready(s, c, p, size)
    # Of an empty query of ours that stands in for one answered here: the answer was given.
    forward = c is not None and head.action == FORWARD and not (
        kind == kinds.EMPTY_QUERY_RESPONSE and head.kind == kinds.QUERY and reply_is_ours(head))
    if head.action != SWALLOW and (head.kind == kinds.EXECUTE or head.kind == kinds.QUERY):
        # It has been run: not to be run again.
        s.replied = True
    if kind == kinds.COMMAND_COMPLETE:
        if have < 6 or p[have - 1] != 0:
            return server_violates(s, 'a malformed CommandComplete')
        effect = effect_of_tag(p + 5, have - 6)
        if head.action != SWALLOW:
            s.rows += rows_of_tag(p + 5, have - 6)
            s.dirt |= head.effect & ALL_LEFT
            if head.effect & (CALLS_SESSION_FUNCTION | USES_SEQUENCE) \
                    or p[5] == 73 and c is not None and c.line.tells_sequences:
                server_is_marked(s, c, head.effect)
            if s.pinned and (p[5] == 67 and p[6] == 76 or p[5] == 68 and (p[6] != 69 or p[7] == 65)):
                # CLOSE, DROP, DISCARD, DEALLOCATE: it may be pinned no longer.
                s.dirt |= MAY_PIN
        if head.action == SWALLOW:
            # What our own statements do is known.
            if head.kind == kinds.EXECUTE and head.effect == TO_SET:
                server_switched(s)
        elif effect and not (effect == SETTINGS_TOUCHED and head.effect & ENDS_WITH_TRANSACTION):
            if effect == SESSION_TOUCHED:
                # LOAD: nothing unloads it.
                s.retiring = True
                server_sticks(s, 'loaded library')
            else:
                s.dirt |= effect
            s.went_back = s.went_back or p[5] == 82 or head.effect & GOES_BACK
        elif p[5] == 68 and have >= 16:
            server_forgets(s, c, p + 5, have - 6)
        if p[5] == 67 and p[6] == 82 or p[5] == 65 and p[6] == 76 or p[5] == 68 and p[6] == 82 \
                or s.alters_within and p[5] == 68 and p[6] == 79:
            # CREATE, ALTER, DROP; DO.
            s.changed_schema = True
            # A table that has a default, a key or a partition now may stand for what that names.
            s.changed_code = (s.changed_code or s.names_suspects or s.alters_within
                              or head.effect & SETTINGS_TOUCHED or is_about_code(p + 5, have - 6))
            if head.effect & MAY_PIN:
                # A temporary table, as the text says.
                server_hides_tables(s)
            if not head.effect & MAY_PIN or head.effect & SETTINGS_TOUCHED:
                # Or it is only suspected of everything, while functions are read anew.
                s.relay.schema_age = object()
                s.outdates = True
        elif s.outdates and p[5] == 82:
            # ROLLBACK, to a savepoint perhaps.
            s.relay.schema_age = object()
        elif p[5] == 78 and c is not None:
            # NOTIFY
            s.notifier = c.pid
    elif kind == kinds.FUNCTION_CALL_RESPONSE:
        s.dirt |= head.effect & ALL_LEFT
    elif kind == kinds.COPY_IN_RESPONSE or kind == kinds.COPY_BOTH_RESPONSE:
        if c is None:
            # Nobody is left to send the data it waits for.
            server_close(s, b'its client left before its COPY')
            return 0
        s.copying_in = True
        server_ignores_syncs(s)
        head = ledger_head(l)
    if kind == kinds.PARAMETER_DESCRIPTION:
        if head.statement != NULL:
            server_sees_types(s, c, head, p[5:have])
        elif head.name != NULL and head.action == FORWARD:
            server_sees_own_types(c, head, p[5:have])
    if is_last_of(head.kind, kind):
        if head.kind == kinds.DESCRIBE:
            if head.statement != NULL:
                server_sees_columns(s, c, head, kind, p, have)
            elif head.name != NULL and type(<object>head.name) is Unnamed:
                server_sees_unnamed(s, head, kind, p, have)
            elif head.name != NULL:
                server_sees_named(s, c, head, kind, p, have)
        ledger_pop(l)
        if forward:
            server_pass(s, True, p, have, size)
            return server_emit_forged(s, c) == 0
        return server_pass(s, False, p, have, size)
    return server_pass(s, forward, p, have, size)


cdef inline int server_pass(Server s, bint forward, char *p, Py_ssize_t have,
                            Py_ssize_t size) except -1:
    if forward:
        sink_put(&s.relay.to_client, p, have)
    s.passing = size - have
    s.discarding = not forward
    return 1


cdef int server_ignores_syncs(Server s) except -1:
    """The server has begun to read COPY data: a Sync that is already on its way is ignored.

    Source: PostgreSQL documentation, "COPY Operations"; libpq sends one before it can know.
    """
    cdef Ledger *l = &s.ledger
    cdef Reply copy = ledger_head(l)[0]
    cdef Reply *following
    while l.count > 1:
        following = &l.replies[(l.head + 1) & (l.size - 1)]
        if following.kind == kinds.COPY_DONE:
            # The data have ended already, on the client's side.
            s.copying_in = False
            break
        if following.kind != kinds.SYNC:
            break
        # Take it out by moving the head behind it.
        following[0] = copy
        l.head = (l.head + 1) & (l.size - 1)
        l.count -= 1
        s.ignored_syncs += 1
        # Of a simple query, ReadyForQuery comes without another Sync.
        s.open_unit = copy.kind == kinds.EXECUTE
    return 0


cdef bint server_resolves_doubt(Server s, Client c, char kind) except -1:
    """A COPY failed after some of its data were sent. Whether the server had begun to read them,
    and with them passed over the Sync that came first, it does not say: that Sync may be answered
    or not. True: this message was the answer, and is dealt with.

    What it says next tells: no other reply begins with a ReadyForQuery. If nothing is asked of it,
    an empty query of ours is: see server_settle.
    """
    cdef Ledger *l = &s.ledger
    if l.count == 0:
        # The client's second Sync is still to come, so this answers the first.
        s.doubtful_syncs -= 1
        ledger_push(l, kinds.SYNC, FORWARD)
        s.open_unit = False
        if c is not None:
            c.skipping = False
        return False
    if not s.in_doubt:
        # The end of the unit that failed.
        return False
    if kind != kinds.READY_FOR_QUERY:
        s.in_doubt = False
        s.doubtful_syncs = 0
        return False
    if ledger_head(l).kind == kinds.SYNC:
        server_lost(s, b'a failed COPY left open which replies are owed')
        return True
    # The client has had an answer to its last Sync, and waits for no other.
    s.doubtful_syncs -= 1
    s.in_doubt = s.doubtful_syncs > 0
    return True


cdef int server_forgets(Server s, Client c, const char *tag, Py_ssize_t length) except -1:
    """DISCARD ALL and DEALLOCATE ALL end all prepared statements, ours on the server included."""
    if length == 10 and memcmp(tag, b'DEALLOCATE', 10) == 0:
        # By whatever name: if it was none of the client's, it was one of ours.
        s.dirt |= STATEMENTS_TOUCHED | STALE_PLANS
        return 0
    if not (length == 11 and memcmp(tag, b'DISCARD ALL', 11) == 0
            or length == 14 and memcmp(tag, b'DEALLOCATE ALL', 14) == 0):
        return 0
    server_unprepare(s)
    if c is not None:
        client_forgets(c)
        if length == 11:
            s.dirt |= SETTINGS_TOUCHED
            if c.listens:
                s.dirt |= LISTENING
            if s.sticky is not None:
                s.sticky = ('loaded library',) if 'loaded library' in s.sticky else None
                s.dirt |= MAY_PIN
        if c.prepared is not None:
            s.dirt |= STATEMENTS_TOUCHED
    return 0


cdef int server_unprepare(Server s) except -1:
    """Its prepared statements are gone."""
    for statement in s.prepared:
        statement_drop(s.relay, <Statement>statement)
    s.prepared.clear()
    s.latest = None
    return 0


cdef int server_reports(Server s, Client c, char *p, Py_ssize_t have) except -1:
    """ParameterStatus: what the server reports, the client believes from now on."""
    cdef Reply *head
    if s.ledger.count:
        head = ledger_head(&s.ledger)
        if head.action == SWALLOW:
            return 1    # the consequence of our own SET or RESET: known already
    try:
        name, value = messages.read_parameter_status(p[5:have])
    except PeerError:
        return server_violates(s, 'a malformed ParameterStatus')
    server_takes_settings(s, s.relay.control.settings_reported(s.settings, name, value))
    if c is None:
        # The server's configuration was reloaded.
        s.defaults = s.relay.control.settings_reported(s.defaults, name, value)
        return 1
    c.settings = s.relay.control.settings_reported(c.settings, name, value)
    return server_pass(s, True, p, have, have)


cdef int server_ready(Server s, Client c, char *p, Py_ssize_t size) except -1:
    """ReadyForQuery: a simple query, a function call or a unit of extended messages is done."""
    cdef Relay relay = s.relay
    cdef Ledger *l = &s.ledger
    cdef Reply head = ledger_head(l)[0]
    cdef Octets unit
    if size != 6 or not (p[5] == 73 or p[5] == 84 or p[5] == 69):
        return server_violates(s, 'a malformed ReadyForQuery')
    s.status = p[5]
    s.copying_in = s.fed = False
    s.ignored_syncs = 0
    ledger_pop(l)
    # A CopyDone that came between an error and this was passed over by the server.
    ledger_pass_marks(l)
    s.names_suspects = s.names_suspects and l.count > 0
    s.alters_within = s.alters_within and l.count > 0
    s.in_doubt = s.doubtful_syncs > 0
    if s.replanning:
        s.replanning = False
        return server_replan(s, c)
    if head.action == SWALLOW:
        server_injected_done(s, head.effect)
        if s.cancel_wanted and l.count and ledger_head(l).action != SWALLOW:
            server_cancel(s)
        return 1
    s.retain = RETAIN_NO
    s.committing = False
    if s.following is not None and l.count == 0:
        s.following = None
    s.cancel_wanted = False
    s.replied = False
    s.transactions += s.status == 73
    if s.status == 73 and l.count == 0:
        s.shift = None
    if s.status == 73:
        s.pool.transactions += 1
    if s.status == 73 and s.pool.horizon is not None and s.pool.takes_writes:
        server_committed(s, c)
    if s.status == 73 and s.outdates:
        # For others it is so now, or it never was.
        s.outdates = False
        relay.schema_age = object()
    if s.status == 73 and s.changed_schema:
        s.changed_schema = False
        if s.pool.takes_writes:
            relay.control.schema_changed(s.pool, s.changed_code)
        s.changed_code = False
    if c is None:
        return 1
    if not c.began_s:
        # Of several units that were sent together, each begins when the one before it has ended.
        c.began_s = c.ready_s
    if s.status == 73:
        c.line.transactions += 1
        c.line.transacted_s += relay.now_s - (c.opened_s if c.opened_s else c.began_s)
        c.transaction_s = c.opened_s = 0.0
    elif not c.opened_s:
        c.opened_s = c.began_s
    c.status = s.status
    c.retried = c.expelled = False
    c.limit_s = 0.0
    c.line.spent_s += relay.now_s - c.began_s
    observe((c.aim if c.aim.role == s.pool.role else c.line).durations, relay.now_s - c.began_s)
    server_told(s, c, relay.now_s - c.began_s)
    c.began_s = 0.0
    c.ready_s = relay.now_s
    c.overdue = False
    if c.pending is not None and s.status == 73:
        client_tells_pending(c)
    server_pass(s, True, p, size, size)
    s.replied = False
    if c.line.mode == STATEMENT_MODE and s.status != 73:
        client_flush(relay, c)
        client_refuse_fatally(c, '0A000', 'transaction blocks are not possible in statement pooling mode')
    return 1


cdef int server_committed(Server s, Client c) except -1:
    """A transaction on the primary is over; others may want to read what it wrote.

    Where nothing is routed by statement, it is not known whether it wrote.
    """
    if c is None or c.router is None or c.dirty:
        pool_written(s.pool, s.relay)
        if c is not None:
            client_written(c, s)
        elif s.keys is not None:
            horizon_writes(s.pool.horizon, s.keys, monotonic_s())
            if s.pool.horizon.is_shared:
                s.relay.control.keys_written(None, s.pool.horizon.cluster, s.keys)
    return 0


cdef int server_injected_done(Server s, uint16_t why) except -1:
    """A statement of our own succeeded."""
    if why == TO_BEGIN or why == TO_CARRY:
        s.prepared_s = s.relay.now_s
    if why == TO_SET:
        server_switched(s)
    elif why == TO_READ:
        server_told_session(s, s.client)
    elif why == TO_RESET:
        server_takes_settings(s, s.defaults)
        s.dirt = 0
        s.resetting = s.carried = s.exposed = False
        s.sticky = s.lacking = s.changed = None
    elif why == TO_FORGET:
        s.settings = s.relay.control.settings_without_statements(s.settings)
        s.dirt = 0
        s.resetting = s.exposed = False
        s.lacking = s.changed = None
    elif why == TO_CHECK:
        s.asked_s = 0.0
        s.pool.checking -= 1
    return 0


cdef int server_switched(Server s) except -1:
    """It is in the settings that it was given."""
    s.prepared_s = s.relay.now_s
    s.settings = s.pending_settings
    s.pending_settings = None
    return 0


cdef int server_check(Server s) except -1:
    """Unused for long, it may be gone without a word (a firewall forgets, a machine is switched
    off): it must answer before anybody's statement is sent to it."""
    s.asked_s = s.opens_from_s = s.relay.now_s
    s.pool.checking += 1
    server_inject(s, s.pool.check_query, TO_CHECK)
    return server_flush(s)


cdef int server_fails(Server s, Client c, char *p, Py_ssize_t have) except -1:
    """ErrorResponse: for a request of the client's, for one of ours, or the server's last words."""
    cdef Ledger *l = &s.ledger
    cdef Reply *head
    cdef dict fields = messages.read_fields(p[5:have])
    cdef bytes body
    if fields.get('V', fields.get('S')) in ('FATAL', 'PANIC'):
        # The connection ends with it, whether or not the server closes it. The client is told in
        # an error that leaves it its own, unless what it sent is the cause: a Query in the middle
        # of a COPY, say, after which PostgreSQL does not know where the next message begins.
        if c is not None and fields.get('C') == '08P01':
            client_refuse_fatally(c, '08P01', fields.get('M', ''))
        server_lost(s, fields.get('M', '').encode('utf-8', 'surrogateescape'))
        return 0
    if l.count == 0:
        return server_violates(s, 'an error that nobody caused')
    if s.in_doubt:
        server_resolves_doubt(s, c, kinds.ERROR_RESPONSE)
    if server_may_rerun(s, c) and ledger_head(l).action != SWALLOW \
            and is_about_recovery(fields, c.by_verdict) and not is_about_plans(fields):
        client_reruns(c, s)
        c = None
    if not s.replied and server_may_replan(s, c, fields):
        s.replanning = True
        # Nothing of it has been sent on: what was collected for that is dropped.
        sink_reset(&s.relay.to_client)
        server_skip_to_sync(s, c)
        if s.open_unit:
            # The client has flushed and not synced: the server needs a Sync to go on.
            server_syncs(s)
            s.open_unit = False
            server_flush(s)
        return 1
    server_emit_forged(s, c)
    if l.count == 0:
        return server_violates(s, 'an error that nobody caused')
    head = ledger_head(l)
    if head.action == SWALLOW and head.effect == TO_CARRY:
        # What it speaks of is gone from the database, say. The client finds out if it asks for it.
        if head.kind != kinds.QUERY:
            server_skip_to_sync(s, c)
        return 1
    if head.action == SWALLOW and (head.kind == kinds.QUERY or head.effect == TO_PREPARE
                                   or head.effect == TO_SET):
        server_lost(s, b'the session could not be prepared: '
                    + fields.get('M', '').encode('utf-8', 'surrogateescape'))
        return 0
    if is_about_plans(fields):
        s.dirt |= STALE_PLANS
    elif is_about_types(fields):
        server_misses_type(s, head)
    if head.action == FORWARD:
        # A session's advisory lock that was taken before the error is held after it.
        s.dirt |= head.effect & MAY_PIN
    if c is not None and (head.kind == kinds.BIND or head.kind == kinds.QUERY) and reply_is_ours(head) \
            and len(<bytes>head.name):
        # It was given this to refuse: the reason is ours.
        body = <bytes>head.name
        sink_write(&s.relay.to_client, body, len(body))
        s.replied = True
    elif c is not None:
        s.failed = fields.get('C', 'XX000')
        count_error(s.relay, c.line.database, s.failed)
        body = p[5:have]
        if c.began_reading and s.failed == '25006' and 'H' not in fields:
            body = body[:len(body) - 1] + b'H' + FIRST_STATEMENT_HINT.encode() + b'\0\0'
        if len(body) + 5 > have or STATEMENT_PREFIX in body or DISGUISED_PREFIX in body:
            body = client_names_in(c, body)
            have = len(body) + 5
            sink_write(&s.relay.to_client, message_head(kinds.ERROR_RESPONSE, len(body)), 5)
            sink_write(&s.relay.to_client, body, len(body))
            s.replied = True
        else:
            server_pass(s, True, p, have, have)
    s.copying_in = False
    if head.kind == kinds.QUERY:
        s.doubtful_syncs = s.ignored_syncs
    elif head.kind != kinds.FUNCTION_CALL:
        server_skip_to_sync(s, c)
        if s.fed:
            s.doubtful_syncs = s.ignored_syncs
        elif s.ignored_syncs and l.count == 0:
            # It failed before it read any data, so it has not read those either: they count.
            while s.ignored_syncs:
                s.ignored_syncs -= 1
                ledger_push(l, kinds.SYNC, FORWARD)
            s.open_unit = False
        if l.count == 0 and c is not None:
            # Its Sync has not come yet: until then the server ignores everything, so drop it here.
            c.skipping = True
            s.open_unit = True
    return 1


cdef int server_skip_to_sync(Server s, Client c) except -1:
    """After an error the server ignores all up to Sync: forget what those messages had begun."""
    cdef Ledger *l = &s.ledger
    cdef Reply *head
    cdef Statement statement
    cdef Prepared prepared
    cdef object name
    # The first message that is ignored about a statement tells whether the server has it still, and
    # the first about a name whether the client has that.
    cdef set met = set(), named = set()
    # The first is what failed: if that is a Parse, the unnamed statement was given up before.
    cdef bint has_failed = False, replaces = False
    cdef Unnamed kept = None
    while l.count:
        head = ledger_head(l)
        if head.kind == kinds.SYNC:
            break
        statement = <Statement>head.statement if head.statement != NULL else None
        name = <object>head.name if head.name != NULL else None
        if reply_replaces_unnamed(head):
            if not replaces and has_failed:
                kept = <Unnamed>name
            replaces = True
            s.unnamed = None
            name = None
        elif head.kind == kinds.PARSE and statement is None and name is None:
            # It was ours, and so is the failure: the client's is what it was.
            s.unnamed = None
        has_failed = True
        if head.kind == kinds.PARSE:
            if statement is not None and statement not in met:
                met.add(statement)
                if s.prepared.pop(statement, None) is not None:
                    if s.latest is statement:
                        s.latest = None
                    statement_drop(s.relay, statement)
            if name is not None and head.action == SWALLOW:
                # The client has it: only this server could not be given it.
                s.lacking = s.lacking or set()
                s.lacking.add(name)
            elif name is not None and c is not None and name not in named:
                named.add(name)
                client_forgets_one(c, <bytes>name)
        elif head.kind == kinds.CLOSE and name is not None:
            # A Close that did not happen: the client has the name still.
            if c is not None and name not in named:
                named.add(name)
                client_forgets_one(c, <bytes>name)
                if c.statements is None:
                    c.statements = {}
                c.statements[name] = statement
                statement_use(statement)
        elif head.kind == kinds.CLOSE and statement is not None:
            # We did not take it from the server, which has it still, as old as it was.
            if statement not in met:
                met.add(statement)
                if statement not in s.prepared:
                    statement_use(statement)
                prepared = Prepared.__new__(Prepared)
                s.prepared[statement] = prepared
        ledger_pop(l)
    if replaces and c is not None:
        client_keeps_unnamed(c, l, kept)
    return 0
