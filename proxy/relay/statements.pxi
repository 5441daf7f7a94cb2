# Prepared statements of the extended protocol, one identity per text and parameter types.
#
# A client's name for a statement is its own; servers know it by ours. So any client's statement
# can run on any server: the Bind carries our name, and a Parse is injected where it is not known.

cdef bytes STATEMENT_PREFIX = b'_pgweir_'
# A client's own use of such a name that is not one it gave goes to the server like this, so that
# it finds nothing; the error it gets has its own spelling.
cdef bytes DISGUISED_PREFIX = b'-pgweir_'


@cython.final
cdef class Statement:
    """A statement text with its parameter types, whoever prepared it."""


@cython.final
@cython.freelist(64)
cdef class Unnamed:
    """An unnamed statement, as its client has parsed it."""


cdef Unnamed unnamed_of(bytes key):
    cdef Unnamed unnamed = Unnamed.__new__(Unnamed)
    unnamed.key = key
    return unnamed


cdef Statement statement_of(Relay relay, bytes key):
    """The one Statement with this key, made when it is new. The caller counts its use."""
    cdef Statement s = relay.statements.get(key)
    cdef Py_ssize_t length
    if s is None:
        s = Statement.__new__(Statement)
        s.key = key
        relay.next_statement += 1
        s.name = STATEMENT_PREFIX + b'%d' % relay.next_statement
        length = strlen(key)
        s.command = command_of(key, length)
        s.effect = effect_of(key, length)
        s.quotes = has_constants(key, length)
        s.timely = s.quotes and may_be_timely(key, length)
        relay.statements[key] = s
    return s


cdef inline void statement_use(Statement s) noexcept:
    s.uses += 1


cdef int statement_drop(Relay relay, Statement s) except -1:
    """One user less; without users it is forgotten."""
    s.uses -= 1
    if s.uses == 0 and relay.statements.get(s.key) is s:
        del relay.statements[s.key]
    return 0


cdef bytes parse_message(bytes name, bytes key, bytes types=None):
    """A Parse under the name that servers know. types: of all parameters; None: as key has them."""
    cdef bytes body = name + b'\0'
    if types is None:
        body += key
    else:
        body += key[:strlen(key) + 1] + types
    return message_head(kinds.PARSE, len(body)) + body


cdef bytes describe_message(bytes name):
    """A Describe of a prepared statement."""
    return message_head(kinds.DESCRIBE, len(name) + 2) + b'S' + name + b'\0'


cdef bytes close_message(bytes name):
    """A Close of a prepared statement."""
    cdef char head[5]
    head[0] = kinds.CLOSE
    put_int32(head + 1, <int32_t>(4 + 1 + len(name) + 1))
    return head[:5] + b'S' + name + b'\0'


cdef bytes query_message(bytes text):
    """A Query."""
    cdef char head[5]
    head[0] = kinds.QUERY
    put_int32(head + 1, <int32_t>(4 + len(text) + 1))
    return head[:5] + text + b'\0'


cdef bint is_parse_tail(const char *p, Py_ssize_t n) noexcept:
    """Do these bytes read as: text, NUL, int16 count, that many int32? They came from a stranger."""
    cdef const char *nul = <const char *>memchr(p, 0, n)
    cdef Py_ssize_t left
    if nul == NULL:
        return False
    left = n - (nul - p) - 1
    if left < 2:
        return False
    # The count is unsigned: PostgreSQL allows 65,535 parameters.
    return left == 2 + 4 * <Py_ssize_t>(<uint16_t>int16_at(nul + 1))
