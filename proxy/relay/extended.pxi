# The extended protocol: Parse, Bind, Describe, Execute, Close, Sync, on whichever server it is.

cdef inline int client_begin_unit(Client c, Server s, char *p, Py_ssize_t have, Py_ssize_t size,
                                  bint worthwhile) except -1:
    """An extended message is about to go out: keep it if the unit may have to be sent again.

    worthwhile: it refers to a statement whose plan may be out of date.
    """
    if not s.open_unit:
        client_opens_unit(c, s, worthwhile)
    if s.retain == RETAIN_YES:
        if have < size or s.unit.end + size > MOST_RETAINED_BYTES:
            s.retain = RETAIN_OVER
        else:
            octets_append(&s.unit, p, size)
    return 0


cdef inline int client_opens_unit(Client c, Server s, bint worthwhile) noexcept:
    """Extended messages are about to go out, up to a Sync."""
    s.open_unit = True
    s.compared = False
    if not c.began_s:
        c.began_s = c.relay.now_s
    if ledger_is_all(&s.ledger, SWALLOW):
        s.unit.start = s.unit.end = 0
        s.replied = False
        s.retain = RETAIN_NO
        if (worthwhile or c.on_replica) and c.status == 73 and not c.retried:
            s.retain = RETAIN_YES
    else:
        s.retain = RETAIN_OVER
    return 0


cdef int client_says_parse(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Parse: a statement gets a name, or becomes the unnamed one."""
    cdef Server s
    cdef Statement statement
    cdef const char *nul = <const char *>memchr(p + 5, 0, have - 5)
    cdef char *tail
    cdef Py_ssize_t length
    cdef bytes name, key, leave
    cdef Unnamed before
    cdef Command command = PLAIN
    cdef uint16_t effect = 0
    cdef int done
    cdef bint seen = client_has_seen(c, p, have)
    cdef bytes refusal, types
    if nul == NULL:
        if have < size and have < MOST_NAME_BYTES:
            return STARVED
        return client_violates(c, 'a statement name without its terminator')
    tail = <char *>nul + 1
    length = p + size - tail
    if not seen and have == size and is_own_command(tail, length):
        done = client_parses_own(c, p[5:nul - p], tail, length, size)
        if done:
            return done
    if not seen and length > 16 and have > tail - p + 8 and may_explain_pooling(tail) \
            and length <= c.line.max_statement_bytes:
        if have < size:
            return STARVED
        if is_parse_tail(tail, length) and statements_effect_of(tail, strlen(tail)) & EXPLAINS:
            return client_explains_parse(c, p[5:nul - p + 1], tail[:length], have, size)
    if not c.line.tracks_statements:
        if c.lost is not None or c.aborted or c.refusal is not None:
            return client_answers_loss(c, kinds.PARSE, have, size)
        if have == size and is_parse_tail(tail, length):
            # Its Bind will not be looked at.
            effect = effect_of(tail, strlen(tail))
            if client_needs_leave(c, effect):
                leave = client_asks_leave(c, effect, tail[:length])
                if leave is not None:
                    return client_refuses_unit_with(c, leave, have, size) if leave else STOPPED
        done = client_passes_extended(c, kinds.PARSE, p, have, size)
        if done == TAKEN and c.speaks_of_own:
            client_forgets_name(c, p[5:nul - p])
        if done == TAKEN and nul == p + 5:
            # What is bound next is this, most likely; of what has a name nothing is known.
            server_notes(c.server, tail, strnlen(tail, p + have - tail), length - 3, None)
        return done
    if length > c.line.max_statement_bytes:
        return client_parses_unkept(c, nul == p + 5, p, have, size)
    if have < size:
        return STARVED
    if not seen and not is_parse_tail(tail, length):
        # PostgreSQL answers it better than we could: its text or its counts are malformed.
        return client_passes_extended(c, kinds.PARSE, p, have, size)
    if seen:
        effect = c.seen_effect
    else:
        command = command_of(tail, strlen(tail))
        effect = (effect_of(tail, strlen(tail)) if nul == p + 5
                  else sequences_effect_of(tail, strlen(tail)))
    if effect & TELLS_SEQUENCE:
        c.line.tells_sequences = True
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.PARSE, have, size)
    if c.line.router is not None and c.line.router.guards:
        refusal = client_meets_rules(c, tail, strlen(tail))
        if refusal is not None:
            return client_refuses_unit_with(c, refusal, have, size)
    if (command == BEGIN or command == START_TRANSACTION) and c.line.mode == STATEMENT_MODE:
        return client_refuses_unit(
            c, '0A000', 'transaction blocks are not possible in statement pooling mode', have, size)
    if client_attach(c) == STOPPED:
        client_remembers(c, p, have, command, effect)
        return STOPPED
    s = c.server
    key = tail[:length]
    if nul == p + 5 and (not c.line.share_unnamed or s.exposed
                         or effect & (NAMES_STATEMENTS | SHOWS_STATEMENTS)):
        client_begin_unit(c, s, p, have, size, False)
        client_parses_unnamed(c, s, key)
        c.unnamed.command = command
        if command != PLAIN:
            c.runs_commands = True
        c.unnamed.effect = effect
        c.relay.parses_sent += 1
        return client_pass(c, p, have, size)
    client_begin_unit(c, s, p, have, size, True)
    if nul == p + 5:
        before = c.unnamed
        statement = client_shares_unnamed(c, key)
        return client_prepares(c, s, statement, None, before)
    name = p[5:nul - p]
    if s.exposed:
        return client_parses_by_its_name(c, s, name, key, p, have, size)
    if c.statements is not None and name in c.statements:
        # The server says what is wrong with the text, or that the name exists already, and does
        # whatever else an error entails.
        statement = <Statement>c.statements[name]
        types = client_types_of(c, statement, name)
        server_fits(s, statement, types)
        client_ensures(s, statement, types)
        client_sends_parse(c, statement, key)
        ledger_push(&s.ledger, kinds.PARSE, FORWARD, 0, None, b'')
        return TAKEN
    if c.statements is not None and len(c.statements) >= c.line.max_client_statements:
        return client_refuses_unit(
            c, '54000', 'too many prepared statements (max_client_statements)', have, size)
    if c.prepared is not None and name in c.prepared or s.dirt & STATEMENTS_TOUCHED:
        return client_tries_name(c, s, name, key, p, have, size)
    client_refreshes(c, s, key)
    client_names(c, name, key)
    return client_prepares(c, s, <Statement>c.statements[name], name)


cdef inline bint may_explain_pooling(const char *text) noexcept:
    """Does the text begin like EXPLAIN, or with something in front of it?"""
    return is_space(text[0]) or (text[0] | 32) == 101 and (text[1] | 32) == 120 and (text[2] | 32) == 112


cdef int client_parses_by_its_name(Client c, Server s, bytes name, bytes key, char *p,
                                   Py_ssize_t have, Py_ssize_t size) except -1:
    """The server has this client's statements by the client's names: this one as well."""
    if c.statements is None or name not in c.statements:
        if c.statements is not None and len(c.statements) >= c.line.max_client_statements:
            return client_refuses_unit(
                c, '54000', 'too many prepared statements (max_client_statements)', have, size)
        client_names(c, name, key)
        client_was_told_no_types(c, name)
        c.unsettled = True
        server_compares_no_more(s, name)
    else:
        # The server says that it exists already.
        name = b''
    s.retain = RETAIN_OVER
    ledger_push(&s.ledger, kinds.PARSE, FORWARD, 0, None, name)
    return client_pass(c, p, have, size)


cdef int client_tries_name(Client c, Server s, bytes name, bytes key, char *p, Py_ssize_t have,
                           Py_ssize_t size) except -1:
    """PREPARE may have used this name: then the server refuses it. Else it is free again at once, and
    the statement has our name for whatever comes next."""
    cdef bytes message = close_message(name)
    client_names(c, name, key)
    client_was_told_no_types(c, name)
    server_has_as_of_now(s, <Statement>c.statements[name])
    c.unsettled = True
    s.retain = RETAIN_OVER
    ledger_push(&s.ledger, kinds.PARSE, FORWARD, 0, None, name)
    client_pass(c, p, have, size)
    sink_write(&c.relay.to_server, message, len(message))
    ledger_push(&s.ledger, kinds.CLOSE, SWALLOW)
    return TAKEN


cdef int client_refreshes(Client c, Server s, bytes key) except -1:
    """In a transaction a plan that is out of date could not be replaced unnoticed any more: so what
    this client prepares there is prepared anew, unless it may have portals of it."""
    cdef Statement statement = c.relay.statements.get(key)
    if c.status != 84 or statement is None or statement not in s.prepared:
        return 0
    if c.statements is not None and statement in c.statements.values():
        return 0
    return server_drops(s, statement)


cdef int client_prepares(Client c, Server s, Statement statement, bytes name,
                         Unnamed before=None) except -1:
    """The client wants this prepared: say it is when the server has it, else send the Parse.

    name: None for the unnamed statement, which takes the place of the one before it.
    """
    cdef object given = before if name is None else name
    # Then it was told of the columns in the first part of this unit, and knows them still.
    cdef bint goes_on = before is not None and before.is_split and before.statement is statement
    cdef bytes learner = None if goes_on else b'' if name is None else name
    cdef Prepared prepared
    c.unsettled = c.unsettled or name is not None or statement not in s.prepared
    c.line.parses += 1
    if statement.command != PLAIN:
        c.runs_commands = True
    if c.status == 69 and not statement.effect & LEAVES_ABORTED and statement in s.prepared:
        # The server refuses it, if the transaction is still aborted then.
        server_drops(s, statement)
    if goes_on:
        client_learns(c, b'', statement, before.shape or statement.shape)
        client_learns_types(c, b'', statement, before.types)
    prepared = server_has_as_of_now(s, statement)
    if prepared is not None:
        server_uses(s, statement)
        ledger_push(&s.ledger, kinds.PARSE, FORGE, statement.effect, None, given)
        c.relay.parses_forged += 1
        if not prepared.shape:
            server_describes(s, statement, learner)
        elif learner is not None and (name is not None or statement.varied):
            # It was not asked for now, and what the server has may be out of date.
            client_learns(c, learner, statement, 0)
            client_learns_types(c, learner, statement, prepared.types)
        return TAKEN
    server_keeps(s, statement)
    ledger_push(&s.ledger, kinds.PARSE, FORWARD, 0, statement, given)
    client_sends_parse(c, statement, statement.key)
    server_describes(s, statement, learner)
    c.relay.parses_sent += 1
    c.line.server_parses += 1
    return TAKEN


cdef Prepared server_has_as_of_now(Server s, Statement statement):
    """The statement as the server has it, if a Parse would find the same now; else it is to have it no
    longer, as types of parameters, and constants, are found once."""
    cdef Prepared prepared = <Prepared>s.prepared.get(statement)
    if prepared is None or prepared.schema_age is s.relay.schema_age \
            and server_would_read_alike(s, statement, prepared):
        return prepared
    server_drops(s, statement)
    return None


cdef int client_sends_parse(Client c, Statement statement, bytes key) except -1:
    """A Parse of this text and these types, under the statement's name on servers."""
    cdef bytes message = parse_message(statement.name, key)
    return sink_write(&c.relay.to_server, message, len(message))


cdef int client_ensures(Server s, Statement statement, bytes types, bint describes=True) except -1:
    """The statement is on the server, or its Parse goes ahead of what needs it.

    What is there already was asked whether it fits (`server_fits`). types: of its parameters, as they
    are to whoever needs it. describes: what comes next does not ask for its columns.
    """
    cdef bytes message
    if statement is s.latest:
        return 0
    if statement in s.prepared:
        return server_uses(s, statement)
    server_keeps(s, statement)
    if types is not None:
        server_fixes_types(s, statement, types)
    message = parse_message(statement.name, statement.key, types)
    sink_write(&s.relay.to_server, message, len(message))
    ledger_push(&s.ledger, kinds.PARSE, SWALLOW, 0, statement)
    # Should the unit fail before, the server has not read it, and the next unit is not to rely on it.
    s.client.unsettled = True
    if describes:
        server_describes(s, statement, None)
    s.relay.parses_injected += 1
    s.client.line.server_parses += 1
    return 0


cdef inline int server_uses(Server s, Statement statement) except -1:
    """Mark as used last."""
    if statement is not s.latest:
        s.latest = statement
        server_renews(s, statement)
    return 0


cdef inline int server_renews(Server s, Statement statement) except -1:
    """Of those that may be evicted it is the last. The order matters only once some may be."""
    if s.pool.max_prepared and 2 * PyDict_Size(s.prepared) > s.pool.max_prepared:
        s.prepared[statement] = s.prepared.pop(statement)
    return 0


cdef int server_keeps(Server s, Statement statement) except -1:
    """It will have this statement; the one that was used longest ago goes when there are too many."""
    cdef Statement oldest
    if s.pool.max_prepared and len(s.prepared) >= s.pool.max_prepared:
        oldest = <Statement>next(iter(s.prepared))
        server_drops(s, oldest)
        s.relay.evictions += 1
    s.prepared[statement] = prepared_now(s)
    statement_use(statement)
    s.latest = statement
    return 0


cdef int server_loses(Server s, Statement statement) except -1:
    """It does not have this statement any more."""
    del s.prepared[statement]
    if s.latest is statement:
        s.latest = None
    return statement_drop(s.relay, statement)


cdef int server_drops(Server s, Statement statement) except -1:
    """It is not to have this statement any more."""
    cdef bytes message = close_message(statement.name)
    sink_write(&s.relay.to_server, message, len(message))
    ledger_push(&s.ledger, kinds.CLOSE, SWALLOW, 0, statement)
    return server_loses(s, statement)


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
    client_parses_unnamed(c, s, None)
    client_notes_hint(c, p, have)
    return client_pass(c, p, have, size)


cdef int client_parses_unnamed(Client c, Server s, bytes key) except -1:
    """A Parse of an unnamed statement of its own is about to be sent."""
    cdef Unnamed before = c.unnamed
    cdef Unnamed unnamed = unnamed_of(key)
    ledger_push(&s.ledger, kinds.PARSE, FORWARD, 0, None, before)
    client_forgets_unnamed(c)
    unnamed.place = s.number
    c.unnamed = s.unnamed = unnamed
    s.unnamed_shape = 0
    if before is not None and before.is_split and key is not None and before.key == key:
        # It was told of the columns in the first part of this unit, and will not ask again: what
        # this server has is compared with that.
        unnamed.shape = before.shape
        s.unnamed = None
    return 0


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
        client_notes_hint(c, p, have)
    else:
        ledger_push(&s.ledger, kind, FORWARD)
        if kind == kinds.BIND:
            # What it runs is not known here.
            c.dirty = True
    return client_pass(c, p, have, size)


cdef int client_notes_hint(Client c, const char *p, Py_ssize_t have) except -1:
    """A Parse whose text is not kept: its Bind cannot tell which key its hint names."""
    cdef Wish w = c.relay.wish
    cdef const char *text = <const char *>memchr(p + 5, 0, have - 5)
    if text == NULL or c.router is None:
        return 0
    wish_begin(w)
    client_looks_for_key(c, w, text + 1, have - (text + 1 - p))
    c.said_keys = with_keys(c.said_keys, w.keys)
    return 0


cdef int client_says_bind(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Bind: a portal from a statement. The name in it becomes the one that servers know."""
    cdef Server s
    cdef Statement statement = None
    cdef const char *name = <const char *>memchr(p + 5, 0, have - 5)
    cdef const char *rest = NULL
    cdef char head[5]
    cdef Command command
    cdef bytes known, leave, stated
    cdef bytes types = None
    cdef uint16_t effect = 0
    cdef int done
    if name != NULL:
        name += 1
        rest = <const char *>memchr(name, 0, p + have - name)
    if rest == NULL:
        if have < size and have < MOST_NAME_BYTES:
            return STARVED
        return client_violates(c, 'a name without its terminator')
    rest += 1
    if c.speaks_of_own and have == size:
        done = client_binds_own(c, p, name, rest, size)
        if done:
            return done
    if not c.line.tracks_statements:
        if c.lost is not None or c.aborted or c.refusal is not None:
            return client_answers_loss(c, kinds.BIND, have, size)
        done = client_passes_extended(c, kinds.BIND, p, have, size)
        if done == TAKEN:
            server_notes(c.server, NULL, 0, 1, None)
        return done
    known = None
    if name[0] == 0:
        command = PLAIN
        if c.unnamed is not None:
            effect = c.unnamed.effect
            command = <Command>c.unnamed.command
            statement = c.unnamed.statement
            known = c.unnamed.key
    else:
        if c.statements is not None:
            statement = <Statement>c.statements.get(<bytes>name[:rest - name - 1])
        command = <Command>statement.command if statement is not None else PLAIN
    if statement is not None:
        effect = statement.effect
        known = statement.key
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.BIND, have, size)
    if c.line.router is not None and c.line.router.guards:
        stated = client_text_of(c, name)
        stated = None if stated is None else client_meets_rules(c, stated, strlen(stated))
        if stated is not None:
            return client_refuses_unit_with(c, stated, have, size)
    if c.began_reading and c.server is not None:
        stated = client_text_of(c, name)
        stated = None if stated is None else client_meets_replica(c, stated, strlen(stated), statement)
        if stated is not None:
            return client_refuses_unit_with(c, stated, have, size)
    if c.server is not None and c.router is not None and c.server.pool.takes_writes:
        client_notes_bind(c, name, statement)
    if c.line.session_functions is not None and client_calls_function(c, known):
        effect |= CALLS_SESSION_FUNCTION | MAY_PIN
    if not name[0] and c.unnamed is not None and known is None:
        # Its text was not kept.
        effect |= client_suspects_all(c)
    elif c.line.suspects is not None:
        effect |= client_suspects_bound(c, statement)
    else:
        c.suspicion = 0
        c.names_suspects = False
    if effect & TELLS_SEQUENCE:
        c.line.tells_sequences = True
    if client_needs_leave(c, effect):
        leave = client_asks_leave(c, effect, known)
        if leave is not None:
            return client_refuses_unit_with(c, leave, have, size) if leave else STOPPED
    if client_attach(c) == STOPPED:
        return STOPPED
    s = c.server
    if c.bound is not None:
        c.bound.pop(p[5:name - 1 - p], None)
    done = 0
    if statement is not None:
        types = statement.types if c.types is None else client_types_of(
            c, statement, name[:rest - name - 1])
    if statement is None:
        if not name[0] and (s.unnamed_shape or not server_has_unnamed(s, c.unnamed)):
            done = client_meets_unnamed(c, s, have, size)
    elif s.exposed and name[0]:
        done = client_meets_named(c, s, name[:rest - name - 1], have, size)
    else:
        server_fits(s, statement, types)
        if statement is not s.latest or statement.varied or c.shapes is not None:
            done = client_meets_columns(c, s, statement, name[:rest - name - 1], types, have, size)
    if done:
        return done
    c.bound_unnamed = statement is None and not name[0]
    c.bound_portal = None if p[5] == 0 else p[5:name - 1 - p]
    if command == DEALLOCATE or command == DISCARD:
        c.unsettled = True
    c.bound_effect = effect
    if c.bound_effect & (NAMES_SETTINGS | MAY_PIN):
        c.bound_text = known
        c.bound_values = p[5:size] if have == size and size <= MOST_RETAINED_BYTES else None
    c.bound_commit = command == COMMIT
    if known is not None:
        if is_notify(known, len(known)):
            s.notifier = c.pid
        s.alters_within = s.alters_within or alters_within(known, len(known))
        server_meets_setting(s, effect, known, len(known))
    server_notes(s, NULL, 0, 0, known)
    client_begin_unit(c, s, p, have, size, statement is not None)
    if effect & (NAMES_STATEMENTS | SHOWS_STATEMENTS):
        c.bound_effect |= client_runs_named(c, s, statement, effect)
    elif c.prepared_effect and statement is None and name[0]:
        c.bound_effect = client_speaks_of_statements(c, s, NAMES_STATEMENTS, NULL, 0, True)
    if s.exposed and statement is not None and name[0]:
        ledger_push(&s.ledger, kinds.BIND, FORWARD)
        return client_pass(c, p, have, size)
    if statement is None:
        if name[0] == 0:
            client_ensures_unnamed(c, s)
        elif strncmp(name, STATEMENT_PREFIX, len(STATEMENT_PREFIX)) == 0:
            # A name of ours that is not this client's: it must not exist for it.
            (<char *>name)[0] = 45
        ledger_push(&s.ledger, kinds.BIND, FORWARD)
        return client_pass(c, p, have, size)
    client_ensures(s, statement, types)
    ledger_push(&s.ledger, kinds.BIND, FORWARD, 0, statement)
    c.line.binds += 1
    known = statement.name
    head[0] = kinds.BIND
    put_int32(head + 1, <int32_t>(size - 1 - (rest - name - 1) + len(known)))
    sink_write(&c.relay.to_server, head, 5)
    sink_write(&c.relay.to_server, p + 5, name - (p + 5))
    sink_write(&c.relay.to_server, <char *>known, len(known))
    return client_pass(c, <char *>rest - 1, p + have - rest + 1, p + size - rest + 1)


cdef uint16_t client_runs_named(Client c, Server s, Statement statement, uint16_t effect) except? 65535:
    """A statement that may speak of prepared statements is bound or described."""
    cdef bytes key = (statement.key if statement is not None
                      else c.unnamed.key if c.unnamed is not None else None)
    if key is None:
        return effect
    return client_speaks_of_statements(c, s, effect, key, strlen(key), True)


cdef int client_notes_bind(Client c, const char *name, Statement statement) except -1:
    """A statement is about to be run by the primary: may it write?"""
    cdef bytes key = statement.key if statement is not None else client_text_of(c, name)
    if key is None:
        c.dirty = True
    elif client_takes_note(c, key, len(key)):
        client_notes_write(c, c.server, key, strlen(key), statement, True)
    return 0


cdef inline bint server_has_unnamed(Server s, Unnamed unnamed) noexcept:
    """Has it parsed this one, and nobody has since, there or elsewhere?"""
    return unnamed is not None and s.unnamed is unnamed and unnamed.place == s.number


cdef int client_ensures_unnamed(Client c, Server s) except -1:
    """The server's unnamed statement is this client's, or there is none."""
    cdef Unnamed unnamed = c.unnamed
    cdef bytes message
    if server_has_unnamed(s, unnamed):
        return 0
    s.unnamed = None
    if unnamed is None or unnamed.key is None:
        message = close_message(b'')
        sink_write(&s.relay.to_server, message, len(message))
        return ledger_push(&s.ledger, kinds.CLOSE, SWALLOW)
    message = parse_message(b'', unnamed.key, unnamed.types)
    sink_write(&s.relay.to_server, message, len(message))
    ledger_push(&s.ledger, kinds.PARSE, SWALLOW)
    s.unnamed = unnamed
    # What an earlier server has of it may return other columns.
    unnamed.place = s.number
    s.unnamed_shape = 0
    s.relay.parses_injected += 1
    return 0


cdef int client_says_execute(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Execute: run a portal."""
    cdef Server s
    cdef int done
    if have < size:
        return STARVED
    if c.own_portal is not None:
        done = client_executes_own(c, p, size)
        if done:
            return done
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.EXECUTE, have, size)
    if client_attach(c) == STOPPED:
        return STOPPED
    s = c.server
    client_begin_unit(c, s, p, have, size, False)
    if c.bound_effect & NAMES_SETTINGS:
        c.bound_effect |= server_notes_settings(s, c.bound_text, c.bound_values)
    s.names_suspects = s.names_suspects or c.names_suspects
    if c.suspicion & SETTINGS_TOUCHED:
        server_notes_suspects(s, c, c.bound_text, c.bound_values)
    if c.bound_effect & MAY_PIN:
        s.cause = c.bound_text
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
    if c.status == 73:
        c.own_portal = None
    if c.skipping and c.lost is not None:
        return client_answers_loss(c, kinds.SYNC, have, size)
    if s is None or (not s.open_unit and not s.ledger.count and not s.copying_in):
        c.skipping = False
        client_say_ready(c)
        return TAKEN
    c.skipping = False
    if s.retain == RETAIN_YES and s.open_unit:
        octets_append(&s.unit, p, size)
    if s.copying_in:
        s.ignored_syncs += 1
    else:
        ledger_push(&s.ledger, kinds.SYNC, FORWARD)
        s.open_unit = False
    return client_pass(c, p, have, size)


cdef int client_says_describe(Client c, char *p, Py_ssize_t have, Py_ssize_t size) except -1:
    """Describe: a statement's parameters and columns, or a portal's columns."""
    cdef Server s
    cdef int done
    cdef Statement statement = None
    cdef bytes name, types
    if have < size:
        return STARVED
    if size < 7 or p[size - 1] != 0:
        return client_violates(c, 'a malformed Describe')
    if c.speaks_of_own:
        done = client_describes_own(c, p, size)
        if done:
            return done
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.DESCRIBE, have, size)
    if p[5] != 83 or not c.line.tracks_statements:
        s = c.server
        told = None if s is None or c.bound is None else c.bound.pop(p[6:size - 1], None)
        if told is not None:
            client_begin_unit(c, s, p, have, size, True)
            ledger_push(&s.ledger, kinds.DESCRIBE, FORWARD, 0, told[0], told[1])
        elif s is not None and c.unnamed is not None and client_tells_of_unnamed(c, p + 6):
            client_begin_unit(c, s, p, have, size, False)
            ledger_push(&s.ledger, kinds.DESCRIBE, FORWARD, 0, None, c.unnamed)
        else:
            return client_passes_extended(c, kinds.DESCRIBE, p, have, size)
        return client_pass(c, p, have, size)
    if client_attach(c) == STOPPED:
        return STOPPED
    s = c.server
    name = p[6:size - 1]
    if not name:
        statement = client_shared_unnamed(c)
    elif c.statements is not None:
        statement = <Statement>c.statements.get(name)
    client_begin_unit(c, s, p, have, size, statement is not None)
    if statement is not None and statement.effect & NAMES_STATEMENTS:
        # What EXECUTE returns is what the statement does that it names.
        client_runs_named(c, s, statement, statement.effect)
    elif not name and c.unnamed is not None and c.unnamed.effect & NAMES_STATEMENTS:
        client_runs_named(c, s, None, c.unnamed.effect)
    if s.exposed and statement is not None and name:
        client_needs_name(c, s, name)
        ledger_push(&s.ledger, kinds.DESCRIBE, FORWARD, 0, None, name)
        return client_pass(c, p, have, size)
    if statement is None:
        if not name:
            client_ensures_unnamed(c, s)
        elif name.startswith(STATEMENT_PREFIX):
            p[6] = 45
        ledger_push(&s.ledger, kinds.DESCRIBE, FORWARD, 0, None, None if name else c.unnamed)
        return client_pass(c, p, have, size)
    types = client_types_of(c, statement, name)
    server_fits(s, statement, types)
    client_ensures(s, statement, types, False)
    ledger_push(&s.ledger, kinds.DESCRIBE, FORWARD, 0, statement, name)
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
    if c.speaks_of_own and p[5] == 83 and not c.line.tracks_statements:
        client_forgets_name(c, p[6:size - 1])
    if p[5] == 83 and c.line.tracks_statements:
        name = p[6:size - 1]
        shared = not name and client_shared_unnamed(c) is not None
        if s is not None and s.exposed and name and c.statements is not None and name in c.statements:
            client_begin_unit(c, s, p, have, size, False)
            s.retain = RETAIN_OVER
            c.unsettled = True
            ledger_push(&s.ledger, kinds.CLOSE, FORWARD, 0, c.statements[name], name)
            client_forgets_one(c, name)
            return client_pass(c, p, have, size)
        if c.prepared is not None and name in c.prepared:
            if c.lost is not None or c.aborted or c.refusal is not None:
                return client_answers_loss(c, kinds.CLOSE, have, size)
            if client_attach(c) == STOPPED:
                return STOPPED
            c.server.dirt |= STATEMENTS_TOUCHED
            return client_passes_extended(c, kinds.CLOSE, p, have, size)
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
            c.unsettled = True
            if shared:
                ledger_push(&s.ledger, kinds.CLOSE, FORGE, 0, None, c.unnamed)
                client_forgets_unnamed(c)
            else:
                ledger_push(&s.ledger, kinds.CLOSE, FORGE, 0, c.statements[name], name)
                client_forgets_one(c, name)
            return TAKEN
        if s is None:
            # Closing what does not exist is no error.
            if not name:
                client_forgets_unnamed(c)
            sink_put(&c.relay.to_client, CLOSE_COMPLETE, 5)
            return TAKEN
        if not name and c.lost is None and not c.aborted and c.refusal is None:
            client_begin_unit(c, s, p, have, size, False)
            # Running it again would not find it any more.
            s.retain = RETAIN_OVER
            c.unsettled = True
            ledger_push(&s.ledger, kinds.CLOSE, FORWARD, 0, None, c.unnamed)
            client_forgets_unnamed(c)
            s.unnamed = None
            return client_pass(c, p, have, size)
        if name.startswith(STATEMENT_PREFIX):
            p[6] = 45
    elif p[5] == 80 and s is None and c.line.mode != SESSION_MODE and c.begin is None \
            and c.lost is None and not c.aborted:
        # No transaction, so no portal.
        sink_put(&c.relay.to_client, CLOSE_COMPLETE, 5)
        return TAKEN
    if c.lost is not None or c.aborted or c.refusal is not None:
        return client_answers_loss(c, kinds.CLOSE, have, size)
    return client_passes_extended(c, kinds.CLOSE, p, have, size)
