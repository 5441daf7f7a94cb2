# What was found out of a client's message before it had to wait: then it need not be found out again
# when its turn comes.
#
# Remembered is only what the bytes alone tell, and what a router's table says of them; where it goes
# is decided anew, by what holds then. It is forgotten with the first byte that is taken, and the
# decision with the router that it came from.

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


cdef inline bint client_has_judged(Client c, const char *text, Py_ssize_t length) noexcept:
    """Is `seen_decision` on this text?"""
    return c.judged_bytes and c.judged_bytes == length and c.judged_at == text - c.relay.at


cdef inline int client_remembers_decision(Client c, const char *text, Py_ssize_t length,
                                          Decision decision) except -1:
    """Of several texts of a unit the first is remembered."""
    if c.server is None and not c.judged_bytes and c.relay.at <= text < c.relay.at + c.relay.left:
        c.judged_at = text - c.relay.at
        c.judged_bytes = length
        c.seen_decision = decision
    return 0


cdef inline void client_forgets_seen(Client c) noexcept:
    """What comes next is another message."""
    c.seen_bytes = c.judged_bytes = 0
