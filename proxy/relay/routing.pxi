# Where a request goes: decided when a client without a server begins one, from what it says.
#
# The text's key finds a decision in a table; what is not there is asked of the control plane, once.
# A request of the extended protocol is a unit up to its Sync: it is looked at as a whole, and goes
# to a replica only if all of it reads. In doubt it is for the primary.
#
# On a replica a client has one request at a time, of which the messages are kept until something of
# the reply is sent on: as long as nothing was, it can be run again, by the primary.

cdef enum Reason:
    TO_READ_ONLY = 0
    TO_WRITE = 1
    IN_TRANSACTION = 2
    IN_READ_ONLY_TRANSACTION = 3
    BY_HINT = 4
    BY_SETTING = 5
    BY_RULE = 6
    NOT_FRESH = 7
    NO_REPLICA = 8
    UNFINISHED = 9
    SECOND_TRY = 10
    IN_SERIALIZABLE = 11
    NO_SPLIT = 12
    BY_FIRST_STATEMENT = 13
    REDIS_UNAVAILABLE = 14

REASONS = ('read', 'write', 'transaction', 'read_only_transaction', 'hint', 'setting', 'rule',
           'not_fresh', 'no_replica', 'unfinished', 'second_try', 'serializable', 'no_split',
           'first_statement', 'redis_unavailable')

cdef enum DecisionFlag:
    READS = 1
    # It only reads if what says neither READ ONLY nor READ WRITE, such as BEGIN, does.
    READS_BY_DEFAULT = 2
    # No read, and yet nothing that anybody could see afterwards: SET and its like.
    OF_THE_SESSION = 4

cdef enum Otherwise:
    TO_THE_PRIMARY = 0
    TO_NOBODY_YET = 1
    REFUSED = 2

cdef enum:
    # More of one request than that is not waited for, to be seen as a whole.
    MOST_AWAITED_BYTES = 65536
    # Keys and decisions that are remembered, and how long a key may be.
    MOST_DECISIONS = 10000
    MOST_DECISION_BYTES = 33554432
    MOST_KEY_BYTES = 8192
    DECISION_BYTES = 256
    # Texts of Parse that are known by themselves, and how long each may be.
    RECENT_TEXTS = 256
    MOST_RECENT_BYTES = 2048
    # Of a text that is not looked at as a whole, a hint stands within so much.
    MOST_HINTED_BYTES = 2048

# Who says where to, waits this long at least for a node that is fresh enough.
cdef double DIRECTED_WAIT_S = 1.0


@cython.final
cdef class Decision:
    """What is known of a text.

    reads_only: it may run on a replica. reads_by_default: so it may, if what begins in it without
    a word about writing does not write. of_the_session: it writes nothing that a later read could
    see. target: where a rule sends it. refusal: the ErrorResponse with which a rule rejects it.
    timeout_s: what a rule gives it. note: handed to the control plane each time it comes.
    """

    def __cinit__(self, *, bint reads_only=False, bint reads_by_default=False,
                 bint of_the_session=False, str target=None, bytes refusal=None, double timeout_s=0.0, note=None):
        self.flags = ((READS if reads_only else 0) | (READS_BY_DEFAULT if reads_by_default else 0)
                      | (OF_THE_SESSION if of_the_session else 0))
        self.target = target
        self.refusal = refusal
        self.timeout_s = timeout_s
        self.note = note


@cython.final
cdef class Decisions:
    """Decisions by key, bounded; the first to come is the first to go.

    owner: whatever the control plane keeps with it. by_text: keys are texts with their constants.
    """

    def __init__(self, owner, *, bint by_text=False):
        self.known = {}
        self.recent = [None] * RECENT_TEXTS
        self.owner = owner
        self.by_text = by_text

    def __len__(self):
        return len(self.known)


@cython.final
cdef class Recent:
    """A text without a hint, and what was decided on it."""


@cython.final
cdef class Router:
    """What decides for the clients of one line to whom the same rules apply.

    lines: by target; `primary` among them. The rest is set by whoever makes it.
    """

    def __init__(self, Decisions decisions not None, dict lines not None, Horizon horizon not None):
        self.decisions = decisions
        self.lines = lines
        self.replicas = lines.get('replica')
        self.horizon = horizon


@cython.final
cdef class Wish:
    """What the request at hand asks for."""


cdef int wish_begin(Wish w) except -1:
    w.reads = True
    w.writes = False
    w.contradicts = False
    w.begins = False
    w.reason = TO_WRITE
    w.target = None
    w.keys = None
    w.statements = 0
    w.is_half = False
    return 0


cdef Router client_router(Client c):
    """Who decides for it; asked for anew when its settings are others."""
    cdef Router r = c.router
    if r is None or r.is_stale or c.settings is not c.routed_settings:
        (r, c.lex_options, c.reads_by_default, c.is_serializable, c.usual_route, c.usual_key) = (
            c.relay.control.routing_of(c))
        c.router = r
        c.routed_settings = c.settings
        c.wished_bytes = 0
    return r


cdef inline object client_route(Client c):
    return c.usual_route if c.route is None else c.route


cdef inline object client_key(Client c):
    return c.usual_key if c.consistency_key is None else c.consistency_key


cdef Decision client_decides(Client c, Router r, const char *text, Py_ssize_t length):
    """What is known of a text. The relay's `scan` has its hint then."""
    cdef Relay relay = c.relay
    cdef Scan *found = &relay.scan
    cdef Decisions all = r.decisions
    cdef bytes key
    scan(text, length, c.lex_options, found)
    if all.by_text or found.trouble != NO_TROUBLE:
        # No key begins with a space.
        key = b' ' + text[:length]
    else:
        key = found.key[:found.length]
    known = all.known.get(key)
    if known is not None:
        return <Decision>known
    return client_asks(c, r, text[:length], key)


cdef Decision client_recalls(Client c, Router r, const char *text, Py_ssize_t length):
    """As client_decides, of a text that begins with no comment and that drivers parse again and again.

    Values are not part of it, so the same bytes come back, which are compared faster than read.
    """
    cdef Decisions all = r.decisions
    cdef Recent recent
    cdef uint64_t number
    if length > MOST_RECENT_BYTES:
        return client_decides(c, r, text, length)
    number = shape_with(FNV_BASIS, text, length)
    number = (number ^ number >> 32) % RECENT_TEXTS
    recent = <Recent>PyList_GET_ITEM(all.recent, number)
    if recent is None or len(recent.text) != length \
            or recent.lex_options != c.lex_options or memcmp(<char *>recent.text, text, length) != 0:
        recent = Recent.__new__(Recent)
        recent.decision = client_decides(c, r, text, length)
        recent.text = text[:length]
        recent.lex_options = c.lex_options
        all.recent[number] = recent
    return recent.decision


cdef Decision client_asks(Client c, Router r, bytes text, bytes key):
    """Ask the control plane, and remember what it says."""
    cdef Decisions all = r.decisions
    cdef Py_ssize_t cost = len(key) + DECISION_BYTES
    cdef Decision decision = c.relay.control.decide(r, text, c.lex_options)
    if len(key) > MOST_KEY_BYTES:
        return decision
    while all.known and (len(all.known) >= MOST_DECISIONS
                         or all.held_bytes + cost > MOST_DECISION_BYTES):
        oldest = next(iter(all.known))
        del all.known[oldest]
        all.held_bytes -= len(<bytes>oldest) + DECISION_BYTES
    all.known[key] = decision
    all.held_bytes += cost
    return decision


cdef inline bint is_commented(const char *text, Py_ssize_t length) noexcept:
    """Does it begin with what may be a hint?"""
    while length and is_space(text[0]):
        text += 1
        length -= 1
    return length > 1 and text[0] == 47 and text[1] == 42


cdef int wish_add(Wish w, Client c, Router r, const char *text, Py_ssize_t length,
                  Statement statement=None, bint is_parsed=False) except -1:
    """One more statement of the request.

    statement: the known one that this is the text of. is_parsed: the text came in a Parse.
    """
    cdef Scan *found = &c.relay.scan
    cdef Decision d
    cdef object target = None
    cdef uint8_t reason = TO_WRITE
    cdef bint commented = is_commented(text, length)
    w.statements += 1
    if not r.splits and not r.looks and not commented:
        w.reads = False
        w.writes = True
        target = r.session_target
    else:
        if statement is not None and not commented and not c.lex_options \
                and statement.decisions is r.decisions:
            d = statement.decision
        else:
            d = (client_recalls(c, r, text, length) if is_parsed and not commented
                 else client_decides(c, r, text, length))
            if statement is not None and not c.lex_options:
                statement.decision = d
                statement.decisions = r.decisions
        if not d.flags & READS:
            if d.flags & READS_BY_DEFAULT and (c.reads_by_default or client_may_begin_reading(c, r)):
                w.begins = True
            else:
                w.reads = False
        if not d.flags & (READS | OF_THE_SESSION):
            w.writes = True
        target = d.target
    if target is not None:
        reason = BY_RULE
    route = client_route(c)
    if route is not None:
        target = route
        reason = BY_SETTING
    if commented:
        wish_add_key(w, found)
        if found.target != NO_TARGET and c.begin is None:
            target = ('primary' if found.target == TO_PRIMARY else
                      'replica' if found.target == TO_REPLICA else
                      found.role[:found.role_length].decode('utf-8', 'replace'))
            reason = BY_HINT
    if w.statements == 1:
        w.target = target
        w.reason = reason
    elif target != w.target:
        w.contradicts = True
    return 0


cdef int wish_add_key(Wish w, Scan *found) except -1:
    """The consistency key that a hint names, where it does."""
    if found.consistency != NULL:
        key = found.consistency[:found.consistency_length].decode('utf-8', 'replace')
        w.keys = with_key(w.keys, key[:MOST_KEY_CHARS])
    return 0


cdef int client_looks_for_key(Client c, Wish w, const char *text, Py_ssize_t length) except -1:
    """The key that the hint in front of a text names, of which no more is looked at."""
    if is_commented(text, length):
        length = strnlen(text, min(length, MOST_HINTED_BYTES))
        scan(text, length, c.lex_options, &c.relay.scan)
        wish_add_key(w, &c.relay.scan)
    return 0


cdef inline bint client_may_begin_reading(Client c, Router r) noexcept:
    """May its transactions start on a replica for what their first statement does?

    What is bound later must be known then.
    """
    return r.begins_reading and c.line.tracks_statements


cdef int client_wishes(Client c, Router r, Wish w, char *p, Py_ssize_t n) except -1:
    """Look at the request that begins here. Result: TAKEN, or STARVED when more of it must be seen."""
    cdef Py_ssize_t size
    cdef bint looks_far = r.splits or r.looks
    if n < 5:
        return TAKEN
    if p[0] != kinds.QUERY:
        return client_wishes_unit(c, r, w, p, n, looks_far)
    size = int32_at(p + 1) + 1
    if n < size:
        if looks_far and size <= MOST_AWAITED_BYTES:
            return STARVED
        w.reads = False
        w.reason = UNFINISHED
        client_looks_for_key(c, w, p + 5, n - 5)
    elif size < 6 or p[size - 1] != 0:
        w.reads = False
    else:
        wish_add(w, c, r, p + 5, size - 6)
    return TAKEN


cdef int client_wishes_unit(Client c, Router r, Wish w, char *p, Py_ssize_t n,
                            bint looks_far) except -1:
    """As client_wishes, for the messages up to a Sync."""
    cdef Py_ssize_t pos = 0, size
    cdef char kind
    cdef set parsed = None
    cdef bint parsed_unnamed = False
    cdef bint is_run = False
    cdef const char *name
    cdef const char *text
    cdef const char *end
    cdef Statement statement
    cdef bytes key
    while True:
        if n - pos < 5:
            break
        kind = p[pos]
        if kind == kinds.SYNC:
            if not w.statements:
                w.reads = False
            return TAKEN
        size = int32_at(p + pos + 1) + 1
        if kind == kinds.FLUSH and w.statements and not is_run:
            # What it prepares can be run elsewhere as well: see client_regroups.
            w.is_half = True
            return TAKEN
        if size < 5 or size > MOST_AWAITED_BYTES or kind == kinds.FLUSH:
            w.reads = False
            w.reason = UNFINISHED
            return TAKEN
        if n - pos < size:
            break
        name = p + pos + 5
        end = p + pos + size
        if kind == kinds.PARSE:
            text = <const char *>memchr(name, 0, end - name)
            if text == NULL or not is_parse_tail(text + 1, end - text - 1):
                w.reads = False
                return TAKEN
            if text == name:
                parsed_unnamed = True
            else:
                if parsed is None:
                    parsed = set()
                parsed.add(<bytes>name[:text - name])
            text += 1
            wish_add(w, c, r, text, strlen(text), None, True)
        elif kind == kinds.BIND:
            is_run = True
            name = <const char *>memchr(name, 0, end - name)
            if name == NULL or memchr(name + 1, 0, end - name - 1) == NULL:
                w.reads = False
                return TAKEN
            name += 1
            if not (parsed_unnamed if name[0] == 0 else parsed is not None and <bytes>name in parsed):
                statement = None
                if name[0] == 0:
                    statement = client_shared_unnamed(c)
                elif c.statements is not None:
                    statement = <Statement>c.statements.get(<bytes>name)
                key = statement.key if statement is not None else client_text_of(c, name)
                if key is None:
                    w.reads = False
                    return TAKEN
                wish_add(w, c, r, key, strlen(key), statement, True)
        elif kind == kinds.EXECUTE:
            if not w.statements:
                w.reads = False
                return TAKEN
        elif kind != kinds.DESCRIBE and kind != kinds.CLOSE:
            w.reads = False
            return TAKEN
        if w.statements and (not looks_far or not w.reads and w.target is None):
            # Whatever follows, it is settled.
            return TAKEN
        pos += size
    if looks_far and n < MOST_AWAITED_BYTES:
        return STARVED
    w.reads = False
    w.reason = UNFINISHED
    return TAKEN


cdef int client_routes(Client c) except -1:
    """Decide where the request at hand goes: `aim` and `least_lsn`.

    Result: TAKEN; STOPPED when it waits for more of it, or for a replica to catch up.
    """
    cdef Relay relay = c.relay
    cdef Router r = client_router(c)
    cdef Wish w = relay.wish
    cdef object target
    cdef Line line
    cdef bint begun = c.begin is not None
    cdef uint8_t begins = TO_READ_ONLY
    cdef Decision d
    wish_begin(w)
    relay.wished_bytes = 0
    c.least_lsn = 0
    c.aim = c.line
    if c.line.held:
        # It waits there with all the others, and decides when they go on.
        return TAKEN
    if c.expelled:
        w.writes = True
        c.reason = SECOND_TRY
        return TAKEN
    if relay.left == 0:
        w.reads = False
    elif client_has_wished(c):
        client_swaps_wish(c)
        w = relay.wish
        relay.wished_bytes = relay.left
    elif client_wishes(c, r, w, <char *>relay.at, relay.left) == STARVED:
        c.starved = True
        return STOPPED
    else:
        relay.wished_bytes = relay.left
    target = w.target
    c.reason = w.reason
    if begun:
        # It is the transaction that goes somewhere. Only who sent it counts, not what begins it.
        client_looks_for_key(c, w, c.begin, len(c.begin))
        if client_route(c) is None:
            target = r.session_target
            c.reason = BY_RULE
        if target is None:
            c.reason = IN_TRANSACTION
            d = client_decides(c, r, c.begin, len(c.begin))
            begins = c.reason
            if d.flags & READS or d.flags & READS_BY_DEFAULT and c.reads_by_default:
                begins = IN_READ_ONLY_TRANSACTION
            elif d.flags & READS_BY_DEFAULT and client_may_begin_reading(c, r):
                begins = BY_FIRST_STATEMENT
    elif w.contradicts:
        target = None
        w.reads = False
        c.reason = UNFINISHED
    elif w.begins and not c.reads_by_default:
        begins = BY_FIRST_STATEMENT
    if target is None:
        if not r.splits:
            c.reason = NO_SPLIT
            return TAKEN
        if not w.reads or begins == IN_TRANSACTION:
            return TAKEN
        if c.is_serializable:
            c.reason = IN_SERIALIZABLE
            return TAKEN
        c.reason = begins
        line = r.replicas
    elif target == 'primary':
        return TAKEN
    else:
        line = <Line>r.lines.get(target)
    if line is None or not PyList_GET_SIZE(line.pools):
        return client_lacks_replica(c, r, line)
    return client_wants_fresh(c, r, w, line)


cdef int client_aims_home(Client c) except -1:
    """What it says goes where its line does, as with those to whom nothing of this applies."""
    c.aim = c.line
    c.least_lsn = 0
    c.router = None
    c.on_replica = c.is_half = c.expelled = c.began_reading = False
    return 0


cdef int client_lacks_replica(Client c, Router r, Line line) except -1:
    """No node serves the target."""
    if r.otherwise == TO_NOBODY_YET and line is not None:
        c.aim = line
    elif r.otherwise == REFUSED:
        c.refusal = messages.error_response(
            '08001', 'no replica is fit to serve this statement',
            hint='replicas.otherwise is refuse; the proxy shows what its nodes lack under SHOW NODES.')
        count_error(c.relay, c.line.database, '08001')
        return STOPPED
    else:
        c.reason = NO_REPLICA
    return TAKEN


cdef int client_wants_fresh(Client c, Router r, Wish w, Line line) except -1:
    """To a node of this line that has what its session wrote; else it waits, or to the primary."""
    cdef Pool pool
    cdef int fresh = 0, free = 0
    cdef int64_t least = client_least(c, r, w.keys)
    cdef double wait_s
    if c.hearing == HAS_HEARD:
        if c.heard_lsn == UNHEARD:
            c.reason = REDIS_UNAVAILABLE
            return TAKEN
        least = max(least, c.heard_lsn)
    if not least:
        c.aim = line
        return TAKEN
    for pool in line.pools:
        if pool.replayed >= least:
            fresh += 1
            free += pool.idle_count > 0
    if fresh == PyList_GET_SIZE(line.pools) or free:
        if client_must_ask(c, r, w):
            return client_asks_others(c, r, w, line)
        c.aim = line
        c.least_lsn = least
        return TAKEN
    wait_s = r.wait_s
    if c.reason != TO_READ_ONLY and c.reason != IN_READ_ONLY_TRANSACTION \
            and c.reason != BY_FIRST_STATEMENT:
        wait_s = max(wait_s, DIRECTED_WAIT_S)
    if not c.patience_s:
        c.patience_s = c.relay.now_s + wait_s
    if c.relay.now_s < c.patience_s:
        client_parks(c, line)
        return STOPPED
    c.reason = NOT_FRESH
    return TAKEN


cdef int client_parks(Client c, Line line) except -1:
    """It waits outside of the line that it wants to stand in, until it is looked at again."""
    c.aim = line
    c.waiting = c.parked = True
    if not c.waits_since_s:
        c.waits_since_s = c.relay.now_s
    c.relay.parked[c] = True
    return 0


cdef int client_routed(Client c, Server s) except -1:
    """It has a server for the request at hand."""
    cdef Wish w = c.relay.wish
    c.aim.routed[c.reason] += 1
    c.patience_s = 0.0
    c.hearing = HAS_NOT_ASKED
    c.said_keys = w.keys
    c.on_replica = not s.pool.takes_writes and c.begin is None and not c.expelled
    c.began_reading = c.reason == BY_FIRST_STATEMENT and not s.pool.takes_writes
    c.by_verdict = c.reason == TO_READ_ONLY or c.began_reading
    c.is_half = c.on_replica and w.is_half
    c.has_flushed = False
    # What was not all looked at may write.
    c.dirty = s.pool.takes_writes and (w.writes or c.reason == UNFINISHED or not w.statements)
    s.reached = False
    return 0


cdef bint client_takes_note(Client c, const char *text, Py_ssize_t length) noexcept:
    """Is there anything to find out of a statement that goes to a server it has already?"""
    return (c.router is not None and c.server.pool.takes_writes
            and (not c.dirty or is_commented(text, length)))


cdef int client_notes_write(Client c, Server s, const char *text, Py_ssize_t length,
                            Statement statement=None, bint is_parsed=False) except -1:
    """A statement goes to a primary that it has already: may it write, and under which keys?"""
    cdef Router r = client_router(c)
    cdef Wish w = c.relay.wish
    wish_begin(w)
    if c.dirty or not r.splits:
        client_looks_for_key(c, w, text, length)
        c.dirty = True
    else:
        wish_add(w, c, r, text, length, statement, is_parsed)
        c.dirty = w.writes
        if c.status == 73 and not s.ledger.count:
            c.said_keys = None
    c.said_keys = with_keys(c.said_keys, w.keys)
    return 0


cdef bint client_awaits_turn(Client c, char kind) except -1:
    """Is this the beginning of another request, while one runs on a replica?"""
    cdef Server s = c.server
    if s is not None and c.is_half and s.open_unit and not c.passing and not c.skipping \
            and c.has_flushed and kind != kinds.SYNC and kind != kinds.FLUSH \
            and kind != kinds.TERMINATE:
        return client_regroups(c, s)
    if s is None or s.ledger.count == 0 or s.open_unit or c.passing or kind == kinds.SYNC \
            or kind == kinds.FLUSH or kind == kinds.TERMINATE or kind == kinds.COPY_DATA \
            or kind == kinds.COPY_DONE or kind == kinds.COPY_FAIL:
        return False
    c.awaits_replies = True
    return True


cdef bint client_regroups(Client c, Server s) except -1:
    """A unit that was begun with Parse, Describe, Flush goes on, with what was not seen before.

    Where it may, it goes on as it is: the locks it holds keep the columns that it was told of. Else,
    as nothing has been run yet, it ends here as far as the replica is concerned, and what follows is
    routed for itself, up to its Sync. Result: True if it has to wait.
    """
    if s.ledger.count:
        c.awaits_replies = True
        return True
    c.is_half = False
    if client_stays(c, s):
        # What it has heard it must not hear again.
        s.retain = RETAIN_OVER
        return False
    if c.unnamed is not None:
        c.unnamed.is_split = True
    server_syncs(s)
    s.open_unit = False
    s.retain = RETAIN_NO
    server_flush(s)
    c.awaits_replies = True
    return True


cdef bint client_stays(Client c, Server s) except -1:
    """Would the request at hand go to a node like the one whose server connection it has?"""
    cdef Relay relay = c.relay
    cdef Router r
    cdef Wish w = relay.wish
    if c.line.router is None or c.line.held or c.aim.held or s.retiring or s.pool.retired:
        return False
    r = client_router(c)
    wish_begin(w)
    if client_wishes(c, r, w, <char *>relay.at, relay.left) != TAKEN or w.contradicts or w.is_half:
        return False
    if w.target is not None:
        if r.lines.get(w.target) is not c.aim:
            return False
        c.reason = w.reason
    elif w.reads and not w.begins and r.splits and not c.is_serializable and c.aim is r.replicas:
        c.reason = TO_READ_ONLY
    else:
        return False
    if s.pool not in c.aim.pools or s.pool.replayed < client_least(c, r, w.keys) \
            or client_must_ask(c, r, w):
        return False
    c.said_keys = w.keys
    c.aim.routed[c.reason] += 1
    return True


# --- rules that look at every statement ---

cdef bytes client_meets_rules(Client c, const char *text, Py_ssize_t length):
    """The ErrorResponse with which a rule rejects a statement, or None."""
    cdef Router r = client_router(c)
    cdef Decision d
    if not r.guards:
        return None
    d = client_decides(c, r, text, length)
    c.limit_s = d.timeout_s
    if c.limit_s:
        c.relay.has_limits = True
    if d.note is not None:
        c.relay.control.rule_met(c, d.note)
    if d.refusal is not None:
        count_error(c.relay, c.line.database, '42501')
    return d.refusal


# --- transactions that began with reads ---

# What PostgreSQL refuses for it, and what is refused before it gets there, ends with this.
cdef str FIRST_STATEMENT_HINT = (
    'The transaction runs on a replica because its first statement only reads, and '
    'read_transactions is first_statement. Begin one that is to write with READ WRITE.')


cdef bytes client_meets_replica(Client c, const char *text, Py_ssize_t length, Statement statement):
    """The ErrorResponse to what does not only read, in a transaction that began with reads; or None.

    Not all of that fails on a replica: a lock would be taken there, and keep nobody out.
    """
    cdef Router r = client_router(c)
    cdef Wish w = c.relay.wish
    if c.status != 84 or not r.splits:
        return None
    wish_begin(w)
    wish_add(w, c, r, text, length, statement)
    if w.reads or not w.writes:
        return None
    count_error(c.relay, c.line.database, '25006')
    return messages.error_response(
        '25006', 'cannot run this in a transaction that began with reads on a replica',
        detail=c.relay.control.why_no_read(c, text[:length]), hint=FIRST_STATEMENT_HINT)


# --- a second try ---

cdef bint server_may_rerun(Server s, Client c) noexcept:
    """May what runs on this replica be run again by another node, unnoticed?"""
    return (c is not None and c.on_replica and not s.pool.takes_writes
            and s.retain == RETAIN_YES and not s.reached
            and not c.retried and c.status == 73 and not c.passing
            and (not s.open_unit or c.is_half and c.has_flushed)
            and s.asked is None and s.unit.end > s.unit.start and not unit_parses_later(&s.unit))


cdef bint is_about_recovery(dict fields, bint by_verdict):
    """Is it the replica that cannot run this, where the primary could?

    40001 and 40P01 are raised on a replica only when recovery needs what a query holds. The others
    are what a replica says of what it cannot do: we took something for a read that is none.
    """
    sqlstate = fields.get('C')
    if sqlstate in ('40001', '40P01', '57P01', '57P03'):
        return True
    return by_verdict and sqlstate in ('25006', '55000', '0A000', 'XX000')


cdef int client_reruns(Client c, Server s) except -1:
    """Give the client's request back to it, as if it had come only now; the server is left.

    It goes on at its next turn, and to the primary.
    """
    sink_reset(&c.relay.to_client)
    client_takes_back(c, s)
    c.server = None
    s.client = None
    s.orphaned = True
    s.retain = RETAIN_NO
    c.retried = c.expelled = True
    c.on_replica = c.skipping = c.is_half = False
    c.waits_since_s = c.began_s
    c.relay.reruns += 1
    if s.open_unit:
        # The server ignores everything until a Sync.
        server_syncs(s)
        s.open_unit = False
        server_flush(s)
    return relay_again(c.relay, c)
