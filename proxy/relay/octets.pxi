# Growable bytes, the Sink that turns pieces into one send, and a hash of bytes.

# FNV-1a, 64 bits: where it begins.
cdef uint64_t FNV_BASIS = 14695981039346656037U


cdef inline uint64_t fnv_with(uint64_t hash, char c) noexcept nogil:
    return (hash ^ <uint8_t>c) * <uint64_t>1099511628211


cdef int octets_reserve(Octets *b, Py_ssize_t extra) except -1:
    """Make room for `extra` bytes behind the content."""
    cdef Py_ssize_t used = b.end - b.start
    cdef Py_ssize_t size
    cdef char *data
    if b.size - b.end >= extra:
        return 0
    if b.start and b.size - used >= extra:
        memmove(b.data, b.data + b.start, used)
        b.start = 0
        b.end = used
        return 0
    size = max(used + extra, min(2 * b.size, used + extra + 65536))
    data = <char *>malloc(size)
    if data == NULL:
        raise MemoryError()
    if used:
        memcpy(data, b.data + b.start, used)
    free(b.data)
    b.data = data
    b.start = 0
    b.end = used
    b.size = size
    return 0


cdef int octets_append(Octets *b, const char *p, Py_ssize_t n) except -1:
    octets_reserve(b, n)
    memcpy(b.data + b.end, p, n)
    b.end += n
    return 0


cdef void octets_free(Octets *b) noexcept:
    free(b.data)
    b.data = NULL
    b.start = b.end = b.size = 0


cdef void octets_consume(Octets *b, Py_ssize_t n) noexcept:
    """Drop the first n bytes; an empty buffer gives its memory back: idle links hold none."""
    b.start += n
    if b.start >= b.end:
        octets_free(b)


cdef int sink_copy(Sink *s) except -1:
    s.copying = True
    s.copy.start = s.copy.end = 0
    return octets_append(&s.copy, s.piece, s.length) if s.length else 0


cdef inline int sink_put(Sink *s, const char *p, Py_ssize_t n) except -1:
    """Add bytes that stay where they are until the sink is flushed."""
    if s.copying or s.length and s.piece + s.length != p:
        return sink_write(s, p, n)
    if s.length == 0:
        s.piece = p
    s.length += n
    return 0


cdef int sink_write(Sink *s, const char *p, Py_ssize_t n) except -1:
    """Add bytes that may be gone before the sink is flushed."""
    if not s.copying:
        sink_copy(s)
    return octets_append(&s.copy, p, n)


cdef inline bint sink_is_empty(Sink *s) noexcept:
    return s.copy.end == 0 if s.copying else s.length == 0


cdef void sink_reset(Sink *s) noexcept:
    s.length = 0
    s.copying = False
    s.copy.start = s.copy.end = 0
    if s.copy.size > 262144:
        octets_free(&s.copy)
