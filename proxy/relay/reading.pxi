# By which settings the text of a statement is read.
#
# PostgreSQL makes values of the constants in a text as it parses it: '2020-01-01 00:00' is a moment of
# the TimeZone there is then, '01/02/2020' a day by DateStyle, and 'today' is that day for good. On a
# connection of its own a client parses by its own settings. Where a server has the statement already,
# somebody else has, perhaps by others: so a server connection remembers by which it parsed what, and
# what was read otherwise is parsed anew. Nearly all clients of a database agree, and then a comparison
# of pointers is all there is to it.
#
# Names are looked for along search_path. That PostgreSQL notices by itself, and looks anew; but the
# types of parameters stay those found first, so who prepares a statement has it parsed by its own.
#
# Within a transaction that may have changed any of these settings, what is parsed is nobody else's.
#
# Functions keep plans of their statements as well, and the constants in them. Those are given up
# (DISCARD PLANS) before a client reads otherwise than whoever had the connection before.

# Parameters of a statement that has none.
cdef bytes NO_PARAMETER_TYPES = b'\0\0'


cdef inline object server_reads_literals_by(Server s):
    """What constants are read by there now; equal objects for the same."""
    return s.client.settings.literals if s.shift is None else s.shift


cdef inline object server_looks_along(Server s):
    """The search_path there is now."""
    return s.client.settings.path if s.shift is None else s.shift


cdef bint server_reads_literals_alike(Server s, Statement statement, Prepared prepared) except -1:
    """Are the constants in the statement what they would be now?"""
    cdef object by
    if not statement.quotes:
        return True
    by = server_reads_literals_by(s)
    return prepared.literals is by or prepared.literals == by


cdef bint server_would_read_alike(Server s, Statement statement, Prepared prepared) except -1:
    """Would a Parse of this statement now be what the server has?"""
    cdef object by
    if statement.timely or not server_reads_literals_alike(s, statement, prepared):
        return False
    if statement.types == NO_PARAMETER_TYPES:
        return True
    by = server_looks_along(s)
    return prepared.path is by or prepared.path == by


cdef int server_hides_tables(Server s) except -1:
    """There is a temporary table now, and others of that name are not found there any more."""
    for each in s.prepared.values():
        (<Prepared>each).schema_age = None
    # It may be gone with its transaction.
    s.shift = object()
    return 0


cdef bint has_constants(const char *text, Py_ssize_t length) noexcept nogil:
    """May there be a constant in the text whose meaning depends on settings? It is in quotes, or
    between dollars. Beyond ASCII any letter depends on client_encoding."""
    cdef Py_ssize_t i
    for i in range(length):
        if text[i] == 39 or <uint8_t>text[i] > 127:
            return True
        if text[i] == 36 and (text[i + 1] < 48 or text[i + 1] > 57):
            return True
    return False


cdef bint may_be_timely(const char *text, Py_ssize_t length) noexcept nogil:
    """May a constant in the text mean the time at which it is parsed?

    The words are PostgreSQL's ("Date/Time Input", special values). A backslash may spell any.
    """
    cdef const char *p = text
    cdef const char *end = text + length
    if memchr(text, 92, length) != NULL or has_word(text, length, b'today', 5) \
            or has_word(text, length, b'tomorrow', 8) or has_word(text, length, b'yesterday', 9):
        return True
    while end - p >= 3:
        if reads_as(p, b'now', 3) and (p == text or not is_letter((p - 1)[0])) and not is_letter(p[3]):
            p += 3
            while p < end and is_space(p[0]):
                p += 1
            # now() is a function, and is called each time.
            if p == end or p[0] != 40:
                return True
        p += 1
    return False


cdef bint may_shift_reading(const char *text, Py_ssize_t length) noexcept nogil:
    """May a text that sets something set what texts are read by, perhaps for its transaction only?

    Said by names in the text; set_config() with a name that is no constant may.
    """
    cdef const char *p = text
    cdef const char *end = text + length
    while end - p > 10:
        if reads_as(p, b'set_config', 10):
            p += 10
            while p < end and (is_space(p[0]) or p[0] == 40):
                p += 1
            if p == end or p[0] != 39:
                return True
        p += 1
    return (has_word(text, length, b'zone', 4) or has_word(text, length, b'style', 5)
            or has_word(text, length, b'search_path', 11) or has_word(text, length, b'schema', 6)
            or has_word(text, length, b'names', 5) or has_word(text, length, b'encoding', 8)
            or has_word(text, length, b'_strings', 8) or has_word(text, length, b'_quote', 6)
            or has_word(text, length, b'xml', 3) or has_word(text, length, b'lc_', 3)
            or has_word(text, length, b'_nulls', 6) or has_word(text, length, b'_equals', 7))


cdef inline int server_meets_setting(Server s, uint16_t effect, const char *text,
                                     Py_ssize_t length) except -1:
    """A text of this effect is about to be sent."""
    cdef bint shifts = effect & (ENDS_WITH_TRANSACTION | NAMES_SETTINGS) and may_shift_reading(
        text, length)
    s.misread = s.misread or shifts
    if s.shift is None and (shifts or effect & CALLS_SESSION_FUNCTION):
        s.shift = object()
    return 0


cdef int server_takes_settings(Server s, object settings) except -1:
    """It is in these settings, by what its client did."""
    s.misread = s.misread or s.settings.literals != settings.literals
    s.settings = settings
    return 0
