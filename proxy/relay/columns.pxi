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


cdef Prepared prepared_now(Relay relay):
    cdef Prepared prepared = Prepared.__new__(Prepared)
    prepared.schema_age = relay.schema_age
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
    cdef Py_ssize_t i
    for i in range(n):
        shape = fnv_with(shape, p[i])
    return shape


cdef int server_describes(Server s, Statement statement, bytes name) except -1:
    """Have the server say what a statement returns that was just prepared.

    name: of the client who has prepared it, which knows it by that; None when nobody has.
    """
    cdef bytes message = message_head(kinds.DESCRIBE, len(statement.name) + 2)
    message += b'S' + statement.name + b'\0'
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


cdef int client_learns(Client c, bytes name, Statement statement, uint64_t shape) except -1:
    """It knows from now on that what it calls so returns this; 0: it knows nothing."""
    if (c.shared_unnamed if not name else None if c.statements is None
            else c.statements.get(name)) is not statement:
        return 0
    if shape == statement.shape:
        return client_unlearns(c, name)
    if c.shapes is None:
        c.shapes = {}
    c.shapes[name] = shape
    return 0


cdef inline int client_unlearns(Client c, bytes name) except -1:
    if c.shapes is not None:
        c.shapes.pop(name, None)
        if not c.shapes:
            c.shapes = None
    return 0


cdef int client_meets_columns(Client c, Server s, Statement statement, bytes name, Py_ssize_t have,
                              Py_ssize_t size) except -1:
    """Does it bind what returns the columns that it knows, or asks for those there are?

    Result: 0 when it may go on. Else the Bind was refused, or waits for what the server says: it is
    not sent before, as whatever runs could not be undone then.
    """
    cdef Prepared prepared = <Prepared>s.prepared.get(statement)
    cdef uint64_t known = statement.shape
    c.bound = None
    if not known or known == NO_COLUMNS and not statement.varied:
        # Nobody has been told anything; or it does not return rows, which its text decides.
        return 0
    if c.shapes is not None:
        known = c.shapes.get(name, known)
    if known and prepared is not None and prepared.shape == known:
        return 0
    if client_is_described(c, size) and (not known or result_formats_of(c.relay.at, size) < 2):
        c.bound = statement
        c.bound_name = name
        return 0
    if not known:
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
    client_ensures(s, statement)
    sink_write(&s.relay.to_server, FLUSH_MESSAGE, 5)
    s.compared = True
    c.awaits_replies = True
    return STOPPED


cdef bint client_is_described(Client c, Py_ssize_t size) noexcept:
    """Is a Describe what comes behind the message at hand, which is so long?"""
    return c.relay.left > size and c.relay.at[size] == kinds.DESCRIBE


cdef int result_formats_of(const char *p, Py_ssize_t size) noexcept nogil:
    """How many formats of results a whole Bind names: with more than one, whoever sent it counts on
    so many columns. Many where it cannot be read."""
    cdef const char *end = p + size
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
                r.kind == kinds.PARSE or r.kind == kinds.DESCRIBE):
            return True
    return False
