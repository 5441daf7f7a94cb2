# One non-blocking socket end.
#
# Sockets are watched edge-triggered and armed once: an edge sets `readable`, reading the socket
# empty clears it. So a link that must not be read now (its client waits for a server, the other
# side is slow) costs nothing while it waits: its bytes stay in the kernel and the flag stays set.
# Reading fewer bytes than asked for means the socket is empty (epoll(7), question 9).

cdef enum Side:
    CLIENT_SIDE = 1
    SERVER_SIDE = 2

cdef enum Stage:
    LOGIN = 0       # a coroutine of the control plane reads and writes whole messages
    RELAYING = 1
    CLOSING = 2     # the last bytes are on their way out, nothing is read
    CLOSED = 3

cdef enum:
    # 4 KiB doubles the cost of large results, 64 KiB falls out of the first-level cache.
    READ_BYTES = 16384
    # A login has no business holding more than this unread (PostgreSQL: 10,000 for a startup
    # packet, 65,535 for SASL messages and passwords).
    MOST_LOGIN_BYTES = 131072

cdef enum Received:
    NOTHING = -1
    BROKEN = -2


@cython.final
cdef class Tls:
    """The TLS session of a link: an SSLObject between two memory BIOs."""

    def __cinit__(self, connection, incoming, outgoing):
        self.connection = connection
        self.incoming = incoming
        self.outgoing = outgoing


@cython.final
cdef class Waiter:
    """What a login coroutine waits for: as much of a Future as a Task needs of one.

    A Future has its Task woken in the loop's next turn, which costs a handle and an epoll_wait; this
    one wakes it as soon as the pass that brought the bytes is over.
    Source: asyncio/futures.py, `isfuture`, and asyncio/tasks.py, `Task.__step`.
    """

    def __cinit__(self, Relay relay):
        self.relay = relay

    def __await__(self):
        return self

    def __next__(self):
        if not self.is_over:
            self._asyncio_future_blocking = True
            return self
        self.result()
        raise StopIteration

    def get_loop(self):
        """The loop of the Task that may wait."""
        return self.relay.loop

    def add_done_callback(self, callback, *, context):
        """Have the Task woken; there is one at most."""
        self.callback = callback
        self.context = context

    def result(self):
        """None; raises what the wait ended with."""
        if self.error is not None:
            raise self.error

    def cancel(self, msg=None):
        """The Task is to go on without what it waits for; False when that is there."""
        if self.is_over:
            return False
        waiter_ends(self, CancelledError() if msg is None else CancelledError(msg))
        return True

    def _wake(self):
        callback = self.callback
        if callback is not None:
            self.callback = None
            self.context.run(callback, self)


cdef int waiter_ends(Waiter w, error) except -1:
    """The wait is over. The Task is not woken right here: it may be what runs, and in a pass its
    handshake would hold up what others are to be sent."""
    w.is_over = True
    w.error = error
    if w.relay.in_pass:
        w.relay.woken.append(w)
    else:
        w.relay.loop.call_soon(w._wake)
    return 0


cdef class Link:
    """One socket end. While it is in the LOGIN stage, a coroutine drives it with these methods."""

    def __cinit__(self, Relay relay, int fd, str address, *args):
        cdef epoll_event event
        self.relay = relay
        self.fd = fd
        self.address = address
        self.stage = LOGIN
        self.since_s = relay.now_s
        relay.links += 1
        self.number = relay.links
        event.events = EPOLLIN | EPOLLRDHUP | <uint32_t>EPOLLET
        event.data.ptr = <void *>self
        if epoll_ctl(relay.epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            self.stage = CLOSED
            self.fd = -1
            raise OSError(errno, 'epoll_ctl')
        # epoll holds a pointer to us: keep the object until close.
        Py_INCREF(self)

    def __dealloc__(self):
        free(self.held.data)
        free(self.unsent.data)

    def take_packet(self, Py_ssize_t max_bytes):
        """The body of the next untyped packet (length, body), or None when more is needed.

        max_bytes: limit on the length as sent, which counts itself.
        Raises PeerError on a length out of bounds, ConnectionResetError when the peer has ended.
        """
        cdef Py_ssize_t have = self.held.end - self.held.start
        cdef char *p = self.held.data + self.held.start
        cdef Py_ssize_t size
        if have >= 4:
            size = int32_at(p)
            if size < 8 or size > max_bytes:
                raise PeerError('invalid length of startup packet')
            if have >= size:
                body = p[4:size]
                octets_consume(&self.held, size)
                return body
        if self.ended and not self.readable:
            raise ConnectionResetError('the peer closed the connection')
        return None

    def take_message(self, Py_ssize_t max_bytes):
        """(kind, body) of the next message, or None when more is needed. kind: one byte.

        max_bytes: limit on the length as sent, which counts itself but not the kind.
        Raises PeerError on a length out of bounds, ConnectionResetError when the peer has ended.
        """
        cdef Py_ssize_t have = self.held.end - self.held.start
        cdef char *p = self.held.data + self.held.start
        cdef Py_ssize_t size
        if have >= 5:
            size = int32_at(p + 1)
            if size < 4 or size > max_bytes:
                raise PeerError('invalid message length')
            if have >= size + 1:
                message = p[0:1], p[5:size + 1]
                octets_consume(&self.held, size + 1)
                return message
        if self.ended and not self.readable:
            raise ConnectionResetError('the peer closed the connection')
        return None

    def take_bytes(self, Py_ssize_t most=READ_BYTES):
        """Up to `most` bytes as they came, b'' when there are none: TLS records, a single answer byte."""
        cdef Py_ssize_t n = min(most, self.held.end - self.held.start)
        if n == 0:
            if self.ended and not self.readable:
                raise ConnectionResetError('the peer closed the connection')
            return b''
        taken = self.held.data[self.held.start:self.held.start + n]
        octets_consume(&self.held, n)
        return taken

    @property
    def has_unread(self):
        """Has the peer sent bytes that nobody has taken?"""
        if self.stage == LOGIN and self.readable:
            link_read_login(self)
        return self.held.end > self.held.start

    def wait(self):
        """None when new bytes (or the peer's end) are there already, else what to await."""
        if self.readable and self.held.end - self.held.start < MOST_LOGIN_BYTES:
            if link_read_login(self):
                return None
        self.waiter = Waiter(self.relay)
        return self.waiter

    def write(self, bytes octets not None):
        """Send, or queue what the kernel does not take now."""
        if self.stage != CLOSED:
            link_send(self, octets, len(octets))

    def start_tls(self, connection, incoming, outgoing):
        """From now on bytes pass through this finished TLS session (SSLObject, two MemoryBIOs)."""
        self.tls = Tls(connection, incoming, outgoing)
        if self.held.end > self.held.start:
            incoming.write(self.held.data[self.held.start:self.held.end])
            octets_free(&self.held)
        # Records that the handshake took along are to be read, with no edge to come for them.
        self.tls.dry = not self.readable
        self.readable = True

    @property
    def tls_version(self):
        """Such as 'TLSv1.3', or None without TLS."""
        return None if self.tls is None else self.tls.connection.version()

    @property
    def is_closed(self):
        """Nothing can be sent any more."""
        return self.stage >= CLOSING

    @property
    def has_ended(self):
        """The peer will send no more."""
        return self.ended

    @property
    def unsent_bytes(self):
        """Accepted for sending and not yet taken by the kernel."""
        return self.unsent.end - self.unsent.start

    @property
    def held_bytes(self):
        """Read and not yet passed on."""
        return self.held.end - self.held.start

    @property
    def awaited_bytes(self):
        """Of the message that is being passed on, those that have not come yet."""
        return self.passing

    @property
    def fileno(self):
        """The descriptor, -1 once closed."""
        return self.fd

    def release(self):
        """Somebody has been told who was to be told before this peer."""
        self.withheld -= 1
        if self.withheld == 0 and self.unsent.end > self.unsent.start:
            link_arm(self, True)
            self.relay.now_s = monotonic_s()
            self.relay._dispatch(self, EPOLLOUT)

    def close(self):
        """Close once everything accepted for sending is out."""
        link_finish(self)

    def abandon(self):
        """Close now, whatever is unsent."""
        link_close(self)


cdef int link_read_login(Link k) except -1:
    """Read what is there; 1 when bytes or the peer's end came."""
    cdef Py_ssize_t n
    cdef int came = 0
    while k.readable and k.held.end - k.held.start < MOST_LOGIN_BYTES:
        octets_reserve(&k.held, 2048)
        n = link_recv(k, k.held.data + k.held.end, k.held.size - k.held.end)
        if n > 0:
            k.held.end += n
            came = 1
        elif n == NOTHING:
            break
        else:
            k.ended = True
            k.readable = False
            came = 1
    if k.held.end == k.held.start:
        octets_free(&k.held)
    return came


cdef int link_wake_login(Link k) except -1:
    """An edge came while a coroutine drives the link."""
    cdef Waiter waiter = k.waiter
    if waiter is None or not link_read_login(k):
        return 0
    k.waiter = None
    if not waiter.is_over:
        waiter_ends(waiter, None)
    return 0


cdef Py_ssize_t link_recv(Link k, char *into, Py_ssize_t room) except? -1:
    """Bytes read; 0: the peer ended; NOTHING for now; BROKEN."""
    cdef Py_ssize_t n
    if k.tls is not None:
        return link_recv_tls(k, into, room)
    while True:
        n = receive(k.fd, into, room)
        if n > 0:
            if n < room and not k.ended:
                k.readable = False
            return n
        if n == 0:
            k.readable = False
            k.ended = True
            return 0
        if errno == EINTR:
            continue
        k.readable = False
        return NOTHING if errno == EAGAIN else BROKEN


cdef Py_ssize_t link_recv_tls(Link k, char *into, Py_ssize_t room) except? -1:
    """As link_recv, through the TLS session."""
    cdef Py_ssize_t n
    cdef bytes plain
    cdef char raw[READ_BYTES + 512]
    while True:
        # A read in vain costs an exception, which is dearer than the decryption of a statement.
        if not k.tls.drained:
            try:
                plain = k.tls.connection.read(room)
            except SSLWantReadError:
                pass
            except SSLError:
                # Also an end without close_notify: what came before was authenticated all the same.
                k.readable = False
                k.ended = True
                return 0
            else:
                n = len(plain)
                if n == 0:
                    k.readable = False
                    k.ended = True
                    return 0
                memcpy(into, <char *>plain, n)
                k.tls.drained = not k.tls.connection.pending() and not k.tls.incoming.pending
                if k.tls.dry and k.tls.drained and not k.ended:
                    k.readable = False
                return n
            finally:
                if k.tls.outgoing.pending:
                    link_send_raw_bytes(k, k.tls.outgoing.read())
        n = receive(k.fd, raw, sizeof(raw))
        if n > 0:
            k.tls.dry = n < <Py_ssize_t>sizeof(raw)
            k.tls.drained = False
            k.tls.incoming.write(raw[:n])
        elif n == 0:
            k.tls.drained = False
            k.tls.incoming.write_eof()
        elif errno == EINTR:
            continue
        else:
            k.readable = False
            return NOTHING if errno == EAGAIN else BROKEN


cdef inline int link_send(Link k, const char *p, Py_ssize_t n) except -1:
    """Send, at the end of this pass if there is one, and keep what the kernel does not take."""
    return link_send_raw(k, p, n) if k.tls is None else link_send_tls(k, p, n)


cdef int link_send_tls(Link k, const char *p, Py_ssize_t n) except -1:
    """As link_send, through the TLS session."""
    try:
        k.tls.connection.write(p[:n])
    except SSLError:
        return link_break(k)
    return link_send_raw_bytes(k, k.tls.outgoing.read())


cdef int link_send_raw_bytes(Link k, bytes octets) except -1:
    return link_send_raw(k, octets, len(octets))


cdef int link_send_raw(Link k, const char *p, Py_ssize_t n) except -1:
    if k.fd < 0 or n == 0:
        return 0
    if k.relay.in_pass and n <= MOST_PARCEL_BYTES and k.unsent.end == k.unsent.start \
            and not k.withheld:
        return link_post(k, p, n)
    if k.posted:
        relay_sends(k.relay)
    return link_send_now(k, p, n)


cdef int link_send_now(Link k, const char *p, Py_ssize_t n) except -1:
    cdef Py_ssize_t r
    if k.unsent.end == k.unsent.start and not k.withheld:
        while True:
            r = send_now(k.fd, p, n)
            if r == n:
                return 0
            if r >= 0:
                p += r
                n -= r
                break
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                break
            return link_break(k)
    octets_append(&k.unsent, p, n)
    if not k.withheld:
        link_arm(k, True)
    return 0


cdef int link_break(Link k) except -1:
    """The socket takes no more: its reader finds out, in its own turn, what that means."""
    octets_free(&k.unsent)
    k.ended = True
    k.readable = True
    relay_again(k.relay, k)
    return 0


cdef int link_arm(Link k, bint writable) except -1:
    """Ask for EPOLLOUT only while something is unsent: a Unix socket reports it at every read."""
    cdef epoll_event event
    if k.awaits_writable == writable:
        return 0
    k.awaits_writable = writable
    event.events = EPOLLIN | EPOLLRDHUP | <uint32_t>EPOLLET | (EPOLLOUT if writable else 0)
    event.data.ptr = <void *>k
    epoll_ctl(k.relay.epoll, EPOLL_CTL_MOD, k.fd, &event)
    return 0


cdef int link_drain(Link k) except -1:
    """The socket is writable again: send what waited. 1 when nothing is left."""
    cdef Py_ssize_t r
    if k.withheld:
        return 0
    while k.unsent.end > k.unsent.start:
        r = send_now(k.fd, k.unsent.data + k.unsent.start, k.unsent.end - k.unsent.start)
        if r > 0:
            octets_consume(&k.unsent, r)
        elif r < 0 and errno == EINTR:
            continue
        elif r < 0 and errno == EAGAIN:
            return 0
        else:
            link_break(k)
            return 0
    link_arm(k, False)
    return 1


cdef int link_finish(Link k) except -1:
    """Close when all is sent; until then the link is CLOSING."""
    if k.stage >= CLOSING:
        return 0
    if k.tls is not None:
        try:
            k.tls.connection.unwrap()
        except SSLError:
            pass
        link_send_raw_bytes(k, k.tls.outgoing.read())
    if k.posted:
        relay_sends(k.relay)
    if k.unsent.end > k.unsent.start:
        k.stage = CLOSING
        octets_free(&k.held)
        # A peer that never reads must not keep the descriptor: the tick closes it for good.
        k.relay.control.link_lingers(k)
        return 0
    return link_close(k)


cdef int link_close(Link k) except -1:
    """Close now. The object lives on until the end of this pass: its events may be queued."""
    if k.stage == CLOSED:
        return 0
    if k.posted:
        relay_sends(k.relay)
    k.stage = CLOSED
    close(k.fd)     # takes it out of epoll, too
    k.fd = -1
    octets_free(&k.held)
    octets_free(&k.unsent)
    k.tls = None
    waiter = k.waiter
    k.waiter = None
    if waiter is not None and not waiter.is_over:
        waiter_ends(waiter, ConnectionResetError('the connection was closed'))
    if k.relay.in_pass:
        k.relay.departed.append(k)
    Py_DECREF(k)
    return 0
