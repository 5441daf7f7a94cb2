# What was found out of a client's request before it had to wait: then it need not be found out again
# when its turn comes.
#
# Remembered is what the bytes alone tell, and what the request asks for by the client's router. Where
# it goes is decided anew, by what holds then. All is forgotten with the first byte that is taken, and
# the wish with the router that it came from.

cdef inline bint client_has_seen(Client c, const char *p, Py_ssize_t have) noexcept:
    """Is `seen_effect` that of this message, which is no command of ours?"""
    return c.seen_bytes == have and p == c.relay.at


cdef inline void client_remembers(Client c, const char *p, Py_ssize_t have, Command command,
                                  uint16_t effect) noexcept:
    """It must wait with this message, of which `have` bytes are here."""
    # What we made ourselves in the place of its message is not what it will come back with.
    if command == PLAIN and p == c.relay.at:
        c.seen_bytes = have
        c.seen_effect = effect


cdef inline bint client_has_wished(Client c) noexcept:
    """Is its `wish` that of the request at hand?"""
    return c.wished_bytes and c.wished_bytes == c.relay.left


cdef int client_swaps_wish(Client c) except -1:
    """Keep the wish of the request at hand while it waits, or bring it back."""
    cdef Wish w = c.wish
    c.wish = c.relay.wish
    c.relay.wish = w if w is not None else Wish.__new__(Wish)
    return 0


cdef inline void client_forgets_seen(Client c) noexcept:
    """What comes next is another message."""
    c.seen_bytes = c.wished_bytes = 0
