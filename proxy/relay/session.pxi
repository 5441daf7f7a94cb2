# What a client leaves in a session: settings follow it from server to server, other things pin it.
#
# What a SET changed is not guessed: when a transaction that touched settings is over, the server is
# asked what they are now, and that is what the client has from then on. So ROLLBACK, savepoints and
# errors need no thought here. Until the answer is there the client stays with its server.
#
# RESET goes back to what the client came with, which to a server connection that it shares is a
# setting like any other: so within a transaction the server is asked at once, and given those.
#
# Temporary tables, session advisory locks and held cursors live in their session. Where a text may
# made some, the server is asked in the same way; while there are any, the client keeps it.
#
# Statements made by PREPARE are settings in this sense, too, if not PostgreSQL's: what a client has
# is part of what is compared and brought. A server knows those of the protocol by our names; where
# a text may speak of them, they are given the client's own for the rest of its transaction.

cdef enum:
    # More rows than that are no answer: PostgreSQL has some four hundred settings.
    MOST_SETTINGS_READ = 4096
    # So many switches are remembered: 90 settings and each other.
    MOST_SWITCHES = 8192

# So long a connection that is being opened is waited for, before one that is kept is given up.
cdef double LONG_WAIT_S = 0.5

# About in control.py.
cdef enum About:
    ABOUT_PINS = 1
    ABOUT_STATEMENTS = 2
    ABOUT_CHANNELS = 4


cdef int client_bring_settings(Client c, Server s, bint apart) except -1:
    """Give the server the client's settings, in front of its statement.

    apart: no transaction is open, and whatever comes next ends in a ReadyForQuery.
    """
    cdef Relay relay = c.relay
    cdef Switch switch
    cdef tuple carried = ()
    # By where they are: to ask them for their hashes would take Python longer than all the rest.
    cdef uint64_t pair = (
        <uint64_t><size_t><void *>s.settings * <uint64_t>0x9E3779B97F4A7C15
        ^ <uint64_t><size_t><void *>c.settings)
    switch = <Switch>relay.switches.get(pair)
    if switch is None or switch.have is not s.settings or switch.want is not c.settings:
        text, values, carried = relay.control.settings_switch(s.settings, c.settings)
        switch = switch_of(relay, text, values)
        switch.have = s.settings
        switch.want = c.settings
        if not carried:
            if len(relay.switches) >= MOST_SWITCHES:
                relay.switches.clear()
            relay.switches[pair] = switch
    if switch.text:
        s.pending_settings = c.settings
        if apart and switch.statement is not None and c.line.tracks_statements:
            server_switches(s, switch)
        else:
            server_inject(s, switch.text, TO_SET)
    else:
        s.settings = c.settings
    for each in carried:
        s.carried = True
        server_inject(s, each, TO_CARRY)
    return 0


# A switch as SQL is read anew each time, and has an answer of its own, which costs the server and us
# a message of the kernel's each. Three prepared statements have neither: a transaction that is begun
# and committed by Execute is over without a Sync, whatever comes then. An error in it would have the
# server pass over the client's statement, and ends the connection.

@cython.final
cdef class Switch:
    """How a server connection gets from one client's settings to another's."""


cdef Switch switch_of(Relay relay, bytes text, values):
    """The switch with this SQL; values: what each setting is set to, or None where it needs the SQL."""
    cdef Switch switch = Switch.__new__(Switch)
    switch.text = text
    if values:
        settings = b', '.join([
            b'pg_catalog.set_config($%d, $%d, false)' % (2 * i + 1, 2 * i + 2)
            for i in range(len(values))])
        switch_prepares(relay, switch, b'SELECT ' + settings, [each for pair in values for each in pair])
    return switch


cdef int switch_prepares(Relay relay, Switch switch, bytes sql, list values) except -1:
    """Let it be this statement with these values."""
    cdef list body = []
    # Without parameter types, as PostgreSQL finds them.
    switch.statement = statement_of(relay, sql + b'\0\0\0')
    if not switch.statement.uses:
        # Its name is written into messages that are kept.
        statement_use(switch.statement)
    for value in values:
        if value is None:
            body.append(NO_VALUE)
        else:
            octets = value.encode('utf-8', 'surrogateescape')
            body.append(len(octets).to_bytes(4, 'big') + octets)
    said = b'\0' + switch.statement.name + b'\0\0\0' + len(values).to_bytes(2, 'big') + b''.join(body) \
        + b'\0\0'
    switch.message = message_head(kinds.BIND, len(said)) + said + EXECUTE_MESSAGE
    return 0


cdef int server_switches(Server s, Switch switch) except -1:
    """A switch by prepared statements, into the sink."""
    cdef Relay relay = s.relay
    if relay.begins is None:
        relay.begins = Switch.__new__(Switch)
        switch_prepares(relay, relay.begins, b'BEGIN', [])
        relay.commits = Switch.__new__(Switch)
        switch_prepares(relay, relay.commits, b'COMMIT', [])
    server_executes(s, relay.begins, TO_PREPARE)
    server_executes(s, switch, TO_PREPARE)
    return server_executes(s, relay.commits, TO_SET)


cdef int server_executes(Server s, Switch part, uint16_t why) except -1:
    cdef bytes message
    if part.statement in s.prepared:
        server_renews(s, part.statement)
    else:
        server_keeps(s, part.statement)
        message = parse_message(part.statement.name, part.statement.key)
        sink_write(&s.relay.to_server, message, len(message))
        ledger_push(&s.ledger, kinds.PARSE, SWALLOW, TO_PREPARE, part.statement)
        s.relay.parses_injected += 1
    sink_write(&s.relay.to_server, part.message, len(part.message))
    ledger_push(&s.ledger, kinds.BIND, SWALLOW, TO_PREPARE)
    return ledger_push(&s.ledger, kinds.EXECUTE, SWALLOW, why)


cdef int client_exposes(Client c, Server s, uint16_t effect, const char *text, Py_ssize_t length,
                        bint within) except -1:
    """A text that may speak of prepared statements is about to be run: let the server have this
    client's, under the client's own names, and no others.

    within: in a unit of extended messages; else a Sync of ours ends what is said for this.
    """
    if s.exposed or s.status == 69 or not c.line.tracks_statements:
        return 0
    if not effect & SHOWS_STATEMENTS and not client_is_named_in(c, text, length):
        return 0
    for each in list(s.prepared):
        server_drops(s, <Statement>each)
    if c.statements is not None:
        for name in c.statements:
            client_gives_name(c, s, <bytes>name, within)
    if not within:
        server_syncs(s)
    s.exposed = True
    s.retain = RETAIN_OVER
    s.dirt |= STATEMENTS_TOUCHED | STALE_PLANS
    return 0


cdef int client_gives_name(Client c, Server s, bytes name, bint within) except -1:
    """Let the server have this statement of its client's under the client's own name."""
    cdef Statement statement = <Statement>c.statements[name]
    cdef bytes message = parse_message(name, statement.key, client_types_of(c, statement, name))
    sink_write(&s.relay.to_server, message, len(message))
    ledger_push(&s.ledger, kinds.PARSE, SWALLOW, 0 if within else TO_CARRY, None, name)
    if client_knows_columns(c, statement, name):
        message = describe_message(name)
        sink_write(&s.relay.to_server, message, len(message))
        ledger_push(&s.ledger, kinds.DESCRIBE, SWALLOW, 0 if within else TO_CARRY, None, name)
    # Should the unit fail before, the server has not read it, and the next unit is to give it again.
    c.unsettled = c.unsettled or within
    if not within and s.status == 73:
        # One that fails, as its table is gone, takes no other with it.
        server_syncs(s)
    return 0


cdef int client_needs_name(Client c, Server s, bytes name) except -1:
    """A statement is about to be used by the client's own name for it: where the server could not be
    given it before, what is wrong with it is now the client's to hear."""
    if s.lacking is not None and name in s.lacking:
        s.lacking.discard(name)
        client_gives_name(c, s, name, True)
    return 0


cdef uint16_t client_speaks_of_statements(Client c, Server s, uint16_t effect, const char *text,
                                          Py_ssize_t length, bint within) except? 65535:
    """A text that may speak of prepared statements is about to be run. Result: its effect."""
    if effect & NAMES_STATEMENTS and (c.prepared_effect & SETTINGS_TOUCHED or s.touched is not None):
        # The name of a setting may be a value that it executes with. It may have been prepared by
        # what was sent together with this, too.
        server_adds_touched(s, s.relay.control.settings_of_words(text[:length], None))
    if c.prepared_effect and effect & NAMES_STATEMENTS:
        # What it executes may do what the text does not say.
        effect |= c.prepared_effect
        if c.prepared_effect & SETTINGS_TOUCHED:
            for touched in c.prepared_touched:
                server_adds_touched(s, touched)
    client_exposes(c, s, effect, text, length, within)
    return effect


cdef bint client_is_named_in(Client c, const char *text, Py_ssize_t length) except -1:
    """Does one of its names for a statement occur in the text, in any case?"""
    cdef bytes lowered
    if c.statements is None:
        return False
    lowered = text[:length].lower()
    for name in c.statements:
        if (<bytes>name).lower() in lowered:
            return True
    return False


cdef uint16_t server_notes_settings(Server s, bytes text, bytes values) except? 65535:
    """A statement that may name settings is about to be sent. Result: what it does besides.

    text: None when it is not all here. values: the body of its Bind, or None.
    """
    touched, hides = s.relay.control.settings_touched(text, values)
    server_adds_touched(s, touched)
    # What cannot be asked for stays where it is.
    return CALLS_SESSION_FUNCTION | MAY_PIN if hides and s.client.line.mode != SESSION_MODE else 0


cdef int server_adds_touched(Server s, object touched) except -1:
    if s.shift is None and touched.may_shift:
        s.shift = object()
    if s.touched is None:
        s.touched = []
    if touched not in s.touched:
        s.touched.append(touched)
    return 0


cdef bint server_asks_session(Server s, Client c) except -1:
    """Ask what was left in the session, unless that is known already. True: wait for it."""
    cdef list touched = None
    if s.dirt & SETTINGS_TOUCHED:
        touched = s.touched or []
    text, s.asked = s.relay.control.session_question(
        s, c, touched,
        0 if s.status != 73
        else (ABOUT_PINS if s.dirt & MAY_PIN or s.pinned else 0)
        | (ABOUT_STATEMENTS if s.dirt & STATEMENTS_TOUCHED or s.pinned else 0)
        | (ABOUT_CHANNELS if s.dirt & LISTENING else 0))
    # What is gone back now is there again after a ROLLBACK: it must be asked for once more.
    if s.status == 73 or touched is None:
        s.touched = None
    else:
        s.touched = touched + [s.relay.control.settings_of(c.settings)]
    s.answer = []
    if not text:
        server_told_session(s, c)
        return False
    c.awaits_replies = True
    server_inject(s, text, TO_READ)
    server_flush(s)
    return True


cdef int server_told_session(Server s, Client c) except -1:
    """The answer is complete. c: None when it has left meanwhile; then all is reset."""
    cdef bytes reports, notice
    asked, answer = s.asked, s.answer
    s.asked = s.answer = None
    if c is None:
        return 0
    try:
        of_server, of_client, reports, pins, statements, channels = s.relay.control.session_answered(
            asked, answer)
    except PeerError:
        return server_violates(s, 'malformed settings')
    if of_server is not None:
        server_takes_settings(s, of_server)
        c.settings = of_client
        if reports:
            sink_write(&s.relay.to_client, reports, len(reports))
    if s.status == 73:
        if statements is not None:
            client_told_statements(c, s, statements[0], statements[1])
        if channels is not None:
            c.listens = bool(channels)
            s.carried = s.carried or c.listens
            s.relay.control.client_listens(c, channels)
        if pins is not None:
            if s.sticky is not None:
                pins += s.sticky
            if pins or s.pinned:
                notice = s.relay.control.client_pinned(c, s, pins, s.cause or b'')
                if notice:
                    sink_write(&s.relay.to_client, notice, len(notice))
            s.pinned = bool(pins)
        s.dirt &= ~LEFT_IN_SESSION
        if c.pending is not None:
            client_tells_pending(c)
    elif s.settings is not c.settings:
        client_bring_settings(c, s, False)
        server_flush(s)
    return 0


cdef int client_told_statements(Client c, Server s, dict prepared, frozenset others) except -1:
    """Which statements its session has: of PREPARE, their texts by name; and the names of others."""
    cdef frozenset before = c.prepared
    cdef bytes text
    cdef uint16_t effect
    c.prepared = frozenset(prepared) if prepared else None
    c.prepared_effect = 0
    c.prepared_touched = []
    for text in prepared.values():
        effect = effect_of(text, len(text))
        c.prepared_effect |= effect & (
            SETTINGS_TOUCHED | MAY_PIN | SHOWS_STATEMENTS | USES_SEQUENCE | TELLS_SEQUENCE)
        if effect & SETTINGS_TOUCHED:
            c.prepared_touched.append(s.relay.control.settings_of_words(text, None))
        if c.line.suspects is not None:
            effect = suspects_in(c.line.suspects, text, len(text), c.prepared_touched)
            c.prepared_effect |= effect
            if runs_what_is_given(effect):
                c.prepared_touched.append(s.relay.control.settings_of_words(text, None))
    if c.prepared_effect & TELLS_SEQUENCE:
        c.line.tells_sequences = True
    s.carried = s.carried or c.prepared is not None
    if s.exposed:
        for name in list(c.statements or ()):
            if name not in others and (s.lacking is None or name not in s.lacking):
                client_forgets_one(c, <bytes>name)
    else:
        if before != c.prepared:
            # What was deallocated was the client's.
            s.dirt &= ~STALE_PLANS
        for each in list(s.prepared):
            if (<Statement>each).name not in others:
                # A function has deallocated it.
                server_loses(s, <Statement>each)
    return 0


cdef inline bint client_needs_leave(Client c, uint16_t effect) noexcept:
    """Must the control plane be asked whether it may run a statement of this effect?"""
    return c.line.mode != SESSION_MODE and (
        effect & LISTENS or effect & (MAY_PIN | SETTINGS_TOUCHED) and c.line.refuses_pins)


cdef bytes client_asks_leave(Client c, uint16_t effect, bytes text):
    """May it run this? None: yes; b'': not yet, `go_on` will tell; else the ErrorResponse."""
    if text is None:
        return None
    leave = c.relay.control.may_run(
        c, text, effect & (MAY_PIN | SETTINGS_TOUCHED) != 0 and c.line.refuses_pins)
    if leave is not None and not leave:
        c.awaits_listener = True
    return leave


cdef bint client_calls_function(Client c, bytes text) except -1:
    """Does the text call what the configuration says changes the session?"""
    return text is not None and c.line.session_functions.search(text) is not None


cdef int server_is_marked(Server s, Client c, uint16_t effect) except -1:
    """A statement was run that leaves what cannot be asked for."""
    if effect & CALLS_SESSION_FUNCTION:
        server_sticks(s, 'session function')
    if c is not None and s.keeper is not c and (effect & USES_SEQUENCE or c.line.tells_sequences):
        client_keeps_no_sequences(c)
        if s.keeper is not None:
            client_keeps_no_sequences(s.keeper)
        s.keeper = c
        c.keeps = s
        c.line.keeps_sequences = True
    return 0


cdef int server_sticks(Server s, str reason) except -1:
    """It is pinned until the reason is gone, which it cannot be asked about."""
    s.dirt |= MAY_PIN
    if s.sticky is None:
        s.sticky = (reason,)
    elif reason not in s.sticky:
        s.sticky += (reason,)
    return 0


# currval() and lastval() live in the session, too, but hardly anybody who uses a sequence asks for
# them. So the client keeps its server connection as long as nobody else needs it, and no longer; and
# who gets one after somebody else has it forget them first, where anybody has ever asked for them
# (Line.tells_sequences): so they are an error then, and never another's value.

cdef bint server_is_kept(Server s) noexcept:
    """May its client keep it for its sequences?"""
    cdef Line line
    if s.retiring or s.pool.retired or s.pool.yields > 0 \
            or 0 <= s.pool.lifetime_s <= s.relay.now_s - s.ages_from_s:
        return False
    for line in s.pool.lines:
        if line_lacks(line, s.relay.now_s) > 0:
            return False
    return True


cdef int line_lacks(Line line, double now_s) noexcept:
    """How many wait for whom no connection is on its way.

    Who has waited for long trusts in none of those: it may be that none can be opened.
    """
    cdef Pool pool
    cdef int missing = line.waiting
    if line.first is not None and now_s - line.first.waits_since_s > LONG_WAIT_S:
        return missing
    for pool in line.pools:
        missing -= pool.connecting + pool.checking
    return missing


cdef int line_recalls(Line line, double now_s) except -1:
    """Somebody waits and no connection is on its way: what is kept for sequences is given back."""
    cdef Pool pool
    cdef Server s
    cdef int missing = line_lacks(line, now_s)
    for pool in line.pools:
        for each in pool.servers:
            s = <Server>each
            if missing > 0 and s.keeper is not None and s.client is s.keeper and not s.pinned \
                    and s.status == 73 and s.ledger.count == 0:
                missing -= 1
                relay_again(s.relay, s)
    return 0


cdef int client_keeps_no_sequences(Client c) except -1:
    if c.keeps is not None:
        c.keeps.keeper = None
        c.keeps = None
    return 0


cdef int server_forgets_sequences(Server s) except -1:
    """It is to tell its new client nothing of another's sequences."""
    if s.keeper is not None:
        client_keeps_no_sequences(s.keeper)
    return server_inject(s, b'DISCARD SEQUENCES', TO_CARRY)


cdef int client_explains_parse(Client c, bytes name, bytes key, Py_ssize_t have,
                               Py_ssize_t size) except -1:
    """EXPLAIN POOLING in the extended protocol: a statement that returns what is to be told."""
    cdef bytes text = key[:key.index(b'\0')]
    cdef bytes parsed = name + c.relay.control.explain_pooling(c, text) + key[len(text):]
    cdef int done
    parsed = message_head(kinds.PARSE, len(parsed)) + parsed
    # What it says next must not be gone when it is sent.
    if not c.relay.to_server.copying:
        sink_copy(&c.relay.to_server)
    done = client_says_parse(c, parsed, len(parsed), len(parsed))
    return client_drop(c, have, size) if done == TAKEN else done
