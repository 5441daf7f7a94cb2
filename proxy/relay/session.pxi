# What a client leaves in a session: settings follow it from server to server, other things pin it.
#
# What a SET changed is not guessed: when a transaction that touched settings is over, the server is
# asked what they are now, and that is what the client has from then on. So ROLLBACK, savepoints and
# errors need no thought here. Until the answer is there the client stays with its server.
#
# RESET goes back to what the client came with, which to a server connection that it shares is a
# setting like any other: so within a transaction the server is asked at once, and given those.
#
# Temporary tables, session advisory locks and held cursors live in their session. Where a text may
# have made some, the server is asked in the same way; while there are any, the client keeps it.

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


cdef bint server_asks_session(Server s, Client c) except -1:
    """Ask what was left in the session, unless that is known already. True: wait for it."""
    cdef list touched = None
    if s.dirt & SETTINGS_TOUCHED:
        touched = s.touched or []
    text, s.asked = s.relay.control.session_question(
        s, c.settings, c.startup, touched, s.status == 73 and s.dirt & MAY_PIN != 0)
    # What is gone back now is there again after a ROLLBACK: it must be asked for once more.
    if s.status == 73 or touched is None:
        s.touched = None
    else:
        s.touched = touched + [s.relay.control.settings_of(c.settings)]
    s.answer = []
    if not text:
        server_told_session(s, c)
        return False
    c.awaits_replies = True
    server_inject(s, text, TO_READ)
    server_flush(s)
    return True


cdef int server_told_session(Server s, Client c) except -1:
    """The answer is complete. c: None when it has left meanwhile; then all is reset."""
    cdef bytes reports
    asked, answer = s.asked, s.answer
    s.asked = s.answer = None
    if c is None:
        return 0
    try:
        of_server, of_client, reports, pins = s.relay.control.session_answered(asked, answer)
    except PeerError:
        return server_violates(s, 'malformed settings')
    if of_server is not None:
        s.settings = of_server
        c.settings = of_client
        if reports:
            sink_write(&s.relay.to_client, reports, len(reports))
    if s.status == 73:
        if pins is not None:
            if pins or s.pinned:
                s.relay.control.client_pinned(c, pins)
            s.pinned = bool(pins)
        s.dirt &= ~(SETTINGS_TOUCHED | MAY_PIN)
    elif s.settings is not c.settings:
        client_bring_settings(c, s)
        server_flush(s)
    return 0
