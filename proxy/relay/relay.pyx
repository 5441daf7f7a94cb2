"""The data plane: see relay.pxd for its chapters and `proxy.relay` for what it offers."""

cimport cython
from cpython.dict cimport PyDict_Size
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.set cimport PySet_GET_SIZE
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, errno
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset, strcmp, strlen, strncmp
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close

from proxy.sql.lexer cimport (
    NO_TARGET, NO_TROUBLE, TO_PRIMARY, TO_REPLICA, Scan, free_scan, scan,
)
from proxy.wire cimport kinds
from proxy.wire.frames cimport (
    MAX_LARGE_BYTES, MAX_SMALL_BYTES, int16_at, int32_at, put_int32,
)

import re
from asyncio import CancelledError
from ssl import SSLError, SSLWantReadError

from proxy.errors import PeerError, ProxyBug
from proxy.wire import messages

cdef extern from "strings.h" nogil:
    int strncasecmp(const char *a, const char *b, size_t n)

cdef extern from "string.h" nogil:
    size_t strnlen(const char *text, size_t most)
    void *memmem(const void *text, size_t length, const void *sought, size_t sought_length)

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        void *ptr
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD
    uint32_t EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLET

cdef extern from "sys/socket.h" nogil:
    ctypedef unsigned int socklen_t
    ctypedef unsigned short sa_family_t
    cdef struct sockaddr:
        pass
    cdef struct sockaddr_storage:
        sa_family_t ss_family
    int accept4(int fd, sockaddr *address, socklen_t *length, int flags)
    int MSG_NOSIGNAL, SOCK_NONBLOCK, SOCK_CLOEXEC, AF_INET, AF_INET6

cdef extern from "unistd.h" nogil:
    # What libc makes of recv, send and epoll_wait are points where a thread may be cancelled, which
    # costs something in a process with threads; we have no use for that.
    long syscall(long number, ...)

cdef extern from "sys/syscall.h" nogil:
    long SYS_recvfrom, SYS_sendto, SYS_epoll_pwait

cdef extern from "netinet/in.h" nogil:
    cdef struct in_addr:
        pass
    cdef struct in6_addr:
        pass
    cdef struct sockaddr_in:
        uint16_t sin_port
        in_addr sin_addr
    cdef struct sockaddr_in6:
        uint16_t sin6_port
        in6_addr sin6_addr
    enum: INET6_ADDRSTRLEN

cdef extern from "arpa/inet.h" nogil:
    const char *inet_ntop(int family, const void *address, char *text, socklen_t size)
    uint16_t ntohs(uint16_t port)

# Whole messages that never differ.
cdef char *PARSE_COMPLETE = b'1\0\0\0\4'
cdef char *BIND_COMPLETE = b'2\0\0\0\4'
cdef char *CLOSE_COMPLETE = b'3\0\0\0\4'
cdef char *NO_DATA_MESSAGE = b'n\0\0\0\4'
cdef char *NO_PARAMETERS = b't\0\0\0\6\0\0'
cdef char *READY = b'Z\0\0\0\5'
cdef char *TERMINATE = b'X\0\0\0\4'
cdef char *FLUSH_MESSAGE = b'H\0\0\0\4'
cdef char *EMPTY_QUERY = b'Q\0\0\0\5\0'
cdef char *SYNC_MESSAGE = b'S\0\0\0\4'
# Execute of the unnamed portal, of all its rows; and no value, in a Bind.
cdef bytes EXECUTE_MESSAGE = b'E\0\0\0\x09\0\0\0\0\0'
cdef bytes NO_VALUE = b'\xff\xff\xff\xff'

# Everything that RESET ALL leaves is the role: it is a setting of its own kind.
cdef bytes RESET_TEXT = b'SET SESSION AUTHORIZATION DEFAULT; RESET ALL'
# What PostgreSQL says of a statement that would return other columns than when it was prepared.
# asyncpg and pgjdbc know it by the routine, and prepare their statement again.
cdef bytes OTHER_COLUMNS = messages.error_response(
    '0A000', 'cached plan must not change result type', routine='RevalidateCachedQuery')
# Body of a Bind of a statement that no server has: see client_refuses_unit.
cdef bytes REFUSED_BIND = b'\0-pgweir-refused\0\0\0\0\0\0\0'
# A Query that no server runs: see client_refuses_query_with.
cdef bytes REFUSED_TEXT = b'refused by pgweir'


cdef inline ssize_t receive(int fd, void *into, size_t room) noexcept nogil:
    return syscall(SYS_recvfrom, <long>fd, into, room, <long>0, NULL, NULL)


cdef inline ssize_t send_now(int fd, const void *octets, size_t length) noexcept nogil:
    return syscall(SYS_sendto, <long>fd, octets, length, <long>MSG_NOSIGNAL, NULL, <long>0)


cdef inline int poll_now(int epoll, epoll_event *events, int most) noexcept nogil:
    return <int>syscall(SYS_epoll_pwait, <long>epoll, events, <long>most, <long>0, NULL, <long>8)


cdef bytes message_head(char kind, Py_ssize_t body_bytes):
    """Type byte and length of a message with such a body."""
    cdef char head[5]
    head[0] = kind
    put_int32(head + 1, <int32_t>(4 + body_bytes))
    return head[:5]


include "octets.pxi"
include "commands.pxi"
include "ledger.pxi"
include "outbox.pxi"
include "link.pxi"
include "statements.pxi"
include "columns.pxi"
include "parameters.pxi"
include "reading.pxi"
include "freshness.pxi"
include "idle.pxi"
include "line.pxi"
include "balance.pxi"
include "server.pxi"
include "settling.pxi"
include "replan.pxi"
include "telling.pxi"
include "suspects.pxi"
include "session.pxi"
include "seen.pxi"
include "client.pxi"
include "routing.pxi"
include "own.pxi"
include "simple.pxi"
include "extended.pxi"
include "local.pxi"
include "names.pxi"
include "poller.pxi"
