# What a client calls its statements, and how an error of the server is told in its words.

cdef int client_names(Client c, bytes name, bytes key) except -1:
    """Remember what the client calls this statement."""
    cdef Statement statement
    if not name:
        client_forgets_unnamed(c)
        c.unnamed = unnamed_of(key)
        c.unnamed.command = command_of(key, strlen(key))
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
    c.unnamed = unnamed_of(key)
    c.unnamed.command = statement.command
    c.unnamed.effect = statement.effect
    c.unnamed.statement = statement
    return statement


cdef inline Statement client_shared_unnamed(Client c):
    """The shared statement that its unnamed one is, or None."""
    return None if c.unnamed is None else c.unnamed.statement


cdef int client_forgets_unnamed(Client c) except -1:
    cdef Unnamed unnamed = c.unnamed
    if unnamed is None:
        return 0
    c.unnamed = None
    if unnamed.statement is not None:
        # Should this be undone, it is known again.
        unnamed.shape = 0 if c.shapes is None else c.shapes.get(b'', 0)
        unnamed.types = client_types_of(c, unnamed.statement, b'')
        client_unlearns(c, b'')
        client_keeps_alias(c, unnamed.statement, b'')
        statement_drop(c.relay, unnamed.statement)
    return 0


cdef int client_keeps_unnamed(Client c, Ledger *l, Unnamed kept) except -1:
    """What was to do away with an unnamed statement is ignored, as something before it has failed: it
    is there still. kept: None when there was none.

    What comes behind the next Sync may have been sent already, and is not ignored.
    """
    cdef Reply *r
    cdef int i
    for i in range(l.count):
        r = &l.replies[(l.head + i) & (l.size - 1)]
        if reply_replaces_unnamed(r):
            Py_XDECREF(r.name)
            r.name = NULL
            if kept is not None:
                r.name = <PyObject *>kept
                Py_INCREF(kept)
            return 0
        if r.kind == kinds.QUERY and r.action == FORWARD:
            # That leaves none, whatever was there.
            return 0
    client_forgets_unnamed(c)
    c.unnamed = kept
    if kept is not None and kept.statement is not None:
        statement_use(kept.statement)
        if kept.shape:
            if c.shapes is None:
                c.shapes = {}
            c.shapes[b''] = kept.shape
        client_learns_types(c, b'', kept.statement, kept.types)
    return 0


cdef int client_forgets_name(Client c, bytes name) except -1:
    """This name is free again, or the unnamed statement gone."""
    return client_forgets_one(c, name) if name else client_forgets_unnamed(c)


cdef int client_forgets_one(Client c, bytes name) except -1:
    """This name is free again."""
    cdef Statement statement
    client_unlearns(c, name)
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
        c.statements = c.shapes = c.types = None
    return 0


cdef bytes client_names_in(Client c, bytes body):
    """An error text with the client's own name for a statement in place of the server's."""
    cdef bytes name
    cdef Statement statement
    cdef Statement shared = client_shared_unnamed(c)
    if shared is not None:
        body = body.replace(b'"' + shared.name + b'"', b'""')
    body = body.replace(b'"' + DISGUISED_PREFIX, b'"' + STATEMENT_PREFIX)
    if c.statements is not None:
        for name, statement in c.statements.items():
            body = body.replace(b'"' + statement.name + b'"', b'"' + name + b'"')
    if c.server is not None and c.server.aliases is not None:
        for ours, name in c.server.aliases.items():
            body = body.replace(b'"' + ours + b'"', b'"' + name + b'"')
    return body
