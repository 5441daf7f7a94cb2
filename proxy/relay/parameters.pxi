# Of what types the parameters of a prepared statement are, and what its client has been told of that.
#
# PostgreSQL finds the types that a Parse leaves open once, then; whatever becomes of the tables
# later, that statement's stay as they are, and values are converted. A client that was told of them
# sends its values so. Another server, or the same one later, may find others in the same text, and
# would read the same bytes as something else. So a Parse that goes ahead of what a client binds names
# all types, as they are to that client.
#
# Nearly always that is what was found first, for anybody (Statement.types), and nothing is kept.

# Where PostgreSQL looks for how values of a type are read.
cdef frozenset TYPE_LOOKUPS = frozenset({'getTypeInputInfo', 'getTypeBinaryInputInfo'})


cdef inline bytes client_types_of(Client c, Statement statement, bytes name):
    """What the parameters are to a client, which calls the statement so: ParameterDescription's body.
    None: it was told of none."""
    return statement.types if c.types is None else c.types.get(name, statement.types)


cdef int server_sees_types(Server s, Client c, Reply *head, bytes types) except -1:
    """A statement has been described: ParameterDescription."""
    cdef Statement statement = <Statement>head.statement
    cdef Prepared prepared = <Prepared>s.prepared.get(statement)
    if statement.types is None:
        statement.types = types
    elif statement.types == types:
        types = statement.types
    else:
        statement.varied = True
    if prepared is not None:
        prepared.types = types
        if types is statement.types and prepared.schema_age is s.relay.schema_age:
            statement.types_age = prepared.schema_age
    if c is not None and head.name != NULL:
        client_learns_types(c, <bytes>head.name, statement, types)
    return 0


cdef int server_sees_own_types(Client c, Reply *head, bytes types) except -1:
    """As server_sees_types, of its client's unnamed statement, or what it has by the client's name."""
    cdef bytes name
    if type(<object>head.name) is Unnamed:
        (<Unnamed>head.name).types = types
        return 0
    name = <bytes>head.name
    if c is None or c.statements is None or name not in c.statements:
        return 0
    return client_learns_types(c, name, <Statement>c.statements[name], types)


cdef int client_learns_types(Client c, bytes name, Statement statement, bytes types) except -1:
    """What it calls so has parameters of these types from now on."""
    if not client_calls(c, name, statement):
        return 0
    if types is None or types == statement.types:
        c.types = without(c.types, name)
        return 0
    if c.types is None:
        c.types = {}
    c.types[name] = types
    return 0


cdef int client_was_told_no_types(Client c, bytes name) except -1:
    """What it calls so was parsed by its own name, and is found anew for it on the next server."""
    if c.types is None:
        c.types = {}
    c.types[name] = None
    return 0


cdef int server_fixes_types(Server s, Statement statement, bytes types) except -1:
    """It was sent a Parse that names these."""
    cdef Prepared prepared = <Prepared>s.prepared[statement]
    prepared.types = types
    if types is not statement.types or statement.types_age is not s.relay.schema_age:
        # A client that prepares the same leaves them open, and others may be found for it.
        prepared.schema_age = None
    return 0


cdef int server_fits(Server s, Statement statement, bytes types) except -1:
    """It is not to have the statement with parameters of other types than these, nor read otherwise
    than its client would."""
    cdef Prepared prepared
    if not (statement.varied or statement.quotes):
        return 0
    prepared = <Prepared>s.prepared.get(statement)
    if prepared is not None and (
            prepared.types is not None and types is not None and prepared.types != types
            or not server_reads_literals_alike(s, statement, prepared)):
        return server_drops(s, statement)
    return 0


cdef bint is_about_types(dict fields):
    """Is one of a statement's types gone? Another of the same name may be there."""
    return fields.get('C') == 'XX000' and fields.get('R') in TYPE_LOOKUPS


cdef int server_misses_type(Server s, Reply *head) except -1:
    """What has just failed names a type that is gone.

    The schema was changed past us, so what was found before means nothing now. Once: what fails again
    is of a client that has not prepared it since.
    """
    cdef Prepared prepared = None
    s.dirt |= STALE_PLANS
    if head.statement != NULL:
        prepared = <Prepared>s.prepared.get(<Statement>head.statement)
    if prepared is not None and prepared.schema_age is s.relay.schema_age:
        s.relay.schema_age = object()
    return 0
