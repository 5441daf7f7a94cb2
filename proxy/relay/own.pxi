# pgweir.route and pgweir.consistency_key: settings of ours, which no server is told of.
#
# What a client says of them is answered here, in both protocols and in the order in which it comes:
# what a server owes for the messages before is waited for, and an error ends the unit as any other.

_OWN = re.compile(
    rb"""\s*(?:
        SET\s+(?:(?:SESSION|LOCAL)\s+)?pgweir\.(?P<set>route|consistency_key)
            \s*(?:=|\sTO\s)\s*(?P<value>'(?:[^']|'')*'|"[^"]*"|[\w:.-]+)
        |RESET\s+pgweir\.(?P<reset>route|consistency_key)
        |SHOW\s+pgweir\.(?P<show>route|consistency_key)
    )\s*;?\s*""",
    re.IGNORECASE | re.VERBOSE,
)


cdef bint is_own_command(const char *text, Py_ssize_t length) noexcept nogil:
    """May it be a SET, RESET or SHOW of a setting of ours? The pattern has the last word."""
    cdef char second
    while length and is_space(text[0]):
        text += 1
        length -= 1
    if length < 12:
        return False
    second = text[1] | 32
    if (text[0] | 32) == 115:
        if not (second == 101 and (text[2] | 32) == 116 or second == 104):
            return False
    elif (text[0] | 32) != 114 or second != 101:
        return False
    return has_word(text, length, b'pgweir', 6, 2)


cdef object client_own_setting(Client c, const char *text, Py_ssize_t length):
    """The match of a SET, RESET or SHOW of ours that may be answered here; else None.

    In an aborted transaction, or when its server is lost, the client is told of that.
    """
    if not is_own_command(text, length) or c.status == 69 or c.lost is not None \
            or c.refusal is not None:
        return None
    return _OWN.fullmatch(text[:length])


cdef object client_own_statement(Client c, const char *name):
    """As client_own_setting, for the statement that the client calls so."""
    cdef bytes key = client_text_of(c, name)
    return None if key is None else client_own_setting(c, key, strlen(key))


cdef int client_asks_own(Client c, const char *text, Py_ssize_t length, Py_ssize_t size) except -1:
    """A simple query. Result: 0 when it is none of ours."""
    cdef bytes error
    match = client_own_setting(c, text, length)
    if match is None:
        return 0
    if client_awaits_owed(c):
        return STOPPED
    client_forgets_unnamed(c)
    if match['show']:
        client_describes(c, match)
    error = client_runs_own(c, match)
    if error is not None:
        return client_refuses_query_with(c, error, size, size)
    client_ends_query(c)
    return TAKEN


cdef int client_parses_own(Client c, bytes name, const char *text, Py_ssize_t length,
                           Py_ssize_t size) except -1:
    """Parse. length: of the text and the types behind it. Result: 0 when it is for a server."""
    if not is_parse_tail(text, length) or length != <Py_ssize_t>strlen(text) + 3 \
            or client_own_setting(c, text, strlen(text)) is None:
        return 0
    if c.server is not None and c.server.exposed or c.prepared is not None and name in c.prepared:
        return 0
    if name and c.statements is not None and (
            name in c.statements or len(c.statements) >= c.line.max_client_statements):
        return 0
    if client_awaits_owed(c):
        return STOPPED
    client_names(c, name, text[:length])
    c.speaks_of_own = True
    sink_write(&c.relay.to_client, PARSE_COMPLETE, 5)
    return client_drop(c, size, size)


cdef bint is_bare_bind(const char *rest, Py_ssize_t length) noexcept:
    """Does a Bind have no parameters? rest: what follows its names. A format for all there are is
    allowed, and formats of results."""
    cdef int formats
    if length < 6:
        return False
    formats = int16_at(rest)
    if formats < 0 or formats > 1 or length < 6 + 2 * formats:
        return False
    rest += 2 + 2 * formats
    length -= 2 + 2 * formats
    return int16_at(rest) == 0 and int16_at(rest + 2) >= 0 and length == 4 + 2 * int16_at(rest + 2)


cdef int client_binds_own(Client c, char *p, const char *name, const char *rest,
                          Py_ssize_t size) except -1:
    """Bind. rest: what follows the names, up to `size`. Result: 0 when it is for a server."""
    cdef bytes portal = p[5:name - 1 - p]
    if portal == c.own_portal:
        c.own_portal = None
    match = client_own_statement(c, name)
    if match is None or not is_bare_bind(rest, p + size - rest):
        return 0
    if client_awaits_owed(c):
        return STOPPED
    c.own_portal = portal
    c.own_setting = match
    sink_write(&c.relay.to_client, BIND_COMPLETE, 5)
    return client_drop(c, size, size)


cdef int client_describes_own(Client c, char *p, Py_ssize_t size) except -1:
    """Describe of a statement or a portal. Result: 0 when it is for a server."""
    if p[5] == 83:
        match = client_own_statement(c, p + 6)
    else:
        match = client_own_portal(c, p + 6)
    if match is None:
        return 0
    if client_awaits_owed(c):
        return STOPPED
    if p[5] == 83:
        sink_write(&c.relay.to_client, NO_PARAMETERS, 7)
    if match['show']:
        client_describes(c, match)
    else:
        sink_write(&c.relay.to_client, NO_DATA_MESSAGE, 5)
    return client_drop(c, size, size)


cdef int client_executes_own(Client c, char *p, Py_ssize_t size) except -1:
    """Execute. Result: 0 when it is for a server."""
    cdef bytes error
    if memchr(p + 5, 0, size - 5) == NULL:
        return 0
    match = client_own_portal(c, p + 5)
    if match is None:
        return 0
    if client_awaits_owed(c):
        return STOPPED
    error = client_runs_own(c, match)
    if error is not None:
        return client_refuses_unit_with(c, error, size, size)
    return client_drop(c, size, size)


cdef object client_own_portal(Client c, const char *name):
    """What was bound to this portal, if that is ours and may be answered here."""
    if c.own_portal is None or <bytes>name != c.own_portal or c.status == 69 \
            or c.lost is not None or c.refusal is not None:
        return None
    return c.own_setting


cdef int client_describes(Client c, object match) except -1:
    """RowDescription of a SHOW: one column of type text."""
    cdef bytes body = b'\0\1pgweir.' + match['show'].lower() + b'\0' + b'\0' * 6
    body += (25).to_bytes(4, 'big') + b'\xff\xff' + b'\xff\xff\xff\xff' + b'\0\0'
    sink_write(&c.relay.to_client, message_head(kinds.ROW_DESCRIPTION, len(body)), 5)
    return sink_write(&c.relay.to_client, <const char *>body, len(body))


cdef bytes client_runs_own(Client c, object match):
    """Do what it says, and answer up to CommandComplete; or the ErrorResponse."""
    cdef bytes row
    name = (match['set'] or match['reset'] or match['show']).lower()
    if match['show']:
        value = client_route(c) if name == b'route' else client_key(c)
        row = (value or '').encode()
        row = b'\0\1' + len(row).to_bytes(4, 'big') + row
        sink_write(&c.relay.to_client, message_head(kinds.DATA_ROW, len(row)), 5)
        sink_write(&c.relay.to_client, row, len(row))
        client_say_complete(c, b'SHOW')
        return None
    value = None
    if match['set']:
        value = match['value'].decode('utf-8', 'replace')
        if value[0] == "'":
            value = value[1:len(value) - 1].replace("''", "'")
        elif value[0] == '"':
            value = value[1:len(value) - 1]
        elif value.lower() == 'default':
            value = ''
    if name == b'route':
        if value and not client_knows_target(c, value):
            return client_invalid(c, 'invalid value for parameter "pgweir.route": "%s"' % value)
        c.route = value or None
    else:
        if value and len(value) > MOST_KEY_CHARS:
            return client_invalid(c, 'pgweir.consistency_key is longer than 256 characters')
        c.consistency_key = value or None
    client_say_complete(c, b'SET' if match['set'] else b'RESET')
    return None


cdef bytes client_invalid(Client c, str text):
    count_error(c.relay, c.line.database, '22023')
    return messages.error_response('22023', text)


cdef bint client_knows_target(Client c, str target) except -1:
    if target == 'primary' or target == 'replica':
        return True
    return c.line.router is not None and target in client_router(c).lines
