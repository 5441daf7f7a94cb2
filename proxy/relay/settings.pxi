# A client's settings follow it from server to server.
#
# What a SET changed is not guessed: when a transaction that touched settings is over, the server is
# asked what they are now, and that is what the client has from then on. So ROLLBACK, savepoints and
# errors need no thought here. Until the answer is there the client stays with its server.
#
# RESET goes back to what the client came with, which to a server connection that it shares is a
# setting like any other: so within a transaction the server is asked at once, and given those.

cdef enum:
    # More rows than that are no answer: PostgreSQL has some four hundred settings.
    MOST_SETTINGS_READ = 4096


cdef int client_bring_settings(Client c, Server s) except -1:
    """Give the server the client's settings, in front of its statement."""
    cdef Relay relay = c.relay
    cdef bytes text
    pair = (s.settings, c.settings)
    text = relay.switches.get(pair)
    if text is None:
        text = relay.control.settings_switch(s.settings, c.settings)
        if len(relay.switches) >= 4096:
            relay.switches.clear()
        relay.switches[pair] = text
    if text:
        s.pending_settings = c.settings
        server_inject(s, text, TO_SET)
    else:
        s.settings = c.settings
    return 0


cdef int server_notes_settings(Server s, bytes text, bytes values) except -1:
    """A statement that may name settings is about to be sent.

    text: None when it is not all here. values: the body of its Bind, or None.
    """
    if s.touched is None:
        s.touched = []
    touched = s.relay.control.settings_touched(text, values)
    if touched not in s.touched:
        s.touched.append(touched)
    return 0


cdef bint server_asks_settings(Server s, Client c) except -1:
    """Ask which settings the client has now, unless that is known already. True: wait for it."""
    cdef list touched = s.touched
    if touched is None:
        touched = []
    text, s.asked = s.relay.control.settings_question(s, c.settings, c.startup, touched)
    # What is gone back now is there again after a ROLLBACK: it must be asked for once more.
    s.touched = None if s.status == 73 else touched + [s.relay.control.settings_of(c.settings)]
    s.answer = []
    if not text:
        server_told_settings(s, c)
        return False
    c.awaits_replies = True
    server_inject(s, text, TO_READ)
    server_flush(s)
    return True


cdef int server_told_settings(Server s, Client c) except -1:
    """The answer is complete. c: None when it has left meanwhile; then all is reset."""
    cdef bytes reports
    asked, answer = s.asked, s.answer
    s.asked = s.answer = None
    if c is None:
        return 0
    try:
        s.settings, c.settings, reports = s.relay.control.settings_answered(asked, answer)
    except PeerError:
        return server_violates(s, 'malformed settings')
    if reports:
        sink_write(&s.relay.to_client, reports, len(reports))
    if s.status == 73:
        s.dirt &= ~SETTINGS_TOUCHED
    elif s.settings is not c.settings:
        client_bring_settings(c, s)
        server_flush(s)
    return 0
