# What a prepared statement returns, and what its client has been told of that.
#
# A client that has been told the columns of a statement need not ask for them again, and reads the
# rows by what it remembers. PostgreSQL keeps that right for it: what would return others since the
# statement was prepared is refused. With one client's statement on many servers, prepared at many
# times, that is ours to do: each server says what its own returns, as it is prepared, and where that
# is not what the client knows, nothing is run. Schemas are changed behind our back, too, so this
# does not depend on having seen it.
#
# A client knows what the statement returned when it was prepared, or when it was described last.
# Nearly always that is what it returned first, to anybody (Statement.shape), and nothing is kept.

cdef enum:
    # The shape of what returns no rows.
    NO_COLUMNS = 1


@cython.final
cdef class Prepared:
    """A statement as one server has it."""


cdef Prepared prepared_now(Server s):
    """What is parsed there now."""
    cdef Prepared prepared = Prepared.__new__(Prepared)
    prepared.schema_age = s.relay.schema_age
    prepared.literals = server_reads_literals_by(s)
    prepared.path = server_looks_along(s)
    return prepared


cdef uint64_t shape_of(const char *p, Py_ssize_t n) noexcept nogil:
    """A number for the columns that a RowDescription tells of: their names, types and modifiers.

    That is what PostgreSQL compares, besides what follows from the types. p, n: the body, which came
    from a stranger.
    """
    cdef const char *end = p + n
    cdef const char *at = p + 2
    cdef const char *nul
    cdef uint64_t shape = FNV_BASIS
    while at < end:
        nul = <const char *>memchr(at, 0, end - at)
        if nul == NULL or end - nul < 19:
            break
        shape = shape_with(shape, at, nul - at + 1)
        # Behind the table (4) and the number in it (2): type, its length (2), modifier, format (2).
        shape = shape_with(shape, nul + 7, 4)
        shape = shape_with(shape, nul + 13, 4)
        at = nul + 19
    return shape if shape > NO_COLUMNS else NO_COLUMNS + 1


cdef inline uint64_t shape_with(uint64_t shape, const char *p, Py_ssize_t n) noexcept nogil:
    """The number with n bytes more, eight at a time, as this is done for most replies."""
    cdef uint64_t word
    while n > 0:
        word = 0
        memcpy(&word, p, min(n, 8))
        shape = (shape ^ word) * <uint64_t>1099511628211
        shape ^= shape >> 29
        p += 8
        n -= 8
    return shape


cdef int server_describes(Server s, Statement statement, bytes name) except -1:
    """Have the server say what a statement returns that was just prepared.

    name: of the client who has prepared it, which knows it by that; None when nobody has.
    """
    cdef bytes message = describe_message(statement.name)
    sink_write(&s.relay.to_server, message, len(message))
    return ledger_push(&s.ledger, kinds.DESCRIBE, SWALLOW, 0, statement, name)


cdef int server_sees_columns(Server s, Client c, Reply *head, char kind, const char *p,
                             Py_ssize_t have) except -1:
    """A statement has been described: RowDescription or NoData."""
    cdef Statement statement = <Statement>head.statement
    cdef Prepared prepared = <Prepared>s.prepared.get(statement)
    cdef uint64_t shape = NO_COLUMNS if kind == kinds.NO_DATA else shape_of(p + 5, have - 5)
    if not statement.shape:
        statement.shape = shape
    elif statement.shape != shape:
        statement.varied = True
    if prepared is not None:
        prepared.shape = shape
    if c is not None and head.name != NULL:
        client_learns(c, <bytes>head.name, statement, shape)
    return 0


cdef int server_sees_unnamed(Server s, Reply *head, char kind, const char *p,
                             Py_ssize_t have) except -1:
    """As server_sees_columns, of an unnamed statement of the client's own, or a portal of it."""
    cdef uint64_t shape = NO_COLUMNS if kind == kinds.NO_DATA else shape_of(p + 5, have - 5)
    cdef Unnamed unnamed = <Unnamed>head.name
    if head.action != SWALLOW:
        unnamed.shape = shape
    elif s.unnamed is unnamed:
        s.unnamed_shape = shape
    return 0


cdef int server_sees_named(Server s, Client c, Reply *head, char kind, const char *p,
                           Py_ssize_t have) except -1:
    """As server_sees_columns, of what it has by its client's own name."""
    cdef bytes name = <bytes>head.name
    cdef uint64_t shape = NO_COLUMNS if kind == kinds.NO_DATA else shape_of(p + 5, have - 5)
    cdef Statement statement
    if c is None or c.statements is None or name not in c.statements:
        return 0
    statement = <Statement>c.statements[name]
    if statement.shape != shape:
        statement.varied = True
    if head.action != SWALLOW:
        client_learns(c, name, statement, shape)
    elif shape != (statement.shape if c.shapes is None else c.shapes.get(name, statement.shape)):
        s.changed = s.changed or set()
        s.changed.add(name)
        return 0
    if s.changed is not None:
        s.changed.discard(name)
    return 0


cdef int client_learns(Client c, bytes name, Statement statement, uint64_t shape) except -1:
    """It knows from now on that what it calls so returns this; 0: it knows nothing."""
    if not client_calls(c, name, statement):
        return 0
    if shape == statement.shape:
        c.shapes = without(c.shapes, name)
        return 0
    if c.shapes is None:
        c.shapes = {}
    c.shapes[name] = shape
    return 0


cdef bint client_calls(Client c, bytes name, Statement statement) except -1:
    """Is this, still, what it calls so?"""
    return (client_shared_unnamed(c) if not name else None if c.statements is None
            else c.statements.get(name)) is statement


cdef inline int client_unlearns(Client c, bytes name) except -1:
    c.shapes = without(c.shapes, name)
    c.types = without(c.types, name)
    return 0


cdef inline dict without(dict known, bytes name):
    """What is left without this name, None if nothing is."""
    if known is not None:
        known.pop(name, None)
    return known if known else None


cdef int client_meets_columns(Client c, Server s, Statement statement, bytes name, bytes types,
                              Py_ssize_t have, Py_ssize_t size) except -1:
    """Does it bind what returns the columns that it knows, or asks for those there are?

    name, types: what the statement is called by it, and its parameters are to it.

    Result: 0 when it may go on. Else the Bind was refused, or waits for what the server says: it is
    not sent before, as whatever runs could not be undone then.
    """
    cdef Prepared prepared = <Prepared>s.prepared.get(statement)
    cdef uint64_t known = statement.shape
    cdef char described
    if not is_told(statement):
        return 0
    if c.shapes is not None:
        known = c.shapes.get(name, known)
    if known and prepared is not None and prepared.shape == known:
        return 0
    if not known:
        return client_may_learn(c, statement, name)
    if result_formats_of(c.relay.at, have) < 2:
        described = client_is_described(c, size)
        if described == 80:
            return client_may_learn(c, statement, name)
        if described:
            return 0
    if ledger_tells(&s.ledger, statement):
        return 0
    if prepared is not None and prepared.shape and s.open_unit and s.compared \
            and s.latest is statement:
        count_error(c.relay, c.line.database, '0A000')
        return client_refuses_unit_with(c, OTHER_COLUMNS, have, size)
    if not s.open_unit:
        client_opens_unit(c, s, True)
    if prepared is not None:
        # It may be the server that is behind.
        server_drops(s, statement)
    client_ensures(s, statement, types)
    sink_write(&s.relay.to_server, FLUSH_MESSAGE, 5)
    s.compared = True
    c.awaits_replies = True
    return STOPPED


cdef bint client_knows_columns(Client c, Statement statement, bytes name) except -1:
    """Was it told of columns by which it may read what a statement returns, that it calls so?"""
    return is_told(statement) and (c.shapes is None or c.shapes.get(name, statement.shape) != 0)


cdef inline bint is_told(Statement statement) noexcept:
    """Has anybody been told what it returns, unless that is no rows, which its text decides?"""
    return statement.shape != 0 and not (
        statement.shape == NO_COLUMNS and not statement.varied and decides_rows(statement.key))


cdef int client_meets_named(Client c, Server s, bytes name, Py_ssize_t have, Py_ssize_t size) except -1:
    """As client_meets_columns, of a server that has its client's statements by their own names."""
    if s.lacking is not None and name in s.lacking:
        if not s.open_unit:
            client_opens_unit(c, s, False)
        client_needs_name(c, s, name)
    if ledger_compares(&s.ledger, name) != NULL:
        if s.open_unit:
            sink_write(&s.relay.to_server, FLUSH_MESSAGE, 5)
        c.awaits_replies = True
        return STOPPED
    if s.changed is None or name not in s.changed \
            or result_formats_of(c.relay.at, have) < 2 and client_is_described(c, size) == 80:
        return 0
    count_error(c.relay, c.line.database, '0A000')
    return client_refuses_unit_with(c, OTHER_COLUMNS, have, size)


cdef int client_may_learn(Client c, Statement statement, bytes name) except -1:
    """It will know the columns of what it binds, if it asks for those of the portal."""
    if c.bound is None:
        c.bound = {}
    c.bound[<bytes>(c.relay.at + 5)] = (statement, name)
    return 0


cdef int client_meets_unnamed(Client c, Server s, Py_ssize_t have, Py_ssize_t size) except -1:
    """As client_meets_columns, of an unnamed statement of the client's own.

    As long as its server has it, as it was parsed last, PostgreSQL compares.
    """
    cdef Unnamed unnamed = c.unnamed
    if server_has_unnamed(s, unnamed):
        if s.unnamed_shape == unnamed.shape:
            return 0
        # Nor is what the server has to be run the next time.
        s.unnamed = None
        count_error(c.relay, c.line.database, '0A000')
        return client_refuses_unit_with(c, OTHER_COLUMNS, have, size)
    if unnamed is None or unnamed.key is None:
        return 0
    if not ledger_describes(&s.ledger, unnamed):
        if not unnamed.shape or unnamed.shape == NO_COLUMNS and decides_rows(unnamed.key):
            return 0
        if result_formats_of(c.relay.at, have) < 2 and client_is_described(c, size):
            return 0
        if not s.open_unit:
            client_opens_unit(c, s, False)
        client_ensures_unnamed(c, s)
        message = message_head(kinds.DESCRIBE, 2) + b'S\0'
        sink_write(&s.relay.to_server, message, len(message))
        ledger_push(&s.ledger, kinds.DESCRIBE, SWALLOW, 0, None, unnamed)
    sink_write(&s.relay.to_server, FLUSH_MESSAGE, 5)
    c.awaits_replies = True
    return STOPPED


cdef bint client_tells_of_unnamed(Client c, const char *portal) noexcept:
    """Is it to remember the columns of this portal as those of its unnamed statement?

    portal: its name. In doubt, which is of a portal that was not bound last, if it knows none: what
    is refused then without need is a statement that it neither describes nor parses again.
    """
    cdef bint is_last = (portal[0] == 0 if c.bound_portal is None
                         else strcmp(portal, c.bound_portal) == 0)
    return c.bound_unnamed if is_last else not c.unnamed.shape


cdef bint decides_rows(const char *text) noexcept nogil:
    """Does the text alone decide whether rows are returned?

    Not if another statement, a cursor or a procedure does.
    """
    cdef const char *end
    while is_space(text[0]):
        text += 1
    end = text + strnlen(text, 8)
    return end > text and is_letter(text[0]) and not (
        begins_with(text, end, b'execute', 7) or begins_with(text, end, b'fetch', 5)
        or begins_with(text, end, b'call', 4))


cdef char client_is_described(Client c, Py_ssize_t size) noexcept:
    """Is what comes behind the Bind at hand, which is so long, a Describe of it?

    Result: what it describes, 80 for the portal, 83 for the statement; 0: none follows.
    """
    cdef const char *portal = c.relay.at + 5
    cdef const char *name
    cdef const char *told = c.relay.at + size
    cdef Py_ssize_t left = c.relay.left - size
    if left < 7 or told[0] != kinds.DESCRIBE or left < int32_at(told + 1) + 1:
        return 0
    left = int32_at(told + 1) - 5
    name = portal if told[5] == 80 else portal + strlen(portal) + 1
    if (told[5] != 80 and told[5] != 83) or left != <Py_ssize_t>strlen(name) + 1 \
            or memcmp(told + 6, name, left) != 0:
        return 0
    return told[5]


cdef int result_formats_of(const char *p, Py_ssize_t have) noexcept nogil:
    """How many formats of results a Bind names, of which so much is here: with more than one, whoever
    sent it counts on so many columns. Many where it cannot be read."""
    cdef const char *end = p + have
    cdef int i, count
    p += 5
    for i in range(2):
        p = <const char *>memchr(p, 0, end - p)
        if p == NULL:
            return 65536
        p += 1
    if end - p < 2 or int16_at(p) < 0 or end - p < 4 + 2 * int16_at(p):
        return 65536
    p += 2 + 2 * int16_at(p)
    count = int16_at(p)
    p += 2
    for i in range(count):
        if end - p < 4 or int32_at(p) > end - p - 4:
            return 65536
        p += 4 + max(0, int32_at(p))
    return int16_at(p) if end - p >= 2 else 65536


cdef bint ledger_tells(Ledger *l, Statement statement) noexcept:
    """Has its client just prepared or described the statement, and hears of it presently?"""
    cdef Reply *r
    cdef int i
    for i in range(l.count):
        r = &l.replies[(l.head + i) & (l.size - 1)]
        if r.statement == <PyObject *>statement and r.name != NULL and (
                r.kind == kinds.PARSE and not is_split(<object>r.name)
                or r.kind == kinds.DESCRIBE):
            return True
    return False


cdef Reply *ledger_compares(Ledger *l, bytes name) noexcept:
    """What is still owed of how the statement compares that its client calls so; NULL: nothing."""
    cdef Reply *r
    cdef int i
    for i in range(l.count):
        r = &l.replies[(l.head + i) & (l.size - 1)]
        if r.kind == kinds.DESCRIBE and r.action == SWALLOW and r.name != NULL \
                and r.statement == NULL and type(<object>r.name) is bytes and <bytes>r.name == name:
            return r
    return NULL


cdef int server_compares_no_more(Server s, bytes name) except -1:
    """Its client calls another statement so."""
    cdef Reply *r = ledger_compares(&s.ledger, name)
    if r != NULL:
        Py_XDECREF(r.name)
        r.name = NULL
    if s.changed is not None:
        s.changed.discard(name)
    return 0


cdef inline bint is_split(name):
    return type(name) is Unnamed and (<Unnamed>name).is_split


cdef bint ledger_describes(Ledger *l, Unnamed unnamed) noexcept:
    """Does its client presently hear what its unnamed statement returns?"""
    cdef Reply *r
    cdef int i
    for i in range(l.count):
        r = &l.replies[(l.head + i) & (l.size - 1)]
        if r.kind == kinds.DESCRIBE and r.name == <PyObject *>unnamed and r.action == FORWARD:
            return True
    return False
