# epoll, turns, counters: the Relay itself.

cdef enum:
    EVENTS_A_PASS = 256
    # Passes in one call: then asyncio gets its turn.
    PASSES_A_CALL = 32
    SCRATCH_BYTES = 65536
    MOST_ERROR_KINDS = 1000


@cython.final
cdef class Relay:
    """Owner of the epoll descriptor and of everything that all links share.

    loop: the asyncio loop that calls `poll` when the descriptor is readable.
    control: the control plane, see `Control` in control.py. wait_bounds_s: of the wait histogram.
    """

    def __cinit__(self, loop, control, wait_bounds_s):
        self.loop = loop
        self.control = control
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, 'epoll_create1')
        self.scratch = <char *>malloc(SCRATCH_BYTES)
        outbox_open(&self.for_servers)
        outbox_open(&self.for_clients)
        if self.scratch == NULL:
            raise MemoryError()
        self.again = []
        self.keeping = []
        self.departed = []
        self.woken = []
        self.clients = {}
        self.statements = {}
        self.schema_age = object()
        self.switches = {}
        self.errors = {}
        self.violations = {}
        self.waits = Histogram(wait_bounds_s)
        self.stride = self.until_told = 1
        self.parked = {}
        self.wish = Wish()
        self.chance = 2463534242
        self.now_s = monotonic_s()

    def __dealloc__(self):
        free_scan(&self.scan)
        free(self.scratch)
        outbox_free(&self.for_servers)
        outbox_free(&self.for_clients)
        free(self.to_server.copy.data)
        free(self.to_client.copy.data)

    def fileno(self):
        """The descriptor to watch for reading."""
        return self.epoll

    def close(self):
        """Give the descriptor back; all links must be closed before."""
        if self.epoll >= 0:
            close(self.epoll)
            self.epoll = -1

    def accept(self, int listener):
        """The next connection of a listening socket as a Client in its LOGIN stage, or None.

        Raises OSError when the descriptors are used up.
        """
        cdef sockaddr_storage peer
        cdef socklen_t length = sizeof(peer)
        cdef Client client
        cdef int fd
        while True:
            fd = accept4(listener, <sockaddr *>&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd >= 0:
                break
            if errno == EAGAIN:
                return None
            if errno != EINTR and errno != ECONNABORTED:
                raise OSError(errno, 'accept')
        self.now_s = monotonic_s()
        client = Client(self, fd, address_of(&peer))
        # It speaks first, and mostly has by the time it is listened to.
        client.readable = True
        return client

    def dial(self, int fd, str address):
        """A connected non-blocking socket as a Server in its LOGIN stage; takes the descriptor over."""
        self.now_s = monotonic_s()
        return Server(self, fd, address)

    def poll(self):
        """Handle what is ready, until nothing is or asyncio should have its turn."""
        cdef epoll_event events[EVENTS_A_PASS]
        cdef int n, i, turn
        cdef list again, woken
        cdef double kept_before_s
        self.scheduled = False
        for turn in range(PASSES_A_CALL):
            n = poll_now(self.epoll, events, EVENTS_A_PASS)
            # Connections are kept for the pass that follows and the next; if there is none, no more.
            kept_before_s = self.now_s
            if n <= 0 and not self.again:
                if not self.keeping:
                    return
                kept_before_s = FOR_EVER
            self.now_s = monotonic_s()
            self.in_pass = True
            i = 0
            while i < n:
                i = relay_dispatches(self, events, i, n)
            if self.again:
                again = self.again
                self.again = []
                for link in again:
                    (<Link>link).again = False
                    self._dispatch(<Link>link, 0)
            if self.keeping:
                relay_serves(self, kept_before_s)
            relay_sends(self)
            self.in_pass = False
            if self.departed:
                self.departed.clear()
            if self.woken:
                woken = self.woken
                self.woken = []
                for waiter in woken:
                    (<Waiter>waiter)._wake()
        if self.keeping:
            relay_serves(self, FOR_EVER)
        if self.again and not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.poll)

    def suspend(self):
        """Read nothing any more from clients that are inside and from their servers.

        What must be sent still is. Logins go on, and whoever comes in waits.
        """
        self.suspended = True

    def resume(self, servers):
        """Go on after `suspend`. servers: all there are, as clients are known here."""
        self.suspended = False
        for link in [*self.clients.values(), *servers]:
            # What came meanwhile has left its mark on the link.
            relay_again(self, link)

    def unpark(self):
        """Nodes may be further by now: let those who wait for that look again."""
        if not self.parked:
            return
        self.now_s = monotonic_s()
        for client in list(self.parked):
            if (<Client>client).parked:
                line_leave(<Client>client)
                self._dispatch(<Client>client, 0)

    def check_times(self):
        """End requests, transactions and clients that have lasted too long. For the coarse tick."""
        cdef Client c
        self.now_s = monotonic_s()
        for client in list(self.clients.values()):
            c = <Client>client
            if c.limit_s or c.line.query_timeout_s or c.line.transaction_timeout_s \
                    or c.line.idle_transaction_timeout_s or c.line.client_idle_timeout_s:
                client_check_time(c, self.now_s)

    cdef int _dispatch(self, Link link, uint32_t events) except -1:
        """One link has something: a bug in handling it costs this link only."""
        try:
            link_ready(link, events)
        except Exception as bug:
            relay_drops(self, link, bug)
        return 0

    @property
    def received_bytes(self):
        """Bytes received from clients, after their logins."""
        return self.received

    @property
    def sent_bytes(self):
        """Bytes sent to clients, after their logins."""
        return self.sent

    @property
    def rerun_count(self):
        """Reads that failed on a replica and were run again by the primary."""
        return self.reruns

    @property
    def statement_figures(self):
        """Counts of Parse messages: {sent, forged, injected, evicted}, and of statements re-planned."""
        return {'sent': self.parses_sent, 'forged': self.parses_forged,
                'injected': self.parses_injected, 'evicted': self.evictions,
                'replanned': self.replans}

    @property
    def statement_count(self):
        """Statement texts known."""
        return len(self.statements)


cdef int relay_dispatches(Relay relay, epoll_event *events, int i, int n) except -1:
    """As Relay._dispatch for events from i on, as far as to one that a bug was met with: to be ready
    for an exception has its price. Result: the first of those that are left."""
    try:
        while i < n:
            i += 1
            link_ready(<Link>events[i - 1].data.ptr, events[i - 1].events)
    except Exception as bug:
        relay_drops(relay, <Link>events[i - 1].data.ptr, bug)
    return i


cdef int link_ready(Link link, uint32_t events) except -1:
    cdef Server s
    cdef Client c
    if link.stage == CLOSED:
        return 0
    if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        link.ended = True
    if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        link.readable = True
        if link.tls is not None:
            link.tls.dry = False
    if events & EPOLLOUT:
        if not link_drain(link):
            return 0
        if link.stage == CLOSING:
            return link_close(link)
    if link.stage == CLOSING:
        if events & (EPOLLHUP | EPOLLERR):
            return link_close(link)
        return 0
    if link.stage == LOGIN:
        return link_wake_login(link)
    if link.relay.suspended:
        return 0
    if link.side == CLIENT_SIDE:
        c = <Client>link
        if c.ended and client_must_wait(c):
            return client_gone(c, 'client closed the connection unexpectedly', False)
        client_read(c)
        # It may have been the one that was too slow for its server.
        if events & EPOLLOUT and c.server is not None and c.server.readable:
            server_read(c.server)
    else:
        s = <Server>link
        server_read(s)
        if s.keeper is not None and s.stage == RELAYING:
            server_settle(s)
        if events & EPOLLOUT and s.stage == RELAYING and s.client is not None:
            client_read(s.client)
    return 0


cdef int relay_drops(Relay relay, Link link, Exception bug) except -1:
    """Close the link that a bug was met with, and whoever it is linked to: their state cannot be
    trusted."""
    cdef Client c = None
    cdef Server s = None
    relay.control.bug(link, bug)
    sink_reset(&relay.to_client)
    sink_reset(&relay.to_server)
    if link.side == CLIENT_SIDE:
        c = <Client>link
        s = c.server
    elif link.side == SERVER_SIDE:
        s = <Server>link
        c = s.client
    if s is not None:
        s.client = None
        server_close(s, b'an error of the proxy')
    if c is not None:
        c.server = None
        client_gone(c, 'an error of the proxy', False)
    if s is None and c is None:
        link_close(link)
    return 0


cdef int relay_again(Relay relay, Link link) except -1:
    """Read this link once more before asyncio's next turn: its edge will not come again."""
    if not link.again:
        link.again = True
        relay.again.append(link)
        if not relay.scheduled:
            relay.scheduled = True
            relay.loop.call_soon(relay.poll)
    return 0


cdef double monotonic_s() noexcept:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <double>t.tv_sec + 1e-9 * <double>t.tv_nsec


cdef int count_error(Relay relay, str database, str sqlstate) except -1:
    key = (database, sqlstate)
    if key not in relay.errors and len(relay.errors) >= MOST_ERROR_KINDS:
        # RAISE invents SQLSTATEs as it likes.
        key = (database, 'other')
    relay.errors[key] = relay.errors.get(key, 0) + 1
    return 0


cdef int count_violation(Relay relay, str side, str reason) except -1:
    key = (side, reason)
    relay.violations[key] = relay.violations.get(key, 0) + 1
    return 0


cdef str address_of(sockaddr_storage *peer):
    """Such as '127.0.0.1:5555', '[::1]:5555' or 'unix:'."""
    cdef char text[INET6_ADDRSTRLEN]
    cdef sockaddr_in *v4 = <sockaddr_in *>peer
    cdef sockaddr_in6 *v6 = <sockaddr_in6 *>peer
    if peer.ss_family == AF_INET:
        inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text))
        return f'{text.decode()}:{ntohs(v4.sin_port)}'
    if peer.ss_family == AF_INET6:
        inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text))
        return f'[{text.decode()}]:{ntohs(v6.sin6_port)}'
    return 'unix:'
