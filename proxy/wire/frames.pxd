# Big-endian integers, read from bytes whose presence the caller has checked.
#
# asyncpg's hton cannot be cimported from its wheel, so these are ours.

from libc.stdint cimport int16_t, int32_t, uint8_t, uint32_t

# PostgreSQL's own limits on a message's length as sent (src/include/libpq/libpq.h):
# PQ_SMALL_MESSAGE_LIMIT and PQ_LARGE_MESSAGE_LIMIT (MaxAllocSize - 1).
cdef enum Limit:
    MAX_SMALL_BYTES = 10000
    MAX_LARGE_BYTES = 0x3FFFFFFE
    # A startup packet: MAX_STARTUP_PACKET_LENGTH in the same file.
    MAX_STARTUP_BYTES = 10000


cdef inline int32_t int32_at(const char *p) noexcept nogil:
    cdef const uint8_t *u = <const uint8_t *>p
    return <int32_t>((<uint32_t>u[0] << 24) | (<uint32_t>u[1] << 16)
                     | (<uint32_t>u[2] << 8) | <uint32_t>u[3])


cdef inline int16_t int16_at(const char *p) noexcept nogil:
    cdef const uint8_t *u = <const uint8_t *>p
    return <int16_t>((<uint32_t>u[0] << 8) | <uint32_t>u[1])


cdef inline void put_int32(char *p, int32_t value) noexcept nogil:
    cdef uint32_t v = <uint32_t>value
    p[0] = <char>(v >> 24)
    p[1] = <char>(v >> 16)
    p[2] = <char>(v >> 8)
    p[3] = <char>v
